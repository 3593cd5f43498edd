"""Which runs and rows something needs, which are missing, in what order, and where they run; what there is
(``inventory``).

Others may import ``reproduce``, ``plan``, ``places``, ``wanted``, ``costs``, ``demo`` and the ``inventory``.
"""
