"""What a number is and how two compare: rows, per-image values, lines, cells, paired comparison, galleries, displays.

Everything that shows results stands on it. It never imports torch, so that tables and pages are made in a second.
"""
