"""The page that shows everything: tables whose cells lead to their rows, figures, completions.

Others may import ``page.write_report``. Never imports torch.
"""
