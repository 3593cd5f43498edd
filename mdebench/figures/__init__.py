"""Figures as views of rows, logs and galleries: charts, grids of images, contact sheets, each with its data as CSV.
Never imports torch.

Others may import ``write`` and ``contact_sheets``.
"""
