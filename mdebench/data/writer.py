"""Writing a pack so that it is there whole or not at all.

Everything goes into a hidden folder beside the target (`.celeba64.part`), is synced, and gets its name by one rename
after the manifest is written. A lock file keeps a second process away, and is gone when the pack is there; what a
killed process left (`strays`) the next one of that name removes and tells, or whoever calls `clear_strays`.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mdebench import files
from mdebench.data.pack import (
    ARRAYS,
    FORMAT,
    FURTHER,
    SPLITS,
    Pack,
    array_shapes,
    content_hash,
    digest,
    find_twins,
    image_digests,
    names_digest,
    open_pack,
)
from mdebench.data.report import Report
from mdebench.errors import UserError
from mdebench.version import __version__
from mdebench.words import shown

Progress = Callable[[int, int], None]  # (images done, images in all)

PACK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LEFT = re.compile(rf"\.({PACK_NAME.pattern})\.(part|old|lock)")


def check_name(name: str) -> None:
    """UserError unless a pack may be called so: a name and no path, as it is written among the packs alone."""
    if not PACK_NAME.fullmatch(name):
        raise UserError(
            f"'{shown(name)}' cannot name a pack: use letters, digits, '.', '_' and '-' (ASCII, at most 100, the "
            "first a letter or digit)."
        )


class PackWriter:
    """Streams images and labels into a new pack; use it in a `with` block, call `part_twins` and last `finish`.

    path: the pack's folder, whose parent is made if need be; size: height and width of its images in pixels;
    replace: put the new pack in the place of a different one of that name, which is refused otherwise; tell: called
    with sentences on what a killed process had left, and what was done about it.
    Leaving the block without `finish` (an exception, Ctrl-C) removes what was written.
    """

    def __init__(
        self, path: Path, size: int, replace: bool = False, tell: Callable[[str], None] = lambda said: None
    ) -> None:
        check_name(path.name)
        if not 8 <= size <= 1024:
            raise UserError(f"A pack's image size must be from 8 to 1024 pixels, not {size}.")
        self.path, self.size, self.replace, self.tell = path, size, replace, tell
        self.attribute_names: tuple[str, ...] = ()
        self.report = Report()
        self.info: dict[str, Any] = {"notes": []}  # a reader adds: crop, resize, of, notes, options …
        self._part = path.with_name(f".{path.name}.part")
        self._old = path.with_name(f".{path.name}.old")
        self._names: list[str] = []
        self._labels: dict[str, list[NDArray[Any]]] = {name: [] for name in ARRAYS if name != "images"}
        self._pairs = np.empty((0, 4), np.int32)
        self._pixels = hashlib.sha256()
        self._digests: list[NDArray[np.uint64]] = []

    def __enter__(self) -> Self:
        with _told(self.path), ExitStack() as undo:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            undo.enter_context(_locked(self.path))
            self._clear()
            undo.callback(_remove, self._part)
            self._part.mkdir()
            self._stream = undo.enter_context((self._part / "images.npy").open("w+b"))
            self._write_header(0)
            self._begin = self._stream.tell()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _told(self.path):
            self._undo.close()  # may fail as well: closing writes the last buffer
            if isinstance(error, OSError | MemoryError):
                raise error

    def _clear(self) -> None:
        """Remove what a killed process left of this name."""
        if self._part.exists():
            _remove(self._part)
            self.tell(f"removed {self._part}, which a killed preparation left unfinished")
        if self._old.exists() and self.path.exists():
            _remove(self._old)
            self.tell(f"removed {self._old}, which had been replaced")
        elif self._old.exists():  # killed between the two renames of `_install`
            self._old.rename(self.path)
            self.tell(f"brought {self.path} back, whose replacement was cut short")

    def add(self, images: NDArray[np.uint8], names: Sequence[str], split: NDArray[Any], **labels: NDArray[Any]) -> None:
        """Append n images (n, 3, size, size) with their names, split and any of the labels of ARRAYS (n, …), and of
        FURTHER, the same in every call.
        """
        shapes = array_shapes(len(names), self.size, len(self.attribute_names))
        given = {"images": images, "split": split, **labels}
        for name, array in given.items():
            if array.shape != shapes[name]:
                raise ValueError(f"{name} has shape {array.shape}, expected {shapes[name]}")
        pixels = np.ascontiguousarray(images, np.uint8)
        self._stream.write(pixels.data)
        self._pixels.update(pixels.data)
        self._digests.append(image_digests(pixels))
        further = given.keys() & FURTHER.keys()
        if not self._names:
            self._labels |= {name: [] for name in FURTHER if name in further}
        if before := further ^ (self._labels.keys() & FURTHER.keys()):
            raise ValueError(f"{', '.join(sorted(before))} given for some images and not for others")
        self._names += names
        for name, pieces in self._labels.items():
            dtype, unknown = (ARRAYS | FURTHER)[name]
            pieces.append(np.asarray(given.get(name, np.full(shapes[name], unknown)), dtype))

    def pair(self, names_a: Sequence[str], names_b: Sequence[str], same: NDArray[Any], fold: NDArray[Any]) -> None:
        """Append P pairs of images, by the names of which both were added before; what others stand for is told.

        same (P,): whether they show one person, 1 or 0; fold (P,): from 0 to 9.
        """
        if len(set(self._names)) < len(self._names):
            raise ValueError("pairs are of names, and a name was added twice")
        if not (np.isin(same, (0, 1)).all() and np.isin(fold, range(10)).all()):
            raise ValueError("a pair is of one person (1) or not (0), in a fold from 0 to 9")
        row = {name: number for number, name in enumerate(self._names)}
        found = [[row.get(name, -1) for name in names] for names in zip(names_a, names_b, strict=True)]
        rows = np.array(found, np.int32).reshape(-1, 2)
        whole: NDArray[np.bool_] = np.all(rows >= 0, axis=1)
        for first, second, there in zip(names_a, names_b, whole):
            if not there:
                self.report.add("pair", f"{first} and {second}")
        pairs = np.column_stack([rows, np.asarray(same, np.int32), np.asarray(fold, np.int32)])
        self._pairs = np.concatenate([self._pairs, pairs[whole]])

    def part_twins(self, keep: bool = False) -> None:
        """Leave out every image of val or test whose pixels are also in train (of test: or in val), and tell it.

        keep: they stay, which the pack's options and footnote say.
        """
        if keep:
            self.info["options"] = {**self.info.get("options", {}), "keep_duplicates": True}
        if not self._names:
            return
        names, split = self._names, np.concatenate(self._labels["split"])
        earliest, leaks, repeats = find_twins(np.concatenate(self._digests), split)
        for row, first in zip(np.flatnonzero(leaks), earliest[leaks]):
            twins = f"{names[row]} of {SPLITS[split[row]]} = {names[first]} of {SPLITS[split[first]]}"
            self.report.add("kept_twin" if keep else "twin", twins)
        for row, first in zip(np.flatnonzero(repeats), earliest[repeats]):
            self.report.add("repeated", f"{names[row]} = {names[first]}")
        if leaks.any() and not keep:
            self._keep(~leaks)

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        """Drop all images but these (N,); those that stay move forward in the file, a piece at a time."""
        whole = kept[self._pairs[:, :2]].all(axis=1)
        for first, second in self._pairs[~whole, :2]:
            self.report.add("pair", f"{self._names[first]} and {self._names[second]}")
        self._pairs = self._pairs[whole]
        self._pairs[:, :2] = (np.cumsum(kept) - 1)[self._pairs[:, :2]]
        self._names = [name for name, stays in zip(self._names, kept) if stays]
        self._labels = {name: [np.concatenate(pieces)[kept]] for name, pieces in self._labels.items()}
        self._digests = [np.concatenate(self._digests)[kept]]
        self._pixels = hashlib.sha256()
        length, end = 3 * self.size**2, self._begin
        for start in range(0, len(kept), 1024):
            self._stream.seek(self._begin + start * length)
            piece = np.frombuffer(self._stream.read(1024 * length), np.uint8).reshape(-1, length)
            staying = piece[kept[start : start + 1024]].data
            self._stream.seek(end)
            self._stream.write(staying)
            self._pixels.update(staying)
            end = self._stream.tell()
        self._stream.truncate(end)

    def finish(self) -> Path:
        """Write the labels and the manifest, sync, and give the pack its name. UserError if it would be empty."""
        if not self._names:
            what = "; ".join(self.report.lines()) or "none was found"
            raise UserError(f"Not one usable image for {self.path}: {what}.")
        arrays = {name: np.concatenate(pieces) for name, pieces in self._labels.items()}
        arrays |= {"pairs": self._pairs} if len(self._pairs) else {}
        shapes = array_shapes(len(self._names), self.size, len(self.attribute_names), len(self._pairs))
        dtypes = {name: dtype for name, (dtype, _) in (ARRAYS | FURTHER).items()}
        digests = {"images": self._pixels.hexdigest()} | {name: digest(array) for name, array in arrays.items()}
        self._stream.seek(0)
        self._write_header(len(self._names))
        _sync(self._stream)
        for name, array in arrays.items():
            with (self._part / f"{name}.npy").open("wb") as stream:
                np.save(stream, array)
                _sync(stream)
        info = {
            "format": FORMAT,
            "size": self.size,
            "count": len(self._names),
            "splits": {split: int((arrays["split"] == i).sum()) for i, split in enumerate(SPLITS)},
            **self.info,
            "notes": [shown(note) for note in self.info["notes"]],
            "attribute_names": list(self.attribute_names),
            "report": self.report.as_json(),
            "made_with": {"mdebench": __version__, "pillow": _version("pillow"), "numpy": np.__version__},
            "names_sha256": names_digest(self._names),
            "arrays": {n: {"dtype": dtypes[n], "shape": shapes[n], "sha256": digests[n]} for n in digests},
        }
        self._write_json("names.json", self._names)
        self._write_json("pack.json", files.sealed(info | {"hash": content_hash(info)}))
        self._install(content_hash(info))
        return self.path

    def _write_header(self, count: int) -> None:
        # numpy pads this header so that the first axis may grow without moving the data.
        shape = (count, 3, self.size, self.size)
        header = {"descr": ARRAYS["images"][0], "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._stream, header)

    def _write_json(self, name: str, value: Any) -> None:
        with (self._part / name).open("w", encoding="utf-8") as stream:
            json.dump(value, stream, indent=1)
            _sync(stream)

    def _install(self, new_hash: str) -> None:
        _sync_folder(self._part)
        if self.path.exists():
            there, keeps = _pack_at(self.path), bool(self.info.get("options", {}).get("keep_duplicates"))
            same = there is not None and there.hash == new_hash
            if not self.replace and there and same and there.keeps_duplicates == keeps:
                return  # the same pack is there already: leave it to those who have it open
            if not self.replace and not same:
                raise UserError(
                    f"{self.path} is already there and holds something else: "
                    "choose another --name, or --replace it (runs made from it keep its old hash)."
                )
            if not (self.path / "pack.json").is_file():
                raise UserError(f"{self.path} is not a pack and will not be replaced: move it away first.")
            self.path.rename(self._old)
        self._part.rename(self.path)
        _sync_folder(self.path.parent)
        _remove(self._old)
        if self._old.exists():  # for want of descriptors, say
            self.tell(f"{self._old}, which was replaced, could not be removed: `mdebench prune` removes it")


def strays(packs_dir: Path) -> list[Path]:
    """What killed preparations left in a folder of packs: it may be deleted, as nobody holds the lock of its name.

    A pack whose replacement was cut short (`.NAME.old`, where there is no NAME) is none.
    """
    return [path for name in _left(packs_dir) if _is_free(packs_dir / name) for path in _strays_of(packs_dir / name)]


def clear_strays(packs_dir: Path) -> list[Path]:
    """Delete what `strays` finds, under the locks of the names; returns what was deleted, for the caller to tell."""
    cleared = []
    for pack in (packs_dir / name for name in _left(packs_dir)):
        with suppress(OSError, UserError):
            found = _strays_of(pack)
            with _locked(pack):
                found = [path for path in found if path in _strays_of(pack)]
                for path in found:
                    _remove(path)
            cleared += [path for path in found if not path.exists()]
    return cleared


def _left(packs_dir: Path) -> list[str]:
    """Names of packs of which anything hidden is there."""
    found = (_LEFT.fullmatch(path.name) for path in (packs_dir.iterdir() if packs_dir.is_dir() else ()))
    return sorted({match[1] for match in found if match})


def _strays_of(pack: Path) -> list[Path]:
    endings = ("part", "lock", "old") if pack.exists() else ("part", "lock")
    return [path for end in endings if (path := pack.with_name(f".{pack.name}.{end}")).exists()]


def _is_free(pack: Path) -> bool:
    """Whether nobody holds the lock of a pack's name."""
    try:
        with files.regular(_lock_of(pack)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except (OSError, UserError):
        return False
    return True


@contextmanager
def _locked(pack: Path) -> Iterator[None]:
    """Hold the lock of a pack's name, whose file is gone afterwards; UserError when another process holds it."""
    lock = _lock_of(pack)
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with os.fdopen(handle, "r+b"):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"Another process is preparing {pack}: wait until it is done.") from None
            if not _is_still(lock, handle):  # who held it before removed it between the two lines
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _lock_of(pack: Path) -> Path:
    return pack.with_name(f".{pack.name}.lock")


def _is_still(path: Path, handle: int) -> bool:
    """Whether what was opened is what stands there now."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    """Delete a folder, or what else there is, as far as the disk lets us."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _pack_at(path: Path) -> Pack | None:
    try:
        return open_pack(path)
    except UserError:
        return None


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _sync(stream: Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Says in one sentence what an OSError, or want of memory, means for the pack."""
    try:
        yield
    except MemoryError as error:
        raise UserError(
            f"The pack {path} was not made: there is not enough memory; free some and try again."
        ) from error
    except OSError as error:
        what = f"{error.filename or path}: {files.said(error)}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = "the disk is full; its unfinished files were removed: free some space and try again"
        raise UserError(f"The pack {path} was not made: {what}.") from error
