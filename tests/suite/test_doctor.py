"""`mdebench doctor`: a healthy home is well, every damage is told beside all others, and what is safe is put right."""

import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from click.testing import CliRunner
from rich.console import Console

from mdebench import files
from mdebench.cli.main import cli
from mdebench.compute.memory import free_memory
from mdebench.data import prepare
from mdebench.errors import UserError
from mdebench.evaluation import measuring
from mdebench.home import Home
from mdebench.results.rows import read_rows
from mdebench.runs import Run
from mdebench.suite.inventory import machine
from mdebench.suite.inventory.doctor import doctor
from mdebench.training.recipes import make_recipe, train_run

SMALL = {"width": "2", "code": "4", "updates": "4", "batch": "4"}
NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A home with two packs, five runs and their rows, values and features."""
    home, quiet = Home(tmp_path_factory.mktemp("well")), Console(quiet=True)
    for name in ("faces", "others"):
        prepare("toyfaces", root=None, size=16, packs_dir=home.packs, name=name, count=120)
    from mdebench.data.pack import open_pack

    pack = open_pack(home.packs / "faces")
    first = train_run(home, make_recipe("rec", pack, "tiny", 0, SMALL), pack, quiet)
    for name in NAMES:
        shutil.copytree(first.folder, home.runs / name)
    shutil.rmtree(first.folder)
    runs = [home.run(name) for name in NAMES]
    measuring.measure(home, "landmarks", runs, pack, {"setting": "frozen-probe"}, quiet)
    return home


@pytest.fixture
def home(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "home")
    return Home(tmp_path / "home")


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path):
    """Temporary folders of other commands of this user are not this test's."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(files, "SHORT", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


def look(home, *options):
    result = CliRunner().invoke(cli, ["doctor", *options, "--home", str(home)])
    if isinstance(result.exception, UserError):  # which main tells
        return result.output + str(result.exception), 1
    assert result.exit_code == 0, result.exception
    return result.output, 0


def flip(path, share=0.5):
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 4
    path.write_bytes(data)


def flip_a_weight(path):
    """A bit in the midst of the largest member: between members there is padding, which nobody reads."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    data = bytearray(path.read_bytes())
    begin = largest.header_offset
    begin += (
        30
        + int.from_bytes(data[begin + 26 : begin + 28], "little")
        + int.from_bytes(data[begin + 28 : begin + 30], "little")
    )
    data[begin + largest.file_size // 2] ^= 4
    path.write_bytes(data)


def everything(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_a_healthy_home_is_well_and_stays_as_it_is(home):
    before = everything(home.folder)
    said, status = look(home)
    assert status == 0 and said.splitlines()[-1] == "all is well" and "finding" not in said
    assert "looked at 2 packs" in said and "looked at 5 runs" in said and f"{len(read_rows(home)):,} rows" in said
    assert "not looked at samples" in said and "`mdebench audit` does" in said
    for fact in (
        "Python 3.",
        "torch 2.",
        "threads: ",
        "GPU: ",
        "disk: ",
        "memory: ",
        "open files: ",
        "temporary files",
    ):
        assert fact in said
    assert everything(home.folder) == before


def damage_everything(home):
    """Damages of many kinds; for each a part of the sentence that tells it, and whether it is safe to put right."""
    a, b, c, d, e = (home.runs / name for name in NAMES)
    flip(home.packs / "faces" / "images.npy")
    (home.packs / "junk").mkdir()
    (home.packs / ".half.part").mkdir()
    (home.packs / ".half.part" / "images.npy").write_bytes(b"x")
    (home.packs / "others").rename(home.packs / ".others.old")
    (a / "run.json").write_text("{")
    flip_a_weight(b / "state.pt")
    (c / "trained_on.npy").write_bytes((c / "trained_on.npy").read_bytes()[:100])
    (d / "state.pt").unlink()
    info = json.loads((e / "run.json").read_text())
    info.pop(files.CHECKSUM, None)
    (e / "run.json").write_text(json.dumps({**info, "pack": "lost"}))
    for run in (a, b, c):
        (kept,) = (run / "features").iterdir()
        kept.rename(kept.with_name(f"{kept.stem[:12]}-000000000000{kept.suffix}"))
    (c / "log.jsonl").write_text("not json\n" + (c / "log.jsonl").read_text())
    (home.runs / "empty").mkdir()
    (home.runs / "empty" / ".lock").touch()
    (home.runs / "headless").mkdir()
    (home.runs / "headless" / "state.pt").touch()
    (b / ".state.pt.12ab.partial").write_bytes(b"x")
    (home.folder / ".report.html.12ab.partial").write_bytes(b"x")
    rows = home.rows / "landmarks" / "d.jsonl"
    rows.write_text(rows.read_text() + '{"cut')
    values = min(home.values.glob("*.npz"))
    values.write_bytes(values.read_bytes()[:-40])
    left = Path(files.SHORT, ".mdebench-abcdefgh")
    left.mkdir(0o700)
    return {
        "faces/images.npy": False,
        "junk is no pack": False,
        ".half.part, left by a preparation": True,
        f"making {home.packs / 'others'} anew was cut short": True,
        f"{a / 'run.json'} is damaged": False,
        f"{b / 'state.pt'} is damaged": False,
        f"{c / 'trained_on.npy'} is damaged": False,
        f"{d} is said to be finished, but has no state.pt": False,
        "the pack lost": False,
        f"{b / 'features'}": True,
        f"{c / 'features'}": True,
        f"Line 1 of {c / 'log.jsonl'} is damaged": False,
        "empty, a run in which there is nothing": True,
        "headless has no run.json": False,
        ".state.pt.12ab.partial, left half written": True,
        ".report.html.12ab.partial, left half written": True,
        f"{rows} is damaged": False,
        f"{values} is damaged": False,
        f"{left}, a temporary folder": True,
    }


def test_no_damage_hides_another_and_what_is_safe_is_put_right(home):
    expected = damage_everything(home)
    said, status = look(home)
    findings = [line for line in said.splitlines() if line.startswith("finding")]
    assert status == 1
    for part in expected:
        assert sum(part in line for line in findings) == 1, (part, said)
    assert len(findings) == len(expected), said
    safe = sum(expected.values())
    assert said.endswith(f"{len(expected)} findings; `mdebench doctor --fix` puts {safe} of them right")
    assert all(";" in line or "delete" in line or "written" in line for line in findings)  # what to do

    said, status = look(home, "--fix")
    assert status == 1 and said.endswith(f"{len(expected) - safe} findings left")
    assert len([line for line in said.splitlines() if line.startswith("put right")]) == safe
    again, status = look(home)
    assert [part for part, can in expected.items() if part in again and can] == []
    assert len([line for line in again.splitlines() if line.startswith("finding")]) == len(expected) - safe
    assert (home.packs / "others" / "pack.json").is_file() and not (home.runs / "empty").exists()
    assert (home.runs / "headless").exists() and (home.runs / "a" / "run.json").exists()  # a person's to decide


def test_all_put_right_is_status_0(home):
    (home.runs / "empty").mkdir()
    assert look(home)[1] == 1
    said, status = look(home, "--fix")
    assert status == 0 and said.splitlines()[-1] == "1 findings, all put right"
    assert look(home)[1] == 0


def test_who_works_and_what_was_stopped_is_a_note(home):
    run = Run(home.runs / "a")
    run.update(status="running", step=2)
    said, status = look(home)
    assert status == 0 and "note a stopped at 2 of 4 updates (running)" in said and "runs a --remove" in said
    with run.lock():
        (run.folder / ".state.pt.12ab.partial").touch()  # as older builds write, without a lock of its own
        said, status = look(home)
        assert status == 0, said
        assert f"held by pid {os.getpid()} on" in said and "stopped at" not in said
    shutil.rmtree(home.runs / "b")
    said, _ = look(home)
    assert "note rows of 1 run (b), which are not here; tables show them" in said


def test_a_folder_that_may_not_be_listed_hides_no_other(home, monkeypatch):
    listing = type(home.runs).iterdir

    def refused(path):
        if path.name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(type(home.runs), "iterdir", refused)
    (home.runs / "b" / "state.pt").write_bytes(b"")
    said, status = look(home)
    assert status == 1 and f"{home.runs / 'a'} cannot be looked at (Permission denied); permit it" in said
    assert f"{home.runs / 'b' / 'state.pt'} is damaged" in said


def test_what_the_machine_lacks_is_a_finding(home, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(machine, "free_memory", lambda: 3e8)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage(10, 9, 1))
    limits = {resource.RLIMIT_NOFILE: (20, 20)}
    monkeypatch.setattr(machine.resource, "getrlimit", lambda which: limits.get(which, (-1, -1)))
    monkeypatch.setattr(machine.sys, "stdout", SimpleNamespace(encoding="ascii"))
    told = [str(each) for each in machine.machine(home) if each.kind == "finding"]
    assert [each.split()[0] for each in told] == ["300.0", "1", "only", "ascii"], told
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    told = [str(each) for each in machine.machine(home) if each.kind == "finding"]
    assert "no temporary file can be written (No space left on device); export TMPDIR=FOLDER" in told


def test_free_memory_is_what_linux_says():
    system = psutil.virtual_memory().total + psutil.swap_memory().total
    assert 0 < free_memory() <= system


def test_what_is_taken_of_a_limit_is_no_longer_free(monkeypatch):
    taken = psutil.Process().memory_info().vms
    monkeypatch.setattr(resource, "getrlimit", lambda which: (taken + 5e8, -1))
    assert free_memory() == pytest.approx(5e8, rel=0.2)


def test_a_torch_that_cannot_be_imported_is_a_finding_and_the_rest_is_looked_at(home, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch_cpu.so: cannot open shared object file')")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", "mdebench", "doctor", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "finding torch cannot be imported (libtorch_cpu.so" in done.stdout and "looked at 5 runs" in done.stdout


def test_an_empty_home_is_well(tmp_path, console):
    doctor(Home(tmp_path), False, console)
    assert "looked at 0 packs" in console.file.getvalue() and not {p.name for p in tmp_path.iterdir()} - {"tmp"}
