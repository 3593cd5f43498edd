"""How fast the suite is here: ``peak`` what the machine can do, ``step`` one update of a method, ``data`` packs,
``transfer`` the readouts, ``metrics`` pSNR and SSIM.

Others may import ``record`` (rows of speed).

What is compared is measured in one process in alternation, so that a drift of the machine touches all alike: what
counts are the ratios, each told with its spread.
"""
