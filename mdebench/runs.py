"""A run is one pretraining in one folder: what was asked (run.json), what happened (log.jsonl, samples/), and the state
to go on from (state.pt). Everything is written beside its place and renamed, so that a kill leaves the last good state.

State files are read with ``weights_only=True``: tensors and plain values, never somebody else's code.
"""

import fcntl
import io
import json
import os
import re
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mdebench.errors import UserError
from mdebench.files import write_atomically

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
    def name(self) -> str:
        """The run's folder name, such as ``toyfaces64-rec-S0.1-small-seed0``."""
        parts = [self.pack, self.label.replace(" ", "-S"), self.scale]
        parts += [f"{key}={Path(value).name}" for key, value in sorted(self.overrides.items())]
        return re.sub(r"[^\w.=+-]", "_", "-".join([*parts, f"seed{self.seed}"]))


class Busy(UserError):
    """Another process holds the run."""


class Run:
    """One run folder. ``info`` is run.json: the recipe, the status, and what was measured while training."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.info: dict[str, Any] = {}
        if self.info_path.is_file():
            try:
                self.info = json.loads(self.info_path.read_text())
            except ValueError as error:
                raise UserError(
                    f"{self.info_path} is damaged ({error}); delete {folder} to start this run again"
                ) from error

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
        write_atomically(self.info_path, (json.dumps(self.info, indent=1) + "\n").encode())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; Busy when another one does, UserError where files cannot be locked.

        The kernel releases it however we end; on a shared file system its server does, after a machine's death not at
        once. Where nothing is written meanwhile, the folder of a new run is gone again.
        """
        made = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(f"run {self.folder.name} is being trained by another process ({_owner(file)})") from error
            except OSError as error:
                raise UserError(
                    f"{self.folder} cannot be locked against other processes ({error.strerror}); choose another --home"
                ) from error
            file.truncate(0)
            file.write(f"pid {os.getpid()} on {socket.gethostname()}")
            file.flush()
            try:
                yield
            finally:
                if made and [path.name for path in self.folder.iterdir()] == [".lock"]:
                    (self.folder / ".lock").unlink()
                    self.folder.rmdir()

    def keep_trained_on(self, digests: "NDArray[np.uint64]") -> None:
        """Write down which images it is trained on: their digests (`Pack.digests`), sorted, each once."""
        import numpy as np

        data = io.BytesIO()
        np.save(data, np.unique(digests))
        write_atomically(self.trained_on_path, data.getvalue())

    def trained_on(self) -> "NDArray[np.uint64] | None":
        """The digests of its training images; None where it kept none, as older runs did. UserError when damaged."""
        import numpy as np

        if not self.trained_on_path.is_file():
            return None
        try:
            digests: NDArray[np.uint64] = np.load(self.trained_on_path)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"{self.trained_on_path} is damaged; delete it, and they are looked up in the pack"
            ) from error
        return digests

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write the checkpoint atomically; UserError when the disk is full, with the last good state kept."""
        import torch

        temporary = self.state_path.with_name(f".state.pt.{os.getpid()}.partial")
        try:
            with temporary.open("wb") as file:
                torch.save(dict(state), file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.state_path)
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            # torch reports a short write as a RuntimeError, in words of its own
            reason = error.strerror if isinstance(error, OSError) else "the write was cut short, as on a full disk"
            raise UserError(f"could not save {self.state_path}: {reason}; free some space and run again") from error

    def load_state(self) -> dict[str, Any]:
        """The checkpoint; UserError when it is missing, truncated, or holds anything but tensors and plain values."""
        import pickle

        import torch

        try:
            with warnings.catch_warnings():  # torch muses about odd pickles; the errors below say what matters
                warnings.simplefilter("ignore")
                state = torch.load(self.state_path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise UserError(f"run {self.folder.name} has no state.pt; train it again") from error
        except pickle.UnpicklingError as error:
            raise UserError(
                f"{self.state_path} holds something other than tensors and plain values and was not loaded:"
                " do not trust its source; delete it to train again"
            ) from error
        except (RuntimeError, EOFError, OSError, ValueError) as error:
            raise UserError(f"{self.state_path} is truncated or damaged; delete it to train this run again") from error
        if not isinstance(state, dict) or not {"step", "method"} <= state.keys():
            raise UserError(f"{self.state_path} is no checkpoint of this suite; delete it to train this run again")
        return state

    def cut_log(self, step: int) -> None:
        """Drop the log's lines after ``step``: a resumed run writes them again."""
        if self.log_path.is_file():
            kept = []
            for line in self.log_path.read_text().splitlines(keepends=True):
                if not line.endswith("\n") or json.loads(line)["step"] > step:
                    break
                kept.append(line)
            write_atomically(self.log_path, "".join(kept).encode())


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
