"""Commands given in forked children of a process that has imported everything, so that one costs its own time alone.

A child is stopped at a moment: after a delay, or before the n-th thing that it does to a folder (opens a file to write,
renames, deletes, syncs, locks), which is where a kill hurts. It can be held to so much address space and so many
descriptors. What it said, how it ended and how much it did to folders comes back.
"""

import errno
import importlib
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "fcntl.flock")
POLITE = (signal.SIGINT, signal.SIGTERM)
SAVE_EVERY_UPDATE = 0.0
FEW_UPDATES = 6  # of a judge, whose own least are hundreds
MOST_SAID = 200_000  # bytes of what a command said


@dataclass(frozen=True)
class Stop:
    """A signal after ``seconds``, or before the ``event``-th change of a folder, counted from 0."""

    signal: signal.Signals
    seconds: float | None = None
    event: int | None = None

    def __str__(self) -> str:
        when = f"after {self.seconds:.3f} s" if self.event is None else f"before change {self.event}"
        return f"{self.signal.name} {when}"


@dataclass(frozen=True)
class Limits:
    """What a child may take: seconds, bytes of address space beyond what it begins with, open descriptors."""

    seconds: float = 10.0
    memory: int | None = None
    descriptors: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit status (negative: the signal that ended it), what it said, in what time."""

    status: int
    said: str
    seconds: float
    changes: int  # of folders
    hung: bool = False


def warm() -> None:
    """Import all that any command needs. No threads are begun: a fork of them may hang."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ |= {"COLUMNS": "300", "NO_COLOR": "1", "MPLBACKEND": "Agg"}
    import torch

    torch.set_num_threads(1)
    import mdebench

    for slow in ("matplotlib.backends.backend_agg", "scipy.io", "sklearn.linear_model", "timm", "safetensors.torch"):
        importlib.import_module(slow)

    core = Path(mdebench.__file__).parent
    for path in sorted(core.rglob("*.py")):
        if path.stem not in ("__main__", "local_ray", "cluster"):  # the latter need Ray, an extra
            importlib.import_module(
                ".".join(path.relative_to(core.parent).with_suffix("").parts).removesuffix(".__init__")
            )
    from mdebench import catalog

    for code in (*catalog.own_methods().values(), *catalog.own_protocols().values()):
        code.load()


def quick() -> None:
    """In a child: a checkpoint and a line of the log after every update, a judge in a few updates: hours in seconds."""
    from mdebench.evaluation.judging import own_judge
    from mdebench.training import loop

    own_judge.MOST_UPDATES = own_judge.FEWEST_UPDATES = FEW_UPDATES
    loop.LOG_EVERY = 1
    defaults = loop.pretrain.__defaults__
    assert defaults and defaults[0] == loop.SAVE_SECONDS
    loop.pretrain.__defaults__ = (SAVE_EVERY_UPDATE, *defaults[1:])


def mdebench(words: Sequence[str]) -> Callable[[], None]:
    """A command of mdebench."""

    def call() -> None:
        from mdebench.cli.main import main

        sys.argv = ["mdebench", *words]
        main()

    return call


def run(call: Callable[[], None], folder: Path, limits: Limits = Limits(), stop: Stop | None = None) -> Outcome:
    """Do something in a child, in a folder, to its end, or until it is stopped or takes too long."""
    return begin(call, folder, limits, stop).wait()


def begin(call: Callable[[], None], folder: Path, limits: Limits = Limits(), stop: Stop | None = None) -> "Child":
    """As `run`, without waiting for it."""
    said, counted = (os.memfd_create(name) for name in ("said", "counted"))
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, POLITE)  # until the command begins: what comes before is not its to say
    pid = os.fork()
    if not pid:
        _child(call, folder, limits, stop, said, counted)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, POLITE)
    return Child(pid, said, counted, limits, stop)


class Child:
    """A command under way."""

    def __init__(self, pid: int, said: int, counted: int, limits: Limits, stop: Stop | None):
        self.pid, self._said, self._counted, self._limits, self._stop = pid, said, counted, limits, stop
        self._begun = time.monotonic()

    def wait(self) -> Outcome:
        """How it ends; it is killed when its time is over."""
        handle = os.pidfd_open(self.pid)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        hung = False
        if self._stop and self._stop.seconds is not None and not poll.poll(1000 * self._stop.seconds):
            signal.pidfd_send_signal(handle, self._stop.signal)
        if not poll.poll(1000 * max(0.0, self._limits.seconds - (time.monotonic() - self._begun))):
            hung = True
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        seconds = time.monotonic() - self._begun
        with suppress(ProcessLookupError):  # what it left running, such as workers
            os.killpg(self.pid, signal.SIGKILL)
        os.close(handle)
        said = os.pread(self._said, MOST_SAID, 0).decode("utf-8", "replace")
        count = os.pread(self._counted, 64, 0)
        os.close(self._said)
        os.close(self._counted)
        return Outcome(os.waitstatus_to_exitcode(status), said, seconds, int(count or b"0"), hung)


def _child(call: Callable[[], None], folder: Path, limits: Limits, stop: Stop | None, said: int, counted: int) -> None:
    status = 70
    try:
        os.setsid()
        os.chdir(folder)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (said, 1), (said, 2)):
            os.dup2(source, target)
        quick()
        _count_changes(stop, counted)
        if limits.memory is not None:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + limits.memory
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        if limits.descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limits.descriptors, limits.descriptors))
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, POLITE)
        except KeyboardInterrupt:
            os._exit(130)
        try:
            call()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            status = 1
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _count_changes(stop: Stop | None, counted: int) -> None:
    """Count what this process does to folders, and stop it before the one that was asked for."""
    count = 0

    def note() -> None:
        nonlocal count
        if stop and stop.event == count:
            os.kill(os.getpid(), stop.signal)
        count += 1
        os.pwrite(counted, str(count).encode(), 0)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
        if event in CHANGES or (opened and not str(arguments[0]).startswith(("/dev/null", "/proc/"))):
            note()

    sys.addaudithook(hook)
    sync = os.fsync

    def synced(handle: int) -> None:
        note()
        sync(handle)

    os.fsync = synced


def free_bytes(folder: Path) -> int:
    """What is free on a file system."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def fill(path: Path, leave: int) -> None:
    """Fill the file system of a file until so many bytes are free."""
    with path.open("wb") as file:
        block = b"\0" * 4096
        while free_bytes(path.parent) - len(block) >= leave:
            try:
                file.write(block)
                file.flush()
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                break
