"""In what order the tasks of a plan are begun, and how long that takes: the same rule for doing and for estimating.

An `Agenda` says what can be begun. `workers` does it so, `schedule` only imagines it, with any seconds for each task:
those of the plan, or what `Mishaps` make of them.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mdebench.suite.tasks import Task


class Agenda:
    """What can be begun: the first task in order whose needs are met and whose run nobody works on."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.waiting = list(tasks)
        self.open = {task.title for task in tasks}
        self.busy: set[str] = set()

    def begin(self) -> Task | None:
        """Take the next task off the list; None when none can be begun now."""
        for task in self.waiting:
            if task.run not in self.busy and not self.open.intersection(task.needs):
                self.waiting.remove(task)
                self.busy |= {task.run} - {""}
                return task
        return None

    def end(self, task: Task) -> None:
        """A task that was begun is done."""
        self.open.discard(task.title)
        self.busy.discard(task.run)

    def fail(self, task: Task) -> list[Task]:
        """A task that was begun has failed: takes what needs it, however far away, off the list and returns that."""
        self.busy.discard(task.run)
        lost, gone = [task], list[Task]()
        while lost:
            title = lost.pop().title
            needy = [waiting for waiting in self.waiting if title in waiting.needs]
            self.waiting = [waiting for waiting in self.waiting if waiting not in needy]
            lost, gone = lost + needy, gone + needy
        return gone


@dataclass(frozen=True)
class Stint:
    """A task and when it was worked on, in seconds since the first one was begun."""

    task: Task
    begin: float
    end: float


def estimate(task: Task) -> float:
    """The seconds that the plan estimates for a task."""
    return task.seconds


def schedule(tasks: Sequence[Task], jobs: int, seconds: Callable[[Task], float] = estimate) -> list[Stint]:
    """The stints of tasks, ``jobs`` at a time, in the order in which they end; each takes its ``seconds``."""
    agenda, running, stints = Agenda(tasks), list[Stint](), list[Stint]()
    while agenda.waiting or running:
        now = stints[-1].end if stints else 0.0
        while len(running) < jobs and (task := agenda.begin()):
            running.append(Stint(task, now, now + seconds(task)))
        first = min(running, key=lambda stint: stint.end)
        running.remove(first)
        stints.append(first)
        agenda.end(first.task)
    return stints


def makespan(tasks: Sequence[Task], jobs: int, seconds: Callable[[Task], float] = estimate) -> float:
    """Seconds until the last of the tasks is done, ``jobs`` at a time; 0 for none."""
    stints = schedule(tasks, jobs, seconds)
    return stints[-1].end if stints else 0.0


@dataclass(frozen=True)
class Mishaps:
    """What makes tasks longer than planned.

    ``spread``: the standard deviation of the logarithm of a factor on each task's seconds, whose median is 1.
    ``failures``: per hour of work; after each the task is begun anew ``restart`` seconds later, a training from its
    last checkpoint, one being written every ``checkpoint`` seconds of work, anything else from its beginning.
    """

    spread: float = 0.0
    failures: float = 0.0
    restart: float = 0.0
    checkpoint: float = math.inf

    def seconds(self, seed: int) -> Callable[[Task], float]:
        """The seconds of tasks for `schedule`, drawn from seed and title, so that no other task changes them."""

        def took(task: Task) -> float:
            draws = np.random.default_rng([seed, zlib.crc32(task.title.encode())])
            work = task.seconds * math.exp(self.spread * draws.standard_normal())
            spent = done = 0.0
            while self.failures and done + (lasts := draws.exponential(3600 / self.failures)) < work:
                spent += lasts + self.restart
                done += lasts
                done -= done % self.checkpoint if task.trains else done
            return spent + work - done

        return took
