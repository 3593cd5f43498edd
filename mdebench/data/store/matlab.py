"""Numbers and pictures of MATLAB files, read in a process of its own: a damaged file can bring scipy's reader down with
a signal.

The process may die, take too long or ask for too much memory; each ends in one sentence.
"""

import io
import resource
import signal
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import loky
import numpy as np
from numpy.typing import NDArray

from mdebench import files
from mdebench.errors import UserError

SECONDS = 60  # the official files take a tenth of one
MAX_BYTES = 64 * 2**20  # of a file, and of what it unpacks to
SPACE = 2**30  # bytes that reading may take beyond what the process has
MAX_PICTURES = 3 * 2**30  # bytes that a file of pictures unpacks to
# "MAT-File Level 5 File Format": the header's length, how it ends, and the type miCOMPRESSED
_HEADER, _MARKS, _COMPRESSED = 128, (b"\0\1IM", b"\1\0MI"), 15


class _Another(Exception):
    """It is a file of another version."""


def read_matrices(wanted: Mapping[Path, Sequence[str]]) -> dict[str, NDArray[np.int64]]:
    """Of each file the matrices of those names, as whole numbers, each flat; UserError where it does not hold them."""
    found: dict[str, NDArray[np.int64]] = {}
    with _process() as pool:
        for file, names in wanted.items():
            with _told(file, names, "the official one is of MATLAB 5: fetch that, or save it with -v7"):
                if file.stat().st_size > MAX_BYTES:
                    raise ValueError("it is too large")
                found |= pool.submit(_read, files.read_bytes(file), names).result(SECONDS)
    return found


def read_pictures(file: Path, pictures: str, numbers: str) -> tuple[list[bytes], NDArray[np.float64]]:
    """The pictures of a cell array, each as the bytes of a PPM (colour) or PGM (grey), and a matrix with a row of
    numbers for each; UserError where the file does not hold them."""
    way = "which is not read here: load it in MATLAB, and save it again with -v7"
    with _process() as pool, _told(file, (pictures, numbers), way):
        images, values = pool.submit(_read_pictures, file, pictures, numbers).result(10 * SECONDS)
        if len(images) != len(values):
            raise ValueError("it has another number of pictures than of rows")
    return images, values


@contextmanager
def _process() -> Iterator[loky.ProcessPoolExecutor]:
    pool = loky.ProcessPoolExecutor(1, initializer=_start)
    try:
        yield pool
    finally:
        pool.shutdown(kill_workers=True)


@contextmanager
def _told(file: Path, names: Sequence[str], way: str) -> Iterator[None]:
    """In one sentence, whatever became of the process."""
    try:
        yield
    except UserError:
        raise
    except _Another as error:
        raise UserError(f"{file} is a file of MATLAB 7.3 (HDF5), {way}.") from error
    except BrokenExecutor as error:
        raise UserError(f"{file} is damaged, and crashed the program that reads it: fetch it again.") from error
    except TimeoutError as error:
        raise UserError(f"{file} could not be read in {SECONDS} seconds, so it is damaged: fetch it again.") from error
    except Exception as error:  # loadmat raises many kinds on a damaged file, MemoryError among them
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{file} cannot be read: {files.said(error)}.") from error
        raise UserError(f"{file} is damaged or has no {' and '.join(map(repr, names))}: fetch it again.") from error


def _start() -> None:
    """Leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read(data: bytes, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    from scipy.io import loadmat

    _bound_memory(SPACE)
    _check(data, MAX_BYTES)
    try:
        found = loadmat(io.BytesIO(data), variable_names=list(names))  # type: ignore[arg-type]  # any stream will do
    except NotImplementedError as error:
        raise _Another from error
    return {name: _whole(found[name]) for name in names}


def _read_pictures(file: Path, pictures: str, numbers: str) -> tuple[list[bytes], NDArray[np.float64]]:
    from scipy.io import loadmat

    _bound_memory(4 * MAX_PICTURES)  # the file, what it unpacks to, and the pictures once more
    with files.regular(file) as stream:
        data = stream.read()
    if data.startswith(b"MATLAB 7.3"):
        raise _Another
    _check(data, MAX_PICTURES)
    try:
        found = loadmat(io.BytesIO(data), variable_names=[pictures, numbers])  # type: ignore[arg-type]
    except NotImplementedError as error:
        raise _Another from error
    return [_as_ppm(cell) for cell in found[pictures].ravel()], np.asarray(found[numbers], np.float64)


def _as_ppm(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W) or (H, W, 3) bytes as a picture file; ValueError for anything else."""
    if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (1,), (3,)) or pixels.ndim < 2:
        raise ValueError("a cell is no picture")
    kind = 6 if pixels.shape[2:] == (3,) else 5
    return b"P%d %d %d 255\n" % (kind, pixels.shape[1], pixels.shape[0]) + pixels.tobytes()


def _bound_memory(space: int) -> None:
    statm = Path("/proc/self/statm")
    if sys.platform == "linux" and statm.exists():
        taken = int(statm.read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = taken + space if hard == resource.RLIM_INFINITY else min(taken + space, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _check(data: bytes, most: int) -> None:
    """Hold the compressed parts to their checksums, to which scipy does not read on; ValueError, zlib.error."""
    order: Literal["big", "little"] = "big" if data[_HEADER - 2 : _HEADER] == b"MI" else "little"
    place, left = _HEADER if data[_HEADER - 4 : _HEADER] in _MARKS else len(data), most
    while place + 8 <= len(data):
        kind, size = (int.from_bytes(data[place + at : place + at + 4], order) for at in (0, 4))
        part = data[place + 8 : place + 8 + size]
        if kind == _COMPRESSED:
            unpacking = zlib.decompressobj()
            left -= len(unpacking.decompress(part, left))
            if not unpacking.eof:
                raise ValueError("it ends too early, or holds far more than labels")
        place += 8 + size


def _whole(values: object) -> NDArray[np.int64]:
    numbers = np.asarray(values).ravel()
    whole = numbers.astype(np.int64)
    if not (np.isfinite(numbers).all() and (whole == numbers).all()):
        raise ValueError("these are no whole numbers")
    return whole
