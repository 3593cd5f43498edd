"""Numbers of MATLAB files, read in a process of its own: a damaged file can bring scipy's reader down with a signal.

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
# "MAT-File Level 5 File Format": the header's length, how it ends, and the type miCOMPRESSED
_HEADER, _MARKS, _COMPRESSED = 128, (b"\0\1IM", b"\1\0MI"), 15


class _Another(Exception):
    """It is a file of another version."""


def read_matrices(wanted: Mapping[Path, Sequence[str]]) -> dict[str, NDArray[np.int64]]:
    """Of each file the matrices of those names, as whole numbers, each flat; UserError where it does not hold them."""
    found: dict[str, NDArray[np.int64]] = {}
    pool = loky.ProcessPoolExecutor(1, initializer=_start)
    try:
        for file, names in wanted.items():
            with _told(file, names):
                if file.stat().st_size > MAX_BYTES:
                    raise ValueError("it is too large")
                found |= pool.submit(_read, files.read_bytes(file), names).result(SECONDS)
    finally:
        pool.shutdown(kill_workers=True)
    return found


@contextmanager
def _told(file: Path, names: Sequence[str]) -> Iterator[None]:
    """In one sentence, whatever became of the process."""
    try:
        yield
    except UserError:
        raise
    except _Another as error:
        raise UserError(
            f"{file} is a file of MATLAB 7.3 (HDF5), the official one is of MATLAB 5: fetch that, or save it with -v7."
        ) from error
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

    _bound_memory()
    _check(data)
    try:
        found = loadmat(io.BytesIO(data), variable_names=list(names))  # type: ignore[arg-type]  # any stream will do
    except NotImplementedError as error:
        raise _Another from error
    return {name: _whole(found[name]) for name in names}


def _bound_memory() -> None:
    statm = Path("/proc/self/statm")
    if sys.platform == "linux" and statm.exists():
        taken = int(statm.read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = taken + SPACE if hard == resource.RLIM_INFINITY else min(taken + SPACE, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _check(data: bytes) -> None:
    """Hold the compressed parts to their checksums, to which scipy does not read on; ValueError, zlib.error."""
    order: Literal["big", "little"] = "big" if data[_HEADER - 2 : _HEADER] == b"MI" else "little"
    place, left = _HEADER if data[_HEADER - 4 : _HEADER] in _MARKS else len(data), MAX_BYTES
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
