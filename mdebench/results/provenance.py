"""By which code a number was made: revision, packages, time."""

import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from mdebench.version import __version__

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pillow")
CODE = ("mdebench", "baselines", "protocols", "pyproject.toml")  # what can change a number


def provenance() -> dict[str, Any]:
    """The row fields git, dirty, packages and time of the code that runs now.

    `git` is the revision of the mdebench checkout, or "wheel" where there is none; `dirty` says whether code that can
    change a number (results are not code) differs from that revision.
    """
    root = Path(__file__).resolve().parent.parent.parent
    top = _git(root, "rev-parse", "--show-toplevel")
    inside = bool(top) and Path(top).resolve() == root  # a venv inside another project's checkout is not ours
    changes = _git(root, "status", "--porcelain", "--", *CODE) if inside else ""
    return {
        "git": (_git(root, "rev-parse", "HEAD") or "uncommitted") if inside else "wheel",
        "dirty": bool(changes),
        "packages": {"mdebench": __version__} | {name: metadata.version(name) for name in PACKAGES if _installed(name)},
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def _git(root: Path, *arguments: str) -> str:
    """What git answers, or "" where there is no git or no repository."""
    try:
        answer = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
