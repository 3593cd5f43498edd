"""The command line: one file per group of commands, thin; nothing slow is imported on the way to ``--help``.

Others import nothing from here.
"""
