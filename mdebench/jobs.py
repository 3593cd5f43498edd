"""Carry out the tasks of a plan: each as soon as what it needs is done, one at a time here or several in processes.

Nothing is kept in memory between tasks: what is finished stands in files, so a killed worker or a killed parent loses
only what was under way. A task that fails stops only what needs it.
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
from functools import partial
from io import StringIO
from multiprocessing.connection import wait as wait_for
from pathlib import Path

import torch
from rich.console import Console
from threadpoolctl import threadpool_limits

from mdebench.errors import UserError
from mdebench.report import duration
from mdebench.train import Interrupted, default_device
from mdebench.work import Task

MOST_JOBS = 4  # by default, on a machine of many cores: each job takes its gigabyte of memory


def default_jobs() -> int:
    """As many as there are threads to share, at most four: small networks use one core well and two badly.

    One on a GPU, which a single run keeps busy.
    """
    return 1 if default_device().type == "cuda" else min(torch.get_num_threads(), MOST_JOBS)


def threads_each(jobs: int) -> int:
    """The threads of each of so many jobs, out of those that torch has here."""
    return max(1, torch.get_num_threads() // jobs)


@contextmanager
def at_one_of(jobs: int) -> Iterator[None]:
    """Here, for a while, the threads that one of so many jobs has."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads_each(jobs))
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


def makespan(tasks: Sequence[Task], jobs: int) -> float:
    """Seconds that tasks take by their estimates, ``jobs`` at a time, begun as `carry_out` begins them."""
    agenda, running, now = Agenda(tasks), dict[str, tuple[float, Task]](), 0.0
    while agenda.waiting or running:
        while len(running) < jobs and (task := agenda.begin()):
            running[task.title] = (now + task.seconds, task)
        now, first = min(running.values(), key=lambda pair: pair[0])
        del running[first.title]
        agenda.end(first)
    return now


def carry_out(tasks: Sequence[Task], home: Path, jobs: int, console: Console) -> tuple[list[str], list[str]]:
    """Do tasks, ``jobs`` at a time; returns the titles of those done, and a sentence for each that failed.

    Interrupted after Ctrl-C, when whatever was under way has been saved or given up. UserError when a worker died.
    """
    if jobs == 1:
        return _carry_out(tasks, 1, console, partial(_here, home, console))
    fresh = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(jobs, fresh, _start_worker, (threads_each(jobs),)) as pool:
        try:
            return _carry_out(tasks, jobs, console, lambda task: pool.submit(_in_worker, home, task))
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process died (was it killed, or is the memory full?); what was finished is kept, and"
                " the same command goes on; --jobs 1 needs the least memory"
            ) from error
        except KeyboardInterrupt:
            for worker in multiprocessing.active_children():
                worker.terminate()  # a training saves its state first
            raise


def _carry_out(
    tasks: Sequence[Task], jobs: int, console: Console, submit: Callable[[Task], Future[str]]
) -> tuple[list[str], list[str]]:
    agenda, running = Agenda(tasks), dict[Future[str], Task]()
    done: list[str] = []
    failed: list[str] = []
    begin, estimate, begun = time.monotonic(), makespan(tasks, jobs), 0
    while agenda.waiting or running:
        while len(running) < jobs and (task := agenda.begin()):
            begun += 1
            left = makespan([*running.values(), task, *agenda.waiting], jobs)
            pace = (time.monotonic() - begin) / (estimate - left) if done and left < estimate else 1.0
            console.print(f"[bold]{begun}/{len(tasks)}[/] {task.title} (about {duration(left * pace)} left)")
            running[submit(task)] = task
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            task = running.pop(future)
            try:
                console.print(future.result(), end="", markup=False, highlight=False)
            except UserError as error:
                console.print(f"[red]failed[/] {task.title}: {error}")
                failed.append(f"{task.title} ({error})")
                for lost in agenda.fail(task):
                    begun += 1
                    console.print(f"[yellow]left out[/] {lost.title}: it needs {task.title}")
            else:
                agenda.end(task)
                done.append(task.title)
    if done:
        took = duration(time.monotonic() - begin)
        console.print(f"{len(done)} tasks in {took}, estimated {duration(estimate)}")
    return done, failed


def _here(home: Path, console: Console, task: Task) -> Future[str]:
    """Does a task at once, in this process, where its progress can be seen."""
    future = Future[str]()
    try:
        task.do(home, console)
    except UserError as error:
        future.set_exception(error)
    else:
        future.set_result("")
    return future


_console = Console(file=StringIO(), width=120)  # a worker's; its text goes to the parent when a task ends


def _in_worker(home: Path, task: Task) -> str:
    """Does a task in a worker; returns what it said."""
    said = _console.file
    assert isinstance(said, StringIO)
    said.seek(0)
    said.truncate()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        task.do(home, _console)
    except (Interrupted, KeyboardInterrupt):
        os._exit(130)  # the parent got the same Ctrl-C, and would wait for a worker that goes on
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return said.getvalue()


def _start_worker(threads: int) -> None:
    """Share the cores, leave Ctrl-C between tasks to the parent, and end when the parent does, however it ends."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        wait_for([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
