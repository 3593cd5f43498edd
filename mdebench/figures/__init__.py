"""Figures as views of rows, logs and galleries: charts, grids of images, contact sheets, each with its data as CSV.

Others may import ``write`` (all figures of a home) and ``contact_sheets``. Never imports torch.
"""
