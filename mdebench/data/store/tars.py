"""Members of a tar: listed by Python's tarfile in a pass that reads on to the end, past every checksum that there is.

A plain tar is then read wherever a member lies. One that is packed can only be read from its beginning on, so what is
wanted of it waits in memory, read in one more pass and within a bound; what nobody wants never does.
"""

import bz2
import gzip
import lzma
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from mdebench import files
from mdebench.data.report import Report
from mdebench.data.store.members import MAX_BYTES, BadImage
from mdebench.errors import UserError

MAX_UNPACKED = 4 * 2**30  # of a packed archive, which is read twice
MAX_HELD = 2**30  # of what is wanted of it, or so many times its own size: pictures are packed already
HELD_BY_SIZE = 4
_PACKINGS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_PIECE = 2**20

# Where its bytes begin in the unpacked archive, how many it has, and of a file with holes where which bytes belong.
Place = tuple[int, int, tuple[tuple[int, int], ...] | None]


class _Header(tarfile.TarInfo):
    """tarfile takes a damaged header for the end of the archive, without a word."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # an empty block, as at the end
            raise
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(
                "it ends without the empty blocks that end a tar, so more may be missing"
            ) from error
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"the header at byte {archive.offset:,} is damaged: {error}") from error


@dataclass(frozen=True)
class Tar:
    """A tar as it was when it was opened: its path, its size and the time of its last change, and how it is packed."""

    where: Path
    stamp: tuple[int, int]
    packing: bytes  # of `_PACKINGS`, empty if it is not

    @classmethod
    def open(cls, where: Path) -> "Tar":
        """OSError when there is none."""
        with files.regular(where) as file:
            begin = file.read(8)
            return cls(where, _stamp(file), next((mark for mark in _PACKINGS if begin.startswith(mark)), b""))

    def members(self, report: Report) -> Iterator[tuple[str, Place | BadImage]]:
        """Name of every member that is no folder, with what `read` takes, or why it is none.

        At the end TarError, or what unpacking raises, unless the archive is whole.
        """
        with self._unpacked() as stream, tarfile.open(fileobj=stream, mode="r:", tarinfo=_Header) as archive:
            while (entry := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or it would keep all of them
                if self.packing and entry.offset_data + entry.size > MAX_UNPACKED:
                    raise UserError(f"{self.where} holds more than 4 GiB: unpack it and prepare from the folder.")
                if not entry.isdir():
                    yield entry.name, _place(entry)
            _read_to_the_end(stream, self.where, report)

    def read(self, member: Place) -> bytes:
        """The bytes of one member; of a packed archive all before it is unpacked. BadImage where they are missing."""
        with self._unpacked() as stream:
            return _bytes_at(stream, member)

    def held(self, members: Iterable[Place]) -> dict[Place, bytes | BadImage]:
        """The bytes of some members, read in one pass; UserError where they are more than should wait in memory."""
        bound, total = max(MAX_HELD, HELD_BY_SIZE * self.stamp[0]), 0
        found: dict[Place, bytes | BadImage] = {}
        with self._unpacked() as stream:
            for member in sorted(set(members), key=lambda place: place[0]):
                total += member[1]
                if total > bound:
                    raise UserError(
                        f"{self.where} unpacks to more than {bound / 2**30:.3g} GiB of listed files, which would have "
                        "to wait in memory: unpack it and prepare from the folder."
                    )
                try:
                    found[member] = _bytes_at(stream, member)
                except BadImage as verdict:
                    found[member] = verdict
        return found

    @contextmanager
    def _unpacked(self) -> Iterator[IO[bytes]]:
        """The archive without its packing; UserError when it is not that of before any more."""
        with files.regular(self.where) as file:
            if _stamp(file) != self.stamp:
                raise UserError(f"{self.where} has changed since it was opened: try again when it is whole.")
            if not self.packing:
                yield file
                return
            with _PACKINGS[self.packing](file, "rb") as stream:
                yield stream


def _place(entry: tarfile.TarInfo) -> Place | BadImage:
    if not entry.isfile():
        return BadImage("not_a_file", "a link" if entry.issym() or entry.islnk() else "a device")
    if entry.size > MAX_BYTES:
        return BadImage("too_large")
    pieces: Any = entry.sparse
    return entry.offset_data, entry.size, None if pieces is None else tuple(pieces)


def _bytes_at(stream: IO[bytes], place: Place) -> bytes:
    begin, size, pieces = place
    stream.seek(begin)
    data = bytearray(stream.read(size) if pieces is None else size)
    for start, count in pieces or ():
        data[start : start + count] = stream.read(count)
    if len(data) != size:
        raise BadImage("unreadable", "the archive ends too early")
    return bytes(data)


def _read_to_the_end(stream: IO[bytes], where: Path, report: Report) -> None:
    """What follows the first empty block: more of these, and in a packed archive its checksum. What else there is, is
    told; ReadError for further members.
    """
    told = False
    while piece := stream.read(_PIECE):
        if piece.count(0) == len(piece):
            continue
        for start in range(0, len(piece), tarfile.BLOCKSIZE):
            with suppress(tarfile.HeaderError):
                tarfile.TarInfo.frombuf(piece[start : start + tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
                raise tarfile.ReadError(
                    "more files follow what marks its end: a part of it is lost, or it is two in one"
                )
        if not told:
            report.add("after_end", where.name)
            told = True


def _stamp(file: IO[bytes]) -> tuple[int, int]:
    state = os.fstat(file.fileno())
    return state.st_size, state.st_mtime_ns
