"""Which runs and rows something needs, which are missing, in what order, and where they run.

Others may import ``reproduce``, ``plan``, ``places``, ``wanted``, ``listing``, ``costs`` and ``demo``.
"""
