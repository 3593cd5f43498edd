"""Members of a zip by their place in its directory, without an object for each.

Python's zipfile makes an object of half a kilobyte of every member before it reads the first: 130 MB for the 200,000
pictures of CelebA. Here a member is a number, where its entry in the directory begins; the entry is read when the
member is. Numbers of sections are those of the ZIP file format specification (PKWARE, APPNOTE 6.3.10).
"""

import os
import struct
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# What is used of each record, all of which begin with a mark of four bytes.
_ENTRY = struct.Struct("<4s4x2H4x3L3H8xL")  # 4.3.12: flags, method, CRC, packed, size, name, extra, comment, offset
_LOCAL = struct.Struct("<4s22x2H")  # 4.3.7, before a member's data: name, extra
_END = struct.Struct("<4s8x2L2x")  # 4.3.16, end of the directory: its size and offset
_END_64 = struct.Struct("<4s36x2Q")  # 4.3.14: the same in 64 bits
_LOCATOR_64 = struct.Struct("<4s16x")  # 4.3.15: stands between these two
_MARKS = {_ENTRY: b"PK\1\2", _LOCAL: b"PK\3\4", _END: b"PK\5\6", _END_64: b"PK\6\6", _LOCATOR_64: b"PK\6\7"}
_ELSEWHERE = 2**32 - 1  # in place of a number that needs 64 bits and stands in the extra field
_ENCRYPTED, _UTF_8 = 1, 2**11  # flags, 4.4.4
_STORED, _DEFLATED = 0, 8  # methods, 4.4.5


class BadZip(Exception):
    """What is wrong with an archive or a member of it, as the end of 'the file …'."""


class _Entry(NamedTuple):
    flags: int
    method: int
    crc: int
    packed: int  # bytes in the archive
    size: int  # bytes unpacked
    name: int  # bytes of the name that follows
    extra: int  # of the extra field after it
    comment: int  # of the comment after that
    offset: int  # of the local header, from the archive's first byte


class Zip:
    """A zip file, open as long as this object lives. BadZip unless it ends in a directory, OSError from the disk."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self._file = where.open("rb")
        weakref.finalize(self, self._file.close)
        self._length = self._file.seek(0, os.SEEK_END)
        self._start, self._end, self._before = self._find_directory()

    def __reduce__(self) -> tuple[type["Zip"], tuple[Path]]:
        """Another process opens the file anew."""
        return Zip, (self.where,)

    def members(self) -> Iterator[tuple[str, int]]:
        """Name and place of every member that is no folder, in the directory's order; BadZip where it breaks off."""
        place = self._start
        self._file.seek(place)
        while place < self._end:
            entry = _Entry(*_unpack(_ENTRY, self._file.read(_ENTRY.size)))
            follows = self._file.read(entry.name + entry.extra + entry.comment)
            name = follows[: entry.name].decode("utf-8" if entry.flags & _UTF_8 else "cp437", "replace")
            if not name.endswith("/"):
                yield name, place
            place += _ENTRY.size + len(follows)

    def read(self, place: int, limit: int) -> bytes | None:
        """The bytes of the member whose entry is at ``place``, or None when they are more than ``limit``.

        BadZip when it is encrypted, packed by a method other than 'stored' and 'deflated', cut short or damaged.
        """
        entry = _Entry(*_unpack(_ENTRY, self._at(place, _ENTRY.size)))
        packed, size, offset = entry.packed, entry.size, entry.offset
        if _ELSEWHERE in (packed, size, offset):
            extra = self._at(place + _ENTRY.size + entry.name, entry.extra)
            size, packed, offset = _in_64_bits([size, packed, offset], extra)
        if entry.flags & _ENCRYPTED:
            raise BadZip("is encrypted")
        if max(packed, size) > limit:
            return None
        local = self._before + offset
        name, extra_length = _unpack(_LOCAL, self._at(local, _LOCAL.size))
        data = self._at(local + _LOCAL.size + name + extra_length, packed)
        if entry.method == _DEFLATED:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
            except zlib.error as error:
                raise BadZip("cannot be unpacked") from error
        elif entry.method != _STORED:
            raise BadZip(f"is packed by method {entry.method}")
        if len(data) != size or zlib.crc32(data) != entry.crc:
            raise BadZip("is not what its checksum says")
        return data

    def _at(self, place: int, count: int) -> bytes:
        data = os.pread(self._file.fileno(), count, place) if place < self._length else b""
        if len(data) < count:
            raise BadZip("ends too early")
        return data

    def _find_directory(self) -> tuple[int, int, int]:
        """Its first byte, the byte after its last, and how many bytes precede the archive (a self-extractor's)."""
        tail = self._at(max(0, self._length - _END.size - 0xFFFF), min(self._length, _END.size + 0xFFFF))
        found = tail.rfind(_MARKS[_END])  # nothing but a comment of at most 65,535 bytes follows it
        end = self._length - len(tail) + found
        if found < 0:
            raise BadZip("has no directory at its end")
        size, offset = _unpack(_END, tail[found : found + _END.size])
        locator = end - _LOCATOR_64.size
        if locator > 0 and self._at(locator, 4) == _MARKS[_LOCATOR_64]:
            end = locator - _END_64.size
            size, offset = _unpack(_END_64, self._at(max(0, end), _END_64.size))
        if end - size - offset < 0:
            raise BadZip("has lost its beginning")
        return end - size, end, end - size - offset


def _unpack(layout: struct.Struct, data: bytes) -> tuple[Any, ...]:
    """The numbers of a record, without its mark."""
    if len(data) < layout.size or data[:4] != _MARKS[layout]:
        raise BadZip("has a damaged directory")
    return layout.unpack(data)[1:]


def _in_64_bits(numbers: list[int], extra: bytes) -> list[int]:
    """The numbers, with those that did not fit replaced in turn by the 64 bits of the extra field (4.5.3)."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        wide = [number for (number,) in struct.iter_unpack("<Q", field[: length // 8 * 8])]
        if kind == 1 and len(wide) >= numbers.count(_ELSEWHERE):
            return [wide.pop(0) if number == _ELSEWHERE else number for number in numbers]
    raise BadZip("has a damaged directory")
