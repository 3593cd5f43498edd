"""The official data sets as mirrors and people have them give the pack of the official files, or say what is wrong."""

import codecs
import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mdebench.data import open_pack, prepare
from mdebench.data.faces.celeba import images_of, more_test
from mdebench.data.pack import ATTRIBUTES, LANDMARKS, Pack
from mdebench.errors import UserError

EYES = [69, 111, 108, 111, 88, 135, 71, 152, 105, 152]  # a usual row of CelebA
POINTS = [f"{name}_{axis}" for name in LANDMARKS for axis in "xy"]
COUNT = 6
NAMES = [f"{number:06d}.jpg" for number in range(1, COUNT + 1)]
MARKS = [[1 if (row + column) % 3 else -1 for column in range(40)] for row in range(COUNT)]


def drawn(number: int, kind: str = "JPEG", size: tuple[int, int] = (178, 218)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (40 * number, 200, 10)).save(stream, kind, quality=100)
    return stream.getvalue()


def celeba(root: Path, **lists: list[list[Any]]) -> Path:
    """Official lists, any of whose rows may be given, and six pictures in the official folder."""
    rows = {
        "list_attr_celeba": [[COUNT], ATTRIBUTES, *([name, *row] for name, row in zip(NAMES, MARKS))],
        "list_eval_partition": [[name, row % 3] for row, name in enumerate(NAMES)],
        "identity_CelebA": [[name, 100 + row] for row, name in enumerate(NAMES)],
        "list_landmarks_align_celeba": [[COUNT], POINTS, *([name, *EYES] for name in NAMES)],
    }
    (root / "img_align_celeba").mkdir(parents=True)
    for number, name in enumerate(NAMES, start=1):
        (root / "img_align_celeba" / name).write_bytes(drawn(number))
    for name, table in (rows | lists).items():
        (root / f"{name}.txt").write_text("".join(f"{' '.join(map(str, row))}\n" for row in table))
    return root


def points(**changed: list[float]) -> list[list[Any]]:
    """Rows of landmarks, those of the pictures f1, f2, … changed."""
    return [[COUNT], POINTS, *([name, *changed.get(f"f{i}", EYES)] for i, name in enumerate(NAMES, start=1))]


def made(source: str, root: Path, size: int = 32, **options: Any) -> Pack:
    packs = root.parent / "packs"
    number = len(list(packs.iterdir())) if packs.is_dir() else 0
    return open_pack(prepare(source, root, size, packs, name=f"pack{number}", **options))


def counts(pack: Pack) -> dict[str, int]:
    return {kind: entry["count"] for kind, entry in pack.info["report"].items()}


def notes(pack: Pack) -> str:
    return "\n".join(pack.info["notes"])


@pytest.fixture
def official(tmp_path) -> Pack:
    pack = made("celeba", celeba(tmp_path / "official" / "celeba"))
    assert pack.info["report"] == {} and len(pack.names) == COUNT
    return pack


# CelebA


def test_extra_test_images_are_of_people_who_are_nowhere_else(tmp_path, official):
    """1 to 4 are in train; 100 has a picture in train and one in test, 200 one in train and one in val."""
    split = [0, 0, 0, 0, 0, 2]
    people = [103, 101, 102, 101, 100, 100]
    root = celeba(
        tmp_path / "celeba",
        list_eval_partition=[[name, code] for name, code in zip(NAMES, split)],
        identity_CelebA=[[name, person] for name, person in zip(NAMES, people)],
    )
    plain, pack = made("celeba", root), made("celeba", root, extra_test=2)
    assert pack.split.tolist() == [2, 0, 2, 0, 0, 2]  # 102 and 103, of one picture each, before 101 with two
    assert "3 test, 2 of 2 people moved there from train by --extra-test" in pack.footnote()
    assert pack.info["options"]["extra_test"] == 2 and pack.hash != plain.hash
    assert "extra_test" not in plain.info["options"] and "moved" not in plain.footnote()
    assert plain.split.tolist() == split and (pack.images == plain.images).all()
    assert made("celeba", root, extra_test=3).split.tolist() == [2, 2, 2, 2, 0, 2]  # all of 101
    for few in (0, 5):
        with pytest.raises(UserError, match="4 of 3 people are there, not"):
            made("celeba", root, extra_test=few)
    (root / "identity_CelebA.txt").unlink()
    with pytest.raises(UserError, match=r"identity_CelebA.txt says who"):
        made("celeba", root, extra_test=1)
    packs = prepare("celeba", celeba(tmp_path / "named" / "celeba"), 32, tmp_path / "by_name", extra_test=1)
    assert packs.name == "celeba-extra1-32"


def test_extra_test_leaks_no_identity(rng):
    """Whatever the partition: nobody is in train and test who was not before, and no more people would have fitted."""
    for _ in range(50):
        identity = rng.integers(-1, 30, 200).astype(np.int32)
        split = np.where(rng.random(30) < 0.2, rng.integers(1, 3, 30), 0)[identity].astype(np.uint8)
        split[rng.random(200) < 0.01] = 1
        moved = more_test(split, identity, 40)
        after = split.copy()
        after[moved] = 2
        people = set(identity[moved])
        assert len(moved) >= 40 and (split[moved] == 0).all() and -1 not in people
        assert not people & set(identity[after != 2])
        sizes = [n for person in people if (n := (identity == person).sum())]
        assert len(moved) - max(sizes) < 40
        left = set(identity[after == 0]) - set(identity[split != 0]) - {-1}
        assert all((identity == person).sum() >= max(sizes) for person in left)


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_celeba_lists_with_byte_order_marks_and_any_ends_of_line(tmp_path, official, mark, end):
    root = celeba(tmp_path / "celeba")
    for file in root.glob("*.txt"):
        text = end.join(file.read_text().splitlines()) + end
        file.write_bytes(mark + text.encode("utf-8" if mark == codecs.BOM_UTF8 else "utf-16-le"))
    pack = made("celeba", root)
    assert pack.hash == official.hash and pack.info["report"] == {}
    assert ("list_attr_celeba.txt is UTF-16" in notes(pack)) == (mark == codecs.BOM_UTF16_LE)


@pytest.mark.parametrize("separator", [",", ";", ", "])
@pytest.mark.parametrize("how", ["plain", "quoted", "numbered"])
def test_celeba_lists_as_csv(tmp_path, official, separator, how):
    root = celeba(tmp_path / "celeba")
    header = {"eval_partition": ["partition"], "attr": ATTRIBUTES, "landmarks": POINTS, "identity": ["identity"]}
    for file in sorted(root.glob("*.txt")):
        rows = [line.split() for line in file.read_text().splitlines() if ".jpg" in line]
        columns = next(columns for word, columns in header.items() if word in file.name)
        rows = [["image_id", *columns], *rows]
        if how == "numbered":  # as pandas writes its index
            rows = [["" if number == 0 else str(number - 1), *row] for number, row in enumerate(rows)]
        cell = '"{}"'.format if how == "quoted" else str
        text = "".join(separator.join(map(cell, row)) + "\r\n" for row in rows)
        file.with_suffix(".CSV" if "attr" in file.name else ".csv").write_text(text, newline="")
        file.unlink()
    pack = made("celeba", root)
    assert pack.hash == official.hash and pack.info["report"] == {}


def test_the_official_lists_come_before_csv_files(tmp_path, official):
    root = celeba(tmp_path / "celeba")
    (root / "list_eval_partition.csv").write_text("image_id,partition\n000001.jpg,2\n")
    assert made("celeba", root).hash == official.hash


@pytest.mark.parametrize("layout", ["upper case", "twice", "Img", "zip twice", "tar"])
def test_where_the_pictures_of_celeba_may_lie(tmp_path, official, layout):
    root = celeba(tmp_path / "celeba")
    folder = root / "img_align_celeba"
    if layout == "upper case":
        for file in folder.iterdir():
            file.rename(file.with_suffix(".JPG"))
        folder.rename(root / "IMG_ALIGN_CELEBA")
    elif layout == "twice":
        folder.rename(root / "inner")
        folder.mkdir()
        (root / "inner").rename(folder / "img_align_celeba")
        (folder / ".DS_Store").write_bytes(b"x")
    elif layout == "Img":
        (root / "img").mkdir()
        folder.rename(root / "img" / folder.name)
    else:
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        for file in folder.iterdir():
            file.unlink()
        if layout == "zip twice":
            with zipfile.ZipFile(root / "IMG_align_celeba.Zip", "w", zipfile.ZIP_BZIP2) as archive:
                for name, data in files.items():
                    archive.writestr(f"img_align_celeba/img_align_celeba/{name}", data)
                    archive.writestr(f"__MACOSX/img_align_celeba/._{name}", b"x")
        else:
            with tarfile.open(root / "img_align_celeba.tar", "w") as archive:
                for name, data in files.items():
                    entry = tarfile.TarInfo(name)
                    entry.size = len(data)
                    archive.addfile(entry, io.BytesIO(data))
    pack = made("celeba", root)
    assert pack.hash == official.hash
    assert set(counts(pack)) == ({"litter"} if "twice" in layout else set())
    assert ("6 pictures have another ending than their list says (000001.JPG for 000001.jpg)" in notes(pack)) == (
        layout == "upper case"
    )


@pytest.mark.parametrize("where", ["folder", "zip"])
def test_the_png_edition_of_celeba(tmp_path, official, where):
    root = celeba(tmp_path / "celeba")
    files = {name.replace(".jpg", ".png"): drawn(number, "PNG") for number, name in enumerate(NAMES, start=1)}
    for file in (root / "img_align_celeba").iterdir():
        file.unlink()
    if where == "zip":
        with zipfile.ZipFile(root / "img_align_celeba_png.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(f"img_align_celeba_png/{name}", data)
    else:
        (root / "img_align_celeba").rename(root / "img_align_celeba_png")
        for name, data in files.items():
            (root / "img_align_celeba_png" / name).write_bytes(data)
    pack = made("celeba", root)
    assert pack.names == official.names and pack.info["report"] == {}
    assert abs(pack.images.astype(int) - official.images).max() <= 3
    for label in ("attributes", "identity", "landmarks", "split"):
        np.testing.assert_array_equal(getattr(pack, label), getattr(official, label))
    assert "(000001.png for 000001.jpg), and were taken by the name before it" in notes(pack)


@pytest.mark.parametrize("name", ["img_align_celeba_png.7z.001", "img_align_celeba_png.7z"])
def test_the_seven_zip_archive_of_celeba_is_named(tmp_path, name):
    (tmp_path / "Img").mkdir()
    (tmp_path / "Img" / name).write_bytes(b"7z\xbc\xaf\x27\x1c")
    with pytest.raises(UserError, match=rf"{name} cannot be read here: unpack it with 7-Zip.*img_align_celeba_png/ is"):
        images_of(tmp_path)


def test_what_lies_there_instead_is_said(tmp_path):
    root = celeba(tmp_path / "celeba")
    (root / "list_eval_partition.txt").rename(root / "partition.txt")
    with pytest.raises(UserError, match=r"no list_eval_partition\.txt \(it holds: identity_CelebA\.txt, img_align_cel"):
        made("celeba", root)
    (tmp_path / "archive.zip").write_bytes(b"")
    with pytest.raises(UserError, match="it is a file: unpack it, and give the folder"):
        made("celeba", tmp_path / "archive.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="it is empty"):
        made("celeba", tmp_path / "empty")


def test_a_link_to_the_pictures_of_celeba_is_said(tmp_path, official):
    root = celeba(tmp_path / "celeba")
    (root / "img_align_celeba").rename(tmp_path / "pictures")
    (root / "img_align_celeba").symlink_to(tmp_path / "pictures")
    pack = made("celeba", root)
    assert pack.hash == official.hash
    assert f"img_align_celeba is a link that leads out of {root}, and was read at {tmp_path / 'pictures'}" in notes(
        pack
    )


def test_attributes_of_celeba_are_read_column_by_column(tmp_path, official):
    plain = [[COUNT], ATTRIBUTES]
    rows: list[list[Any]] = [[name, *row] for name, row in zip(NAMES, MARKS)]
    for row in rows:
        row[1] = max(row[1], 0)  # the first attribute as 1 and 0
        row[2] = {1: "True", -1: "False"}[row[2]]
        row[3] = f"{row[3]}.0"
    assert made("celeba", celeba(tmp_path / "a" / "celeba", list_attr_celeba=[*plain, *rows])).hash == official.hash
    for row, cell in zip(rows, ("NA", "?", "nan", "null", "None", "9")):
        row[4] = cell
    pack = made("celeba", celeba(tmp_path / "b" / "celeba", list_attr_celeba=[*plain, *rows]))
    assert (pack.attributes[:, 3] == -1).all() and counts(pack) == {"bad_value": COUNT}
    others = np.arange(40) != 3
    np.testing.assert_array_equal(pack.attributes[:, others], official.attributes[:, others])


def test_minus_one_zero_and_one_in_an_attribute_of_celeba_are_asked_about(tmp_path):
    rows: list[list[Any]] = [[name, *row] for name, row in zip(NAMES, MARKS)]
    for row, value in zip(rows, (1, 0, -1, 1, 0, -1)):
        row[21] = value
    root = celeba(tmp_path / "celeba", list_attr_celeba=[[COUNT], ATTRIBUTES, *rows])
    with pytest.raises(
        UserError, match=r"holds -1 as well as 0 \(Male\).*--attribute-coding 1/0 .* or --attribute-cod"
    ):
        made("celeba", root)
    for coding, expected in (("1/-1", [1, -1, 0, 1, -1, 0]), ("1/0", [1, 0, -1, 1, 0, -1])):
        pack = made("celeba", root, attribute_coding=coding)
        assert pack.attributes[:, 20].tolist() == expected
        assert pack.info["options"] == {"pseudo_landmarks": False, "attribute_coding": coding}
    np.testing.assert_array_equal(pack.attributes[:, 0], [max(row[0], 0) for row in MARKS])
    with pytest.raises(UserError, match="choose --attribute-coding"):
        made("celeba", root, attribute_coding="0/1")


def test_unknown_identities_of_celeba(tmp_path):
    cells = ["-1", "nan", "?", "7.0", "x", "8"]
    root = celeba(tmp_path / "celeba", identity_CelebA=[list(row) for row in zip(NAMES, cells)])
    pack = made("celeba", root)
    assert pack.identity.tolist() == [-1, -1, -1, 7, -1, 8] and counts(pack) == {"no_identity": 4}


def test_landmarks_of_celeba_that_are_no_place(tmp_path, official):
    outside, partly, beyond = [*EYES], [*EYES], [*EYES]
    outside[0:2] = [-5, 100]  # left of the picture
    partly[8:10] = [0, 0]  # no right corner of the mouth
    beyond[4:6] = [10, 60]  # a nose in the picture, left of the crop
    changed = points(f1=[-1] * 10, f2=[0] * 10, f3=outside, f4=partly, f5=beyond)
    pack = made("celeba", celeba(tmp_path / "celeba", list_landmarks_align_celeba=changed))
    known = np.isfinite(pack.landmarks[..., 0])
    assert known.sum(axis=1).tolist() == [0, 0, 4, 4, 5, 5]
    assert not known[2, 0] and not known[3, 4] and pack.landmark_source.tolist() == [0, 0, 1, 1, 1, 1]
    np.testing.assert_allclose(pack.landmarks[4, 2], [(10 - 22.25) / 133.5, (60 - 54.25) / 133.5], atol=1e-6)
    np.testing.assert_array_equal(pack.landmarks[5], official.landmarks[5])
    assert counts(pack) == {"no_landmarks": 2, "no_place": 1, "some_landmarks": 2, "outside_crop": 1}
    with pytest.raises(UserError, match=r"landmarks outside the crop.*000005\.jpg"):
        made("celeba", tmp_path / "celeba", strict=True)


def test_landmarks_of_celeba_as_shares_of_the_picture(tmp_path, official):
    shares = (np.array(EYES).reshape(5, 2) / [178, 218]).ravel().tolist()
    rows = points(**{f"f{number}": shares for number in range(1, COUNT + 1)})
    pack = made("celeba", celeba(tmp_path / "celeba", list_landmarks_align_celeba=rows))
    np.testing.assert_allclose(pack.landmarks, official.landmarks, atol=1e-5)
    assert counts(pack) == {"shares": COUNT}


def test_predicted_landmarks_that_lie_there_are_told(tmp_path, official):
    root = celeba(tmp_path / "celeba", list_landmarks_align_celeba=points(f1=[-1] * 10)[:-2])
    rows = [",".join(["image_id", *POINTS, "score"]), *(",".join([name, *map(str, EYES), "0.9"]) for name in NAMES)]
    (root / "pseudo_landmarks.csv").write_text("\n".join(rows))
    pack = made("celeba", root)
    assert pack.landmark_source.tolist() == [0, 1, 1, 1, 0, 0]
    assert "pseudo_landmarks.csv is there, and not used: --pseudo-landmarks takes its points" in notes(pack)
    assert "for the 3 images without official ones" in notes(pack)
    assert "says that it has 6 rows, and has 4" in notes(pack)
    pack = made("celeba", root, pseudo_landmarks=True)
    assert pack.landmark_source.tolist() == [2, 1, 1, 1, 2, 2] and "not used" not in notes(pack)
    np.testing.assert_array_equal(pack.landmarks, official.landmarks)


# MNIST


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}i", *values.shape) + values.tobytes()


def mnist_files() -> dict[str, bytes]:
    digits = np.repeat(np.arange(0, 240, 40, np.uint8), 28 * 28).reshape(6, 28, 28)
    files = {}
    for part, lighter in (("train", 0), ("t10k", 1)):
        files[f"{part}-images-idx3-ubyte"] = idx(digits + np.uint8(lighter))
        files[f"{part}-labels-idx1-ubyte"] = idx((np.arange(6) % 10).astype(np.uint8))
    return files


def laid(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def dotted(name: str) -> str:
    return name.replace("-idx", ".idx")


MNIST = {
    "dots": lambda files: {dotted(name): data for name, data in files.items()},
    "dots in raw": lambda files: {f"raw/{dotted(name)}": data for name, data in files.items()},
    "dots and gz": lambda files: {f"{dotted(name)}.gz": gzip.compress(data) for name, data in files.items()},
    "upper case": lambda files: {f"{name.upper()}.GZ": gzip.compress(data) for name, data in files.items()},
    "each in a folder": lambda files: {f"{name}/{name}": data for name, data in files.items()},
    "gz by name alone": lambda files: {f"{name}.gz": data for name, data in files.items()},
    "gz without a name": lambda files: {name: gzip.compress(data) for name, data in files.items()},
}


@pytest.mark.parametrize("how", MNIST)
@pytest.mark.parametrize("packing", ["loose", "zip", "zip in a folder", "tgz"])
def test_mnist_as_mirrors_have_it(tmp_path, monkeypatch, how, packing):
    monkeypatch.setattr("mdebench.data.mnist.TRAIN", 5)
    official = made("mnist", laid(tmp_path / "official" / "mnist", mnist_files()))
    root = laid(tmp_path / "mnist", MNIST[how](mnist_files()))
    if packing == "tgz":
        with tarfile.open(tmp_path / "mnist.tgz", "w:gz") as archive:
            archive.add(root, "MNIST")
        root = tmp_path / "mnist.tgz"
    elif packing != "loose":
        (tmp_path / "zips").mkdir()
        with zipfile.ZipFile(tmp_path / "zips" / "archive.ZIP", "w", zipfile.ZIP_LZMA) as archive:
            for path in root.rglob("*"):
                archive.write(path, f"MNIST/{path.relative_to(root)}")
        root = tmp_path / "zips" if packing == "zip in a folder" else tmp_path / "zips" / "archive.ZIP"
    pack = made("mnist", root)
    assert pack.hash == official.hash and pack.info["report"] == {}


BROKEN = {
    "floats": (
        lambda data: b"\0\0\x0d\3" + data[4:],
        "of 32-bit floats in 3 dimensions, where unsigned bytes in 3 bel",
    ),
    "labels": (lambda data: idx(np.zeros(6, np.uint8)), "of unsigned bytes in 1 dimensions, where unsigned bytes in 3"),
    "page": (lambda data: b"<html>", "is no idx file"),
    "nothing": (lambda data: b"", "is no idx file"),
    "cut gz": (lambda data: gzip.compress(data)[:-9], "cannot be read"),
    "more gz": (lambda data: gzip.compress(bytes(20_000)), "far more than MNIST has"),
}


@pytest.mark.parametrize("harm", BROKEN)
@pytest.mark.parametrize("packing", ["loose", "zip"])
def test_what_is_wrong_with_a_file_of_mnist(tmp_path, monkeypatch, harm, packing):
    monkeypatch.setattr("mdebench.data.mnist.MAX_BYTES", 10_000)
    change, said = BROKEN[harm]
    files = mnist_files()
    files["t10k-images-idx3-ubyte"] = change(files["t10k-images-idx3-ubyte"])
    root = laid(tmp_path / "mnist", files)
    if packing == "zip":
        with zipfile.ZipFile(tmp_path / "mnist.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        root = tmp_path / "mnist.zip"
    with pytest.raises(UserError, match=f"{root.name}.*t10k-images-idx3-ubyte .*{said}"):
        made("mnist", root)


def test_mnist_in_a_zip_that_is_encrypted_says_so(tmp_path):
    with zipfile.ZipFile(tmp_path / "mnist.zip", "w") as archive:
        for name, data in mnist_files().items():
            archive.writestr(name, data)
    data = bytearray((tmp_path / "mnist.zip").read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "mnist.zip").write_bytes(bytes(data))
    with pytest.raises(
        UserError, match=r"mnist\.zip: train-images-idx3-ubyte cannot be read: encrypted in the archive"
    ):
        made("mnist", tmp_path / "mnist.zip")


# Flowers


def flowers(root: Path) -> Path:
    (root / "jpg").mkdir(parents=True)
    for number in range(1, 6):
        (root / "jpg" / f"image_{number:05d}.jpg").write_bytes(drawn(number, size=(50, 40)))
    savemat(root / "imagelabels.mat", {"labels": np.array([[1, 2, 102, 4, 5]], np.uint8)})
    savemat(root / "setid.mat", {"trnid": [[2]], "valid": [[1, 3]], "tstid": [[4, 5]]})
    return root


@pytest.mark.parametrize("layout", ["upper case", "102flowers", "102flowers/jpg", "flowers-102", "zip", "TGZ"])
def test_flowers_as_mirrors_have_them(tmp_path, layout):
    official = made("flowers", flowers(tmp_path / "official" / "flowers"))
    root = flowers(tmp_path / "flowers")
    if layout == "upper case":
        for file in [*root.glob("*.mat"), *(root / "jpg").iterdir()]:
            file.rename(file.with_name(file.name.upper()))
        (root / "jpg").rename(root / "JPG")
    elif layout == "102flowers":
        (root / "jpg").rename(root / "102flowers")
    elif layout == "102flowers/jpg":
        (root / "102flowers").mkdir()
        (root / "jpg").rename(root / "102flowers" / "jpg")
    elif layout == "flowers-102":  # torchvision's root is the folder around it
        root.rename(tmp_path / "inner")
        root.mkdir()
        (tmp_path / "inner").rename(root / "flowers-102")
    else:
        if layout == "zip":
            with zipfile.ZipFile(root / "102Flowers.zip", "w") as archive:
                for file in (root / "jpg").iterdir():
                    archive.write(file, f"jpg/{file.name}")
        else:
            with tarfile.open(root / "102flowers.TGZ", "w:gz") as archive:
                archive.add(root / "jpg", "jpg")
        for file in (root / "jpg").iterdir():
            file.unlink()
        (root / "jpg").rmdir()
    pack = made("flowers", root)
    assert pack.hash == official.hash and pack.info["report"] == {}
    assert ("IMAGE_00001.JPG for image_00001.jpg" in notes(pack)) == (layout == "upper case")


def test_a_file_of_matlab_7_3_is_named(tmp_path):
    root = flowers(tmp_path / "flowers")
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + struct.pack("<H", 0x0200) + b"IM"
    (root / "setid.mat").write_bytes(header + bytes(384) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UserError, match=r"setid\.mat is a file of MATLAB 7\.3 \(HDF5\).*save it with -v7"):
        made("flowers", root)
