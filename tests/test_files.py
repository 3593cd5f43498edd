"""Files whole or not at all, strays told from what is being written, damage told from want."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from mdebench import files
from mdebench.errors import UserError

WAY_ON = "make it again"


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    files.write_atomically(path, b"old")
    with pytest.raises(ZeroDivisionError), files.writing(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(UserError, match=r"a.txt: No space left on device; what stood there"), files.writing(path):
        raise full
    with pytest.raises(UserError, match=r"could not write .*: cut short; what"), files.writing(path):
        raise OSError("cut short")
    assert path.read_bytes() == b"old" and [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_threads_that_write_one_file_write_it_whole(tmp_path):
    path, texts = tmp_path / "a", [bytes([i]) * 200_000 for i in range(8)]
    threads = [threading.Thread(target=files.write_atomically, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in texts and len(list(tmp_path.iterdir())) == 1


def test_a_stray_is_what_nobody_writes(tmp_path):
    code = "import os, sys; from mdebench import files; from pathlib import Path\n"
    code += "with files.writing(Path(sys.argv[1])) as file: os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "deep" / "killed.pt")], check=False)
    (tmp_path / ".state.pt.123.partial").write_bytes(b"of an older mdebench")
    (tmp_path / "kept.partial").touch()
    with files.writing(tmp_path / "going.on") as file:
        found = files.strays(tmp_path)
        assert [path.name.split(".")[1] for path in found] == ["state", "killed"]
        assert files.clear_strays(tmp_path) == found and not files.strays(tmp_path)
        file.write(b"whole")
    assert (tmp_path / "going.on").read_bytes() == b"whole"
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["going.on", "kept.partial"]


def test_json_with_one_character_changed_is_damaged(tmp_path):
    path, values = tmp_path / "a.json", {"count": 31, "name": "é", "list": [1.5, None]}
    files.write_json(path, values)
    assert files.read_json(path, WAY_ON) == values
    text = path.read_bytes()
    for place in range(len(text)):
        path.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        try:
            assert files.read_json(path, WAY_ON) == values  # white space alone
        except files.Damaged as error:
            assert str(error).startswith(f"{path} is damaged (") and str(error).endswith("); make it again")
    path.write_text(json.dumps(values))  # from before there were checksums
    assert files.read_json(path, WAY_ON) == values
    for other in ("[]", "3", "", "{", "\xff"):
        path.write_text(other)
        with pytest.raises(files.Damaged):
            files.read_json(path, WAY_ON)
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "none", WAY_ON)


def test_arrays_with_one_bit_changed_are_damaged_or_the_same(tmp_path):
    path, arrays = tmp_path / "a.npz", {"a": np.arange(300, dtype=np.float32), "b": np.eye(3, dtype=np.int64)}
    np.savez_compressed(path, **arrays)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(len(data), size=300):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << rng.integers(8)]) + data[place + 1 :])
        try:
            found = files.read_arrays(path, WAY_ON)
        except files.Damaged:
            continue
        assert all(np.array_equal(found[name], arrays[name]) for name in found.keys() & arrays.keys())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(files.Damaged):
        files.check_archive(path, WAY_ON)


def test_a_member_that_is_longer_than_its_array_is_damaged(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", (tmp_path / "a.npy").read_bytes() + b"\0")
    with pytest.raises(files.Damaged, match="more in it than its header says"):
        files.read_arrays(tmp_path / "a.npz", WAY_ON)


def test_want_is_not_damage(tmp_path):
    for error in (
        MemoryError(),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.EIO, "Input/output error"),
    ):
        with pytest.raises(UserError) as told, files.reading(tmp_path, WAY_ON):
            raise error
        assert not isinstance(told.value, files.Damaged)
    for error in (ValueError("odd\nand more"), OSError("bad"), IndexError(), EOFError()):
        with pytest.raises(files.Damaged, match="make it again"), files.reading(tmp_path, WAY_ON):
            raise error
    with pytest.raises(UserError, match="mine"), files.reading(tmp_path, WAY_ON):
        raise UserError("mine")


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a pipe, not a file"):
        files.read_bytes(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a device, not a file"):
        files.read_bytes(Path("/dev/zero"))
    with pytest.raises(OSError):
        files.read_bytes(tmp_path)


def test_what_is_begun_while_strays_are_cleared_is_not_taken_for_one(tmp_path, monkeypatch):
    """A write takes its lock between the look at a file and its deletion."""
    found = tmp_path / ".a.txt.0f.partial"
    found.touch()
    monkeypatch.setattr(files, "strays", lambda folder: [found])
    with found.open("rb") as begun:
        fcntl.flock(begun, fcntl.LOCK_EX)
        assert files.clear_strays(tmp_path) == [] and found.exists()
    assert files.clear_strays(tmp_path) == [found] and not found.exists()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(files, "SHORT", str(tmp_path))
    return tmp_path


def test_a_temporary_folder_is_closed_and_what_a_kill_left_is_cleared_by_the_next(temporary, capsys):
    code = "import os; from mdebench import files\n"
    code += "with files.scratch() as folder: (folder / 'a').touch(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, "TMPDIR": str(temporary)})
    (left,) = files.left_scratch()
    old = os.umask(0)
    try:
        with files.scratch() as folder:
            assert folder.parent == temporary and folder.stat().st_mode & 0o777 == 0o700
            assert not left.exists() and f"cleared {left}, which a killed command left" in capsys.readouterr().out
            with files.scratch() as other:  # in this process or another: it is at work
                assert folder.is_dir() and other != folder and files.left_scratch() == []
    finally:
        os.umask(old)
    assert list(temporary.iterdir()) == []


def test_nobody_else_s_folder_is_taken_for_a_temporary_one(temporary, tmp_path_factory):
    mine = tmp_path_factory.mktemp("mine")
    (temporary / ".mdebench-open1234").mkdir(0o755)
    (temporary / ".mdebench-link1234").symlink_to(mine)
    (temporary / "mdebench-results1").mkdir(0o700)
    (temporary / ".mdebench-file1234").touch()
    if os.getuid() == 0:
        (temporary / ".mdebench-his12345").mkdir(0o700)
        os.chown(temporary / ".mdebench-his12345", 12345, 12345)
    assert files.left_scratch() == []


def test_who_holds_a_lock_is_read_and_nothing_is_written(tmp_path):
    path = tmp_path / ".lock"
    path.write_text("pid 7 on here")
    assert files.holder(path) is None
    with path.open("r") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert files.holder(path) == "pid 7 on here"
    assert path.read_text() == "pid 7 on here"


def test_a_line_is_missed_by_those_it_was_written_with(tmp_path):
    path, ours, others = tmp_path / "a.jsonl", [{"n": n} for n in (1, 2, 2)], [{"n": 1}, {"n": 2}]
    lines = [*files.json_lines("ours", ours), *files.json_lines("others", others)]

    def read(kept):
        path.write_bytes(b"".join(kept))
        return [value for _, value in files.read_lines(path, WAY_ON, dict)]

    assert read(lines) == ours + others
    assert read(lines[:3]) == ours and read([*lines[3:], *lines[:3]]) == others + ours  # a group is gone, or moved
    for place in range(5):
        with pytest.raises(files.Damaged, match=r"it has [12] of the [23] lines .* with line \d"):
            read(lines[:place] + lines[place + 1 :])
        with pytest.raises(files.Damaged, match=r"it has [34] of the [23] lines"):
            read([*lines, lines[place]])
    lines[1] = files.changed_line(lines[1], {"n": 9})
    assert read(lines) == [{"n": 1}, {"n": 9}, {"n": 2}, *others]
    old = files.json_line({"n": 5})  # from before there were groups
    assert files.changed_line(old, {"n": 6}) == files.json_line({"n": 6}) and read([old, *lines[3:]]) == [
        {"n": 5},
        *others,
    ]


def test_the_cut_last_line_of_a_log_is_one_of_ours(tmp_path):
    path, line = tmp_path / "log.jsonl", files.json_line({"n": 1})
    for cut in range(len(line)):
        path.write_bytes(line + line[:cut])
        assert len(files.read_lines(path, WAY_ON, dict, appended=True)) == 1
    for other in (b"[" * 50, b"\0" * 50, b"x", line[:5] + b"\0" * 5):
        path.write_bytes(line + other)
        with pytest.raises(files.Damaged, match="Line 2"):
            files.read_lines(path, WAY_ON, dict, appended=True)


def test_an_archive_ends_where_its_directory_does(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(3))
    files.check_archive(path, WAY_ON)
    with path.open("ab") as file:
        file.write(b"more")
    with zipfile.ZipFile(path) as archive:  # which is none of its concerns
        assert archive.testzip() is None
    for read in (files.check_archive, files.read_archive, files.read_arrays):
        with pytest.raises(files.Damaged, match="something behind its end"):
            read(path, WAY_ON)


def test_a_bit_of_a_directory_hides_no_member(tmp_path):
    """A length that grew takes the entries behind it along, and zipfile lists those that are left."""
    path = tmp_path / "a.npz"
    np.savez(path, **{name: np.arange(3) for name in "abcdefgh"})
    whole = path.read_bytes()
    entry, hidden = whole.index(b"PK\1\2"), 0
    for bit in range(48):  # of the lengths of its name, extra field and comment
        changed = bytearray(whole)
        changed[entry + 28 + bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            hidden += len(archive.namelist()) < 8
        for read in (files.check_archive, files.read_archive, files.read_arrays):
            with pytest.raises(files.Damaged):
                read(path, WAY_ON)
    assert hidden  # or there is nothing to find


def test_what_a_kill_left_of_a_file_is_cleared_when_it_is_written_again(tmp_path, capsys):
    stray, other = tmp_path / ".a.png.0a1b2c3d.partial", tmp_path / ".b.a.png.0a1b2c3d.partial"
    stray.touch()
    other.touch()
    files.write_atomically(tmp_path / "a.png", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "a.png"]
    assert f"cleared {stray}, which a killed command left" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("error", "wants"),
    [
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a primitive descriptor for a convolution"), False),
        (RuntimeError("could not execute a primitive"), True),
        (ValueError("not enough memory cells"), False),
    ],
)
def test_want_of_memory_is_told_from_what_cannot_be_done(error, wants):
    assert files.wants_memory(error) is wants


def test_a_process_that_may_take_little_more_is_short_of_memory():
    code = "import resource; from pathlib import Path; from mdebench import files; print(files.short_of_memory())\n"
    code += "pages = int(Path('/proc/self/statm').read_text().split()[0])\n"
    code += "most = pages * resource.getpagesize() + files.SPARE // 2\n"
    code += "resource.setrlimit(resource.RLIMIT_AS, (most, most)); print(files.short_of_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
