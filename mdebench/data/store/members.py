"""Members of folders and archives: their names in one form, what no person put there, and why one is left out."""

import unicodedata
from collections.abc import Callable
from typing import Any

from mdebench.data.report import KINDS

MAX_BYTES = 64 * 2**20  # of one compressed image
_LITTER_FOLDERS = ("__macosx", "@eadir")
_LITTER = (".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")


class BadImage(Exception):
    """Why an image is left out: a kind of `report.KINDS`, and what is to be said of this one beside its name."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind)
        self.detail = detail

    def told(self) -> str:
        """What it means, for a sentence."""
        return KINDS[str(self)][1] + (f" ({self.detail})" if self.detail else "")


Read = Callable[[Any], bytes]  # a member of a store → its bytes; raises BadImage or OSError


def safe_path(path: str) -> str:
    """The path in normal form: with '/', and in Unicode's composed form (NFC), whichever way its accents were written.

    BadImage('outside') if it is absolute or leaves its folder.
    """
    path = unicodedata.normalize("NFC", path.replace("\\", "/"))
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or path.startswith("/") or ".." in parts or parts[0].endswith(":"):
        raise BadImage("outside")
    return "/".join(parts)


def is_litter(path: str) -> bool:
    """Whether an operating system put this file beside those of people: AppleDouble, .DS_Store, Thumbs.db and so on."""
    *folders, name = path.lower().replace("\\", "/").split("/")
    return name.startswith("._") or name in _LITTER or any(folder in _LITTER_FOLDERS for folder in folders)
