"""Files below a folder: links are followed as long as they stay within it, and told otherwise."""

import os
from collections.abc import Iterator
from pathlib import Path

from mdebench import files
from mdebench.data.report import Report
from mdebench.data.store.members import MAX_BYTES, BadImage
from mdebench.errors import UserError


def files_below(root: Path, report: Report) -> Iterator[tuple[str, str | BadImage]]:
    """Path below `root` of everything there that is no folder, with what `read_file` takes, or why it is none.

    Links to folders that are not followed are reported at once, as nobody asks for what lies behind them. OSError.
    """
    real_root = Path(os.path.realpath(root))

    def walk(folder: str, entered: tuple[str, ...]) -> Iterator[tuple[str, str | BadImage]]:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path, real = folder + entry.name, f"{entered[-1]}/{entry.name}"
                if entry.is_symlink():
                    real = os.path.realpath(entry.path)
                    if not Path(real).exists():
                        yield path, BadImage("link_to_nothing", f"→ {real}")
                        continue
                    outside = not Path(real).is_relative_to(real_root)
                    if outside and not entry.is_dir():
                        yield path, BadImage("link_outside", f"→ {real}")
                        continue
                    if outside or real in entered:
                        report.add("link_outside" if outside else "link_circle", f"{path} → {real}")
                        continue
                if entry.is_dir():
                    yield from walk(f"{path}/", (*entered, real))
                else:
                    yield path, path if entry.is_file() else BadImage("not_a_file", "a device or pipe")

    return walk("", (str(real_root),))


def read_file(root: Path, path: str) -> bytes:
    """The bytes of a file below `root`; BadImage('too_large') above `MAX_BYTES`, or when it is no file; OSError."""
    try:
        with files.regular(root / path) as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise BadImage("too_large")
            return file.read()
    except UserError as error:
        raise BadImage("not_a_file", "a device or pipe") from error
