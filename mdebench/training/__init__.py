"""Training: recipes, the one loop for every method, and what a run writes.

Others may import ``recipes`` (from words to a run), ``trainer`` (one update), ``loop.pretrain`` and ``operations``.
"""
