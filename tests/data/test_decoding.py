"""Threads and processes decode alike, in order; whatever ends early leaves nothing behind, and memory does not grow."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from mdebench.data import open_pack, prepare, workers
from mdebench.data.decode import centre_square
from mdebench.data.report import Report
from mdebench.data.store import ImageStore, open_store
from mdebench.data.workers import decoding
from mdebench.errors import UserError


def picture(grey: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (grey % 256, grey // 256, 7)).save(stream, kind)
    return stream.getvalue()


def archive(folder: Path, count: int) -> Path:
    """A zip of pictures that show their number, every tenth of them bad, for the source `folder`; gives the folder."""
    folder.mkdir(parents=True)
    names = [f"{number:06d}.png" for number in range(count)]
    (folder / "list.csv").write_text("\n".join(["path", *names, "absent.png"]))
    with zipfile.ZipFile(folder / "pictures.zip", "w") as stream:
        for number, name in enumerate(names):
            stream.writestr(name, b"no picture" if number % 10 == 3 else picture(number))
    return folder


def many_in_processes(monkeypatch) -> None:
    monkeypatch.setattr(workers, "MANY", 1)


def test_processes_make_the_pack_that_threads_make(tmp_path, monkeypatch):
    root = archive(tmp_path / "root", 700)
    threads = open_pack(prepare("folder", root, 8, tmp_path, name="threads"))
    many_in_processes(monkeypatch)
    processes = open_pack(prepare("folder", root, 8, tmp_path, name="processes"))
    assert processes.hash == threads.hash and processes.info["report"] == threads.info["report"]
    report = {kind: entry["count"] for kind, entry in processes.info["report"].items()}
    assert report == {"not_an_image": 70, "missing_file": 1}
    numbers = [int(name[:6]) for name in processes.names]
    assert numbers == [number for number in range(700) if number % 10 != 3]
    assert [int(image[0, 0, 0]) + 256 * int(image[1, 0, 0]) for image in processes.images] == numbers


def test_a_loose_folder_and_a_tar_go_to_processes_too(tmp_path, monkeypatch):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02d}.png").write_bytes(picture(number))
    with tarfile.open(tmp_path / "pictures.tgz", "w:gz") as stream:
        stream.add(folder, "")
    many_in_processes(monkeypatch)
    for where in (folder, tmp_path / "pictures.tgz"):
        report = Report()
        store = open_store(where, report)
        with decoding(store, sorted(store.members), centre_square, 8, report, lambda done, total: None) as parts:
            images = np.concatenate([part.images for part in parts])
        assert images[:, 0, 0, 0].tolist() == list(range(40)) and not report.counts


def test_few_are_decoded_in_threads_and_all_are_counted(tmp_path):
    assert isinstance(workers.workers(workers.MANY - 1), ThreadPoolExecutor)
    root = archive(tmp_path / "root", 300)
    seen: list[tuple[int, int]] = []
    prepare("folder", root, 8, tmp_path, progress=lambda done, total: seen.append((done, total)))
    done = [count for count, _ in seen]
    assert done == sorted(set(done)) and seen[-1] == (301, 301)


def _die(member: object) -> bytes:
    os._exit(9)


def test_a_dead_process_is_told_and_nothing_is_waited_for(tmp_path, monkeypatch):
    many_in_processes(monkeypatch)
    store = ImageStore(tmp_path, dict.fromkeys("abc"), _die)
    with (
        pytest.raises(UserError, match="A process that decoded images died"),
        decoding(store, "abc", centre_square, 8, Report(), lambda done, total: None) as parts,
    ):
        list(parts)


LONG = """
import psutil, sys, time
from mdebench.data import prepare, workers

def said(done, total):
    print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
    time.sleep(60)

workers.MANY = 1  # and no main guard below: a script may well have none
prepare("folder", sys.argv[1], 8, sys.argv[2], progress=said)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_process_is_left_behind(tmp_path, how):
    root = archive(tmp_path / "root", 300)
    (tmp_path / "script.py").write_text(LONG)
    command = [sys.executable, str(tmp_path / "script.py"), str(root), str(tmp_path / "packs")]
    script = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    children = [int(pid) for pid in script.stdout.readline().split()]
    assert children and all(map(alive, children))
    if how == signal.SIGINT:
        os.killpg(script.pid, how)  # as the terminal does
    else:
        script.kill()
    script.communicate()
    waited = time.monotonic()
    while any(map(alive, children)):
        assert time.monotonic() - waited < 20
        time.sleep(0.1)
    left = [path.name for path in (tmp_path / "packs").iterdir()]
    assert left == [] if how == signal.SIGINT else ".root8.part" in left


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


PEAK = """
import sys
from mdebench.data import prepare
prepare("folder", sys.argv[1], 8, sys.argv[2])
status = open("/proc/self/status").read()
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="machine: no /proc that tells the peak")
def test_the_memory_of_packing_hardly_grows_with_the_pack(tmp_path):
    def peak(count: int) -> int:
        root = archive(tmp_path / f"root{count}", count)
        command = [sys.executable, "-c", PEAK, str(root), str(tmp_path / "packs")]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    few, many = 2_000, 42_000
    assert peak(many) - peak(few) < 200 * (many - few) / (200_000 - few)  # MB: a zip's directory
