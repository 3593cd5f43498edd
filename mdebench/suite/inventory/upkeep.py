"""Runs on disk: listed with date, size and last loss; removed; and what can be made again freed."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from tabulate import tabulate

from mdebench import files
from mdebench.errors import UserError
from mdebench.files import said
from mdebench.home import Home
from mdebench.runs import Run, held, runs_in
from mdebench.words import new_console, size, tell

TRAINING = "optimizers"  # the part of a checkpoint that nothing but going on with the training needs


def list_text(home: Home, runs: Sequence[Run]) -> str:
    """The runs as a table: status, updates, when they were last at work, size on disk, last losses."""
    if not runs:
        return f"no runs under {home.runs}"
    lines = [
        (
            run.folder.name,
            run.info["status"],
            f"{run.info['step']:,}/{run.info['updates']:,}",
            f"{datetime.fromtimestamp(run.info_path.stat().st_mtime):%Y-%m-%d %H:%M}",
            size_of(run.folder),
            _last_losses(run),
        )
        for run in runs
    ]
    return tabulate(lines, headers=("run", "status", "updates", "date", "size", "last losses"), disable_numparse=True)


def size_of(folder: Path) -> str:
    """What a folder takes on disk, in words."""
    return size(bytes_of(folder))


def bytes_of(folder: Path) -> int:
    """What the files below a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _last_losses(run: Run) -> str:
    """The last whole line of the log, "–" where there is none, or what is wrong with it."""
    try:
        lines = run.log()
    except files.Damaged:
        return "the log is damaged"
    for values in lines[-1:]:
        told = [f"{name.partition('/')[2]} {value:.3g}" for name, value in values.items() if "/" in name]
        return " ".join(told) or "–"
    return "–"


def remove_runs(folders: Sequence[Path]) -> str:
    """Delete runs' folders with all that is in them; returns what that freed. UserError for one that is being trained,
    before any is deleted."""
    for folder in folders:
        with held(folder):
            pass
    freed = sum(map(bytes_of, folders))
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise UserError(f"could not delete {folder}: {said(error)}") from error
    return size(freed)


@dataclass(frozen=True)
class Freeable:
    """Something that can be made again: what it is, its bytes, and how it is freed."""

    text: str
    bytes: int
    free: Callable[[], object]


def freeable(home: Home) -> list[Freeable]:
    """Cached features, and of finished runs the part of the checkpoint that only more training needs.

    A run that is being trained is left alone.
    """
    found = []
    for features in sorted(home.runs.glob("*/features")):
        if count := bytes_of(features):
            found.append(
                _folder(f"features of {features.parent.name}, computed again when it is measured", features, count)
            )
    for run in [*home.list_runs(), *runs_in(home.judges)]:
        if is_held(run.folder / ".lock"):
            continue
        if run.finished and (spare := _optimizers(run)):
            text = f"optimizer state of {run.folder.name}, which is finished ({size(spare)})"
            found.append(Freeable(text, spare, partial(_slim, run)))
    return found


def _folder(what: str, folder: Path, count: int) -> Freeable:
    return Freeable(f"{what} ({size(count)})", count, partial(shutil.rmtree, folder))


def is_held(lock: Path) -> bool:
    """Whether a process holds a lock file; nothing is written."""
    return lock.is_file() and files.holder(lock) is not None


def _optimizers(run: Run) -> int:
    """Bytes that a finished run's checkpoint would lose; 0 where they are gone, nothing was trained, or the checkpoint
    is damaged, which is told."""
    if not run.info.get("updates"):
        return 0
    import torch

    try:
        state = run.load_state()
    except UserError as problem:
        tell(new_console(), "left as it is", str(problem))
        return 0
    tensors = [
        value for each in state.get(TRAINING, {}).values() for kept in each["state"].values() for value in kept.values()
    ]
    return sum(value.numel() * value.element_size() for value in tensors if isinstance(value, torch.Tensor))


def _slim(run: Run) -> None:
    with run.lock():
        state = run.load_state()
        run.save_state({**state, TRAINING: {}})


def free(found: Iterable[Freeable]) -> str:
    """Free these; returns how much that was."""
    total = 0
    for each in found:
        try:
            each.free()
        except FileNotFoundError:  # another has freed it meanwhile
            continue
        except OSError as error:
            raise UserError(f"could not free {each.text}: {said(error)}; {size(total)} are freed") from error
        total += each.bytes
    return size(total)
