"""Tables as views of rows: the paper's, those of every protocol, what they say in plain words, and their formats. Never
imports torch, computes nothing that a row lacks.

Others may import ``write``.
"""
