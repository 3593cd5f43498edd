"""From a recipe to a trained run: recipes, the update, the one loop for every method, its progress line, what
operations cost.

Others may import ``recipes`` (words to a run), ``trainer`` (one update), ``loop.pretrain`` and ``operations``.
"""
