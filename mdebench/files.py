"""Files are written whole or not at all, and what is read is a whole, regular file, or one sentence says what is wrong.

Writing: beside the place, synced, renamed. A write holds a lock on its unfinished file, so that what a kill left behind
(a stray) can be told from what is being written, on any machine that shares the folder.
Reading: whatever a damaged file makes its reader raise becomes `Damaged`. Want of memory, of descriptors or of a disk
is no damage, and stops the command instead.
Checking: JSON that we write carries a digest of itself; zip archives (checkpoints, values) carry one of each member.
"""

import errno
import fcntl
import hashlib
import io
import json
import mmap
import os
import re
import secrets
import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from mdebench.errors import UserError
from mdebench.words import new_console, tell

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
CHECKSUM = "checksum"  # the key of a digest in JSON of ours
GROUP = "group"  # the key of which lines belong together
SHORT = "/tmp"  # where temporary folders have short paths: those of sockets hold a hundred characters
_SCRATCH = ".mdebench-"
_UNFINISHED = re.compile(r"\.(.+)\.[0-9a-f]+\.partial")
_BEGUN = re.compile(rb'\{|\{"[ -~]*')  # a line of JSON as we write it, without its end
SPARE = 2**26  # bytes; less than a linear-algebra library takes for its own when it is first called
# How libraries say in words of their own that there was nothing left to take.
_MEMORY = re.compile(
    r"failed to map|(can't|cannot) allocate|(not enough|out of) memory|bad_alloc|ALLOC_FAILED|start new thread"
    r"|could not (create|execute) a primitive(?! descriptor)|storage size calculation overflowed",
    re.IGNORECASE,
)
_END, _MANY = struct.Struct("<4s6xH10x"), 0xFFFF  # of a zip archive: its mark, and how many members ("more than that")
# Of the machine, not of a file: nothing that lies on a disk is to blame.
_WANT = {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENODEV}


class Damaged(UserError):
    """A file that cannot be what it was when it was written; the sentence says which, how it shows and what to do."""


# --- writing


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside ``path``, sync, rename; UserError on a full disk or the like, and what was there before stays."""
    with writing(path) as file:
        file.write(data)


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose bytes become ``path`` when the block ends well, and nothing when it does not.

    The folder is made if need be; what a kill left of an earlier writing of the same file is cleared, and said.
    UserError for whatever the disk refuses, by whichever library the block wrote (torch and numpy say it in words of
    their own); what stood there before is kept.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in strays(path.parent, below=False):
            if _UNFINISHED.sub(r"\1", left.name) == path.name and _is_left(left, delete=True):
                tell(new_console(), "cleared", f"{left}, which a killed command left")
        with unfinished(path) as (file, name):
            yield file
            file.flush()
            os.fsync(file.fileno())
            name.replace(path)  # under the lock: nobody takes it for a stray
        _sync_folder(path.parent)
    except (FileExistsError, NotADirectoryError) as error:
        where = error.filename or path.parent
        raise UserError(f"{where}: a file is where a folder is wanted; choose another path") from error
    except OSError as error:
        raise UserError(f"could not write {path}: {said(error)}; what stood there before is kept") from error


@contextmanager
def unfinished(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file beside ``path`` and where that is, for a while, locked; a stray when we are killed meanwhile.

    It is made again where somebody took it for a stray before it was locked.
    """
    while True:
        name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        with name.open("xb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if name.exists():
                    yield file, name
                    return
            finally:
                name.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError), _opened(folder) as handle:  # some file systems have no such thing
        os.fsync(handle)


def strays(folder: Path, below: bool = True) -> list[Path]:
    """The unfinished files in a folder, or also ``below`` it, that nobody is writing: what kills left.

    They may be deleted.
    """
    found = []
    for where, folders, names in os.walk(folder):
        found += [Path(where, name) for name in names if _UNFINISHED.fullmatch(name)]
        if not below:
            folders.clear()
    return sorted(path for path in found if _is_left(path))


def clear_strays(folder: Path) -> list[Path]:
    """Delete what `strays` finds; returns what was deleted, for the caller to tell."""
    return [path for path in strays(folder) if _is_left(path, delete=True)]


def _is_left(path: Path, delete: bool = False) -> bool:
    """Whether a file or folder is there and nobody holds its lock; to ``delete`` it, nobody may until it is gone."""
    with suppress(OSError), _opened(path) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if delete:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return True
    return False


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def scratch(place: Path | None = None) -> Iterator[Path]:
    """A new folder for a while, into which no other user can look; in ``place``, else where temporary files go.

    It is locked, so that what a kill left can be told: that is cleared here, and said.
    """
    for left in left_scratch():
        if clear_scratch(left):
            tell(new_console(), "cleared", f"{left}, which a killed command left")
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=place))  # closed to others: mode 0700
        with suppress(FileNotFoundError), _opened(folder) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                if folder.is_dir():  # or somebody took it for left before it was locked
                    yield folder
                    return
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def left_scratch() -> list[Path]:
    """The temporary folders of this user's killed commands, by name."""
    places = {Path(tempfile.gettempdir()), Path(SHORT)}
    found = {path for place in places for path in place.glob(f"{_SCRATCH}????????")}
    return sorted(path for path in found if _is_closed(path) and _is_left(path))


def clear_scratch(folder: Path) -> bool:
    """Delete one of `left_scratch`; False where somebody has it after all."""
    return _is_left(folder, delete=True)


def _is_closed(folder: Path) -> bool:
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) == 0o700


def holder(lock: Path) -> str | None:
    """What the process that holds a lock file has written into it ("" for nothing); None where nobody holds it.

    OSError as of any reading. The file stays as it is.
    """
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read(200).decode("utf-8", "replace")
    return None


def wanting(error: BaseException) -> bool:
    """Whether the machine lacked something (memory, descriptors, a disk that answers), so that no file is to blame."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _WANT)


def wants_memory(error: BaseException) -> bool:
    """Whether that is what an error says: Python and numpy by its kind, the system by a number, libraries in words."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError) and bool(_MEMORY.search(str(error)))
    )


def short_of_memory() -> bool:
    """Whether a limit of this process leaves it less than `SPARE`: what libraries say then may be anything at all."""
    try:
        mmap.mmap(-1, SPARE).close()
    except OSError:
        return True
    return False


def said(error: OSError) -> str:
    """What an OSError says, in words; never 'None'."""
    return error.strerror or str(error) or type(error).__name__


# --- reading


Without = Callable[[], AbstractContextManager[None]]  # `Rest.without`, or `nullcontext` to end at the first damage


class Rest:
    """Goes on with the rest where something is damaged, and in the end tells all that was, in one sentence."""

    def __init__(self) -> None:
        self.damaged: list[str] = []

    @contextmanager
    def without(self) -> Iterator[None]:
        """What is damaged ends the block, and not what comes after it."""
        try:
            yield
        except Damaged as problem:
            if str(problem) not in self.damaged:
                self.damaged.append(str(problem))

    def end(self, done: str) -> None:
        """Damaged, if anything was; ``done`` says what was done without it."""
        if self.damaged:
            raise Damaged(f"{'; '.join(self.damaged)}; {done}")


@contextmanager
def reading(path: Path | str, way_on: str) -> Iterator[None]:
    """Whatever the block raises on what is in ``path`` becomes Damaged: what was found, and ``way_on``, what to do.

    FileNotFoundError stays what it is, as do a UserError and want of memory or of the machine (those as UserError).
    """
    try:
        yield
    except (UserError, FileNotFoundError):
        raise
    except MemoryError as error:
        raise UserError(f"there is not enough memory to read {path}: free some, and try again") from error
    except OSError as error:
        if wanting(error) or error.errno == errno.EACCES:
            raise UserError(f"{path} cannot be read: {said(error)}") from error
        raise Damaged(f"{path} is damaged ({said(error)}); {way_on}") from error
    except Exception as error:  # readers of damaged bytes raise almost anything
        what = (str(error).splitlines() or [""])[0].strip() or type(error).__name__
        raise Damaged(f"{path} is damaged ({what[:120]}); {way_on}") from error


@contextmanager
def regular(path: Path) -> Iterator[io.BufferedReader]:
    """A file to read from; UserError, at once, where it is a pipe, a device or a socket, which may never end.

    OSError as of any opening.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise UserError(f"{path} is {_kind(mode)}, not a file: save what it gives to a file first")
        yield file


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "something else")


def read_bytes(path: Path) -> bytes:
    """All of a regular file; OSError as of any reading."""
    with regular(path) as file:
        return file.read()


# --- checking


def digest(data: bytes) -> str:
    """Sixteen hex digits of the SHA-256: against damage, not against a forger."""
    return hashlib.sha256(data).hexdigest()[:16]


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with a digest of all its other entries, last."""
    plain = {key: value for key, value in values.items() if key != CHECKSUM}
    return plain | {CHECKSUM: digest(_canonical(plain))}


def unsealed(values: Any) -> dict[str, Any]:
    """The entries of a JSON object without their digest; ValueError where it is no object, or they are not those.

    What was written before there were digests has none, and is taken as it is.
    """
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    last = list(values)[-1] if values else ""
    plain = {key: value for key, value in values.items() if key != last}
    fits = values.get(last) == digest(_canonical(plain))
    if fits is not (last == CHECKSUM) or CHECKSUM in plain:  # or the name of the checksum itself has changed
        raise ValueError("it is not what its checksum says")
    return plain if fits else values


def _canonical(plain: Mapping[str, Any]) -> bytes:
    return json.dumps(plain, sort_keys=True, ensure_ascii=True).encode()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """A JSON object with its digest, for `read_json`; to be read by people as well."""
    write_atomically(path, (json.dumps(sealed(values), indent=1) + "\n").encode())


def read_json(path: Path, way_on: str) -> dict[str, Any]:
    """What `write_json` wrote, or anybody before there were digests; Damaged, or FileNotFoundError."""
    with reading(path, way_on):
        return unsealed(json.loads(read_bytes(path).decode("utf-8")))


def json_line(values: Mapping[str, Any]) -> bytes:
    """A JSON object with its digest as one line, for `read_lines`; ValueError for a number that JSON lacks."""
    return json.dumps(sealed(values), allow_nan=False).encode() + b"\n"


def json_lines(name: str, group: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Lines that belong together: each says of which group it is, and of how many lines, so that one is missed."""
    return [json_line({**values, GROUP: [name, len(group)]}) for values in group]


def changed_line(line: bytes, values: Mapping[str, Any]) -> bytes:
    """Other values in the place of those of a line, of the same group."""
    before = json.loads(line)
    return json_line({**values, GROUP: before[GROUP]} if GROUP in before else values)


def read_lines(
    path: Path, way_on: str, parse: Callable[[dict[str, Any]], T], appended: bool = False
) -> list[tuple[bytes, T]]:
    """Each line of a file of JSON lines as it stands, and what ``parse`` makes of it, held to its digest if it has one.

    Of a file that is ``appended`` to, such as a log, a last line without its end was cut short by a kill, and is passed
    over. Damaged names the first line that is not whole, that ``parse`` raises anything on, or of whose group another
    is missing; FileNotFoundError.
    """
    found, groups = list[tuple[bytes, T]](), dict[tuple[str, int], list[int]]()
    with reading(path, way_on):
        lines = read_bytes(path).splitlines(keepends=True)
    if appended and lines and _BEGUN.fullmatch(lines[-1]):
        lines.pop()
    for number, line in enumerate(lines, start=1):
        with reading(f"Line {number} of {path}", way_on):
            values = unsealed(json.loads(line.decode("utf-8")))
            if GROUP in values:
                name, count = values.pop(GROUP)
                groups.setdefault((name, count), []).append(number)
            found.append((line, parse(values)))
    for (_, count), numbers in groups.items():
        with reading(path, way_on):
            if len(numbers) != count:
                lie = f"{len(numbers)} of the {count} lines that were written together with line {numbers[0]}"
                raise ValueError(f"it has {lie}")
    return found


def read_archive(path: Path, way_on: str) -> dict[str, bytes]:
    """The members of a zip archive of ours, each held to its checksum; Damaged, or FileNotFoundError."""
    with reading(path, way_on), regular(path) as file, zipfile.ZipFile(file) as archive:
        _check_end(file, len(archive.infolist()))
        return {name: archive.read(name) for name in archive.namelist()}


def check_archive(path: Path, way_on: str) -> None:
    """Hold every member of a zip archive (a checkpoint of torch, say) to its checksum, a piece at a time; Damaged."""
    with reading(path, way_on), regular(path) as file, zipfile.ZipFile(file) as archive:
        _check_end(file, len(archive.infolist()))
        if (bad := archive.testzip()) is not None:
            raise ValueError(f"{bad} is not what its checksum says")


def _check_end(file: IO[bytes], listed: int) -> None:
    """ValueError where a zip archive of ours does not end with its directory, or that lists other than as many members
    as its end says: readers of zip archives permit both."""
    file.seek(-_END.size, os.SEEK_END)
    mark, told = _END.unpack(file.read())
    if mark != b"PK\5\6":
        raise ValueError("there is something behind its end")
    if told not in (listed, _MANY):
        raise ValueError(f"it has {told:,} members, and {listed:,} of them can be found")


def read_arrays(path: Path, way_on: str) -> "dict[str, NDArray[Any]]":
    """The arrays of an .npz file, each held to its checksum and read to its end; Damaged, or FileNotFoundError."""
    import numpy as np

    members = read_archive(path, way_on)
    with reading(path, way_on):
        return {name.removesuffix(".npy"): _array(np, data) for name, data in members.items()}


def _array(np: Any, data: bytes) -> "NDArray[Any]":
    stream = io.BytesIO(data)
    array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    if stream.read(1):
        raise ValueError("there is more in it than its header says")
    return array
