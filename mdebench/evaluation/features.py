"""Kept features: the codes of a whole pack in one file, with a checksum at its end that is verified before use.

The file is an .npy of float32 (N, width), memory-mapped on reading, and behind it the SHA-256 of all before, as 64 hex
digits. It can be made again at any time: one that is damaged, or older than there are checksums, is, and that is told.
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mdebench.files import clear_strays, reading, regular, writing

CHECKSUM = 64  # bytes at the end
PIECE = 1 << 20

Codes = npt.NDArray[np.float32]


def keep(file: Path, pieces: Iterable[Codes], shape: tuple[int, int]) -> list[Path]:
    """Write codes, given in pieces of rows, whole or not at all; UserError on a full disk.

    Returns what was cleared away beside the file, left half written by a kill.
    """
    cleared = clear_strays(file.parent)
    with writing(file) as stream:
        told = _Told(stream)
        np.lib.format.write_array_header_1_0(told, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for piece in pieces:
            told.write(np.ascontiguousarray(piece, "<f4").tobytes())
        stream.write(told.digest.hexdigest().encode())
    return cleared


def kept(file: Path, shape: tuple[int, int]) -> Codes:
    """The codes in a file, memory-mapped. FileNotFoundError; Damaged where they are not what was written, or are of
    another shape; read through once in a process for each state of the file."""
    with reading(file, "it is made again"):
        known = file.stat()
        _verify(file, known.st_ino, known.st_mtime_ns, known.st_size)
        codes: np.memmap[Any, np.dtype[np.float32]] = np.load(file, mmap_mode="r", allow_pickle=False)
        if codes.dtype != np.float32 or codes.shape != shape:
            raise ValueError(f"it holds {codes.shape} {codes.dtype}, not {shape} float32")
        if codes.offset + codes.nbytes + CHECKSUM != known.st_size:
            raise ValueError("its header says another length")
    return codes


@lru_cache(maxsize=1024)
def _verify(file: Path, inode: int, changed: int, length: int) -> None:
    """ValueError unless a file, in this state, is what its checksum says."""
    digest = hashlib.sha256()
    with regular(file) as stream:
        for piece in _pieces(stream, length - CHECKSUM):
            digest.update(piece)
        end = stream.read(CHECKSUM + 1)
    if len(end) < CHECKSUM or not all(byte in b"0123456789abcdef" for byte in end):
        raise ValueError("it ends without a checksum, cut short or as older builds wrote it")
    if end.decode() != digest.hexdigest():
        raise ValueError("it is not what its checksum says")


def _pieces(stream: IO[bytes], length: int) -> Iterator[bytes]:
    while length > 0 and (piece := stream.read(min(PIECE, length))):
        length -= len(piece)
        yield piece


class _Told:
    """A stream that keeps the digest of what is written to it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.digest = stream, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write bytes."""
        self.digest.update(data)
        return self.stream.write(data)
