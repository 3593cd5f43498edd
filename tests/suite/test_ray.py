"""Ray does the tasks of a plan as the local runner does: on several machines, and through kills of either side."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mdebench.errors import UserError
from mdebench.runs import Busy, Run
from mdebench.suite import cluster
from mdebench.suite.cluster import connect, places, share
from mdebench.suite.tasks import Task

pytestmark = pytest.mark.xdist_group("ray")  # one after the other: they look at all processes of Ray

MISSING = (
    "machine: no /proc in which to look up Ray's processes"
    if not Path("/proc/self/environ").exists()
    else "machine: a Python for which Ray has no release"
    if sys.version_info >= (3, 15)
    else "Ray is not installed (pip install 'mdebench[ray]')"
    if find_spec("ray") is None
    else ""
)
with_ray = pytest.mark.skipif(bool(MISSING), reason=MISSING)
CPUS, HEAD, GPUS = {"CPU": 2.0}, {"memory": 1.0}, {"CPU": 16.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("machines", "jobs", "each", "room"),
    [
        ([CPUS], None, (1, 0), 2),
        ([HEAD, CPUS, CPUS], None, (1, 0), 4),  # a machine that only hands out work
        ([CPUS, CPUS], 2, (2, 0), 2),
        ([CPUS, CPUS], 1, (2, 0), 2),  # a task's cores are on one machine
        ([CPUS, CPUS], 9, (1, 0), 4),
        ([CPUS, GPUS], None, (4, 1), 4),
        ([GPUS, {"CPU": 8.0, "GPU": 8.0}], None, (1, 1), 12),  # the same for all: what the poorest can give
        ([HEAD], None, (1, 0), 0),
    ],
)
def test_what_a_task_asks_for(machines, jobs, each, room):
    assert share(machines, jobs) == each and places(machines, *each) == room


@pytest.mark.parametrize("where", ["slurm", "ray://host:10001", "ray:host"])
def test_a_place_that_is_no_ray_is_told(where):
    with pytest.raises(UserError, match="expected ray, or ray:HOST:PORT"), connect(where, None):
        pass


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("mdebench.suite.cluster.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'mdebench\[ray\]'"), connect("ray", None):
        pass


@with_ray
def test_a_cluster_that_is_not_there_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # which nobody listens on afterwards
    with pytest.raises(UserError, match="there is no Ray"), connect(f"ray:127.0.0.1:{port}", None):
        pass


@pytest.fixture
def in_a_worker(monkeypatch, tmp_path):
    """Calls what Ray calls in a worker, here, and leaves this process as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "keep_to", lambda threads: None)
    old = signal.getsignal(signal.SIGINT)
    yield lambda sign, do: cluster._on_a_machine(tmp_path, sign, 1, Task("run", "r", "missing", "", 1.0, do))
    signal.signal(signal.SIGINT, old)


def test_a_machine_with_another_home_says_so(in_a_worker, tmp_path):
    with pytest.raises(UserError, match=f"does not see .* and {tmp_path}, which all machines must share"):
        in_a_worker(tmp_path / "sign", pytest.fail)


def test_a_run_that_a_dying_worker_holds_is_waited_for(in_a_worker, tmp_path, monkeypatch):
    run, held = Run(tmp_path / "r"), ExitStack()
    held.enter_context(run.lock())
    monkeypatch.setattr(time, "sleep", lambda seconds: held.close())  # meanwhile the other one has died

    def do(home, console):
        with Run(home.folder / "r").lock():
            console.print("mine")

    (tmp_path / "sign").touch()
    assert in_a_worker(tmp_path / "sign", do) == "mine\n"
    monkeypatch.setattr(cluster, "PATIENCE", -1.0)
    with run.lock(), pytest.raises(Busy, match="being trained by another process"):
        in_a_worker(tmp_path / "sign", do)


# --- with Ray, in processes of its own that all have a mark in their environment

MARK = f"MDEBENCH_TEST_RAY={os.getpid()}"
TASKS = Path(__file__).parents[1] / "ray_tasks.py"
ENV = {
    **os.environ,
    **dict([MARK.split("=")]),
    "OMP_NUM_THREADS": "2",
    "PYTHONPATH": str(TASKS.parent),
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listens on the loopback interface alone
}
# Runs until its input is closed; prints the address first.
TWO_MACHINES = """
import sys
from ray.cluster_utils import Cluster
machine = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=machine)
cluster.add_node(**machine)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def start(*command, **options) -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": ENV, **options}
    return subprocess.Popen([sys.executable, *command], **pipes)


def marked() -> dict[int, str]:
    """The processes that have the mark, with their command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if MARK.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def wait_until(condition, seconds=120):
    for _ in range(10 * seconds):
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def two_machines():
    """The address of a Ray of two machines with a core each, both simulated here."""
    with TemporaryDirectory(prefix="r", dir="/tmp") as short:  # a socket's path holds a hundred characters
        process = start("-c", TWO_MACHINES, env={**ENV, "RAY_TMPDIR": short})
        yield process.stdout.readline().strip()
        process.communicate(timeout=120)
        assert wait_until(lambda: not marked(), 10), marked()


@with_ray
def test_a_failure_and_a_killed_worker_stop_nothing_else_and_the_rest_is_done_later(two_machines, tmp_path):
    said, _ = start(TASKS, f"ray:{two_machines}", tmp_path, "short").communicate(timeout=300)
    (done, failed), again = json.loads(said.splitlines()[-1])
    assert sorted(done) == [f"rows {name}" for name in ("a", "asked", "b", "c", "needs_weak", "weak")], said
    assert failed == ["rows ill (the loss is not finite)"]
    assert "made needs_weak" in said and "left out rows needs_ill: it needs rows ill" in said
    assert again == [["rows ill", "rows needs_ill"], []]
    assert not list(tmp_path.glob(".seen*"))


@with_ray
def test_a_stopped_command_has_its_workers_save_and_leaves_none(two_machines, tmp_path):
    process = start(TASKS, f"ray:{two_machines}", tmp_path, "long")
    assert wait_until((tmp_path / "begun").exists)
    assert any("lasting" in command for command in marked().values())
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and (tmp_path / "saved").exists(), said
    assert wait_until(lambda: not any("lasting" in command for command in marked().values()))


@with_ray
def test_nothing_outlives_a_killed_command_that_started_its_own_ray(tmp_path):
    before = marked().keys()
    process = start(TASKS, "ray", tmp_path, "long")
    assert wait_until((tmp_path / "begun").exists)
    assert len(marked().keys() - before) > 3  # Ray's own processes are seen
    process.kill()
    process.communicate()
    assert wait_until(lambda: marked().keys() <= before, 20), marked()
