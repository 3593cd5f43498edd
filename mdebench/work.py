"""The work of a plan as data: tasks that say what they need, how long they take, and a call any process can make.

A task's call gets the home folder and a console, and finds everything else in files: so it runs here, in a worker, or
on another machine that sees the same folder, with the same result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from mdebench import suite
from mdebench.data.pack import open_pack
from mdebench.judge import Judge, find_judge
from mdebench.runs import Recipe, Run

State = Literal["kept", "begun", "stale", "missing"]
Kind = Literal["pack", "judge", "run", "rows"]


@dataclass(frozen=True)
class Task:
    """One step of a plan: drawing a pack, training a judge or a run, or measuring a run by a protocol.

    ``left`` says in words what is left of it; ``seconds`` is the estimate for that, 0 for what is kept. ``needs`` are
    the titles of the tasks that must be done before. Two tasks of one ``run`` are not done at the same time.
    """

    kind: Kind
    name: str
    state: State
    left: str
    seconds: float
    do: Callable[[Path, Console], object]
    needs: tuple[str, ...] = ()
    run: str = ""  # the run it makes or measures

    @property
    def title(self) -> str:
        """Kind and name, which no two tasks of a plan share."""
        return f"{self.kind} {self.name}"

    @property
    def trains(self) -> bool:
        """Whether it writes checkpoints, from which it goes on."""
        return self.kind in ("run", "judge")


@dataclass(frozen=True)
class Plan:
    """Tasks in the order in which they are begun, and what must be said about what is left out."""

    tasks: tuple[Task, ...]
    notes: tuple[str, ...]

    @property
    def missing(self) -> tuple[Task, ...]:
        """The tasks that are not done yet."""
        return tuple(task for task in self.tasks if task.state != "kept")


def draw(size: int, count: int, home: Path, console: Console) -> None:
    """Draw the embedded pack of ``count`` faces of ``size`` pixels."""
    suite.draw_faces(home, size, console, count=count)


def train_judge(pack: str, home: Path, console: Console) -> None:
    """Train the judge of a pack, or find it trained."""
    find_judge(home, open_pack(suite.pack_path(home, pack)), "own", console)


def train(recipe: Recipe, pack_name: str, home: Path, console: Console) -> None:
    """Do, or go on with, the run of a recipe, on the pack as it now is."""
    pack = open_pack(suite.pack_path(home, pack_name))
    suite.train_run(home, replace(recipe, pack_hash=pack.hash), pack, console)


def measure(protocol: str, run: str, pack_name: str, cases: Sequence[Any], home: Path, console: Console) -> None:
    """Measure a finished run by a protocol's cases, which share their judge."""
    pack = open_pack(suite.pack_path(home, pack_name))
    judge = _judge(home, pack_name, cases[0].judge, console) if hasattr(cases[0], "judge") else None
    suite.measure_run(home, protocol, Run(home / "runs" / run), pack, cases, judge, console)


@cache  # a judge serves many tasks
def _judge(home: Path, pack_name: str, spec: str, console: Console) -> Judge | None:
    return find_judge(home, open_pack(suite.pack_path(home, pack_name)), spec, console)
