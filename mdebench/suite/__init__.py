"""Which runs and rows something needs, which are missing, in what order, and where they run; what there is
(``inventory``).

Others may import ``reproduce``, ``plan``, ``places``, ``wanted``, ``costs``, ``demo`` and the ``inventory``.
"""

# What `mdebench reproduce` and `costs` can be asked for (`experiments` says what each needs); known without torch.
WHAT = (
    *("table1", "table2", "table3", "figure1", "figure5", "figure6", "figure7", "figure8", "figure9"),
    *("families", "all"),
)
