"""A run is one pretraining in one folder: what was asked (run.json), what happened (log.jsonl, samples/), and the state
to go on from (state.pt). Everything is written beside its place and renamed, so that a kill leaves the last good state.

Everything carries a checksum, which is verified before it is used: run.json and each line of the log one of their own,
the digests of the training images one in run.json, the state one of each of its parts (see ``files.py``). State files
are read with ``weights_only=True``: tensors and plain values, never somebody else's code.
"""

import errno
import fcntl
import io
import json
import os
import re
import shutil
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mdebench import files
from mdebench.errors import UserError
from mdebench.words import new_console, tell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Recipe:
    """All that decides a run's numbers. Two runs with equal recipes on equal machines end in equal bits.

    ``settings`` are the method's, as plain values; ``pack_hash`` is the data's content; ``precision`` is ``fp32``,
    ``bf16`` or ``fp64``; ``overrides`` are what the user changed against the scale (they stand in the folder's name);
    ``place`` is where the method's code is from, "" for the suite's own (see ``catalog``).
    """

    method: str
    label: str
    settings: dict[str, Any]
    scale: str
    size: int
    pack: str
    pack_hash: str
    seed: int
    updates: int
    batch: int
    precision: str
    overrides: dict[str, str]
    place: str = ""

    @property
    def batch_norm(self) -> str:
        """How several processes normalise a batch (see ``batchnorm.py``); among the overrides where it was chosen."""
        return self.overrides.get("batch_norm", "synchronised")

    @property
    def deterministic(self) -> bool:
        """Whether it ends in the same bits for any number of threads (see ``machine.py``), as was asked for."""
        return self.overrides.get("deterministic") == "true"

    @property
    def name(self) -> str:
        """The run's folder name, such as ``toyfaces64-rec-S0.1-small-seed0``."""
        parts = [self.pack, self.label.replace(" ", "-S"), self.scale]
        parts += [f"{key}={Path(value).name}" for key, value in sorted(self.overrides.items())]
        return re.sub(r"[^\w.=+-]", "_", "-".join([*parts, f"seed{self.seed}"]))


LOG_WAY_ON = "delete it to go on without it"


class Busy(UserError):
    """Another process holds the run."""


# What every run.json has had since there are runs, and as what; a finished one says the hash of its weights, too.
_TEXTS = ("method", "label", "scale", "pack", "pack_hash", "precision", "name", "pack_note", "status", "device", "git")
_OF_ITS_METHOD = ("losses", "perceptual", "told", "feature_dim", "parameters", "notes")  # whatever it says
_RECORD: dict[str, type] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(("size", "seed", "updates", "batch", "step"), int),
    **dict.fromkeys(("settings", "recipe"), dict),
    **dict.fromkeys(_OF_ITS_METHOD, object),
    "dirty": bool,
}


class Run:
    """One run folder. ``info`` is run.json: the recipe, the status, and what was measured while training.

    Damaged where run.json is not what was written, or lacks what every run has.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.info: dict[str, Any] = {}
        with suppress(FileNotFoundError, NotADirectoryError):
            self.info = files.read_json(self.info_path, self._way_on)
            with files.reading(self.info_path, self._way_on):
                _check_record(self.info)

    @property
    def _way_on(self) -> str:
        return f"delete {self.folder} to train this run again"

    @property
    def info_path(self) -> Path:
        """Where run.json is."""
        return self.folder / "run.json"

    @property
    def state_path(self) -> Path:
        """Where the checkpoint is."""
        return self.folder / "state.pt"

    @property
    def log_path(self) -> Path:
        """Where the JSON-lines log is: a line per logged step, with the mean of each loss part since the last."""
        return self.folder / "log.jsonl"

    @property
    def trained_on_path(self) -> Path:
        """Where the digests of its training images are: packs change under their names, a run remembers its own."""
        return self.folder / "trained_on.npy"

    @property
    def finished(self) -> bool:
        """Whether all updates are done and the final state is on disk."""
        return self.info.get("status") == "finished" and self.state_path.is_file()

    def update(self, **values: Any) -> None:
        """Change entries of run.json, atomically."""
        self.info.update(values)
        files.write_json(self.info_path, self.info)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run for this process, as `held` has it."""
        return held(self.folder)

    def strays(self) -> list[Path]:
        """What kills left in the folder, and nobody is writing: unfinished files, and folders of older builds."""
        return [*files.strays(self.folder), *(path for path in self.folder.glob("features/tmp*") if path.is_dir())]

    def clear_strays(self) -> list[Path]:
        """Delete what `strays` finds, with the run's lock held; returns what was deleted, for the caller to tell."""
        found = self.strays()
        for path in found:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        return found

    def keep_trained_on(self, digests: "NDArray[np.uint64]") -> None:
        """Write down which images it is trained on: their digests (`Pack.digests`), sorted, each once."""
        import numpy as np

        data = io.BytesIO()
        np.save(data, np.unique(digests))
        files.write_atomically(self.trained_on_path, data.getvalue())
        self.update(trained_on_checksum=files.digest(data.getvalue()))

    def trained_on(self) -> "NDArray[np.uint64] | None":
        """The digests of its training images; None where it kept none, as older runs did. UserError when damaged."""
        import numpy as np

        way_on = "delete it, and they are looked up in the pack"
        try:
            with files.reading(self.trained_on_path, way_on):
                data = files.read_bytes(self.trained_on_path)
                if self.info.get("trained_on_checksum", files.digest(data)) != files.digest(data):
                    raise ValueError("it is not what its checksum in run.json says")
                digests: NDArray[np.uint64] = np.load(io.BytesIO(data), allow_pickle=False)
                if digests.dtype != np.uint64 or digests.ndim != 1:
                    raise ValueError("it holds no digests of images")
        except FileNotFoundError:
            return None
        return digests

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write the checkpoint atomically; UserError when the disk is full, with the last good state kept."""
        import torch

        with files.writing(self.state_path) as file, _checksums():
            try:
                torch.save(dict(state), file)
            except RuntimeError as error:  # torch has words of its own for a short write
                if "unexpected pos" not in str(error) and "PytorchStreamWriter" not in str(error):
                    raise
                raise OSError(errno.ENOSPC, "the write was cut short, as on a full disk") from error

    def load_state(self) -> dict[str, Any]:
        """The checkpoint: "step", "method" and "optimizers", held to its checksums.

        UserError when it is missing, damaged, or holds anything but tensors and plain values.
        """
        import pickle

        import torch

        way_on = "delete it to train this run again"
        try:
            files.check_archive(self.state_path, way_on)
            with files.reading(self.state_path, way_on), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch muses about odd pickles; what is raised says what matters
                state: dict[str, Any] = torch.load(self.state_path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise UserError(f"run {self.folder.name} has no state.pt; train it again") from error
        except files.Damaged as error:
            if not isinstance(error.__cause__, pickle.UnpicklingError):
                raise
            raise UserError(
                f"{self.state_path} holds something other than tensors and plain values and was not loaded:"
                " do not trust its source; delete it to train again"
            ) from error
        if lacking := _lacking(state):
            raise files.Damaged(f"{self.state_path} is no checkpoint of this suite ({lacking}); {way_on}")
        return state

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log, each held to its checksum; none where there is no log. Damaged.

        A last line that a kill cut short is left out, as long as the run can go on and write it again.
        """
        return [line for _, line in self._lines()]

    def _lines(self) -> list[tuple[bytes, dict[str, Any]]]:
        try:
            going_on = self.info.get("status") != "finished"
            lines = files.read_lines(self.log_path, LOG_WAY_ON, _logged, appended=going_on)
        except FileNotFoundError:
            return []
        with files.reading(self.log_path, LOG_WAY_ON):
            for place, (_, logged) in enumerate(lines, start=1):
                if logged.get("line", place) != place:  # older builds did not number them
                    raise ValueError(f"lines are missing or out of order: line {place} says {logged['line']!r:.20}")
        return lines

    def add_to_log(self, line: Mapping[str, Any]) -> None:
        """Write one more line, which says in "line" the how-manieth it is; UserError on a full disk."""
        try:
            with self.log_path.open("a") as file:
                file.write(json.dumps(files.sealed(line)) + "\n")
        except OSError as error:
            raise UserError(f"could not write {self.log_path}: {files.said(error)}") from error

    def sync_log(self) -> None:
        """Have the log on the disk before the checkpoint that knows how long it is."""
        with suppress(FileNotFoundError), self.log_path.open("rb") as file:
            os.fsync(file.fileno())

    def cut_log(self, step: int, lines: int | None = None) -> int:
        """Drop the log's lines after ``step``: a resumed run writes them again. Returns how many are left.

        Damaged where these are not as many as ``lines``, which the checkpoint says; no log at all may be gone on with.
        """
        if not self.log_path.is_file():
            return 0
        kept = [line for line, logged in self._lines() if logged["step"] <= step]
        with files.reading(self.log_path, LOG_WAY_ON):
            if lines not in (None, len(kept)):
                raise ValueError(f"it has {len(kept)} of {lines} lines up to update {step}")
        files.write_atomically(self.log_path, b"".join(kept))
        return len(kept)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run's folder for this process; Busy when another one does, UserError where files cannot be locked.

    The kernel releases it however we end; on a shared file system its server does, after a machine's death not at
    once. A folder in which there is nothing afterwards is removed.
    """
    with _locked(folder) as file:
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            with suppress(FileNotFoundError):
                if [path.name for path in folder.iterdir()] == [".lock"]:
                    (folder / ".lock").unlink()
                    folder.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[IO[str]]:
    """The lock's file, held; opened again where its folder was removed by the one who held it before."""
    path = folder / ".lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+")
        except FileNotFoundError:
            continue
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(f"run {folder.name} is being trained by another process ({_owner(file)})") from error
            except OSError as error:
                raise UserError(
                    f"{folder} cannot be locked against other processes ({files.said(error)}); choose another --home"
                ) from error
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file
                return


def runs_in(folder: Path) -> list[Run]:
    """Every run right below a folder, by name; one that is damaged is left out and told, once in a process."""
    found = []
    for path in sorted(folder.glob("*/run.json")):
        try:
            found.append(Run(path.parent))
        except UserError as problem:
            if str(problem) not in _told:
                _told.add(str(problem))
                tell(new_console(), "left out", str(problem))
    return found


_told: set[str] = set()


def _check_record(info: Mapping[str, Any]) -> None:
    """ValueError where it lacks what every run.json says, or says it otherwise."""
    needed = _RECORD | ({"weights_hash": str} if info.get("status") == "finished" else {})
    for key, kind in needed.items():
        if key not in info:
            raise ValueError(f"it does not say {key!r}")
        if kind not in (object, type(info[key])):  # not isinstance: true is no number
            raise ValueError(f"its {key!r} is {info[key]!r:.40}")


def _lacking(state: Any) -> str:
    """What a checkpoint lacks, in words; "" where it has all."""
    import torch

    if not isinstance(state, dict):
        return f"it is a {type(state).__name__}"
    if lacking := [key for key in ("step", "method", "optimizers") if key not in state]:
        return f"it has no {lacking[0]!r}"
    if type(state["step"]) is not int or state["step"] < 0:
        return f"its 'step' is {state['step']!r:.40}"
    weights = state["method"]
    if not isinstance(weights, dict) or not all(isinstance(each, torch.Tensor) for each in weights.values()):
        return "its 'method' is no table of tensors"
    others = [state["optimizers"], state.get("since", {})]
    return "" if all(isinstance(each, dict) for each in others) else "its 'optimizers' are none"


def _logged(line: dict[str, Any]) -> dict[str, Any]:
    if type(line.get("step")) is not int:
        raise ValueError("it says no step")
    return line


@contextmanager
def _checksums() -> Iterator[None]:
    """torch writes a checksum of each part of a file, which somebody may have switched off."""
    from torch.serialization import get_crc32_options, set_crc32_options

    before = get_crc32_options()
    set_crc32_options(True)
    try:
        yield
    finally:
        set_crc32_options(before)


def other_pack(info: Mapping[str, Any], pack_hash: str) -> str:
    """Which pack a run was made on, where another stands under that name now; "" where it is the same.

    ``info`` is the run's record, ``pack_hash`` that of the pack that has its pack's name.
    """
    if info["pack_hash"] == pack_hash:
        return ""
    return f"another pack called {info['pack']} (pack {info['pack_hash'][:8]}, replaced by {pack_hash[:8]})"


def _owner(file: IO[str]) -> str:
    file.seek(0)
    return file.read() or "pid unknown"
