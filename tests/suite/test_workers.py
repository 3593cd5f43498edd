"""Tasks are begun when what they need is done, several at a time; a failure, a kill or Ctrl-C loses nothing else."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.suite.tasks import Task
from mdebench.suite.workers import Here, at_threads, default_jobs

# --- tasks that only leave a mark; a worker finds them by this module's name


def leave_mark(name, home, console):
    (home.folder / name).write_text(str(os.getpid()))
    console.print(f"made {name}")


def refuse(home, console):
    raise UserError("the loss is not finite")


def die(home, console):
    os.kill(os.getpid(), signal.SIGKILL)


def task(name, seconds=1.0, needs=(), run="", do=None):
    return Task("rows", name, "missing", "", seconds, do or partial(leave_mark, name), tuple(needs), run)


def test_cores_are_shared(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 16)
    assert default_jobs() == 4 and [Here(jobs).threads for jobs in (4, 3, 99)] == [4, 5, 1]


def test_threads_are_given_back():
    import torch

    before = torch.get_num_threads()
    with at_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_workers_do_all_tasks_and_say_what_they_said(tmp_path, console):
    names = [f"mark{i}" for i in range(4)]
    bad = task("bad", do=refuse)
    lost = task("lost", needs=["rows bad"])
    done, failed = Here(2).carry_out([*map(task, names), bad, lost], Home(tmp_path), console)
    assert sorted(done) == [f"rows {name}" for name in names]
    assert failed == ["rows bad (the loss is not finite)"]
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    assert str(os.getpid()) not in {path.read_text() for path in tmp_path.iterdir()}
    said = console.file.getvalue()
    assert all(f"made {name}" in said for name in names) and "left out rows lost: it needs rows bad" in said


def test_a_dead_worker_is_told(tmp_path, console):
    with pytest.raises(UserError, match=r"a worker process died.*goes on"):
        Here(2).carry_out([task("dies", do=die), task("other")], Home(tmp_path), console)


# --- the command as a whole

COMMAND = [sys.executable, "-m", "mdebench", "reproduce", "table3", "--scale", "tiny", "--pack", "toyfaces16"]
COMMAND += ["--set", "width=2", "--set", "code=4", "--set", "occlusion.preset=mouth", "--jobs", "2"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pids: list[int]) -> bool:
    """Whether these processes have ended; waits a while for them."""
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="machine: no /proc in which to look up children")
@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_no_worker_outlives_the_command_and_the_next_one_goes_on(faces, tmp_path, how, code):
    (tmp_path / "packs").symlink_to(faces.packs)
    command = [*COMMAND, "--set", "updates=100000", "--home", str(tmp_path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ONE_THREAD,
        # A shell starts what it puts into the background deaf to Ctrl-C, and so would be what the tests start there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = tmp_path / "runs" / "toyfaces16-rec-S0.1-tiny-code=4-updates=100000-width=2-seed0" / "log.jsonl"
    for _ in range(600):
        if log.exists():  # a worker is training
            break
        time.sleep(0.1)
    workers = children(process.pid)
    process.send_signal(how)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == code, said
    assert len(workers) >= 2 and gone(workers)
    if how == signal.SIGINT:
        assert "stopped" in said and "goes on from there" in said and "Traceback" not in said
        assert json.loads((log.parent / "run.json").read_text())["status"] == "interrupted"  # it was saved first
