"""The page that shows everything: tables whose cells lead to their rows, figures, completions. Never imports torch.

Others may import ``page``.
"""
