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
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mdebench.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHECKSUM = "checksum"  # the key of a digest in JSON of ours
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]+\.partial")
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

    UserError for whatever the disk refuses, by whichever library the block wrote (torch and numpy say it in words of
    their own); what stood there before is kept. The folder is made if need be.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _unfinished(path) as (file, name):
            yield file
            file.flush()
            os.fsync(file.fileno())
            name.replace(path)  # under the lock: nobody takes it for a stray
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"could not write {path}: {said(error)}; what stood there before is kept") from error


@contextmanager
def _unfinished(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file beside ``path``, locked; made again where somebody took it for a stray before it was locked."""
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
    with suppress(OSError):  # some file systems have no such thing
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def strays(folder: Path) -> list[Path]:
    """The unfinished files below a folder that nobody is writing: what kills left. They may be deleted."""
    found = []
    for where, _, names in os.walk(folder):
        for path in (Path(where, name) for name in names if _UNFINISHED.fullmatch(name)):
            with suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append(path)
    return sorted(found)


def clear_strays(folder: Path) -> list[Path]:
    """Delete what `strays` finds; returns what was deleted, for the caller to tell."""
    cleared = []
    for path in strays(folder):
        with suppress(OSError):
            path.unlink()
            cleared.append(path)
    return cleared


def wanting(error: BaseException) -> bool:
    """Whether the machine lacked something (memory, descriptors, a disk that answers), so that no file is to blame."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _WANT)


def said(error: OSError) -> str:
    """What an OSError says, in words; never 'None'."""
    return error.strerror or str(error) or type(error).__name__


# --- reading


@contextmanager
def reading(path: Path, way_on: str) -> Iterator[None]:
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
def regular(path: Path) -> Iterator[IO[bytes]]:
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


def read_archive(path: Path, way_on: str) -> dict[str, bytes]:
    """The members of a zip archive of ours, each held to its checksum; Damaged, or FileNotFoundError."""
    with reading(path, way_on), regular(path) as file, zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def check_archive(path: Path, way_on: str) -> None:
    """Hold every member of a zip archive (a checkpoint of torch, say) to its checksum, a piece at a time; Damaged."""
    with reading(path, way_on), regular(path) as file, zipfile.ZipFile(file) as archive:
        if (bad := archive.testzip()) is not None:
            raise ValueError(f"{bad} is not what its checksum says")


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
