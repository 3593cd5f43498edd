"""300-W, WFLW and COFW: small files made after the published formats come back as five points on the cut-out faces."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mdebench.data import open_pack, prepare, workers
from mdebench.data.decode import centre_square
from mdebench.data.faces import marked
from mdebench.data.faces.ibug300w import read_points
from mdebench.data.pack import LANDMARKS, Pack
from mdebench.data.report import Report
from mdebench.data.store import BadImage, open_store
from mdebench.data.workers import decoding
from mdebench.errors import UserError

WIDTH, HEIGHT = 120, 90
RNG = np.random.default_rng(0)
# Where the five points are on a face whose box is the unit square, and the colour that marks each of them.
PLACES = np.array([(0.25, 0.2), (0.75, 0.2), (0.5, 0.5), (0.3, 0.8), (0.7, 0.8)])
COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)])


def face(left: float, top: float, side: float, points: int, five: list[Any]) -> np.ndarray:
    """(points, 2) in pixels from 0: the named ones at `PLACES`, two corners of the box, and others within it."""
    found = RNG.uniform(0.3, 0.7, (points, 2))
    found[0], found[1] = (0, 0), (1, 1)
    for which, place in zip(five, PLACES):
        found[which] = place
    return np.array([left, top]) + side * found


def drawn(*faces: tuple[float, float, float], size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """Grey noise, no two alike, with 5×5 blocks of `COLOURS` around the five points of each face (left, top, side)."""
    pixels = RNG.integers(80, 100, (size[1], size[0], 3), np.uint8)
    for left, top, side in faces:
        for (x, y), colour in zip(np.array([left, top]) + side * PLACES, COLOURS):
            column, row = round(x), round(y)
            pixels[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = colour
    return Image.fromarray(pixels)


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=100, subsampling=0) if path.suffix == ".jpg" else image.save(path)


def made(source: str, root: Path, size: int = 48, **options: Any) -> Pack:
    return open_pack(prepare(source, root, size, root.parent / "packs", **options))


def hits(pack: Pack, row: int) -> bool:
    """Whether each of the five landmarks of an image lies on the pixels of its colour."""
    columns, rows = np.floor(pack.landmarks[row] * pack.size).astype(int).T
    found = pack.images[row][:, rows, columns].T.astype(int)
    return bool((np.abs(found - COLOURS) < 90).all())


def test_the_crop_is_a_square_around_the_points_inside_the_picture():
    crop = marked.around(np.array([[30.0, 40], [50, 50], [40, 60]]))
    assert crop(200, 100) == pytest.approx((40 - 14, 50 - 14, 40 + 14, 50 + 14))  # 1.4 · 20 wide
    assert crop(200, 62) == pytest.approx((26, 34, 54, 62))  # moved up into the picture
    assert crop(200, 20 + 40) == pytest.approx((26, 32, 54, 60))
    left, top, right, bottom = marked.around(np.array([[-10.0, 0], [90, 100]]))(200, 100)
    assert (right - left, bottom - top, left, top) == (100, 100, 0, 0)  # no larger than the picture
    with pytest.raises(BadImage, match="no_face"):
        marked.around(np.array([[-40.0, 10], [-10, 30]]))(200, 100)


def test_faces_of_one_picture_have_crops_of_their_own_from_a_folder_and_a_packed_tar(tmp_path, monkeypatch):
    save(drawn(), tmp_path / "pictures/a.png")
    (tmp_path / "pictures/b.png").write_bytes(b"")
    with tarfile.open(tmp_path / "pictures.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "pictures", "")
    for where, many in ((tmp_path / "pictures", 4000), (tmp_path / "pictures.tar.gz", 1)):
        monkeypatch.setattr(workers, "MANY", many)  # decoded in threads, and in processes
        report = Report()
        store = open_store(where, report)
        members = {"one": store.member("a.png"), "two": store.member("a.png"), "no": store.member("b.png")}
        own = type(store)(store.where, members, store.read, store.hold)
        crops = {"one": centre_square, "two": marked.Around(10, 10, 20, 20), "no": centre_square}
        with decoding(own, list(crops), crops, 8, report, lambda done, total: None) as parts:
            found = list(parts)
        assert np.concatenate([part.rows for part in found]).tolist() == [0, 1]
        boxes = np.concatenate([part.boxes for part in found])
        np.testing.assert_allclose(boxes, [(15, 0, 105, 90), (8, 8, 22, 22)])
        assert report.counts["empty"] == 1


# --- 300-W

EYES = [slice(36, 42), slice(42, 48), 30, 48, 54]


def pts(points: np.ndarray, head: str = "version: 1\nn_points:  68\n") -> str:
    """A .pts file of points that count from 0: the file counts from 1."""
    return head + "{\n" + "".join(f"{x:.6f} {y:.6f}\n" for x, y in points + 1) + "}\n"


def add_300w(root: Path, name: str, place: tuple[float, float, float] = (30, 20, 50), head: str = "") -> None:
    save(drawn(place), root / name)
    text = pts(face(*place, 68, EYES), *([head] if head else []))
    (root / name).with_suffix(".pts").write_text(text)


def test_300w_comes_back_with_its_parts_and_its_five_points(tmp_path):
    root = tmp_path / "root"
    for number in range(12):
        add_300w(root, f"helen/trainset/{10000 + number}_1.jpg", (20 + 2 * number, 15, 50))
    add_300w(root, "lfpw/trainset/image_0001.png")
    add_300w(root, "helen/testset/20000_1.jpg", head="version: 1\t\r\nn_points: 68\t\r\n")
    add_300w(root, "ibug/image_003_1.jpg", (60, 30, 50))
    add_300w(root, "300W/01_Indoor/indoor_001.png", (5, 5, 60))
    pack = made("300w", root)
    assert pack.name == "300w48" and len(pack.images) == 16
    assert all(hits(pack, row) for row in range(16))
    split = dict(zip(pack.names, pack.split))
    assert split["helen/testset/20000_1.jpg"] == split["ibug/image_003_1.jpg"] == 2
    assert split["300W/01_Indoor/indoor_001.png"] == 2
    assert {split[name] for name in pack.names if "trainset" in name} == {0, 1}
    assert "parts: 1 01_indoor, 1 helen/testset, 12 helen/trainset, 1 ibug, 1 lfpw/trainset" in pack.info["notes"]
    assert not pack.info["report"]


def test_an_eye_is_the_mean_of_its_six_points_and_pixels_are_counted_from_0():
    points = RNG.uniform(1, 100, (68, 2))
    np.testing.assert_allclose(read_points(pts(points).encode()), points, atol=1e-5)


def test_faces_of_one_photograph_stay_in_one_partition(tmp_path):
    root = tmp_path / "root"
    for photo in range(30):
        for number in (1, 2):
            add_300w(root, f"afw/{70000 + photo}_{number}.jpg", (10 + photo, 4 + 10 * number, 50))
    pack = made("300w", root, 16)
    parts = {}
    for name, split in zip(pack.names, pack.split):
        parts.setdefault(name.split("_")[0], set()).add(int(split))
    assert all(len(each) == 1 for each in parts.values()) and set.union(*parts.values()) == {0, 1}


def test_the_name_with_a_space_and_the_mirrored_copies_of_300w(tmp_path):
    root = tmp_path / "root"
    for number in range(3):
        add_300w(root, f"afw/{70000 + number}_1.jpg", (10 + 10 * number, 20, 50))
    add_300w(root, "ibug/image_092 _01.jpg")
    (root / "ibug/image_092 _01.pts").rename(root / "ibug/image_092_01.pts")
    add_300w(root, "lfpw/trainset/image_0457_mirror.jpg")
    pack = made("300w", root)
    assert "ibug/image_092 _01.jpg" in pack.names and len(pack.names) == 4
    assert pack.info["report"]["mirrored"]["names"] == ["lfpw/trainset/image_0457_mirror.jpg"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no points between braces"),
        (pts(np.ones((67, 2))), "67 points where it announces 68"),
        (pts(np.ones((51, 2)), "version: 1\nn_points: 51\n"), "51 points and not 68"),
        (pts(np.ones((68, 2))).replace("2.000000 2", "2.0 x"), "no pair of numbers"),
        (pts(np.ones((68, 2))).replace("2.000000 2", "2.0 nan"), "no pair of numbers"),
    ],
)
def test_points_that_cannot_be_read_leave_their_face_out_and_are_told(tmp_path, text, said):
    root = tmp_path / "root"
    for number in range(3):
        add_300w(root, f"afw/{70000 + number}_1.jpg", (10 + 10 * number, 20, 50))
    save(drawn((30, 20, 50)), root / "ibug/image_1.jpg")
    (root / "ibug/image_1.pts").write_text(text)
    save(drawn((30, 20, 50)), root / "ibug/image_2.jpg")  # without points
    save(drawn((30, 20, 50)), root / "more/image_3.jpg")
    (root / "ibug/image_4.pts").write_text(pts(np.ones((68, 2))))
    pack = made("300w", root)
    report = pack.info["report"]
    assert len(pack.names) == 3 and report["bad_points"]["count"] == 2
    assert any(said in name for name in report["bad_points"]["names"])
    assert "ibug/image_2.jpg (no .pts file beside it)" in report["bad_points"]["names"]
    assert report["no_split"]["names"] == ["more/image_3.jpg"]
    assert report["missing_file"]["names"] == ["the picture of ibug/image_4.pts"]
    with pytest.raises(UserError, match="strict: 300w is not clean"):
        made("300w", root, name="other", strict=True)


def test_300w_in_archives_is_to_be_unpacked(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/helen.zip").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds helen.zip: unpack"):
        made("300w", tmp_path / "root")


# --- WFLW

PUPILS = [96, 97, 54, 76, 82]


def line(picture: str, place: tuple[float, float, float], flags: str = "0 0 0 0 0 0") -> str:
    points = " ".join(f"{number:.6f}" for number in face(*place, 98, PUPILS).ravel())
    return f"{points} 10 20 30 40 {flags} {picture}\n"


def wflw(root: Path, train: str, test: str) -> Path:
    folder = root / "WFLW_annotations/list_98pt_rect_attr_train_test"
    folder.mkdir(parents=True)
    (folder / "list_98pt_rect_attr_train.txt").write_text(train)
    (folder / "list_98pt_rect_attr_test.txt").write_text(test)
    return root


def test_wflw_comes_back_face_by_face_with_its_flags(tmp_path):
    places = [(5.0, 5.0, 40.0), (60.0, 30.0, 50.0)]
    names = [f"{number}--Parade/{number}_Parade_{number}.jpg" for number in range(12)]
    train = "".join(line(name, place) for name in names[:10] for place in places)
    test = line(names[10], places[0], "1 0 0 1 0 1") + line(names[11], places[1], "0 1 1 0 1 0")
    root = wflw(tmp_path / "root", train, test)
    for number, name in enumerate(names):
        image = drawn(*places) if number < 10 else drawn(places[number - 10])
        image.putpixel((0, 0), (20 * number, 0, 0))
        save(image, root / "WFLW_images" / name)
    pack = made("wflw", root)
    assert len(pack.images) == 22 and all(hits(pack, row) for row in range(22))
    assert pack.attribute_names == ("Pose", "Expression", "Illumination", "Makeup", "Occlusion", "Blur")
    row = pack.names.index(names[10])
    assert pack.attributes[row].tolist() == [1, 0, 0, 1, 0, 1] and pack.split[row] == 2
    split = dict(zip(pack.names, pack.split))
    assert all(split[name] == split[f"{name}#2"] for name in names[:10])  # faces of a picture stay together
    assert {split[name] for name in names[:10]} == {0, 1}
    assert "22 faces in 12 pictures, each cut out by its points" in pack.info["notes"]


def test_lines_of_wflw_that_are_none_are_told(tmp_path):
    good = [line(f"a{number}.png", (20 + number, 20, 50)) for number in range(4)]
    flags = line("b.png", (20, 10, 50), "0 2 0 0 0 1")
    outside = line("c.png", (-80, 10, 50))
    short = " ".join(good[0].split()[:196]) + " a0.png\n"  # as in list_98pt_test/
    train = "".join(good) + "\n" + short + good[0].replace("10 20 30", "10 x 30") + flags + outside
    root = wflw(tmp_path / "root", train, line("../d.png", (20, 20, 50)) + line("a0.png", (30, 30, 50)))
    for number in range(4):
        save(drawn((20 + number, 20, 50)), root / f"WFLW_images/a{number}.png")
    save(drawn((20, 10, 50)), root / "WFLW_images/b.png")
    save(drawn((20, 11, 50)), root / "WFLW_images/c.png")
    save(drawn((20, 12, 50)), root / "WFLW_images/e.png")
    pack = made("wflw", root)
    report = pack.info["report"]
    assert report["bad_points"]["names"] == [
        "list_98pt_rect_attr_train.txt, line 6",
        "list_98pt_rect_attr_train.txt, line 7",
    ]
    assert report["no_face"]["names"] == ["c.png"] and report["outside"]["names"] == ["../d.png"]
    assert report["unlisted"]["names"] == ["e.png"] and report["bad_value"]["count"] == 1
    assert pack.attributes[pack.names.index("b.png")].tolist() == [0, -1, 0, 0, 0, 1]
    assert "1 pictures have faces in train and in test, as the official lists have it" in pack.info["notes"]
    assert pack.names.count("a0.png") == pack.names.count("a0.png#2") == 1


# --- COFW


def cofw(root: Path) -> Path:
    root.mkdir(parents=True)
    for kind, cells, rows, count in (("train", "IsTr", "phisTr", 12), ("test", "IsT", "phisT", 3)):
        images, values = np.empty((count, 1), object), np.zeros((count, 87))
        for number in range(count):
            place = (10.0 + 2 * number, 10.0 + number, 50.0)
            pixels = np.asarray(drawn(place))
            images[number, 0] = pixels[..., 1] if number == 1 else pixels
            values[number, :58] = (face(*place, 29, [16, 17, 20, 22, 23]) + 1).T.ravel()
        savemat(root / f"COFW_{kind}_color.mat", {cells: images, rows: values}, do_compression=True)
    return root


def test_cofw_comes_back_from_cells_of_colour_and_grey(tmp_path):
    pack = made("cofw", cofw(tmp_path / "root"))
    assert len(pack.images) == 15 and (pack.split == 2).sum() == 3 and (pack.split == 1).any()
    grey = {pack.names.index("train_0002"), pack.names.index("test_0002")}
    assert all(hits(pack, row) for row in range(15) if row not in grey)
    assert pack.info["report"]["grey"]["names"] == ["test_0002", "train_0002"]
    assert np.isfinite(pack.landmarks).all() and pack.landmarks.shape == (15, len(LANDMARKS), 2)


def test_cofw_as_it_is_published_is_to_be_saved_again(tmp_path):
    root = cofw(tmp_path / "root")
    file = root / "COFW_train_color.mat"
    file.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512, b" ") + b"\x89HDF\r\n\x1a\n" + bytes(512))
    with pytest.raises(UserError, match=r"MATLAB 7.3 \(HDF5\).*save it again with -v7"):
        made("cofw", root)
    savemat(file, {"IsTr": np.zeros((2, 2)), "phisTr": np.zeros((2, 86))})
    with pytest.raises(UserError, match=r"damaged or has no 'IsTr' and 'phisTr'"):
        made("cofw", root)
    stream = io.BytesIO()
    cells = np.empty((2, 1), object)
    cells[0, 0] = cells[1, 0] = np.zeros((4, 4, 3), np.uint8)
    savemat(stream, {"IsTr": cells, "phisTr": np.zeros((2, 86))})
    file.write_bytes(stream.getvalue())
    with pytest.raises(UserError, match=r"phisTr has the shape \(2, 86\)"):
        made("cofw", root)
