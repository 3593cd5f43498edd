"""Images of a folder, a zip or a tar by key; nothing is ever extracted to disk.

A store knows where each image is and can hand that to another process, which then reads it there.
"""

import os
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mdebench.data.report import Report
from mdebench.data.zips import BadZip, Zip
from mdebench.errors import UserError

MAX_BYTES = 64 * 2**20  # of one compressed image
MAX_TAR_BYTES = 4 * 2**30  # a tar has no random access, so its images wait in memory


class BadImage(Exception):
    """Why an image is left out: a kind of `report.KINDS`."""


Read = Callable[[Any], bytes]  # a member of a store → its bytes; raises BadImage, OSError or BadZip


@dataclass(frozen=True)
class ImageStore:
    """Images by key. What `read` needs of a member is small enough to be handed to another process, as is `read`."""

    where: Path
    members: dict[str, Any]  # key → what `read` takes
    read: Read

    def member(self, key: str) -> Any:
        """What `read_member` takes for a key, present or not."""
        return self.members.get(key, BadImage("missing_file"))


def read_member(read: Read, member: Any) -> bytes:
    """The bytes of one image of a store; BadImage when there is none or it cannot be read."""
    if isinstance(member, BadImage):
        raise member
    try:
        return read(member)
    except (OSError, BadZip) as error:
        raise BadImage("unreadable") from error


def safe_path(path: str) -> str:
    """The path in normal form with '/'; BadImage('outside') if it is absolute or leaves its folder."""
    path = path.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or path.startswith("/") or ".." in parts or parts[0].endswith(":"):
        raise BadImage("outside")
    return "/".join(parts)


def by_path(path: str) -> str:
    """Key of sources that list images by their path."""
    return path


def by_name(path: str) -> str:
    """Key of sources that list images by their bare file name."""
    return path.rpartition("/")[2]


def open_store(where: Path, report: Report, key: Callable[[str], str] = by_path) -> ImageStore:
    """A folder, .zip, .tar, .tgz or .tar.gz as a store; members that point outside and duplicates are reported."""
    try:
        if where.is_dir():
            files = sorted(_files_below(where))
            return ImageStore(where, _index(zip(files, files), report, key), partial(_read_file, where))
        if where.suffix == ".zip":
            archive = Zip(where)
            return ImageStore(where, _index(archive.members(), report, key), partial(_read_zip, archive))
        return ImageStore(where, _index(_read_tar(where, report), report, key), _limited)
    except (BadZip, tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"{where} is not a whole archive ({error}): fetch it again.") from error
    except OSError as error:
        raise UserError(f"{error.filename or where} cannot be read: {error.strerror or error}.") from error


def _files_below(where: Path) -> Iterator[str]:
    def stop(error: OSError) -> None:
        raise error

    for folder, _, names in os.walk(where, onerror=stop):  # Path.rglob would keep an object for each file
        for file in (Path(folder, name) for name in names):
            if file.is_file():  # neither a pipe nor a link to nothing
                yield file.relative_to(where).as_posix()


def _index(found: Iterable[tuple[str, Any]], report: Report, key: Callable[[str], str]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for path, member in found:
        try:
            name = key(safe_path(path))
        except BadImage as verdict:
            report.add(str(verdict), path)
            continue
        if name in members:
            report.add("duplicate", path)
        else:
            members[name] = member
    return members


def _limited(data: bytes | None) -> bytes:
    if data is None:
        raise BadImage("too_large")
    return data


def _read_file(folder: Path, path: str) -> bytes:
    file = folder / path
    return _limited(None if file.stat().st_size > MAX_BYTES else file.read_bytes())


def _read_zip(archive: Zip, place: int) -> bytes:
    return _limited(archive.read(place, MAX_BYTES))


def _read_tar(where: Path, report: Report) -> Iterator[tuple[str, bytes | None]]:
    total = 0
    with tarfile.open(where, "r:*") as archive:
        for entry in archive:
            if entry.isdir():
                continue
            stream = archive.extractfile(entry) if entry.isfile() else None
            if stream is None:
                report.add("not_a_file", entry.name)
                continue
            total += entry.size
            if total > MAX_TAR_BYTES:
                raise UserError(f"{where} holds more than 4 GiB: unpack it and prepare from the folder.")
            yield entry.name, stream.read() if entry.size <= MAX_BYTES else None
