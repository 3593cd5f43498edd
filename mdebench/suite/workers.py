"""Carry out the tasks of a plan: each as soon as what it needs is done, one at a time here or several in processes.

Nothing is kept in memory between tasks: what is finished stands in files, so a killed worker or a killed parent loses
only what was under way. A task that fails stops only what needs it. `cluster` does the same on other machines.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import StringIO
from multiprocessing.connection import wait as wait_for
from typing import Protocol

import torch
from rich.console import Console
from threadpoolctl import threadpool_limits

from mdebench.compute.machine import default_device
from mdebench.errors import Interrupted, UserError
from mdebench.home import Home
from mdebench.suite.schedule import Agenda, makespan
from mdebench.suite.tasks import Task
from mdebench.words import duration, tell

MOST_JOBS = 4  # by default, on a machine of many cores: each job takes its gigabyte of memory

Outcome = tuple[list[str], list[str]]  # the titles of the tasks done, and a sentence for each that failed


class Workers(Protocol):
    """Who does the tasks: so many ``jobs`` at a time, each with so many ``threads``."""

    @property
    def jobs(self) -> int:
        """Tasks at a time, at least 1."""
        ...

    @property
    def threads(self) -> int:
        """Threads of each task, at least 1."""
        ...

    def carry_out(self, tasks: Sequence[Task], home: Home, console: Console) -> Outcome:
        """Do tasks. Interrupted or KeyboardInterrupt after Ctrl-C, when what was under way was saved or given up."""
        ...


def default_jobs() -> int:
    """As many as there are threads to share, at most four: small networks use one core well and two badly.

    One on a GPU, which a single run keeps busy.
    """
    return 1 if default_device().type == "cuda" else min(torch.get_num_threads(), MOST_JOBS)


@contextmanager
def at_threads(threads: int) -> Iterator[None]:
    """Here, for a while, torch has so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_to(threads: int) -> None:
    """From now on this process, a worker, has so many threads."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)


@dataclass(frozen=True)
class Here:
    """This machine: one task at a time in this process, or several in processes that share the cores."""

    jobs: int = 1

    @property
    def threads(self) -> int:
        """The threads of each job, out of those that torch has here."""
        return max(1, torch.get_num_threads() // self.jobs)

    def carry_out(self, tasks: Sequence[Task], home: Home, console: Console) -> Outcome:
        """Do tasks. UserError when a worker died; interrupted, it ends when trainings have saved their state."""
        if self.jobs == 1:
            return work_through(tasks, self, console, partial(_here, home, console))
        fresh = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        with ProcessPoolExecutor(self.jobs, fresh, _start_worker, (self.threads,)) as pool:
            try:
                return work_through(tasks, self, console, lambda task: pool.submit(_in_worker, home, task))
            except BrokenProcessPool as error:
                raise UserError(
                    "a worker process died (was it killed, or is the memory full?); what was finished is kept, and"
                    " the same command goes on; --jobs 1 needs the least memory"
                ) from error
            except KeyboardInterrupt:
                for worker in multiprocessing.active_children():
                    worker.terminate()  # a training saves its state first
                raise


ALONE = Here(1)


def work_through(
    tasks: Sequence[Task], workers: Workers, console: Console, submit: Callable[[Task], Future[str]]
) -> Outcome:
    """Submit each task when it can be begun, as many at a time as workers have jobs, and tell what becomes of it.

    A submitted task ends with what it said, or with a UserError, which stops what needs it; anything else is raised.
    """
    agenda, running = Agenda(tasks), dict[Future[str], Task]()
    done: list[str] = []
    failed: list[str] = []
    begin, estimate, begun = time.monotonic(), makespan(tasks, workers.jobs), 0
    while agenda.waiting or running:
        while len(running) < workers.jobs and (task := agenda.begin()):
            begun += 1
            left = makespan([*running.values(), task, *agenda.waiting], workers.jobs)
            pace = (time.monotonic() - begin) / (estimate - left) if done and left < estimate else 1.0
            tell(console, f"{begun}/{len(tasks)}", f"{task.title} (about {duration(left * pace)} left)")
            running[submit(task)] = task
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            task = running.pop(future)
            try:
                console.print(future.result(), end="")
            except UserError as error:
                tell(console, "failed", f"{task.title}: {error}")
                failed.append(f"{task.title} ({error})")
                for lost in agenda.fail(task):
                    begun += 1
                    tell(console, "left out", f"{lost.title}: it needs {task.title}")
            else:
                agenda.end(task)
                done.append(task.title)
    if done:
        took = duration(time.monotonic() - begin)
        console.print(f"{len(done)} tasks in {took}, estimated {duration(estimate)}")
    return done, failed


def _here(home: Home, console: Console, task: Task) -> Future[str]:
    """Does a task at once, in this process, where its progress can be seen."""
    future = Future[str]()
    try:
        task.do(home, console)
    except UserError as error:
        future.set_exception(error)
    else:
        future.set_result("")
    return future


# A worker's; its text goes to the parent when a task ends.
_console = Console(file=StringIO(), width=120, soft_wrap=True, markup=False, highlight=False, emoji=False)


def do_unseen(home: Home, task: Task) -> str:
    """Does a task in a worker, where nobody looks on; returns what it said."""
    said = _console.file
    assert isinstance(said, StringIO)
    said.seek(0)
    said.truncate()
    task.do(home, _console)
    return said.getvalue()


def _in_worker(home: Home, task: Task) -> str:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return do_unseen(home, task)
    except (Interrupted, KeyboardInterrupt):
        os._exit(130)  # the parent got the same Ctrl-C, and would wait for a worker that goes on
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _start_worker(threads: int) -> None:
    """Share the cores, leave Ctrl-C between tasks to the parent, and end when the parent does, however it ends."""
    keep_to(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        wait_for([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
