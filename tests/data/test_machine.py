"""Want of the machine is no damage; hostile sources take no memory and open no door; what kills leave is cleared."""

import errno
import fcntl
import gzip
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
from pathlib import Path

import joblib.externals.loky  # noqa: F401  a second loky, which takes the first one's name for its own
import numpy as np
import pytest
from click.testing import CliRunner
from loky.backend.synchronize import RLock
from PIL import Image

from mdebench.cli.main import cli
from mdebench.data import decode as decoder
from mdebench.data import open_pack, prepare, workers, writer
from mdebench.data.decode import centre_square, decode
from mdebench.data.finding import draw_faces
from mdebench.data.report import Report
from mdebench.data.store import BadImage, open_store, read_member
from mdebench.errors import UserError
from mdebench.home import Home

RNG = np.random.default_rng(0)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def picture(grey: int) -> bytes:
    return encoded(Image.new("RGB", (16, 16), (grey, 255 - grey, 7)))


def source(folder: Path, count: int = 3) -> Path:
    """Loose pictures with their list, for the source `folder`."""
    folder.mkdir()
    names = [f"{i}.png" for i in range(count)]
    for i, name in enumerate(names):
        (folder / name).write_bytes(picture(i))
    (folder / "list.csv").write_text("\n".join(["path", *names]))
    return folder


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


# Want of the machine

WANT = [MemoryError(), *(OSError(number, os.strerror(number)) for number in (errno.EMFILE, errno.ENOMEM, errno.EIO))]


@pytest.mark.parametrize("error", WANT, ids=repr)
@pytest.mark.parametrize("where", ["PIL.Image.open", "PIL.Image.Image.resize", "mdebench.data.store.read_file"])
def test_want_stops_a_packing_and_leaves_no_picture_out(tmp_path, monkeypatch, error, where):
    root = source(tmp_path / "root")

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(where, fail)
    with pytest.raises(UserError, match=r"not enough memory|Too many open files|Cannot allocate|Input/output error"):
        prepare("folder", root, 8, tmp_path / "packs")
    assert left(tmp_path / "packs") == []


def test_damage_still_leaves_a_picture_out(tmp_path, monkeypatch):
    root = source(tmp_path / "root")
    (root / "1.png").write_bytes(picture(1)[:-30])
    true, denied = os.open, OSError(errno.EACCES, "Permission denied")

    def deny(path, *args, **kwargs):
        if str(path).endswith("2.png"):
            raise denied
        return true(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", deny)
    pack = open_pack(prepare("folder", root, 8, tmp_path / "packs"))
    assert pack.names == ["0.png"]
    assert {kind: entry["count"] for kind, entry in pack.info["report"].items()} == {"truncated": 1, "unreadable": 1}


SCARCE = """
import resource, sys
from mdebench.data import prepare, workers
from mdebench.errors import UserError
import mdebench.data.folder, PIL.JpegImagePlugin, PIL.PngImagePlugin
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
workers.loky.cpu_count = lambda: 1
import threading; threading.stack_size(2**18)
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[3]) * 2**20,) * 2)
try:
    prepare("folder", sys.argv[1], 8, sys.argv[2])
except UserError as error:
    print(error)
    sys.exit(1)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="machine: no /proc that tells what is taken")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_no_good_picture_is_left_out_for_want_of_memory(tmp_path, kind):
    root = source(tmp_path / "root", 2)
    (root / "1.png").write_bytes(encoded(Image.new("RGB", (2500, 2500), "red"), kind))
    command = [sys.executable, "-c", SCARCE, str(root), str(tmp_path / "packs")]
    for spare in (10, 25, 400):
        done = subprocess.run([*command, str(spare)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            assert open_pack(tmp_path / "packs" / "root8").names == ["0.png", "1.png"], spare
        else:
            assert done.returncode == 1 and "not enough memory" in done.stdout, done.stderr
            assert spare < 400 and left(tmp_path / "packs") == []


# Memory


def bomb(path: Path, listed: dict[str, bytes], others: int, size: int) -> None:
    with gzip.open(path, "wb", 1) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in [*((f"other{i}.jpg", bytes(size)) for i in range(others)), *listed.items()]:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize("inside", [False, True])
def test_members_that_nobody_listed_take_no_memory(tmp_path, inside):
    root = tmp_path / "root"
    root.mkdir()
    table = b"path\na.png\nb.png\n"
    listed = {"a.png": picture(1), "b.png": picture(2)} | ({"list.csv": table} if inside else {})
    bomb(root / "pictures.tgz", listed, 10, 20_000_000)
    if not inside:
        (root / "list.csv").write_bytes(table)
    prepare("toyfaces", None, 16, tmp_path, count=1)  # whatever is imported first
    tracemalloc.start()
    pack = open_pack(prepare("folder", root, 8, tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pack.names == ["a.png", "b.png"] and pack.info["report"]["unlisted"]["count"] == 10
    assert peak < 20_000_000


def test_what_is_wanted_of_a_packed_tar_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("mdebench.data.store.tars.MAX_HELD", 3_000_000)
    bomb(tmp_path / "a.tgz", {"a.png": picture(1)}, 4, 1_000_000)
    store = open_store(tmp_path / "a.tgz", Report())
    assert read_member(store.read, store.member("a.png")) == picture(1)
    held = store.holding(["other1.jpg", "other0.jpg", "none.jpg"])
    assert read_member(held.read, held.member("other0.jpg")) == bytes(1_000_000)
    with pytest.raises(BadImage, match="missing_file"):
        read_member(held.read, held.member("none.jpg"))
    with pytest.raises(UserError, match=r"a\.tgz unpacks to more than .* GiB of listed files.*unpack it"):
        store.holding(list(store.members))


def test_a_tar_that_changes_is_not_read_on(tmp_path):
    bomb(tmp_path / "a.tgz", {"a.png": picture(1)}, 0, 0)
    store = open_store(tmp_path / "a.tgz", Report())
    bomb(tmp_path / "a.tgz", {"a.png": picture(1)}, 1, 5)
    with pytest.raises(UserError, match=r"a\.tgz has changed since it was opened"):
        store.holding(["a.png"])


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch):
    under_way, most, data = [], [], picture(3)
    true = Image.Image.resize

    def slow(self, *args, **kwargs):
        under_way.append(1)
        most.append(len(under_way))
        time.sleep(0.02)
        under_way.pop()
        return true(self, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", slow)
    for limit in (200, 300):
        monkeypatch.setattr(decoder, "LARGE", limit)
        most.clear()
        threads = [threading.Thread(target=decode, args=(data, centre_square, 8)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (max(most) == 1) == (limit == 200)


def _locked(member: object) -> bytes:
    assert type(decoder.one_at_a_time) is RLock
    return picture(1)


def test_processes_take_turns_at_large_pictures_too(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "MANY", 1)
    store = workers.ImageStore(tmp_path, dict.fromkeys("abc"), _locked)
    with workers.decoding(store, "abc", centre_square, 8, Report(), lambda done, total: None) as parts:
        assert sum(len(part.rows) for part in parts) == 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "I"])
def test_what_is_converted_in_bands_is_what_is_converted_whole(monkeypatch, mode):
    if mode.startswith("I"):
        values = RNG.integers(0, 65536, (37, 23)).astype(np.uint16 if mode == "I;16" else np.int32)
        data = encoded(Image.fromarray(values), "PNG" if mode == "I;16" else "TIFF")
    else:
        image = Image.fromarray(RNG.integers(0, 256, (37, 23, 4), np.uint8))
        image = image.quantize(50) if mode == "P" else image.convert(mode)
        image.info |= {"transparency": 3} if mode == "P" else {}
        data = encoded(image)
    whole, _, kinds = decode(data, centre_square, 16)
    monkeypatch.setattr(decoder, "BAND", 23 * 5)
    banded, _, same = decode(data, centre_square, 16)
    np.testing.assert_array_equal(banded, whole)
    assert kinds == same and kinds & {"alpha", "sixteen_bit"}


# Doors


def pipe(path: Path) -> None:
    os.mkfifo(path)


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.fixture
def in_time():
    """An alarm: what waits for a pipe's other end would wait for ever."""

    def too_late(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("special", [pipe, socket_at])
@pytest.mark.parametrize("name", ["list.csv", "pictures.zip", "pictures.tar.gz"])
def test_a_pipe_for_a_list_or_an_archive_is_refused_at_once(tmp_path, in_time, special, name):
    root = source(tmp_path / "root")
    (root / name).unlink(missing_ok=True)
    special(root / name)
    with pytest.raises(UserError, match=rf"{name}.*is a pipe|{name}.*is a socket|{name}.*No such device"):
        prepare("folder", root, 8, tmp_path / "packs")
    with pytest.raises(UserError, match=r"is a pipe|is a socket|No such device"):
        prepare("folder", root / name, 8, tmp_path / "packs")


@pytest.mark.parametrize("name", ["list_eval_partition.txt", "img_align_celeba.zip", "list_attr_celeba.txt"])
def test_a_pipe_for_a_file_of_celeba_is_refused_at_once(tmp_path, in_time, name):
    root = tmp_path / "root"
    (root / "img_align_celeba").mkdir(parents=True)
    (root / "img_align_celeba" / "000001.jpg").write_bytes(encoded(Image.new("RGB", (178, 218)), "JPEG"))
    (root / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    if name.endswith(".zip"):
        (root / "img_align_celeba" / "000001.jpg").unlink()
    (root / name).unlink(missing_ok=True)
    pipe(root / name)
    with pytest.raises(UserError, match=f"{name} is a pipe, not a file"):
        prepare("celeba", root, 8, tmp_path / "packs")


def test_a_pipe_for_a_file_of_other_sources_is_refused_at_once(tmp_path, in_time):
    pipe(tmp_path / "train-images-idx3-ubyte")
    with pytest.raises(UserError, match="ubyte is a pipe, not a file"):
        prepare("mnist", tmp_path, 8, tmp_path / "packs")
    pipe(tmp_path / "imagelabels.mat")
    (tmp_path / "setid.mat").write_bytes(b"")
    with pytest.raises(UserError, match=r"imagelabels\.mat is a pipe, not a file"):
        prepare("flowers", tmp_path, 8, tmp_path / "packs")


def test_a_pipe_among_pictures_is_left_out_and_told(tmp_path, in_time):
    root = source(tmp_path / "root")
    (root / "1.png").unlink()
    pipe(root / "1.png")
    pipe(root / "9.png")
    report = open_pack(prepare("folder", root, 8, tmp_path / "packs")).info["report"]
    assert report["not_a_file"]["names"] == ["1.png (a device or pipe)"] and report["unlisted"]["names"] == ["9.png"]


@pytest.mark.parametrize("name", ["pack.json", "images.npy", "label.npy", "names.json"])
def test_a_pipe_in_a_pack_is_refused_at_once(tmp_path, in_time, name):
    path = prepare("folder", source(tmp_path / "root"), 8, tmp_path / "packs")
    (path / name).unlink()
    pipe(path / name)
    with pytest.raises(UserError, match=f"{name} is a pipe, not a file"):
        _ = open_pack(path).names


@pytest.mark.parametrize("name", ["../evil", "a/b", "/tmp/evil", "..", ".", "", "a\n", "a\x1b[31m", "é", "٣"])
def test_a_name_is_no_path(tmp_path, name):
    packs = tmp_path / "deep" / "packs"
    with pytest.raises(UserError, match="cannot name a pack: use letters") as told:
        prepare("toyfaces", None, 16, packs, name=name, count=1)
    assert str(told.value).isprintable() and left(tmp_path) == []


ESCAPE = "\x1b[31mred\x07"


def test_what_strangers_wrote_reaches_no_terminal(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / f"{ESCAPE}.png").write_bytes(picture(3))
    rows = [f"path,label,{ESCAPE},odd{ESCAPE}", f"{ESCAPE}.png,{ESCAPE},1,x", f"{ESCAPE}2.png,0,0,y"]
    (root / "list.csv").write_text("\n".join(rows))
    made = CliRunner().invoke(cli, ["data", "prepare", "folder", "--root", str(root), "--home", str(tmp_path)])
    pack = open_pack(tmp_path / "packs" / "root64")
    assert pack.attribute_names == (r"\x1b[31mred\x07",) and r"\x1b[31mred\x07" in pack.info["label_names"]
    listed = CliRunner().invoke(cli, ["data", "show", "root64", "--home", str(tmp_path)])
    for told in (made, listed):
        assert told.exit_code == 0 and "red" in told.output
        assert told.output.replace("\n", "").isprintable(), told.output
    (root / "list.csv").write_text(f"{ESCAPE}\nx\n")
    with pytest.raises(UserError, match="needs a column 'path'") as error:
        prepare("folder", root, 8, tmp_path / "packs")
    assert str(error.value).isprintable()


# What is written whole, and what kills leave


def test_a_full_disk_leaves_the_contact_sheet_that_was_there(tmp_path, monkeypatch):
    prepare("toyfaces", None, 16, tmp_path / "packs", count=10)
    sheet = tmp_path / "sheet.png"
    sheet.write_bytes(b"before")

    def full(self, where, *args, **kwargs):
        if hasattr(where, "write"):
            where.write(b"half")
        else:
            where.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    told = CliRunner().invoke(cli, ["data", "show", "toyfaces16", "--out", str(sheet), "--home", str(tmp_path)])
    assert isinstance(told.exception, UserError) and "No space left on device" in str(told.exception)
    assert sheet.read_bytes() == b"before" and left(tmp_path) == ["packs", "sheet.png"]


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from mdebench.data.writer import PackWriter
with PackWriter(Path(sys.argv[1]), 16) as writer:
    os.kill(os.getpid(), 9)
"""


def killed(path: Path) -> None:
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=root, check=False)


def test_what_a_kill_left_is_removed_and_told_by_the_next_of_that_name(tmp_path):
    killed(tmp_path / "packs" / "toyfaces16")
    assert left(tmp_path / "packs") == [".toyfaces16.lock", ".toyfaces16.part"]
    command = ["data", "prepare", "toyfaces", "--size", "16", "--count", "9", "--home", str(tmp_path)]
    told = CliRunner().invoke(cli, command)
    assert told.exit_code == 0 and ".toyfaces16.part, which a killed preparation left unfinished" in told.output
    assert left(tmp_path / "packs") == ["toyfaces16"]
    assert "killed" not in CliRunner().invoke(cli, command).output


def test_strays_are_what_nobody_holds(tmp_path):
    killed(tmp_path / "dead")
    (tmp_path / ".again.lock").touch()
    prepare("toyfaces", None, 16, tmp_path, name="whole", count=9)
    (tmp_path / ".whole.old").mkdir()
    (tmp_path / ".cut.old").mkdir()  # a replacement that was cut short: the only copy
    (tmp_path / ".profile").touch()
    (tmp_path / "x.lock").touch()
    with writer.PackWriter(tmp_path / "going", 16), (tmp_path / ".held.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = [".again.lock", ".dead.part", ".dead.lock", ".whole.old"]
        assert [path.name for path in writer.strays(tmp_path)] == found
        assert sorted(path.name for path in writer.clear_strays(tmp_path)) == sorted(found)
        assert writer.strays(tmp_path) == [] and {".going.part", ".going.lock"} <= set(left(tmp_path))
    assert left(tmp_path) == [".cut.old", ".held.lock", ".profile", "whole", "x.lock"]
    assert writer.strays(tmp_path / "nowhere") == writer.clear_strays(tmp_path / "nowhere") == []


def test_a_pack_whose_replacement_was_cut_short_is_said_and_brought_back(tmp_path):
    path = prepare("toyfaces", None, 16, tmp_path / "packs", count=9)
    path.rename(path.with_name(".toyfaces16.old"))
    with pytest.raises(UserError, match=r"its replacement was cut short: what it replaced is .*\.toyfaces16\.old"):
        open_pack(path)
    said = []
    prepare("toyfaces", None, 16, tmp_path / "packs", count=9, tell=said.append)
    assert said == [f"brought {path} back, whose replacement was cut short"] and left(path.parent) == ["toyfaces16"]


def test_a_lock_that_is_a_link_touches_nothing_else(tmp_path):
    (tmp_path / "dear").write_text("dear")
    (tmp_path / ".toyfaces16.lock").symlink_to(tmp_path / "dear")
    with pytest.raises(UserError, match="was not made"):
        prepare("toyfaces", None, 16, tmp_path, count=9)
    assert (tmp_path / "dear").read_text() == "dear"


def test_drawing_an_embedded_pack_tells_what_it_cleared(tmp_path, console):
    killed(tmp_path / "packs" / "toyfaces16")
    draw_faces(Home(tmp_path), 16, console, count=9)
    assert "note: removed" in console.file.getvalue()
