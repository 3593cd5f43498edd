"""Images of a folder, a zip or a tar by key; nothing is ever extracted to disk.

A store knows where each image is and can hand that to another process, which then reads it there.
"""

import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mdebench import files
from mdebench.data.report import Report
from mdebench.data.store.folders import files_below, read_file
from mdebench.data.store.members import MAX_BYTES, BadImage, Read, is_litter, safe_path
from mdebench.data.store.tars import Tar
from mdebench.data.store.zips import Zip
from mdebench.errors import UserError

__all__ = [
    "ARCHIVES",
    "MAX_BYTES",
    "PICTURES",
    "BadImage",
    "ImageStore",
    "Read",
    "by_name",
    "by_path",
    "is_archive",
    "is_litter",
]
__all__ += ["open_store", "read_member", "safe_path"]

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")  # in any case of letters
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_ZIP = (b"PK\3\4", b"PK\5\6", b"PK\7\x08")
_OTHERS = {  # how a file begins → what it is, and what to do
    b"Rar!": "is a RAR archive, which cannot be read here: unpack it, and give the folder with its files",
    b"7z\xbc\xaf": "is a 7-Zip archive, which cannot be read here: unpack it, and give the folder with its files",
    b"\x28\xb5\x2f\xfd": "is packed by Zstandard, which cannot be read here: unpack it, and give the folder",
    b"\x1f\x8b": "is a single file packed by gzip, or a tar archive that is not whole: unpack it, or fetch it again",
    b"BZh": "is a single file packed by bzip2, or a tar archive that is not whole: unpack it, or fetch it again",
    b"\xfd7zXZ": "is a single file packed by xz, or a tar archive that is not whole: unpack it, or fetch it again",
    b"version https://git-lfs": "is not the file but Git's pointer to it: run `git lfs pull` there",
    b"<": "is a web page and no archive (a quota or a login, most likely): fetch it again",
}


@dataclass(frozen=True)
class ImageStore:
    """Images by key. What `read` needs of a member is small enough to be handed to another process, as is `read`."""

    where: Path
    members: dict[str, Any]  # key → what `read` takes, or the BadImage that says why there is none
    read: Read
    hold: Callable[[Iterable[Any]], Mapping[Any, Any]] | None = None  # of a packed tar: reads many in one pass

    def holding(self, keys: Collection[str]) -> "ImageStore":
        """The store of these alone, whose members can be read in any order: those of a packed tar wait in memory."""
        members = {key: self.members[key] for key in keys if key in self.members}
        if self.hold is None:
            return replace(self, members=members)
        there = self.hold(member for member in members.values() if not isinstance(member, BadImage))
        return ImageStore(self.where, {key: there.get(member, member) for key, member in members.items()}, _held)

    def member(self, key: str) -> Any:
        """What `read_member` takes for a key, present or not."""
        return self.members.get(key, BadImage("missing_file"))

    def levels(self) -> Iterator["ImageStore"]:
        """This store, and as long as all members lie in one folder, the store of what lies in it."""
        yield self
        tops = {key.partition("/")[0] for key in self.members}
        if len(tops) == 1 and not tops & self.members.keys():
            inside = {key.partition("/")[2]: member for key, member in self.members.items()}
            yield from replace(self, members=inside).levels()

    def meeting(self, paths: Collection[str]) -> "ImageStore":
        """The level of this store at which most of the paths are found, the first if it is any of several."""
        return max(self.levels(), key=lambda level: sum(path in level.members for path in paths))


def read_member(read: Read, member: Any) -> bytes:
    """The bytes of one image of a store; BadImage when there is none or it cannot be read.

    MemoryError and OSError for what the machine lacks, whichever image it meets.
    """
    if isinstance(member, BadImage):
        raise member
    try:
        return read(member)
    except OSError as error:
        if files.wanting(error):
            raise
        raise BadImage("unreadable", files.said(error)) from error


def by_path(path: str) -> str:
    """Key of sources that list images by their path."""
    return path


def by_name(path: str) -> str:
    """Key of sources that list images by their bare file name."""
    return path.rpartition("/")[2]


def is_archive(path: Path) -> bool:
    """Whether a file is named as one that `open_store` reads."""
    return path.name.lower().endswith(ARCHIVES) and not is_litter(path.name) and not path.is_dir()


def open_store(where: Path, report: Report, key: Callable[[str], str] = by_path) -> ImageStore:
    """A folder, a zip or a tar (plain or packed by gzip, bzip2 or xz) as a store, whatever its name ends in.

    What an operating system put there is passed over; that, members that point outside, and duplicates are reported.
    UserError says what else the file is.
    """
    try:
        if where.is_dir():
            found = sorted(files_below(where, report), key=lambda file: file[0])
            return ImageStore(where, _index(found, report, key), partial(read_file, where))
        with files.regular(where) as stream:
            begin = stream.read(32)
        if not begin.startswith(_ZIP) and _is_tar(where):  # which may well end in a zip
            tar = Tar.open(where)
            members = _index(tar.members(report), report, key)
            return ImageStore(where, members, tar.read, tar.held if tar.packing else None)
        if begin.startswith(_ZIP) or zipfile.is_zipfile(where):
            archive = Zip.open(where)
            return ImageStore(where, _index(archive.members(report), report, key), archive.read)
    except (UserError, MemoryError):
        raise
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where} has names that are not in the UTF-8 that it announces: unpack it, and give the folder."
        ) from error
    except NotImplementedError as error:  # of the directory of a zip
        raise UserError(f"{where} cannot be read ({error}): unpack it, and give the folder with its files.") from error
    except Exception as error:  # what readers of archives raise of a damaged one is not to be foreseen
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{error.filename or where} cannot be read: {files.said(error)}.") from error
        raise UserError(f"{where} is not a whole archive ({_said(error)}): fetch it again.") from error
    what = next((said for mark, said in _OTHERS.items() if begin.lstrip().startswith(mark)), None)
    if what is None and is_archive(where):
        what = "is not a whole archive: fetch it again"
    raise UserError(f"{where} {what or 'is neither a folder nor an archive (zip or tar)'}.")


def _said(error: Exception) -> str:
    """What a person can make of it."""
    said = str(error) or type(error).__name__
    if isinstance(error, zipfile.BadZipFile) and said.startswith(("Bad ", "Corrupt ", "Truncated ")):
        return "its directory, at the end, is damaged"
    return "its directory, at the end, is missing" if said == "File is not a zip file" else said


def _index(found: Iterable[tuple[str, Any]], report: Report, key: Callable[[str], str]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for path, member in found:
        if is_litter(path):
            report.add("litter", path)
            continue
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


def _is_tar(where: Path) -> bool:
    """Whether it begins as a tar, packed or not; OSError."""
    try:
        return tarfile.is_tarfile(where)
    except Exception as error:  # what it finds is no packing, or a damaged one
        if files.wanting(error) or (isinstance(error, OSError) and error.errno is not None):
            raise
        return False


def _held(data: bytes) -> bytes:
    """A member that waits in memory is its own bytes."""
    return data
