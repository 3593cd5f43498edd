"""The judge: a classifier that looks at completions, and the scores that are made of what it says; LPIPS beside it.

``judges`` finds the one that a setting names, ``own_judge`` trains the suite's own, ``judge`` is what looks.
"""
