"""What a number is and how two compare: rows, values image by image, lines, cells, paired comparison, galleries, and
how a protocol's rows are shown (``displays``). Never imports torch.

Others may import any of its modules.
"""
