"""What kills have left behind in a home, and in the folder for temporary files: nobody writes it, nobody reads it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from mdebench import files
from mdebench.home import Home
from mdebench.suite.inventory.upkeep import Freeable, bytes_of, is_held
from mdebench.words import size


def strays(home: Home) -> list[Freeable]:
    """Unfinished files, runs and packs that came no further than their folder, temporary folders of this user."""
    found = [_left(path, "left half written", path.unlink) for path in _unfinished(home)]
    found += [_left(path, "left half written", partial(shutil.rmtree, path)) for path in _folders(home)]
    found += [_left(path, "a run in which there is nothing", partial(_remove_empty, path)) for path in _empty(home)]
    return found + [
        _left(path, "a temporary folder left by a killed command", partial(files.clear_scratch, path))
        for path in files.left_scratch()
    ]


def _left(path: Path, what: str, free: Callable[[], object]) -> Freeable:
    count = bytes_of(path) if path.is_dir() else path.stat().st_size
    return Freeable(f"{path}, {what} ({size(count)})", count, free)


def _unfinished(home: Home) -> list[Path]:
    """Where commands write below the home, and in the home itself; the folder may be anybody's besides."""
    runs = [path for path in _runs(home) if not is_held(path / ".lock")]  # older builds lock nothing but the run
    found = [path for place in (home.packs, *runs, home.results) for path in files.strays(place)]
    return found + files.strays(home.folder, below=False)


def _runs(home: Home) -> list[Path]:
    return sorted(path for place in (home.runs, home.judges) for path in place.glob("*") if path.is_dir())


def _folders(home: Home) -> Iterator[Path]:
    """Of packs that were being made or replaced, and of features as older builds wrote them."""
    for path in sorted(home.packs.glob(".*.part")):
        if not is_held(path.with_suffix(".lock")):
            yield path
    for path in sorted(home.packs.glob(".*.old")):
        if not is_held(path.with_suffix(".lock")) and replaced_by(path).exists():
            yield path
    yield from (path for path in sorted(home.runs.glob("*/features/tmp????????")) if path.is_dir())


def replaced_by(old: Path) -> Path:
    """The pack that was to take the place of what was moved to ``.NAME.old``."""
    return old.with_name(old.name.removeprefix(".").removesuffix(".old"))


def _empty(home: Home) -> Iterator[Path]:
    for path in _runs(home):
        if {each.name for each in path.iterdir()} <= {".lock"} and not is_held(path / ".lock"):
            yield path


def _remove_empty(folder: Path) -> None:
    (folder / ".lock").unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        folder.rmdir()  # refused where somebody has begun the run meanwhile
