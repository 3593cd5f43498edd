"""The work of a plan as data: tasks that say what they need, how long they take, and a call any process can make.

A task's call gets the home folder and a console, and finds everything else in files: so it runs here, in a worker, or
on another machine that sees the same folder, with the same result.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from rich.console import Console

from mdebench import catalog
from mdebench.data import finding
from mdebench.data.pack import open_pack
from mdebench.evaluation import measuring
from mdebench.evaluation.judging.judge import Judge
from mdebench.evaluation.judging.judges import find_judge
from mdebench.evaluation.probing import Probes
from mdebench.home import Home
from mdebench.results.probes import Schedule
from mdebench.runs import Recipe
from mdebench.settings import build
from mdebench.training import recipes

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
    do: Callable[[Home, Console], object]
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


def draw(size: int, count: int, home: Home, console: Console) -> None:
    """Draw the embedded pack of ``count`` faces of ``size`` pixels."""
    finding.draw_faces(home, size, console, count=count)


def train_judge(pack: str, home: Home, console: Console) -> None:
    """Train the judge of a pack, or find it trained."""
    find_judge(home, open_pack(home.pack(pack)), "own", console)


def train(recipe: Recipe, pack_name: str, schedule: Schedule | None, home: Home, console: Console) -> None:
    """Do, or go on with, the run of a recipe, on the pack as it now is; look at it on the way as the schedule says."""
    pack = open_pack(home.pack(pack_name))
    recipe = replace(recipe, pack_hash=pack.hash)
    watch = Probes(home, recipe, pack, schedule, console) if schedule else None
    recipes.train_run(home, recipe, pack, console, watch)


def measure(
    protocol: str, run: str, pack_name: str, cases: Sequence[Mapping[str, Any]], home: Home, console: Console
) -> None:
    """Measure a finished run by a protocol's cases, as plain settings, which share their judge."""
    pack, settings = open_pack(home.pack(pack_name)), catalog.protocol(protocol).Settings
    judge = _judge(home, pack_name, cases[0]["judge"], console) if "judge" in cases[0] else None
    known = [build(settings, case) for case in cases]
    measuring.measure_run(home, protocol, home.run(run), pack, known, judge, console)


@cache  # a judge serves many tasks
def _judge(home: Home, pack_name: str, spec: str, console: Console) -> Judge | None:
    return find_judge(home, open_pack(home.pack(pack_name)), spec, console)
