"""Two users on one machine: what one makes, the other neither reads nor writes unless its mode bits say so."""

import json
import os
import shutil
import socket
import stat
from importlib.util import find_spec
from pathlib import Path

import pytest

from mdebench.data.pack import open_pack
from mdebench.errors import UserError
from mdebench.evaluation import measuring
from mdebench.evaluation.displays import displays
from mdebench.home import Home
from mdebench.report.page import write_report
from mdebench.results.rows import Row, append_rows, read_rows
from mdebench.runs import Run
from mdebench.suite.local_ray import own_ray
from mdebench.training.recipes import make_recipe, train_run

pytestmark = pytest.mark.xdist_group("ray")  # as in test_ray.py

SMALL = {"width": "2", "code": "4", "updates": "2", "batch": "4"}
OTHER = 12345  # a user of whom nothing is known
as_root = pytest.mark.skipif(os.getuid() != 0, reason="machine: only root can act as two users")


def by_another(work):
    """What ``work()`` says (plain values) when another user does it, in a process of theirs."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            os.setgroups([])
            os.setgid(OTHER)
            os.setuid(OTHER)
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        answer = json.loads(said.read())
    os.waitpid(child, 0)
    return answer


def outcome(do):
    try:
        do()
    except (UserError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.fixture(params=[0o077, 0o022], ids=["closed", "readable"])
def made(request, faces, tmp_path_factory, console):
    """A home with a run, rows and a report, made under a umask; all folders above it may be passed."""
    top = Path("/tmp") / f"two-users-{os.getpid()}-{request.param:o}"
    old = os.umask(request.param)
    try:
        home, pack = Home(top / "home"), open_pack(faces.packs / "toyfaces16")
        top.mkdir()
        top.chmod(0o755)
        run = train_run(home, make_recipe("rec", pack, "tiny", 0, SMALL), pack, console)
        measuring.measure(home, "landmarks", [run], pack, {"setting": "frozen-probe"}, console)
        write_report(home, home.report, displays(home))
        yield home, request.param
    finally:
        os.umask(old)
        shutil.rmtree(top)


def test_nothing_in_a_home_is_more_open_than_the_umask_says(made):
    home, umask = made
    wide = [path for path in home.folder.rglob("*") if stat.S_IMODE(path.stat().st_mode) & umask]
    assert not wide and not stat.S_IMODE(home.folder.stat().st_mode) & umask


@as_root
def test_another_user_reads_what_the_mode_bits_allow_and_writes_nothing(made):
    home, umask = made
    (run,) = home.list_runs()
    rows = read_rows(home)
    before = {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()}

    def look():
        reads = [lambda: Run(run.folder).info["label"], lambda: read_rows(home)["key"][0], home.report.read_text]
        return [outcome(read) for read in reads]

    def change():
        def locked():
            with Run(run.folder).lock():
                pass

        def row():
            facts = {name: rows[name][0] for name in rows.columns} | {"key": "0" * 64}
            append_rows(home, [Row(**{name: x.item() if hasattr(x, "item") else x for name, x in facts.items()})])

        writes = [locked, row, lambda: run.update(status="mine"), lambda: home.report.write_text("mine")]
        return [outcome(write) for write in writes]

    looked, changed = by_another(look), by_another(change)
    assert [bool(refused) for refused in looked] == [umask == 0o077] * 3, looked
    assert all(changed), changed
    assert {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (pip install 'mdebench[ray]')")
def test_a_local_ray_is_closed_to_others_and_joins_nobody_s(monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        monkeypatch.setenv(name, "")  # put back what own_ray sets for its processes
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # somebody else's, which it would try to join
    before = set(Path("/tmp").glob(".mdebench-*"))
    theirs = set(Path("/tmp/ray").glob("*"))
    with own_ray(1, 0) as address:
        assert address.startswith("127.0.0.1:") and not address.endswith(":1")
        new = set(Path("/tmp").glob(".mdebench-*")) - before  # others may be of tests beside this one
        (folder,) = (each for each in new if any(path.name == "raylet" for path in each.rglob("*")))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        sockets = [path for path in folder.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]
        assert {path.name for path in sockets} >= {"raylet", "plasma_store"}
        assert not Path("/tmp/ray").exists() or not (set(Path("/tmp/ray").iterdir()) - theirs)
        if os.getuid() == 0:
            refused = by_another(lambda: [_listing(folder), *(_connection(path) for path in sockets)])
            assert all("Permission denied" in each for each in refused), refused
        token = os.environ["RAY_AUTH_TOKEN"]
        assert token and not any(token in _command(path) for path in Path("/proc").glob("[0-9]*"))
    assert not folder.exists()


def _listing(folder):
    return outcome(lambda: list(folder.iterdir()))


def _connection(path):
    with socket.socket(socket.AF_UNIX) as door:
        return outcome(lambda: door.connect(str(path)))


def _command(process):
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""
