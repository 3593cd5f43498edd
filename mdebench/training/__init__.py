"""From a recipe to a trained run: recipes, what is tried before one begins, the update, the one loop for every method,
its progress line, what operations cost.

Others may import ``recipes`` (words to a run), ``trainer`` (one update), ``loop.pretrain`` and ``operations``.
"""
