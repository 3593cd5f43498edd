"""The published numbers: data in `results/paper/` of a checkout, inside the package in a wheel."""

from pathlib import Path

import mdebench


def paper_dir() -> Path:
    """The folder of the published numbers: inside the package in a wheel, `results/paper` in a checkout."""
    package = Path(mdebench.__file__).resolve().parent
    return package / "paper" if (package / "paper").is_dir() else package.parent / "results" / "paper"
