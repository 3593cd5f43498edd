"""Every source reads its official layout, cuts where it says, and names whatever is wrong with an image or a label."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mdebench.data import SOURCES, default_name, open_pack, prepare
from mdebench.data.decode import centre_square, decode
from mdebench.data.pack import ATTRIBUTES, LANDMARKS, Pack, verify_pack
from mdebench.data.store import MAX_BYTES, BadImage, safe_path
from mdebench.errors import UserError

RNG = np.random.default_rng(0)
POINTS = [f"{name}_{axis}" for name in LANDMARKS for axis in "xy"]
EYES = [69, 111, 108, 111, 88, 135, 71, 152, 105, 152]  # a usual CelebA row


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(width: int = 40, height: int = 30, channels: tuple[int, ...] = (3,)) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, *channels), np.uint8)


def counts(pack: Pack) -> dict[str, int]:
    return {kind: entry["count"] for kind, entry in pack.info["report"].items()}


# One image at a time


def test_decoding_cuts_the_box_and_keeps_colours() -> None:
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[:, 15:75] = (10, 200, 90)
    image, box, kinds = decode(encoded(pixels), centre_square, 32)
    assert box == (15, 0, 75, 60) and kinds == set()
    assert image.shape == (3, 32, 32) and image.dtype == np.uint8
    inside = image[:, :, 2:-2]  # at the box's edge the filter reaches beyond it, as it should
    assert (inside == np.array([10, 200, 90])[:, None, None]).all()


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # a plain bicubic sample of every eighth column would be black or white
    image, _, _ = decode(encoded(stripes), centre_square, 32)
    assert abs(image[:, :, 2:-2].astype(int) - 127).max() <= 1


def half_transparent() -> Image.Image:
    return Image.new("RGBA", (20, 20), (0, 0, 0, 0))


GREY16 = np.full((20, 20), 128 * 257, np.uint16)
CONVERTED: dict[str, tuple[bytes, set[str], int]] = {
    "grey": (encoded(np.full((20, 20), 128, np.uint8)), {"grey"}, 128),
    "bilevel": (encoded(Image.new("1", (20, 20), 1)), {"grey"}, 255),
    "16-bit grey": (encoded(GREY16), {"grey", "sixteen_bit"}, 128),
    "16-bit grey tiff": (encoded(GREY16, "TIFF"), {"grey", "sixteen_bit"}, 128),
    "palette": (encoded(Image.new("RGB", (20, 20), (128, 128, 128)).quantize(4)), {"palette"}, 128),
    "cmyk": (encoded(Image.new("CMYK", (20, 20), (0, 0, 0, 127)), "TIFF"), {"cmyk"}, 128),
    "alpha": (encoded(half_transparent()), {"alpha"}, 255),
    "animation": (
        encoded(Image.new("L", (20, 20), 128), "GIF", save_all=True, append_images=[Image.new("L", (20, 20), 7)]),
        {"several_frames", "palette"},
        128,
    ),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_converted_images(name: str) -> None:
    data, expected, value = CONVERTED[name]
    image, _, kinds = decode(data, centre_square, 16)
    assert kinds == expected
    assert abs(image.astype(int) - value).max() <= 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # `prepare` ignores it as well
def test_what_is_noted() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[:10] = 255
    image, _, kinds = decode(encoded(pixels, "JPEG", exif=exif), centre_square, 32)
    assert kinds == {"exif_orientation", "upscaled"}
    assert image[:, :, -10:].min() > 250 and image[:, :, :10].max() < 5  # its upper half is to the right
    broken = encoded(pixels, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert decode(broken, centre_square, 16)[2] == set()


def png_16_bit_rgb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + struct.pack(">H", 40000) * 3 * 20 for _ in range(20))
    header = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_16_bit_colour_is_named() -> None:
    image, _, kinds = decode(png_16_bit_rgb(), centre_square, 16)
    assert kinds == {"sixteen_bit"}
    assert abs(image.astype(int) - 40000 / 257).max() <= 1


JPEG = encoded(noise(64, 64), "JPEG")
LEFT_OUT: dict[str, tuple[bytes, str]] = {
    "zero bytes": (b"", "empty"),
    "text": (b"<html>quota exceeded</html>", "not_an_image"),
    "half a jpeg": (JPEG[: len(JPEG) // 2], "truncated"),
    "half a png": (encoded(noise(64, 64))[:6000], "truncated"),
    "bomb": (encoded(Image.new("1", (20000, 20000))), "too_large"),
    "small bomb": (encoded(Image.new("1", (8001, 8000))), "too_large"),
    "float": (encoded(np.zeros((20, 20), np.float32), "TIFF"), "unsupported_mode"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_images_left_out(name: str) -> None:
    data, kind = LEFT_OUT[name]
    with pytest.raises(BadImage, match=f"^{kind}$"):
        decode(data, centre_square, 16)


def test_a_png_with_a_changed_bit_is_left_out_or_what_it_was() -> None:
    pixels = noise(32, 32)
    good = encoded(pixels)
    for place in RNG.integers(len(good), size=200):
        bad = bytearray(good)
        bad[place] ^= 1 << RNG.integers(8)
        try:
            image, _, kinds = decode(bytes(bad), centre_square, 32)
            assert (image == pixels.transpose(2, 0, 1)).all() and not kinds
        except BadImage:
            pass


def test_any_bytes_decode_or_are_left_out() -> None:
    for good in (JPEG, encoded(noise(64, 64)), encoded(noise(64, 64), "TIFF"), encoded(noise(64, 64), "BMP")):
        for _ in range(50):
            bad = bytearray(good)
            for place in RNG.integers(0, 400, 8):
                bad[place] = RNG.integers(256)
            try:
                image, _, _ = decode(bytes(bad), centre_square, 16)
                assert image.shape == (3, 16, 16)
            except BadImage:
                pass


@pytest.mark.parametrize("path", ["/etc/passwd", "../up.jpg", "a/../../up.jpg", "C:\\a.jpg", "..\\up.jpg", "", "."])
def test_paths_outside(path: str) -> None:
    with pytest.raises(BadImage, match="outside"):
        safe_path(path)


# CelebA


def celeba_image(scale: float = 1.0) -> bytes:
    """Black with a bright blob at each of the points EYES of a 178×218 image, scaled."""
    width, height = round(178 * scale), round(218 * scale)
    y, x = np.mgrid[:height, :width] + 0.5
    points = np.array(EYES).reshape(5, 2) * scale
    blobs = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * (4 * scale) ** 2)) for px, py in points]
    return encoded((255 * np.max(blobs, axis=0)).astype(np.uint8)[..., None].repeat(3, 2), "PNG")


def celeba_root(folder: Path, images: dict[str, bytes], rows: range = range(1, 10)) -> Path:
    """An official layout with label rows for images 000001.jpg … and these images in the zip."""
    names = [f"{i:06d}.jpg" for i in rows]
    folder.mkdir(exist_ok=True)
    attributes = [" ".join(["1" if (i + j) % 2 else "-1" for j in range(40)]) for i in range(len(names))]
    table = [f"{name} {row}" for name, row in zip(names, attributes)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(len(names)), " ".join(ATTRIBUTES), *table]))
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {i % 3}\n" for i, n in enumerate(names)))
    (folder / "identity_CelebA.txt").write_text("".join(f"{n} {100 + i}\n" for i, n in enumerate(names)))
    points = [f"{name} {' '.join(map(str, EYES))}" for name in names[:2]]
    (folder / "list_landmarks_align_celeba.txt").write_text("\n".join(["2", " ".join(POINTS), *points]))
    pseudo = [",".join([name, *map(str, EYES), "0.99"]) for name in names[1:4]]
    header = ",".join(["image_id", *POINTS, "onet_face_prob"])
    (folder / "pseudo_landmarks.csv").write_text("\n".join([header, *pseudo]))
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for name, data in images.items():
            archive.writestr(name if "/" in name else f"img_align_celeba/{name}", data)
    return folder


def plain(count: int) -> dict[str, bytes]:
    return {f"{i:06d}.jpg": encoded(noise(178, 218), "JPEG") for i in range(1, count + 1)}


def made(source: str, root: Path, tmp_path: Path, **options: Any) -> Pack:
    return open_pack(prepare(source, root, 32, tmp_path / "packs", **options))


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_celeba_points_lie_where_the_picture_has_them(tmp_path: Path, scale: float) -> None:
    root = celeba_root(tmp_path / "celeba", {"000001.jpg": celeba_image(scale)})
    pack = open_pack(prepare("celeba", root, 64, tmp_path / "packs"))
    picture = pack.images[0].mean(axis=0)
    for x, y in pack.landmarks[0] * 64:
        top, left = int(y) - 5, int(x) - 5
        window = picture[top : top + 11, left : left + 11]
        ys, xs = np.mgrid[top : top + 11, left : left + 11] + 0.5
        weights = window**2 / (window**2).sum()
        assert (xs * weights).sum() == pytest.approx(x, abs=0.4)
        assert (ys * weights).sum() == pytest.approx(y, abs=0.4)


def test_celeba_crop_by_hand(tmp_path: Path) -> None:
    root = celeba_root(tmp_path / "celeba", plain(1))
    pack = made("celeba", root, tmp_path)
    # A square of side 133.5 centred at (89, 121): from 22.25 and 54.25.
    expected = (np.array(EYES).reshape(5, 2) - [22.25, 54.25]) / 133.5
    np.testing.assert_allclose(pack.landmarks[0], expected, atol=1e-6)
    assert abs(pack.landmarks[0, :2, 0].mean() - 0.5) < 0.01


def test_celeba_labels(tmp_path: Path) -> None:
    root = celeba_root(tmp_path / "celeba", plain(6))
    pack = made("celeba", root, tmp_path)
    assert pack.names == [f"{i:06d}.jpg" for i in range(1, 7)]
    assert pack.split.tolist() == [0, 1, 2, 0, 1, 2] and pack.identity.tolist() == [*range(100, 106)]
    assert pack.attribute_names == ATTRIBUTES
    np.testing.assert_array_equal(pack.attributes, np.add.outer(np.arange(6), np.arange(40)) % 2)
    assert pack.landmark_source.tolist() == [1, 1, 0, 0, 0, 0] and np.isnan(pack.landmarks[2:]).all()
    assert "celeba32: 6 of 9 images (2 train, 2 val, 2 test), 32×32" in pack.footnote() and pack.footnote().endswith(
        "landmarks: 2 annotated"
    )
    assert any("6 of 9 images present" in line for line in pack.summary())
    assert verify_pack(pack.path) == []


def test_celeba_pseudo_landmarks_are_marked(tmp_path: Path) -> None:
    root = celeba_root(tmp_path / "celeba", plain(6))
    pack = made("celeba", root, tmp_path, pseudo_landmarks=True)
    assert pack.landmark_source.tolist() == [1, 1, 2, 2, 0, 0]
    assert pack.footnote().endswith("landmarks: 2 annotated, 2 pseudo")
    assert pack.info["options"] == {"pseudo_landmarks": True}
    assert counts(pack)["no_landmarks"] == 2
    (root / "pseudo_landmarks.csv").unlink()
    with pytest.raises(UserError, match=r"pseudo_landmarks\.csv"):
        made("celeba", root, tmp_path, pseudo_landmarks=True)


def test_celeba_from_folder_and_zip_is_the_same_pack(tmp_path: Path) -> None:
    images = plain(5)
    packed = made("celeba", celeba_root(tmp_path / "zip", images), tmp_path, name="zip")
    backwards = dict(reversed(images.items()))
    other = made("celeba", celeba_root(tmp_path / "backwards", backwards), tmp_path, name="backwards")
    root = celeba_root(tmp_path / "folder", {})
    (root / "img_align_celeba").mkdir()
    for name, data in images.items():
        (root / "img_align_celeba" / name).write_bytes(data)
    loose = made("celeba", root, tmp_path, name="loose")
    assert packed.hash == loose.hash == other.hash


def bad_celeba(tmp_path: Path) -> Path:
    images = plain(9)
    images |= {"000002.jpg": b"", "000003.jpg": b"hello", "000004.jpg": images["000004.jpg"][:3000]}
    images |= {"000005.jpg": encoded(noise(178, 218, ()), "JPEG"), "000006.jpg": encoded(noise(100, 100))}
    images |= {"000007.jpg": encoded(Image.new("CMYK", (178, 218)), "JPEG"), "000099.jpg": images["000001.jpg"]}
    images |= {"../000008.jpg": b"", "/etc/000008.jpg": b"", "again/000009.jpg": b""}
    return celeba_root(tmp_path / "celeba", images)


EXPECTED = {"empty": 1, "not_an_image": 1, "truncated": 1, "grey": 1, "wrong_shape": 1, "cmyk": 1, "unlisted": 1}
EXPECTED |= {"outside": 2, "duplicate": 1}


def test_bad_celeba_images_are_each_named(tmp_path: Path) -> None:
    pack = made("celeba", bad_celeba(tmp_path), tmp_path)
    found = counts(pack)
    assert found.pop("no_landmarks") == 7  # of the nine listed, two have rows
    assert found == EXPECTED
    assert pack.names == [f"{i:06d}.jpg" for i in (1, 5, 7, 8, 9)]
    assert pack.info["report"]["truncated"]["names"] == ["000004.jpg"]
    assert pack.info["report"]["grey"]["outcome"] == "converted"
    assert any("1 left out: zero bytes (000002.jpg)" in line for line in pack.summary())


def test_strict_refuses_and_names_them(tmp_path: Path) -> None:
    root = bad_celeba(tmp_path)
    with pytest.raises(UserError, match=r"strict: .*zero bytes \(000002.jpg\).*CMYK"):
        made("celeba", root, tmp_path, strict=True)
    assert not (tmp_path / "packs" / "celeba32").exists()
    clean = celeba_root(tmp_path / "clean", plain(2))
    assert made("celeba", clean, tmp_path, strict=True).info["report"] == {}


def test_missing_and_broken_label_rows(tmp_path: Path) -> None:
    root = celeba_root(tmp_path / "celeba", plain(6))

    def edit(name: str, change: Callable[[list[str]], list[str]]) -> None:
        (root / name).write_text("\n".join(change((root / name).read_text().splitlines())))

    edit(
        "list_attr_celeba.txt", lambda lines: [*lines[:2], lines[2] + " 1", lines[3].replace("-1", "9", 1), *lines[5:]]
    )
    edit("identity_CelebA.txt", lambda lines: ["000001.jpg x", *lines[2:], lines[3]])
    edit("list_eval_partition.txt", lambda lines: [*lines[:3], "000004.jpg 7", *lines[5:]])
    edit("list_landmarks_align_celeba.txt", lambda lines: [*lines[:3], lines[3].replace("108", "?")])
    pack = made("celeba", root, tmp_path)
    assert pack.names == ["000001.jpg", "000002.jpg", "000003.jpg", "000006.jpg"]
    assert counts(pack) == {
        "unlisted": 1,  # 000005 has no partition row
        "no_split": 1,  # 000004 is in partition 7
        "no_attributes": 2,  # 000001 has 41 values, 000003 no row
        "no_identity": 2,
        "no_landmarks": 2,
        "some_landmarks": 1,  # of 000002 one point has a question mark
        "bad_value": 1,
        "duplicate": 1,
    }
    assert (pack.attributes[1] == -1).sum() == 1 and (pack.attributes[[0, 2]] == -1).all()


@pytest.mark.parametrize("name", ["img_align_celeba.zip", "list_eval_partition.txt", "list_attr_celeba.txt"])
def test_missing_official_files_are_named(tmp_path: Path, name: str) -> None:
    root = celeba_root(tmp_path / "celeba", plain(1))
    (root / name).unlink()
    with pytest.raises(UserError, match=f"{name}.*official CelebA files"):
        made("celeba", root, tmp_path)


def test_celeba_label_files_may_be_web_pages(tmp_path: Path) -> None:
    for name in ("list_eval_partition.txt", "list_attr_celeba.txt", "list_landmarks_align_celeba.txt"):
        root = celeba_root(tmp_path / "celeba", plain(1))
        (root / name).write_text("<html><body>Quota exceeded\nPlease try later</body></html>")
        with pytest.raises(UserError):
            made("celeba", root, tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no zip", None])
def test_a_broken_archive(tmp_path: Path, data: bytes | None) -> None:
    root = celeba_root(tmp_path / "celeba", plain(2))
    archive = root / "img_align_celeba.zip"
    archive.write_bytes(archive.read_bytes()[:-30] if data is None else data)
    with pytest.raises(UserError, match="not a whole archive"):
        made("celeba", root, tmp_path)
    assert not list((tmp_path / "packs").glob(".*.part"))


def test_a_damaged_member_is_unreadable(tmp_path: Path) -> None:
    root = celeba_root(tmp_path / "celeba", plain(2))
    archive = root / "img_align_celeba.zip"
    data = bytearray(archive.read_bytes())
    data[5000] ^= 255
    archive.write_bytes(bytes(data))
    assert counts(made("celeba", root, tmp_path))["unreadable"] == 1


def test_absurdly_large_files(tmp_path: Path) -> None:
    root = celeba_root(tmp_path / "celeba", plain(1))
    (root / "img_align_celeba").mkdir()
    (root / "img_align_celeba" / "000001.jpg").write_bytes(plain(1)["000001.jpg"])
    with (root / "img_align_celeba" / "000002.jpg").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    (root / "img_align_celeba" / "000003.jpg").write_bytes(encoded(Image.new("1", (12000, 12000))))
    assert counts(made("celeba", root, tmp_path))["too_large"] == 2


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    root = celeba_root(tmp_path / "celeba", plain(3))
    made("celeba", root, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)


# Flowers


def flowers_root(folder: Path) -> Path:
    folder.mkdir()
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 2, 102, 4, 5, 6]], np.uint8)})
    savemat(folder / "setid.mat", {"trnid": [[2, 6]], "valid": [[1, 3]], "tstid": [[4, 5]]})
    with tarfile.open(folder / "102flowers.tgz", "w:gz") as archive:
        for i in (3, 1, 2, 4, 5):
            data = encoded(noise(50, 40), "JPEG")
            entry = tarfile.TarInfo(f"jpg/image_{i:05d}.jpg")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("jpg/image_00006.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return folder


def test_flowers(tmp_path: Path) -> None:
    root = flowers_root(tmp_path / "flowers")
    pack = made("flowers", root, tmp_path)
    assert pack.label.tolist() == [0, 1, 101, 3, 4]
    assert pack.split.tolist() == [2, 0, 2, 0, 0]
    assert counts(pack) == {"not_a_file": 1}
    assert pack.footnote().startswith("flowers32: 5 of 6 images")
    with tarfile.open(root / "102flowers.tgz") as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive.getmembers() if m.isfile()}
    (root / "jpg").mkdir()
    for name, data in members.items():
        (root / name).write_bytes(data)
    assert made("flowers", root, tmp_path, name="loose").hash == pack.hash


def test_a_flower_that_is_trained_on_is_not_tested_on(tmp_path: Path) -> None:
    root = flowers_root(tmp_path / "flowers")
    (root / "102flowers.tgz").unlink()
    (root / "jpg").mkdir()
    pictures = [encoded(noise(50, 40), "JPEG") for _ in range(6)]
    pictures[0] = pictures[3]  # 1 is of valid, which is tested on; 4 of tstid, which is trained on
    for i, data in enumerate(pictures, start=1):
        (root / "jpg" / f"image_{i:05d}.jpg").write_bytes(data)
    pack = made("flowers", root, tmp_path)
    assert pack.split.tolist() == [0, 2, 0, 0, 0] and pack.names[0] == "image_00002.jpg"
    assert pack.info["report"]["twin"]["names"] == ["image_00001.jpg of test = image_00004.jpg of train"]


@pytest.mark.parametrize("name", ["setid.mat", "imagelabels.mat", "102flowers.tgz"])
def test_broken_flowers(tmp_path: Path, name: str) -> None:
    root = flowers_root(tmp_path / "flowers")
    (root / name).write_bytes((root / name).read_bytes()[:40])
    with pytest.raises(UserError, match=name):
        made("flowers", root, tmp_path)
    (root / name).unlink()
    with pytest.raises(UserError, match=f"{name}.*Oxford-102"):
        made("flowers", root, tmp_path)


# MNIST


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}i", *values.shape) + values.tobytes()


def mnist_root(folder: Path, digits: np.ndarray) -> Path:
    """The digits as both parts, those of t10k a little lighter."""
    (folder / "raw").mkdir(parents=True)
    for part, lighter in (("train", 0), ("t10k", 1)):
        (folder / "raw" / f"{part}-images-idx3-ubyte").write_bytes(idx(digits + np.uint8(lighter)))
        labels = (np.arange(len(digits)) % 10).astype(np.uint8)
        (folder / "raw" / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return folder


def test_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdebench.data.mnist.TRAIN", 5)
    greys = np.arange(0, 240, 40, np.uint8)
    pack = made("mnist", mnist_root(tmp_path / "mnist", np.repeat(greys, 28 * 28).reshape(6, 28, 28)), tmp_path)
    assert pack.split.tolist() == [0] * 5 + [1] + [2] * 6
    assert pack.label.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert (pack.images == np.concatenate([greys, greys + 1])[:, None, None, None]).all()
    assert pack.names[0] == "train-00000" and pack.names[-1] == "t10k-00005"


def test_a_digit_that_is_trained_on_is_not_tested_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdebench.data.mnist.TRAIN", 5)
    greys = np.array([0, 40, 80, 120, 41, 160], np.uint8)  # of t10k each one more: 41 is in both
    pack = made("mnist", mnist_root(tmp_path / "mnist", np.repeat(greys, 28 * 28).reshape(6, 28, 28)), tmp_path)
    assert pack.names[6:] == [f"t10k-{i:05d}" for i in (0, 2, 3, 4, 5)] and counts(pack) == {"twin": 1}
    assert pack.info["report"]["twin"]["names"] == ["t10k-00001 of test = train-00004 of train"]
    assert pack.footnote().startswith("mnist32: 11 images (5 train, 1 val, 5 test)")


@pytest.mark.parametrize("harm", ["short", "magic", "missing", "fewer labels"])
def test_broken_mnist(tmp_path: Path, harm: str) -> None:
    root = mnist_root(tmp_path / "mnist", np.zeros((3, 28, 28), np.uint8))
    file = root / "raw" / "t10k-images-idx3-ubyte"
    data = file.read_bytes()
    harmed = {
        "short": data[:-1],
        "magic": b"\0\0\x09\x03" + data[4:],
        "fewer labels": idx(np.zeros((2, 28, 28), np.uint8)),
    }
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(harmed[harm])
    with pytest.raises(UserError, match="t10k"):
        made("mnist", root, tmp_path)


# A folder of one's own


def folder_root(folder: Path, table: str, names: tuple[str, ...] = ("a.png", "sub/b.png", "c.png")) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(noise(40, 60)))
    (folder / "labels.csv").write_text(table)
    return folder


TABLE = """path,split,smile,glasses,identity,label,nose_x,nose_y,lefteye_x,lefteye_y,age
a.png,train,1,0,7,cat,20,30,,,33
sub/b.png,valid,0,,9,dog,0,10,40,50,21
c.png,test,NA,1,,,,,,,x
"""


def test_folder(tmp_path: Path) -> None:
    root = folder_root(tmp_path / "mine", TABLE)
    pack = made("folder", root, tmp_path)
    assert pack.name == "mine32" and pack.names == ["a.png", "c.png", "sub/b.png"]
    assert pack.split.tolist() == [0, 2, 1]
    assert pack.attribute_names == ("smile", "glasses")
    assert pack.attributes.tolist() == [[1, 0], [-1, 1], [0, -1]]
    assert pack.identity.tolist() == [7, -1, 9]
    assert pack.label.tolist() == [0, -1, 1] and pack.info["label_names"] == ["cat", "dog"]
    # 40×60: the centred square is rows 10 to 50.
    np.testing.assert_allclose(pack.landmarks[0, 2], [0.5, 0.5])
    np.testing.assert_allclose(pack.landmarks[2, [2, 0]], [[0, 0], [1, 1]])
    assert np.isnan(pack.landmarks[0, 0]).all() and pack.landmark_source.tolist() == [1, 0, 1]
    assert counts(pack) == {"no_identity": 1, "no_label": 1, "no_landmarks": 1, "some_landmarks": 2}
    assert any("not used: age" in note for note in pack.info["notes"])


def test_folder_as_zip_is_the_same_pack(tmp_path: Path) -> None:
    root = folder_root(tmp_path / "mine", TABLE)
    pack = made("folder", root, tmp_path)
    files = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    with zipfile.ZipFile(tmp_path / "inside.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "labels.csv").write_text(TABLE)
    with zipfile.ZipFile(beside / "images.zip", "w") as archive:
        for name, data in files.items():
            if name != "labels.csv":
                archive.writestr(name, data)
    for other in (tmp_path / "inside.zip", beside):
        again = made("folder", other, tmp_path)
        assert again.hash == pack.hash and counts(again) == counts(pack)


def test_folder_without_splits(tmp_path: Path) -> None:
    names = tuple(f"{i}.png" for i in range(300))
    root = folder_root(tmp_path / "mine", "path\n" + "\n".join(names), names)
    pack = made("folder", root, tmp_path)
    shares = [len(pack.indices(split)) / 300 for split in ("train", "val", "test")]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.06)
    split = dict(zip(pack.names, pack.split))
    assert any("hash of the path" in note for note in pack.info["notes"])
    # An image keeps its split when others come or go.
    (root / "labels.csv").write_text("path\n" + "\n".join(names[::3]))
    fewer = made("folder", root, tmp_path, name="fewer")
    assert [split[name] for name in fewer.names] == fewer.split.tolist()
    (root / "labels.csv").write_text(
        "path,split\n" + "\n".join(f"{n},{'test' if i % 4 else 'train'}" for i, n in enumerate(names))
    )
    carved = made("folder", root, tmp_path, name="carved")
    assert len(carved.indices("test")) == 225 and 1 <= len(carved.indices("val")) <= 15


@pytest.mark.parametrize(
    ("table", "order", "clip"),
    [
        (
            "path,clip,frame,split\n{0},b,2,train\n{1},b,10,train\n{2},a,1,train\n{3},,,train",
            [3, 2, 0, 1],
            [-1, 0, 1, 1],
        ),
        ("path,clip\n{0},v\n{1},v\n{2},v\n{3},v", [2, 3, 0, 1], [0] * 4),
        ("path,frame\n{0},9\n{1},8\n{2},7\n{3},6", [3, 2, 1, 0], [0, 0, 1, 1]),
    ],
)
def test_folders_of_frames_are_clips(tmp_path: Path, table: str, order: list[int], clip: list[int]) -> None:
    names = ("v/frame 9.png", "v/frame 10.png", "u/2.png", "u/3.png")
    pack = made("folder", folder_root(tmp_path / "mine", table.format(*names), names), tmp_path)
    assert pack.names == [names[row] for row in order] and verify_pack(pack.path) == []
    assert pack.clip.tolist() == clip
    assert ("no clip column: the frames of a folder are a clip" in pack.info["notes"]) is ("clip" not in table)
    assert all(len(set(pack.split[pack.clip == each])) == 1 for each in set(clip))


def test_a_folder_without_clips_has_none(tmp_path: Path) -> None:
    pack = made("folder", folder_root(tmp_path / "mine", "path\na.png\nsub/b.png\nc.png"), tmp_path)
    assert "clip" not in pack.info["arrays"] and (pack.clip == -1).all()


def test_bad_folder_rows_are_each_named(tmp_path: Path) -> None:
    table = "path,split,nose_x,nose_y,smile\n"
    table += "a.png,train,x,2,1\n../a.png,train,1,1,1\na.png,test,1,1,1\nno.png,train,1,1,1\nc.png,later,1,1,0\n"
    root = folder_root(tmp_path / "mine", table)
    pack = made("folder", root, tmp_path)
    assert counts(pack) == {
        "bad_value": 1,
        "outside": 1,
        "duplicate": 1,
        "missing_file": 1,
        "no_split": 1,
        "unlisted": 1,
        "no_landmarks": 1,
    }
    assert pack.names == ["a.png"] and np.isnan(pack.landmarks[0, 2, 0])


def test_minus_one_means_absent_only_without_zeros(tmp_path: Path) -> None:
    root = folder_root(tmp_path / "mine", "path,smile\na.png,1\nsub/b.png,-1\nc.png,1\n")
    pack = made("folder", root, tmp_path)
    assert pack.attributes[:, 0].tolist() == [1, 1, 0]
    assert "attributes read as 1/-1 (1 yes, -1 no, 0 unknown): smile" in pack.info["notes"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("file,split\na.png,train\n", "column 'path'"),
        ("path,path\na.png,a.png\n", "the column path twice"),
        ("", "column 'path'"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        made("folder", folder_root(tmp_path / "mine", table), tmp_path)


def test_folder_with_two_tables_or_bytes_for_text(tmp_path: Path) -> None:
    root = folder_root(tmp_path / "mine", TABLE)
    (root / "more.csv").write_text("path\n")
    with pytest.raises(UserError, match="2 CSV files"):
        made("folder", root, tmp_path)
    (root / "more.csv").unlink()
    (root / "labels.csv").write_bytes(b"path\n\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        made("folder", root, tmp_path)


def test_strangers_file_names_do_not_garble_the_report(tmp_path: Path) -> None:
    root = folder_root(tmp_path / "mine", "path\na.png\n")
    (root / "evil\x1b[31m\n.png").write_bytes(b"")
    pack = made("folder", root, tmp_path)
    assert any(r"evil\x1b[31m\x0a.png" in line for line in pack.summary())
    json.loads((pack.path / "pack.json").read_text())


# `prepare` itself


@pytest.mark.parametrize("source", [source for source in SOURCES if source != "toyfaces"])
def test_a_source_says_what_it_expects(tmp_path: Path, source: str) -> None:
    for root in (None, tmp_path / "nothing", tmp_path):
        with pytest.raises(UserError, match="need"):
            prepare(source, root, 32, tmp_path / "packs")


def test_unknown_sources_and_options(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no source 'celebs'"):
        prepare("celebs", tmp_path, 32, tmp_path)
    with pytest.raises(UserError, match=r"no option 'count'.*pseudo_landmarks"):
        prepare("celeba", tmp_path, 32, tmp_path, count=3)


def test_toyfaces_hook(tmp_path: Path) -> None:
    pack = open_pack(prepare("toyfaces", None, 32, tmp_path, count=30, seed=1))
    assert pack.name == "toyfaces32" and len(pack.names) == 30
    assert pack.info["options"] == {"count": 30, "seed": 1}
    assert np.isfinite(pack.landmarks).all() and (pack.attributes >= 0).all()
    with pytest.raises(UserError, match="at least 1"):
        prepare("toyfaces", None, 32, tmp_path, count=0)


def test_default_names(tmp_path: Path) -> None:
    assert default_name("celeba", tmp_path, 64) == "celeba64"
    assert default_name("folder", tmp_path / "landmarks5", 64) == "landmarks5-64"
    assert default_name("folder", tmp_path / "my photos!", 64) == "my-photos64"
    assert default_name("folder", tmp_path / "été", 64) == "t64"
