"""Figures as views of rows, logs and galleries: charts and how they look, grids of images, contact sheets, each with
its data as CSV. Never imports torch.

Others may import ``write`` and ``contact_sheets``.
"""
