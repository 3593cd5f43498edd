"""A pack is there whole or not at all, says what is in it, and notices when it was touched."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mdebench.data import list_packs, prepare
from mdebench.data.pack import ARRAYS, Pack, open_pack, verify_pack
from mdebench.data.writer import PackWriter, clear_strays, strays
from mdebench.errors import UserError
from mdebench.results.published import made_from

SIZE, COUNT = 16, 12
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (COUNT, 3, SIZE, SIZE), np.uint8)
POINTS = RNG.random((COUNT, 5, 2)).astype(np.float32)
NAMES = [f"{i:02d}.jpg" for i in range(COUNT)]
SPLIT = np.arange(COUNT) % 3


def fill(writer: PackWriter, images: np.ndarray = IMAGES) -> Path:
    writer.attribute_names = ("Smiling", "Young")
    writer.info |= {"source": "test", "crop": "none", "resize": "none", "of": 20}
    for part in (slice(0, 5), slice(5, COUNT)):
        n = len(NAMES[part])
        attributes = np.tile([1, -1], (n, 1))
        sources = np.full(n, 2 if part.start else 1)
        writer.add(
            images[part],
            NAMES[part],
            SPLIT[part],
            attributes=attributes,
            landmarks=POINTS[part],
            landmark_source=sources,
        )
    return writer.finish()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with PackWriter(tmp_path / "test16", SIZE) as writer:
        return fill(writer)


def test_what_goes_in_comes_out(path: Path) -> None:
    pack = open_pack(path)
    assert isinstance(pack.images, np.memmap) and pack.images.dtype == np.uint8
    np.testing.assert_array_equal(pack.images, IMAGES)
    np.testing.assert_array_equal(pack.landmarks, POINTS)
    assert pack.attributes.tolist() == [[1, -1]] * COUNT and pack.attribute_names == ("Smiling", "Young")
    assert (pack.identity == -1).all() and (pack.label == -1).all()
    assert (pack.name, pack.size, pack.names) == ("test16", SIZE, NAMES)
    assert pack.indices("val").tolist() == [1, 4, 7, 10]
    for array in (getattr(pack, name) for name in ARRAYS):
        assert not array.flags.writeable
    assert verify_pack(path) == []
    with pytest.raises(UserError, match="no split 'dev'"):
        pack.indices("dev")


def test_batch_is_a_tensor_of_its_own(path: Path) -> None:
    pack = open_pack(path)
    batch = pack.batch(np.array([7, 0, 7]))
    np.testing.assert_array_equal(batch.numpy(), IMAGES[[7, 0, 7]])
    batch.zero_()
    np.testing.assert_array_equal(pack.images, IMAGES)


def test_a_device_keeps_all_images_where_they_fit_and_gets_batches_where_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On torch's "meta" device, which has no memory: what is there has a shape and no numbers."""
    device, rows = torch.device("meta"), np.array([7, 0, 7])
    for free, moved in ((2 * IMAGES.nbytes, True), (2 * IMAGES.nbytes - 1, False)):
        pack = open_pack(path)
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device, free=free: (free, 10**12))
        first, second = pack.batch(rows, device), pack.batch(rows[:1], device)
        assert first.shape == (3, *IMAGES.shape[1:]) and len(second) == 1 and first.device == device
        whole = pack._on_device[device]
        assert (whole is not None) == moved and (not moved or whole.shape == IMAGES.shape)


def test_footnote(path: Path) -> None:
    pack = open_pack(path)
    assert pack.footnote() == (
        f"test16: 12 of 20 images (4 train, 4 val, 4 test), 16×16, pack {pack.hash[:8]};"
        " landmarks: 5 annotated, 7 pseudo"
    )


def test_a_pack_of_another_name_tells_what_it_was_made_from(tmp_path: Path) -> None:
    """Tables must know whether the data are those that a paper has numbers for."""
    with PackWriter(tmp_path / "mine", SIZE) as writer:
        pack = open_pack(fill(writer))
    assert pack.footnote().startswith("mine (from test): 12 of 20 images")
    assert made_from(pack.footnote(), "test") and not made_from(pack.footnote(), "mine")


PAIRS = ([NAMES[1], NAMES[9], "gone.jpg"], [NAMES[4], NAMES[0], NAMES[0]], np.array([1, 0, 1]), np.array([0, 9, 3]))


def paired(folder: Path) -> Path:
    with PackWriter(folder / "paired16", SIZE) as writer:
        writer.add(IMAGES, NAMES, SPLIT)
        writer.pair(*PAIRS)
        writer.info |= {"source": "test", "crop": "none", "resize": "none"}
        return writer.finish()


def test_pairs_are_of_rows_and_what_lacks_an_image_is_told(tmp_path: Path, path: Path) -> None:
    pack = open_pack(paired(tmp_path))
    assert pack.pairs.tolist() == [[1, 4, 1, 0], [9, 0, 0, 9]] and pack.pairs.dtype == np.int32
    assert pack.info["report"]["pair"]["names"] == ["gone.jpg and 00.jpg"]
    assert "pairs: 2 in 2 folds, 1 of them of one person" in pack.summary()
    assert verify_pack(pack.path) == [] and not pack.pairs.flags.writeable
    assert open_pack(path).pairs.shape == (0, 4) and "pairs" not in open_pack(path).info["arrays"]


def test_pairs_belong_to_the_hash_and_a_pack_without_keeps_its_own(tmp_path: Path) -> None:
    with PackWriter(tmp_path / "plain16", SIZE) as writer:
        writer.add(IMAGES, NAMES, SPLIT)
        writer.pair(["gone.jpg"], [NAMES[0]], np.array([1]), np.array([0]))
        writer.pair([], [], np.array([]), np.array([]))
        writer.info |= {"source": "test", "crop": "none", "resize": "none"}
        plain = open_pack(writer.finish())
    # As packs of before there were pairs had it.
    assert plain.hash == "4715a94e8af6e96d74d6bd585fc7135682f28d346c4ce479969ba72edfd0715e"
    assert open_pack(paired(tmp_path)).hash != plain.hash


@pytest.mark.parametrize("harm", ["short", "flipped", "missing"])
def test_damaged_pairs_are_found_on_opening(tmp_path: Path, harm: str) -> None:
    file = paired(tmp_path) / "pairs.npy"
    whole = file.read_bytes()
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(whole[:-1] if harm == "short" else whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:])
    with pytest.raises(UserError, match=r"pairs\.npy"):
        open_pack(file.parent)
    assert len(verify_pack(file.parent)) == 1


@pytest.mark.parametrize(("same", "fold"), [(2, 0), (-1, 0), (1, 10), (1, -1)])
def test_a_pair_is_of_one_person_or_not_in_one_of_ten_folds(tmp_path: Path, same: int, fold: int) -> None:
    with pytest.raises(ValueError, match="0 to 9"), PackWriter(tmp_path / "test16", SIZE) as writer:
        writer.add(IMAGES, NAMES, SPLIT)
        writer.pair([NAMES[0]], [NAMES[1]], np.array([same]), np.array([fold]))


def test_hash_depends_on_the_content_alone(path: Path, tmp_path: Path) -> None:
    with PackWriter(tmp_path / "elsewhere" / "other", SIZE) as writer:
        other = fill(writer)
    assert open_pack(other).hash == open_pack(path).hash
    changed = IMAGES.copy()
    changed[3, 0, 0, 0] ^= 1
    with PackWriter(tmp_path / "changed", SIZE) as writer:
        assert open_pack(fill(writer, changed)).hash != open_pack(path).hash


@pytest.mark.parametrize("name", [f"{name}.npy" for name in ARRAYS])
@pytest.mark.parametrize("harm", ["short", "long", "empty", "missing", "nonsense"])
def test_damaged_arrays_are_found_on_opening(path: Path, name: str, harm: str) -> None:
    file = path / name
    whole = file.read_bytes()
    harmed = {"short": whole[:-1], "long": whole + b"\0", "empty": b"", "nonsense": b"x" * len(whole)}
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(harmed[harm])
    with pytest.raises(UserError, match="damaged"):
        open_pack(path)
    assert len(verify_pack(path)) == 1


@pytest.mark.parametrize("name", [*(f"{name}.npy" for name in ARRAYS), "names.json"])
def test_a_flipped_bit_is_found_by_verify(path: Path, name: str) -> None:
    file = path / name
    content = bytearray(file.read_bytes())
    content[-8] ^= 1
    file.write_bytes(bytes(content))
    problems = verify_pack(path)
    assert len(problems) == 1 and name in problems[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[1]", "cannot be read"),
        ("{}", "cannot be read"),
        ('{"format": 99}', "format 99"),
    ],
)
def test_garbled_manifests(path: Path, text: str, said: str) -> None:
    (path / "pack.json").write_text(text)
    with pytest.raises(UserError, match=said):
        open_pack(path)


def test_altered_manifest(path: Path) -> None:
    info = json.loads((path / "pack.json").read_text())
    info["arrays"]["label"]["shape"] = [COUNT - 1]
    (path / "pack.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="altered"):
        open_pack(path)


def test_not_a_pack(tmp_path: Path, path: Path) -> None:
    with pytest.raises(UserError, match="no pack at"):
        open_pack(tmp_path / "nothing")
    (tmp_path / "photos").mkdir()
    packs, problems = list_packs(tmp_path)
    assert [pack.name for pack in packs] == ["test16"]
    assert len(problems) == 1 and "photos is not a pack" in problems[0]
    assert list_packs(tmp_path / "nothing") == ([], [])


def visible(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.suffix != ".lock"]


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), PackWriter(tmp_path / "test16", SIZE) as writer:
        writer.add(IMAGES, NAMES, SPLIT)
        raise KeyboardInterrupt
    assert visible(tmp_path) == []


def test_no_images_no_pack(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Not one usable image"), PackWriter(tmp_path / "test16", SIZE) as writer:
        writer.finish()
    assert visible(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "mkdir"])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match="disk is full"), PackWriter(tmp_path / "test16", SIZE) as writer:
        fill(writer)
    assert visible(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from mdebench.data.writer import PackWriter
with PackWriter(Path(sys.argv[1]), 16) as writer:
    writer.add(np.zeros((9, 3, 16, 16), np.uint8), [str(i) for i in range(9)], np.zeros(9))
    if sys.argv[2] == "late":  # everything is written but for the name
        Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        writer.info |= {"crop": "", "resize": ""}
        writer.finish()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_killed_pack_is_no_pack_and_is_cleared_away(tmp_path: Path, when: str) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, str(tmp_path / "test16"), when]
    assert subprocess.run(command, cwd=root, check=False).returncode == -signal.SIGKILL
    assert visible(tmp_path) == [".test16.part"]
    assert list_packs(tmp_path) == ([], [])
    with PackWriter(tmp_path / "test16", SIZE) as writer:
        fill(writer)
    assert visible(tmp_path) == ["test16"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with PackWriter(tmp_path / "test16", SIZE) as writer:
        with pytest.raises(UserError, match="Another process"), PackWriter(tmp_path / "test16", SIZE):
            pass
        with PackWriter(tmp_path / "other16", SIZE) as other:
            fill(other)
        fill(writer)
    assert sorted(visible(tmp_path)) == ["other16", "test16"]


def test_a_pack_of_that_name_is_replaced_only_on_demand(path: Path) -> None:
    def again(images: np.ndarray, replace: bool) -> Pack:
        with PackWriter(path, SIZE, replace) as writer:
            return open_pack(fill(writer, images))

    old = open_pack(path)
    inode = (path / "images.npy").stat().st_ino
    assert again(IMAGES, replace=False).hash == old.hash
    assert (path / "images.npy").stat().st_ino == inode  # the same pack again changes nothing
    with pytest.raises(UserError, match="already there"):
        again(255 - IMAGES, replace=False)
    assert verify_pack(path) == [] and open_pack(path).hash == old.hash
    assert again(255 - IMAGES, replace=True).hash != old.hash
    np.testing.assert_array_equal(old.images, IMAGES)  # whoever had the old one open keeps it
    assert visible(path.parent) == ["test16"]


def test_killed_between_the_two_renames_of_a_replacement(path: Path) -> None:
    path.rename(path.with_name(".test16.old"))
    with pytest.raises(RuntimeError), PackWriter(path, SIZE):
        raise RuntimeError
    assert verify_pack(path) == []


def test_a_strangers_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dear.jpg").write_bytes(b"x")
    for replace in (False, True):
        with pytest.raises(UserError), PackWriter(tmp_path / "photos", SIZE, replace) as writer:
            fill(writer)
    assert (tmp_path / "photos" / "dear.jpg").exists()


@pytest.mark.parametrize("name", ["..", ".hidden", "a b", "-x", "x" * 101])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a pack"):
        PackWriter(tmp_path / name, SIZE)


@pytest.mark.parametrize("size", [0, -1, 7, 1025])
def test_sizes_that_are_none(tmp_path: Path, size: int) -> None:
    with pytest.raises(UserError, match="image size"):
        PackWriter(tmp_path / "test", size)


def test_a_wrong_shape_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="landmarks has shape"), PackWriter(tmp_path / "test16", SIZE) as writer:
        writer.add(IMAGES, NAMES, SPLIT, landmarks=POINTS[:, :4])
    assert visible(tmp_path) == []


def test_opening_a_pack_imports_no_torch(path: Path) -> None:
    code = (
        f"import sys; from mdebench.data import open_pack; open_pack({str(path)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


def test_a_replaced_pack_that_cannot_be_removed_is_told(tmp_path, monkeypatch):
    """As where too few files may be open; the next preparation, or `mdebench prune`, removes it."""
    prepare("toyfaces", None, 16, tmp_path, count=60)
    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr("mdebench.data.writer.shutil.rmtree", lambda path, ignore_errors: None)
        prepare("toyfaces", None, 16, tmp_path, count=60, seed=1, replace=True, tell=said.append)
    old = tmp_path / ".toyfaces16.old"
    assert said == [f"{old}, which was replaced, could not be removed: `mdebench prune` removes it"] and old.exists()
    assert old in strays(tmp_path)
    clear_strays(tmp_path)
    assert not old.exists() and open_pack(tmp_path / "toyfaces16").hash
