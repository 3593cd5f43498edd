"""Kept features: whatever happens to the file, what is measured is what the encoder gives."""

import subprocess
import sys
import time

import numpy as np
import pytest

from mdebench.errors import UserError
from mdebench.evaluation import features
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.subjects import load_subject
from mdebench.files import Damaged, strays
from mdebench.training import recipes

SHAPE = (6, 5)
CODES = np.arange(30, dtype=np.float32).reshape(SHAPE)


@pytest.fixture
def file(tmp_path):
    """Codes that were kept, in two pieces."""
    path = tmp_path / "features" / "pack-weights.npy"
    assert features.keep(path, [CODES[:4], CODES[4:]], SHAPE) == []
    return path


def test_codes_come_back_and_numpy_reads_them_too(file):
    np.testing.assert_array_equal(features.kept(file, SHAPE), CODES)
    np.testing.assert_array_equal(np.load(file), CODES)


def test_a_flipped_bit_is_never_measured(file):
    data = file.read_bytes()
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 4
        file.write_bytes(damaged)
        with pytest.raises(Damaged, match=r"pack-weights\.npy is damaged .*; it is made again"):
            features.kept(file, SHAPE)
    for cut in range(0, len(data), 7):
        file.write_bytes(data[:cut])
        with pytest.raises(Damaged):
            features.kept(file, SHAPE)
    file.write_bytes(data)
    np.testing.assert_array_equal(features.kept(file, SHAPE), CODES)


def test_it_is_read_through_once_for_each_state_of_the_file(file, monkeypatch):
    reads = []
    regular = features.regular
    monkeypatch.setattr(features, "regular", lambda path: reads.append(path) or regular(path))
    for _ in range(3):
        features.kept(file, SHAPE)
    assert len(reads) == 1
    features.keep(file, [CODES + 1], SHAPE)
    np.testing.assert_array_equal(features.kept(file, SHAPE), CODES + 1)
    assert len(reads) == 2


def test_damaged_and_older_features_are_made_again_and_told(home, pack, console, capsys):
    run = recipes.train_run(home, recipes.make_recipe("pixels", pack, "tiny", 0, {"side": "4"}), pack, console)
    rows = np.arange(20)
    expected = load_subject(run).features(pack, rows)
    (path,) = (run.folder / "features").iterdir()
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[200] ^= 64
    for content, why in ((damaged, "it is not what its checksum says"), (whole[:-64], "it ends without a checksum")):
        path.write_bytes(content)
        capsys.readouterr()
        np.testing.assert_array_equal(load_subject(run).features(pack, rows), expected)
        said = capsys.readouterr().out
        assert "note" in said and f"is damaged ({why}" in said and "it is made again" in said
        assert path.read_bytes() == whole


CHILD = """
import sys, time
from pathlib import Path
import numpy as np
from mdebench.evaluation import features
def pieces():
    yield np.zeros((4, 5), np.float32)
    print("half", flush=True)
    time.sleep(60)
features.keep(Path(sys.argv[1]), pieces(), (6, 5))
"""


def test_what_a_kill_leaves_is_cleared_when_they_are_made_again(tmp_path):
    path = tmp_path / "features" / "pack-weights.npy"
    with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "half\n"
        assert features.keep(path.with_name("other.npy"), [CODES], SHAPE) == []  # what is being written is no stray
        child.kill()
    (left,) = strays(tmp_path)
    assert left.parent == path.parent and not path.exists()
    assert features.keep(path, [CODES], SHAPE) == [left]
    assert sorted(each.name for each in path.parent.iterdir()) == ["other.npy", "pack-weights.npy"]


def test_want_of_memory_while_measuring_is_a_sentence(home, pack, console, monkeypatch):
    from mdebench.evaluation import measuring

    def encode(self, rows, which):
        return np.ones(2**50, np.float32)

    run = recipes.train_run(home, recipes.make_recipe("pixels", pack, "tiny", 0, {"side": "4"}), pack, console)
    monkeypatch.setattr(Subject, "_encode", encode)
    with pytest.raises(
        UserError, match=r"not enough memory for landmarks of toyfaces16-pixels.*GB more were asked for"
    ):
        measuring.measure(home, "landmarks", [run], pack, {"setting": "frozen-probe"}, console)
    assert not strays(home.folder)


def test_verifying_takes_less_than_reading_it_in_python(tmp_path):
    """60 MB, as 15,000 images at 1,000 numbers: well below a second on any machine."""
    path, codes = tmp_path / "large.npy", np.zeros((15_000, 1000), np.float32)
    features.keep(path, [codes], codes.shape)
    begin = time.process_time()
    features.kept(path, codes.shape)
    assert time.process_time() - begin < 1
