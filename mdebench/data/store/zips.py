"""Members of a zip: listed by Python's zipfile, and unpacked by it in whichever process needs them.

zipfile keeps half a kilobyte of every member, and reads the whole directory before the first. So it lists them once,
and what is kept of a member, and handed to other processes, are the 34 bytes that unpacking it needs.
"""

import bz2
import io
import os
import stat
import struct
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from mdebench import files
from mdebench.data.report import Report
from mdebench.data.store.members import MAX_BYTES, BadImage

# The ZIP file format specification (PKWARE, APPNOTE 6.3.10): header of 4.3.7, flags of 4.4.4, methods of 4.4.5, extra
# field of 4.6.9.
_HEADER = struct.Struct("<4s22x2H")  # in front of a member's data: mark, bytes of the name and of the extra field
_ENCRYPTED, _PATCHED, _STRONGLY_ENCRYPTED, _UTF_8 = 1, 1 << 5, 1 << 6, 1 << 11
_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 10: "PKWARE Implode", 12: "bzip2", 14: "LZMA", 16: "IBM CMPSC"}
_METHODS |= dict.fromkeys((2, 3, 4, 5), "Reduce") | {18: "IBM TERSE", 19: "IBM LZ77", 93: "Zstandard", 94: "MP3"}
_METHODS |= {95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd", 99: "AES"}
_UNICODE_PATH = 0x7075
# 4.3.16 and 4.3.14: mark and number of entries in all
_END, _END_MARK, _TAIL = struct.Struct("<10sH10x"), b"PK\5\6", 22 + 2**16
_WIDE_END, _WIDE_END_MARK = struct.Struct("<32sQ16x"), b"PK\6\6"
# Where it begins, its bytes packed and unpacked, checksum, method, flags, and a checksum of its name
_MEMBER = struct.Struct("<3QL3H")
_PIECE = 4096  # packed bytes at a time, where zipfile sets no bound to what they unpack to: some 30 MB of LZMA


@dataclass(frozen=True)
class Zip:
    """A zip file as it was when it was opened: its path, and its size and the time of its last change."""

    where: Path
    stamp: tuple[int, int]

    @classmethod
    def open(cls, where: Path) -> "Zip":
        """OSError when there is none."""
        return cls(where, _stamp(where))

    def members(self, report: Report) -> Iterator[tuple[str, bytes | BadImage]]:
        """Name of every member that is no folder, with what `read` takes, or why it is none; a name whose encoding had
        to be guessed is reported. BadZipFile, NotImplementedError, ValueError, struct.error for a damaged directory.
        """
        with files.regular(self.where) as file, zipfile.ZipFile(file) as archive:
            _check_count(file, len(archive.filelist))
            for info in archive.infolist():
                name, guessed = _name(info)
                if name.replace("\\", "/").endswith("/"):
                    continue
                if info.header_offset < 0:
                    raise zipfile.BadZipFile("its beginning is missing, or it is the last of several parts")
                if guessed:
                    report.add("guessed_name", name)
                if info.create_system == 3 and stat.S_ISLNK(info.external_attr >> 16):
                    yield name, BadImage("not_a_file", "a link")
                    continue
                sizes = (info.compress_size, info.file_size)
                named = _named(info.orig_filename.encode("utf-8" if info.flag_bits & _UTF_8 else "cp437"))
                how = (info.CRC, info.compress_type, info.flag_bits, named)
                yield name, _MEMBER.pack(info.header_offset, *sizes, *how)

    def read(self, member: bytes) -> bytes:
        """The bytes of a member. BadImage when it is encrypted, packed in a way that zipfile does not know, larger than
        `MAX_BYTES`, or not what the directory says of it.
        """
        place, packed, size, checksum, method, flags, named = _MEMBER.unpack(member)
        if flags & (_ENCRYPTED | _STRONGLY_ENCRYPTED):
            raise BadImage("encrypted", "AES" if method == 99 else "")
        if max(packed, size) > MAX_BYTES:
            raise BadImage("too_large")
        file = _opened(self)
        try:
            mark, *lengths = _HEADER.unpack(file.read(place, _HEADER.size))
            if mark != b"PK\3\4" or flags & _PATCHED:
                raise zipfile.BadZipFile("it does not begin where the archive says")
            if _named(file.read(place + _HEADER.size, lengths[0])) != named:
                raise zipfile.BadZipFile("the archive has two names for it")
            data = _unpacked(file.read(place + _HEADER.size + sum(lengths), packed), size, checksum, method)
        except NotImplementedError as error:
            raise BadImage("packed", f"method {method}, {_METHODS.get(method, 'which has no name')}") from error
        except Exception as error:  # what zipfile and its decompressors raise of hostile bytes is not to be foreseen
            if files.wanting(error):
                raise
            raise BadImage("unreadable", _reason(error)) from error
        if len(data) != size:
            raise BadImage("unreadable", f"{len(data):,} bytes where the archive says {size:,}")
        return data


class _Open:
    """A file that is open as long as this object lives."""

    def __init__(self, where: Path) -> None:
        self._handle = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._handle)

    def read(self, place: int, count: int) -> bytes:
        """So many bytes from there on, whatever other threads read; EOFError."""
        data = os.pread(self._handle, count, place)
        if len(data) < count:
            raise EOFError
        return data


@lru_cache(maxsize=1)
def _opened(archive: Zip) -> _Open:
    """The file, open in this process until it needs another; BadImage when it is not that of before any more."""
    if _stamp(archive.where) != archive.stamp:
        raise BadImage("unreadable", "the archive has changed since it was opened")
    return _Open(archive.where)


def _check_count(file: IO[bytes], found: int) -> None:
    """BadZipFile unless as many entries were found as the end of the directory says: zipfile does not look, and a wrong
    length of one entry can hide all after it.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    plain = len(tail) - _END.size  # where the record lies if no comment follows it
    place = plain if tail.startswith(_END_MARK, max(plain, 0)) else tail.rfind(_END_MARK)
    if place < 0 or len(tail) - place < _END.size:
        return  # zipfile has found it elsewhere
    _, count = _END.unpack_from(tail, place)
    wide = tail.rfind(_WIDE_END_MARK, 0, place)
    if count == 2**16 - 1 and wide >= 0 and place - wide >= _WIDE_END.size:
        _, count = _WIDE_END.unpack_from(tail, wide)
    if count not in (found, found % 2**16):
        raise zipfile.BadZipFile(f"its directory lists {found:,} files, and says that they are {count:,}")


def _unpacked(packed: bytes, size: int, checksum: int, method: int) -> bytes:
    """The first `size` bytes of what was packed; never much more is unpacked. NotImplementedError for an unknown
    method, BadZipFile when the checksum is not theirs, and whatever decompressors raise.
    """
    if method == zipfile.ZIP_BZIP2:  # zipfile would unpack each piece at once, and 4 KB of bzip2 may hold 4 GB
        data = bz2.BZ2Decompressor().decompress(packed, size)
        if zlib.crc32(data) != checksum:
            raise zipfile.BadZipFile("Bad CRC-32")
        return data
    info = zipfile.ZipInfo()
    info.compress_type, info.compress_size, info.file_size, info.CRC = method, len(packed), size, checksum
    with zipfile.ZipExtFile(io.BytesIO(packed), "r", info) as stream:
        if method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return stream.read(size)
        return b"".join(iter(lambda: stream.read(_PIECE), b""))


def _stamp(where: Path) -> tuple[int, int]:
    state = where.stat()
    return state.st_size, state.st_mtime_ns


def _name(info: zipfile.ZipInfo) -> tuple[str, bool]:
    """The name of a member, and whether the archive leaves open how it is encoded: UTF-8 if it can be that, else code
    page 437, as the specification has it (appendix D).
    """
    if info.flag_bits & _UTF_8 or info.orig_filename.isascii():
        return info.filename, False
    raw = info.orig_filename.encode("cp437")
    if (said := _unicode_path(raw, info.extra)) is not None:
        return said, False
    try:
        return raw.decode(), True
    except UnicodeDecodeError:
        return info.orig_filename, True


def _unicode_path(raw: bytes, extra: bytes) -> str | None:
    """The name in the extra field of Info-ZIP, if it belongs to the name as it stands."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and len(field) > 5 and struct.unpack_from("<L", field, 1)[0] == zlib.crc32(raw):
            return field[5:].decode("utf-8", "replace")
    return None


def _named(name: bytes) -> int:
    """Sixteen bits of a checksum: a name stands in the directory and before the data, and damage is in one of them."""
    return zlib.crc32(name) & 0xFFFF


def _reason(error: Exception) -> str:
    """What is wrong with a member, in a few words."""
    if isinstance(error, EOFError):
        return "the archive ends too early"
    if isinstance(error, zipfile.BadZipFile):
        return "not what its checksum says" if str(error).startswith("Bad CRC") else str(error)
    if isinstance(error, OSError) and error.errno:
        return str(error.strerror)
    return f"damaged: {error}"
