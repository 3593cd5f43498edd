"""From a recipe to a trained run: recipes, the update, the one loop for every method, what is counted, logged and
shown.

Others may import ``recipes`` (words to a run), ``trainer`` (one update), ``loop.pretrain`` and ``operations``.
"""
