"""What is stored and how two numbers compare: rows, values image by image, lines (which runs stand together), cells,
paired comparison of lines, galleries, and how a protocol's rows are shown (``displays``). Never imports torch.

Others may import any of its modules.
"""
