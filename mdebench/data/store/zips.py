"""Members of a zip by their places in its directory, read by Python's zipfile in whichever process needs them.

A process opens an archive once and keeps its directory (half a kilobyte a member); what is handed to another process
is a path and a number.
"""

import bz2
import copy
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mdebench.data.report import Report
from mdebench.data.store.members import MAX_BYTES, BadImage

# The ZIP file format specification (PKWARE, APPNOTE 6.3.10): flags of 4.4.4, methods of 4.4.5, extra field of 4.6.9.
_ENCRYPTED, _STRONGLY_ENCRYPTED, _UTF_8 = 1, 1 << 6, 1 << 11
_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 10: "PKWARE Implode", 12: "bzip2", 14: "LZMA", 16: "IBM CMPSC"}
_METHODS |= dict.fromkeys((2, 3, 4, 5), "Reduce") | {18: "IBM TERSE", 19: "IBM LZ77", 93: "Zstandard", 94: "MP3"}
_METHODS |= {95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd", 99: "AES"}
_UNICODE_PATH = 0x7075
_PIECE = 4096  # packed bytes at a time, where zipfile sets no bound to what they unpack to: some 30 MB of LZMA


@dataclass(frozen=True)
class Zip:
    """A zip file as it was when it was opened: its path, and its size and the time of its last change."""

    where: Path
    stamp: tuple[int, int]

    @classmethod
    def open(cls, where: Path) -> "Zip":
        """BadZipFile, NotImplementedError, ValueError or struct.error unless its directory can be read; OSError."""
        archive = cls(where, _stamp(where))
        _opened(archive)
        return archive

    def members(self, report: Report) -> Iterator[tuple[str, int | BadImage]]:
        """Name and place of every member that is no folder; a name whose encoding had to be guessed is reported."""
        for place, info in enumerate(_opened(self).infos):
            name, guessed = _name(info)
            if name.replace("\\", "/").endswith("/"):
                continue
            if guessed:
                report.add("guessed_name", name)
            is_link = info.create_system == 3 and stat.S_ISLNK(info.external_attr >> 16)
            yield name, BadImage("not_a_file", "a link") if is_link else place

    def read(self, place: int) -> bytes:
        """The bytes of a member. BadImage when it is encrypted, packed in a way that zipfile does not know, larger than
        `MAX_BYTES`, or not what the directory says of it.
        """
        opened = _opened(self)
        info = opened.infos[place]
        if info.flag_bits & (_ENCRYPTED | _STRONGLY_ENCRYPTED):
            raise BadImage("encrypted", "AES" if info.compress_type == 99 else "")
        if max(info.compress_size, info.file_size) > MAX_BYTES:
            raise BadImage("too_large")
        try:
            data = opened.unpack(info)
        except NotImplementedError as error:
            method = info.compress_type
            raise BadImage("packed", f"method {method}, {_METHODS.get(method, 'which has no name')}") from error
        except Exception as error:  # what zipfile and its decompressors raise of hostile bytes is not to be foreseen
            raise BadImage("unreadable", _reason(error)) from error
        if len(data) != info.file_size:
            raise BadImage("unreadable", f"{len(data):,} bytes where the archive says {info.file_size:,}")
        return data


class _Opened:
    """An open archive, which threads may share."""

    def __init__(self, where: Path) -> None:
        self._archive = zipfile.ZipFile(where)
        self._lock = threading.Lock()  # zipfile's own does not cover its count of open members
        self.infos = self._archive.infolist()

    def unpack(self, info: zipfile.ZipInfo) -> bytes:
        """The bytes of a member, of which no more is unpacked than the directory says that there are."""
        if info.compress_type == zipfile.ZIP_BZIP2:
            return self._unpack_bzip2(info)
        if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return self._read(info, info.file_size)
        return self._read(info, _PIECE)

    def _unpack_bzip2(self, info: zipfile.ZipInfo) -> bytes:
        """As zipfile does, but for its unpacking a whole piece at once: 4 KB of bzip2 may hold 4 GB."""
        packed = copy.copy(info)
        packed.compress_type, packed.file_size = zipfile.ZIP_STORED, info.compress_size
        del packed.CRC  # which is that of the unpacked bytes
        data = bz2.BZ2Decompressor().decompress(self._read(packed, packed.file_size), info.file_size)
        if zlib.crc32(data) != info.CRC:
            raise zipfile.BadZipFile("Bad CRC-32")
        return data

    def _read(self, info: zipfile.ZipInfo, piece: int) -> bytes:
        with self._lock:
            stream = self._archive.open(info)
        try:
            return b"".join(iter(lambda: stream.read(piece), b""))
        finally:
            with self._lock:
                stream.close()


@lru_cache(maxsize=1)
def _opened(archive: Zip) -> _Opened:
    if _stamp(archive.where) != archive.stamp:
        raise BadImage("unreadable", "the archive has changed since it was opened")
    return _Opened(archive.where)


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


def _reason(error: Exception) -> str:
    """What is wrong with a member, in a few words."""
    if isinstance(error, EOFError):
        return "the archive ends too early"
    if isinstance(error, zipfile.BadZipFile):
        words = {"Bad CRC": "not what its checksum says", "File name in directory": "its two entries differ in name"}
        return next((said for begin, said in words.items() if str(error).startswith(begin)), str(error))
    if isinstance(error, OSError) and error.errno:
        return str(error.strerror)
    return f"damaged: {error}"
