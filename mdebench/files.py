"""Files are written whole or not at all: beside their place, synced, and renamed."""

import os
from pathlib import Path

from mdebench.errors import UserError


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside ``path``, sync, rename; UserError on a full disk or the like, and what was there before stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"could not write {path}: {error.strerror}; what stood there before is kept") from error
