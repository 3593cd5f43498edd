"""Tables as views of rows: the paper's, those of every protocol, what they say in plain words, and their formats.

Others may import ``write`` (all tables of a home). Never imports torch, computes nothing that a row lacks.
"""
