"""Damage is never read as good data: archives are held to their end, packs to every field, labels to their digits."""

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.io import savemat

from mdebench.cli.main import cli
from mdebench.data import contact_sheet, labels, list_packs, open_pack, prepare
from mdebench.data.finding import embedded_size
from mdebench.data.pack import ARRAYS, Pack, digest, verify_pack
from mdebench.data.report import Report
from mdebench.data.store import BadImage, matlab, open_store, read_member
from mdebench.data.tables import number
from mdebench.errors import UserError
from mdebench.files import Damaged

RNG = np.random.default_rng(0)
FILES = {f"{i:02d}.jpg": RNG.bytes(700) for i in range(12)}
PACKINGS = {"": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def tarred(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def everything(path: Path, report: Report | None = None) -> dict[str, bytes | str]:
    """What a store has of an archive: of each member its bytes, or why it has none."""
    store = open_store(path, report or Report())

    def taken(key: str) -> bytes | str:
        try:
            return read_member(store.read, store.member(key))
        except BadImage as verdict:
            return str(verdict)

    found = {key: taken(key) for key in store.members}
    held = store.holding(list(store.members))
    assert {k: read_member(held.read, held.member(k)) for k in found if isinstance(found[k], bytes)} == {
        key: data for key, data in found.items() if isinstance(data, bytes)
    }
    return found


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << int(RNG.integers(8))]) + data[place + 1 :]


def picture(grey: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (grey, 255 - grey, 7)).save(stream, "PNG")
    return stream.getvalue()


# Archives


def test_a_flipped_bit_in_any_header_of_a_tar_is_told(tmp_path):
    whole, path = tarred(FILES), tmp_path / "a.tar"
    path.write_bytes(whole)
    assert everything(path) == FILES
    for member in range(len(FILES)):  # 512 bytes of header, 1024 of data
        path.write_bytes(flipped(whole, 1536 * member + int(RNG.integers(512))))
        with pytest.raises(UserError, match="is not a whole archive"):
            open_store(path, Report())
    path.write_bytes(flipped(whole, 1536 * 5 + 3))
    with pytest.raises(
        UserError, match=r"a\.tar is not a whole archive \(the header at byte 7,680 is damaged: bad chec"
    ):
        open_store(path, Report())


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz"])
def test_a_flipped_bit_in_a_packed_tar_is_told_or_harmless(tmp_path, packing):
    whole, path, told = PACKINGS[packing](tarred(FILES)), tmp_path / f"a.tar.{packing}", 0
    for place in [*RNG.integers(len(whole), size=60), *range(len(whole) - 12, len(whole))]:
        path.write_bytes(flipped(whole, int(place)))
        try:
            assert everything(path) == FILES
        except UserError:
            told += 1
    assert told > 60
    path.write_bytes(whole)
    assert everything(path) == FILES


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_tar_is_read_to_its_end_marker(tmp_path, packing):
    pack, path = PACKINGS[packing], tmp_path / "a.tar"
    whole = tarred(FILES)
    path.write_bytes(pack(whole[: 1536 * 7]))  # cut between two members
    with pytest.raises(UserError, match="ends without the empty blocks that end a tar, so more may be missing"):
        open_store(path, Report())
    path.write_bytes(pack(whole[: 1536 * 7] + bytes(512) + whole[1536 * 7 + 512 :]))  # a header lost
    with pytest.raises(UserError, match="more files follow what marks its end"):
        open_store(path, Report())
    path.write_bytes(pack(whole + b"signature"))
    report = Report()
    assert everything(path, report) == FILES and report.names == {"after_end": ["a.tar"]}


def test_names_that_take_several_headers_and_files_with_holes(tmp_path):
    files = {"é" * 80 + ".jpg": b"1", f"{'d' * 99}/{'e' * 120}.jpg": b"2" * 999}
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        (tmp_path / "a.tar").write_bytes(tarred(files, form))
        assert everything(tmp_path / "a.tar") == files
    header = tarfile.TarInfo("a.jpg")
    header.type, header.size = tarfile.GNUTYPE_SPARSE, 5
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (3, 5)  # five bytes that belong at the third of twelve
    block[483:495] = b"%011o\0" % 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    (tmp_path / "b.tar").write_bytes(bytes(block) + b"whole".ljust(512, b"\0") + bytes(1024))
    assert everything(tmp_path / "b.tar") == {"a.jpg": b"\0\0\0whole\0\0\0\0"}


def test_an_entry_of_a_zip_that_hides_those_after_it_is_told(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    data = bytearray(stream.getvalue())
    entry = data.rindex(b"05.jpg") - 46
    struct.pack_into("<H", data, entry + 32, 60_000)  # the length of its comment
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UserError, match="its directory lists 6 files, and says that they are 12"):
        open_store(tmp_path / "a.zip", Report())


def test_a_flipped_bit_in_the_directory_of_a_zip_gives_no_picture_another_name(tmp_path):
    stream, files = io.BytesIO(), dict(list(FILES.items())[:4])
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    whole, path = stream.getvalue(), tmp_path / "a.zip"
    for place in range(whole.index(b"PK\1\2"), len(whole)):
        path.write_bytes(flipped(whole, place))
        try:
            found = everything(path)
        except UserError:
            continue
        read = {name: data for name, data in found.items() if isinstance(data, bytes)}
        assert read.items() <= files.items()  # the others are missing from it, or unreadable, and told as that


def test_what_a_list_names_and_is_not_there_is_counted(tmp_path):
    root = tmp_path / "flowers"
    (root / "jpg").mkdir(parents=True)
    savemat(root / "imagelabels.mat", {"labels": [[1, 2, 1, 2]]}, do_compression=True)
    savemat(root / "setid.mat", {"trnid": [[1]], "valid": [[2, 4]], "tstid": [[3]]})
    for row in (1, 2, 3):
        (root / "jpg" / f"image_{row:05d}.jpg").write_bytes(picture(row))
    pack = open_pack(prepare("flowers", root, 8, tmp_path))
    assert len(pack.names) == 3 and "3 of 4 listed images present in jpg" in pack.info["notes"]
    mnist = tmp_path / "mnist"
    mnist.mkdir()
    for part in ("train", "t10k"):
        header = bytes([0, 0, 8, 3]) + struct.pack(">3i", 2, 28, 28)
        (mnist / f"{part}-images-idx3-ubyte").write_bytes(header + RNG.bytes(2 * 784))
        (mnist / f"{part}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + struct.pack(">i", 2) + b"\1\2")
    notes = open_pack(prepare("mnist", mnist, 8, tmp_path)).info["notes"]
    assert "2 of 60,000 train images present" in notes and "2 of 10,000 t10k images present" in notes


# Packs


@pytest.fixture
def pack(tmp_path) -> Pack:
    root = tmp_path / "root"
    root.mkdir()
    for i in range(20):
        (root / f"{i:02d}.png").write_bytes(picture(i))
    (root / "list.csv").write_text("path,label,split\n" + "\n".join(f"{i:02d}.png,{i % 3},train" for i in range(20)))
    return open_pack(prepare("folder", root, 8, tmp_path / "packs", name="mine"))


def unsealed(pack: Pack) -> None:
    """The pack as one of before there were checksums of its fields."""
    info = {key: value for key, value in pack.info.items() if key != "checksum"}
    (pack.path / "pack.json").write_text(json.dumps(info))


@pytest.mark.parametrize(
    "field", ["splits", "source", "notes", "report", "options", "crop", "resize", "of", "made_with"]
)
def test_every_field_of_a_pack_is_covered(pack, field):
    info = json.loads((pack.path / "pack.json").read_text())
    value = info[field]
    changed = (
        [*value, "x"] if isinstance(value, list) else {**value, "x": 1} if isinstance(value, dict) else f"{value}x"
    )
    (pack.path / "pack.json").write_text(json.dumps(info | {field: changed}))
    with pytest.raises(Damaged, match=r"pack\.json was altered; prepare the pack again"):
        open_pack(pack.path)
    assert len(verify_pack(pack.path)) == 1


def test_a_pack_of_before_is_read_and_said_to_be_covered_less(pack):
    unsealed(pack)
    assert open_pack(pack.path).hash == pack.hash and verify_pack(pack.path) == []
    said = CliRunner().invoke(cli, ["data", "verify", str(pack.path)]).output
    assert "is whole: 20 images" in said and "source, notes, report and options are not covered" in said
    info = json.loads((pack.path / "pack.json").read_text())
    info["splits"]["train"] -= 1
    (pack.path / "pack.json").write_text(json.dumps(info))
    assert "counts other splits" in verify_pack(pack.path)[0]


@pytest.mark.parametrize("name", [name for name in ARRAYS if name != "images"])
def test_labels_are_held_to_their_digests_on_opening(pack, name):
    file = pack.path / f"{name}.npy"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if len(data) > 128 else data + b"\0")
    with pytest.raises(Damaged, match=rf"{name}\.npy"):
        open_pack(pack.path)


def test_images_are_held_to_theirs_before_they_are_used(pack):
    file = pack.path / "images.npy"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    again = open_pack(pack.path)
    assert again.footnote() == pack.footnote() and again.summary()  # what only lists need not read them
    for use in (lambda: again.batch(np.arange(2)), lambda: again.digests(np.arange(2)), again.hold_images):
        with pytest.raises(
            Damaged, match=r"images\.npy is damaged \(the content is not what its checksum says\); prep"
        ):
            use()
    with pytest.raises(Damaged):
        contact_sheet(again)


def test_images_are_read_once_for_that(pack, monkeypatch):
    read = []
    monkeypatch.setattr("mdebench.data.pack.digest", lambda array: read.append(array.shape) or digest(array))
    pack.batch(np.arange(3))
    open_pack(pack.path).batch(np.arange(3))
    assert read.count(pack.images.shape) == 1
    os.utime(pack.path / "images.npy", (1, 1))  # another content, as far as anybody can tell
    open_pack(pack.path).batch(np.arange(3))
    assert read.count(pack.images.shape) == 2


HEADERS = [
    "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999, 3, 8, 8)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 3, 8, 8)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (20, 3, 8, 8)}",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (20, 3, 8, 8)}",
    "{'descr': [('a', '<f4', (2,))], 'fortran_order': False, 'shape': (20,)}",
    "{'descr': 7, 'fortran_order': False, 'shape': (20, 3, 8, 8)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (20L, 3, 8, 8)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (0x14or 1, 3, 8, 8)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': ((((((((((20",
    "[" * 90,
    "{'descr': '\\x00', 'shape': ()}",
    "\x00\x01",
    "",
]


@pytest.mark.parametrize("name", ["images", "label"])
@pytest.mark.parametrize("header", HEADERS)
def test_a_header_of_any_kind_is_one_sentence_and_hides_no_other_pack(pack, tmp_path, name, header):
    good = open_pack(prepare("toyfaces", None, 16, pack.path.parent, count=10))
    text = header.encode("latin-1").ljust(118)
    file = pack.path / f"{name}.npy"
    file.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", 118) + text + file.read_bytes()[128:])
    packs, problems = list_packs(pack.path.parent)
    assert [each.name for each in packs] == [good.name] and len(problems) == 1 and f"{name}.npy" in problems[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"report": {"kept_twin": 3}},
        {"notes": [3]},
        {"attribute_names": 3},
        {"arrays": []},
        {"source": 4},
        {"of": "all"},
    ],
)
def test_a_manifest_of_before_that_says_odd_things_hides_no_other_pack(pack, changes):
    info = {key: value for key, value in pack.info.items() if key != "checksum"} | changes
    (pack.path / "pack.json").write_text(json.dumps(info))
    packs, problems = list_packs(pack.path.parent)
    assert not packs and len(problems) == 1 and "pack.json" in problems[0]
    (pack.path / "pack.json").write_text("[" * 100_000)
    assert "pack.json" in list_packs(pack.path.parent)[1][0]


def test_one_problem_hides_no_other(pack):
    for name in ("label", "images", "identity"):
        file = pack.path / f"{name}.npy"
        file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    (pack.path / "names.json").write_text("[]")
    problems = verify_pack(pack.path)
    assert [next(n for n in ("label", "images", "identity", "names") if n in said) for said in problems] == [
        *("images", "identity", "label", "names"),
    ]


# Labels


@pytest.mark.parametrize("text", ["٣", "²", "１２", "1_0", "𝟙", "٣.٥", "1e999", "0x10", "1,5e3"])
def test_a_number_is_written_in_the_digits_0_to_9(text):
    assert number(text) != number(text)
    codes = labels.read_codes("label", [text, "3"])
    assert codes.words is not None and text in codes.words


def test_a_cell_that_makes_words_of_numbers_is_told():
    codes = labels.read_codes("label", ["0", "1", "2", "x1"])
    assert codes.notes == ["label: read as 4 words, numbered in sorted order, since 'x1' is no whole number"]
    assert labels.read_codes("label", ["cat", "dog"]).notes == labels.read_codes("label", ["0", "1"]).notes == []


def test_a_pack_is_not_named_in_other_digits():
    assert embedded_size("toyfaces64") == 64
    for name in ("toyfaces²", "toyfaces٣٢", "toyfaces064", "toyfaces", "toyfaces" + "9" * 5000):
        assert embedded_size(name) is None


@pytest.mark.parametrize("size", ["٣٢", "3_2", "²"])
def test_sizes_are_written_in_the_digits_0_to_9(tmp_path, size):
    told = CliRunner().invoke(cli, ["data", "prepare", "toyfaces", "--size", size, "--home", str(tmp_path)])
    assert told.exit_code == 2 and "is not a whole number in the digits 0 to 9" in told.output


@pytest.mark.parametrize("value", ["1e300", "-1e300", "1e39"])
def test_a_landmark_that_is_no_place_is_unknown_and_told(tmp_path, value):
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.png").write_bytes(picture(1))
    (root / "b.png").write_bytes(picture(2))
    (root / "list.csv").write_text(f"path,nose_x,nose_y\na.png,{value},3\nb.png,4,5\n")
    pack = open_pack(prepare("folder", root, 8, tmp_path))
    assert np.isnan(pack.landmarks[0]).all() and pack.landmark_source.tolist() == [0, 1]
    assert pack.info["report"]["no_place"]["names"] == ["a.png"]


# MATLAB


def _killed(data: bytes, names: list[str]) -> dict[str, np.ndarray]:
    os.kill(os.getpid(), 11)
    return {}


def _slow(data: bytes, names: list[str]) -> dict[str, np.ndarray]:
    time.sleep(60)
    return {}


def _greedy(data: bytes, names: list[str]) -> dict[str, np.ndarray]:
    matlab._bound_memory()
    return {"labels": np.zeros(2**31, np.int64)}


@pytest.mark.parametrize(
    ("reader", "said"), [(_killed, "crashed the"), (_slow, "in 2 seconds"), (_greedy, "is damaged")]
)
def test_a_reader_that_dies_is_one_sentence(tmp_path, monkeypatch, reader, said):
    savemat(tmp_path / "a.mat", {"labels": [[1, 2]]})
    assert matlab.read_matrices({tmp_path / "a.mat": ["labels"]})["labels"].tolist() == [1, 2]
    monkeypatch.setattr(matlab, "_read", reader)
    monkeypatch.setattr(matlab, "SECONDS", 2)
    with pytest.raises(UserError, match=rf"a\.mat .*{said}.*fetch it again"):
        matlab.read_matrices({tmp_path / "a.mat": ["labels"]})


def test_a_matlab_file_is_held_to_its_checksum(tmp_path):
    savemat(tmp_path / "a.mat", {"labels": np.arange(900)}, do_compression=True)
    data = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match="is damaged or has no 'labels'"):
        matlab.read_matrices({tmp_path / "a.mat": ["labels"]})
    for values in ([1.5, 2], [1, np.nan], [1e300, 1]):
        savemat(tmp_path / "b.mat", {"labels": values})
        with pytest.raises(UserError, match="is damaged or has no"):
            matlab.read_matrices({tmp_path / "b.mat": ["labels"]})
