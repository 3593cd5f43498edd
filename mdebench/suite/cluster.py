"""Hand the tasks of a plan to Ray, which finds each a place on a machine and begins it anew when its worker dies.

What can be begun is decided here as everywhere (`schedule.Agenda`), and what is done stands in files as everywhere; so
all machines must see one home folder, and whatever is killed, the same command goes on.
"""

import os
import re
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mdebench.errors import Interrupted, UserError
from mdebench.files import unfinished
from mdebench.home import Home
from mdebench.runs import Busy
from mdebench.suite.local_ray import own_ray
from mdebench.suite.tasks import Task
from mdebench.suite.workers import Outcome, do_unseen, keep_to, work_through

RETRIES = 3  # times that Ray begins a task anew whose worker died or was asked to end
PATIENCE = 120.0  # seconds for which a run may still be held by a worker that is dying, perhaps on another machine
ANSWER = 10.0  # seconds for a cluster to answer
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}  # no reports; workers as they are


@contextmanager
def connect(where: str, jobs: int | None) -> Iterator["Cluster"]:
    """The workers of ``ray``, one started here for the purpose, or ``ray:HOST:PORT``, a cluster this machine is in.

    ``jobs`` as in `Cluster`. UserError when Ray is not installed, or there is no such cluster.
    """
    if not (form := re.fullmatch(r"ray(?::([^:/]+):(\d+))?", where)):
        raise UserError(f"--on {where}: expected ray, or ray:HOST:PORT on a machine that is part of that cluster")
    if find_spec("ray") is None:
        raise UserError("--on ray needs Ray: pip install 'mdebench[ray]'")
    os.environ.update(QUIET)
    with ExitStack() as stack:
        try:
            if host := form[1]:
                socket.create_connection((host, int(form[2])), ANSWER).close()  # Ray would try for a quarter of an hour
                address = f"{host}:{form[2]}"
            else:
                address = stack.enter_context(own_ray(torch.get_num_threads(), torch.cuda.device_count()))
            import ray

            ray.init(address=address, log_to_driver=False, logging_level="error")
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"--on {where}: there is no Ray that this machine is part of ({error})") from error
        stack.callback(ray.shutdown)  # ends what is still under way
        yield Cluster(jobs)


def share(machines: Sequence[Mapping[str, float]], jobs: int | None) -> tuple[int, int]:
    """The cores and GPUs of each task, given what Ray says that each machine has.

    Where there are GPUs, one, and the cores that every machine has for each of its GPUs. Elsewhere one core or, with
    ``jobs``, that share of all cores, as far as one machine has so many.
    """
    if with_gpus := [machine for machine in machines if machine.get("GPU", 0) >= 1]:
        return max(1, min(int(machine.get("CPU", 0) // machine["GPU"]) for machine in with_gpus)), 1
    cores = [int(machine.get("CPU", 0)) for machine in machines]
    return max(1, min(sum(cores) // jobs, max(cores))) if jobs else 1, 0


def places(machines: Sequence[Mapping[str, float]], cores: int, gpus: int) -> int:
    """How many tasks of so many cores and GPUs each the machines can do at a time."""
    needs = {kind: need for kind, need in (("CPU", cores), ("GPU", gpus)) if need}
    return sum(int(min(machine.get(kind, 0) // need for kind, need in needs.items())) for machine in machines)


class Cluster:
    """The Ray that this process is connected to: at most ``jobs`` tasks at a time, None for as many as it has room."""

    def __init__(self, jobs: int | None):
        self.most = jobs
        self.threads, self.gpus = share(self._machines(), jobs)

    @property
    def jobs(self) -> int:
        """Tasks at a time, with the machines that there are now; 1 where there are none, as Ray waits for some."""
        room = places(self._machines(), self.threads, self.gpus)
        return max(1, min(room, self.most or room))

    def carry_out(self, tasks: Sequence[Task], home: Home, console: Console) -> Outcome:
        """Do tasks; a task fails where its machine sees another home. Interrupted, it ends when trainings are saved."""
        import ray

        folder = home.folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        needs = {"num_cpus": self.threads, "num_gpus": self.gpus}
        do = ray.remote(max_retries=RETRIES, retry_exceptions=[Interrupted], **needs)(_on_a_machine)
        answers: list[Any] = []
        with unfinished(folder / "seen-by-all") as (_, sign):

            def submit(task: Task) -> Future[str]:
                answers.append(do.options(name=task.title).remote(Path.cwd(), sign, self.threads, task))
                return _translated(answers[-1].future())

            try:
                return work_through(tasks, self, console, submit)
            except KeyboardInterrupt:
                for answer in answers:
                    ray.cancel(answer)  # Ctrl-C in its worker; nothing for those done
                ray.wait(answers, num_returns=len(answers))
                raise

    def _machines(self) -> list[dict[str, float]]:
        import ray

        return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _on_a_machine(folder: Path, sign: Path, threads: int, task: Task) -> str:
    """Does a task in a Ray worker; returns what it said.

    UserError where this machine lacks the ``folder`` in which the command was given, or the ``sign`` in its home.
    """
    if not (folder.is_dir() and sign.exists()):
        machine = socket.gethostname()
        raise UserError(f"{machine} does not see {folder} and {sign.parent}, which all machines must share")
    os.chdir(folder)  # where relative paths in settings lead from
    keep_to(threads)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which Ray's cancel calls
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return do_unseen(Home(sign.parent), task)
        except Busy:
            if time.monotonic() > until:
                raise
            time.sleep(1)


def _translated(answer: Future[str]) -> Future[str]:
    """An answer with the task's own UserError for Ray's report of it, and one for workers that ended too often."""
    from ray.exceptions import RayError, RayTaskError

    told = Future[str]()

    def tell(answer: Future[str]) -> None:
        try:
            told.set_result(answer.result())
        except RayTaskError as error:
            if isinstance(error.cause, Interrupted):
                told.set_exception(UserError(f"given up after {RETRIES} retries: {error.cause}"))
            else:
                told.set_exception(error.cause if isinstance(error.cause, UserError | OSError) else error)
        except RayError as error:
            told.set_exception(UserError(f"given up after {RETRIES} retries: {type(error).__name__}"))

    answer.add_done_callback(tell)
    return told
