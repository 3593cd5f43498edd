"""Images with the same pixels: what is tested on was not learned from, and whatever was found is told."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdebench.data import open_pack, prepare
from mdebench.data.pack import Pack, find_twins, image_digests, verify_pack
from mdebench.data.writer import PackWriter
from mdebench.errors import UserError

# name → (partition, number of its picture)
PICTURES = {
    "a.png": ("test", 1),  # in train as well, where it comes later
    "b.png": ("train", 1),
    "c.png": ("train", 1),
    "d.png": ("val", 2),
    "e.png": ("test", 2),  # in val as well
    "f.png": ("val", 3),  # in train as well
    "g.png": ("train", 3),
    "h.png": ("test", 3),  # and once more
    "i.png": ("test", 4),
    "j.png": ("test", 4),
    "k.png": ("test", 5),
}
LEAKS = ("a.png", "e.png", "f.png", "h.png")


def root_of(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for name in names:
        pixels = np.random.default_rng(PICTURES[name][1]).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    rows = [f"{name},{PICTURES[name][0]},{number}" for number, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["path,split,label", *rows]))
    return folder


def made(tmp_path: Path, name: str, names: list[str], **options: bool) -> Pack:
    root = tmp_path / f"root of {name}"
    return open_pack(
        prepare("folder", root if root.exists() else root_of(root, names), 16, tmp_path, name=name, **options)
    )


def told(pack: Pack) -> dict[str, tuple[int, list[str]]]:
    return {kind: (entry["count"], entry["names"]) for kind, entry in pack.info["report"].items()}


def test_what_is_in_an_earlier_partition_is_left_out_and_named(tmp_path: Path) -> None:
    pack = made(tmp_path, "mine16", list(PICTURES))
    stay = [name for name in PICTURES if name not in LEAKS]
    assert pack.names == stay and verify_pack(pack.path) == []
    assert [pack.info["splits"][split] for split in ("train", "val", "test")] == [3, 1, 3]
    assert pack.label.tolist() == [number for number, name in enumerate(PICTURES) if name not in LEAKS]
    assert told(pack) == {
        "twin": (
            4,
            [
                "a.png of test = b.png of train",
                "e.png of test = d.png of val",
                "f.png of val = g.png of train",
                "h.png of test = g.png of train",
            ],
        ),
        "repeated": (2, ["c.png = b.png", "j.png = i.png"]),
    }
    said = "\n".join(pack.summary())
    assert "7 of 11 images" in said and "4 left out: of val or test, with the same pixels as an image of train" in said
    assert set(pack.digests(pack.indices("test"))).isdisjoint(pack.digests(np.flatnonzero(pack.split < 2)))
    # It is the pack that the others make alone, to the bit.
    (tmp_path / "alone").mkdir()
    root = root_of(tmp_path / "alone" / "root", stay)
    labels = (
        (root / "labels.csv").read_text().splitlines()[0],
        *(f"{n},{PICTURES[n][0]},{pack.label[i]}" for i, n in enumerate(stay)),
    )
    (root / "labels.csv").write_text("\n".join(labels))
    assert open_pack(prepare("folder", root, 16, tmp_path, name="alone16")).hash == pack.hash


def test_strict_refuses_to_leave_them_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"strict: folder is not clean: 4 left out: .*a\.png of test = b\.png of train"):
        made(tmp_path, "mine16", list(PICTURES), strict=True)
    assert not (tmp_path / "mine16").exists()


def test_they_are_kept_where_that_is_asked_for_and_every_table_says_so(tmp_path: Path) -> None:
    pack = made(tmp_path, "mine16", list(PICTURES), keep_duplicates=True, strict=True)
    assert pack.names == list(PICTURES) and pack.info["options"] == {"keep_duplicates": True} and pack.keeps_duplicates
    assert told(pack)["kept_twin"][0] == 4 and "twin" not in told(pack)
    assert pack.footnote().endswith("4 images of val or test are also in train or val (--keep-duplicates)")
    # Asked for anew, the same pixels say the same.
    inode = (pack.path / "pack.json").stat().st_ino
    again = made(tmp_path, "mine16", [], keep_duplicates=True)
    assert again.hash == pack.hash and (pack.path / "pack.json").stat().st_ino == inode
    with pytest.raises(UserError, match="holds something else"):
        made(tmp_path, "mine16", [])


def test_a_pack_without_twins_is_what_it_was_and_takes_the_option_up(tmp_path: Path) -> None:
    names = ["b.png", "d.png", "k.png"]
    pack = made(tmp_path, "mine16", names)
    assert not pack.info["report"] and not pack.keeps_duplicates
    with PackWriter(tmp_path / "by_hand", 16) as writer:  # as packs were made before anybody looked for twins
        writer.info |= {"crop": "", "resize": ""}
        writer.add(pack.images, pack.names, pack.split, label=pack.label)
        assert open_pack(writer.finish()).hash == pack.hash
    kept = made(tmp_path, "mine16", names, keep_duplicates=True)
    assert kept.hash == pack.hash and kept.keeps_duplicates and "also in train" not in kept.footnote()


def test_many_images_move_forward_piece_by_piece(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2_600, 3, 8, 8), np.uint8)
    split = rng.integers(0, 3, len(images))
    images[rng.integers(0, len(images), 900)] = images[0]
    split[0] = 0
    leaks = (images == images[0]).all(axis=(1, 2, 3)) & (split > 0)
    names = [f"{i:04d}" for i in range(len(images))]
    with PackWriter(tmp_path / "many8", 8) as writer:
        writer.info |= {"crop": "", "resize": ""}
        for start in range(0, len(images), 100):
            part = slice(start, start + 100)
            writer.add(images[part], names[part], split[part], label=np.arange(len(images))[part])
        writer.part_twins()
        pack = open_pack(writer.finish())
    assert leaks.sum() > 400 and verify_pack(pack.path) == []
    np.testing.assert_array_equal(pack.images, images[~leaks])
    np.testing.assert_array_equal(pack.label, np.flatnonzero(~leaks))
    assert pack.names == [name for name, gone in zip(names, leaks) if not gone]


def test_pairs_lose_those_of_images_left_out_and_follow_the_others(tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (6, 3, 16, 16), np.uint8)
    images[1] = images[4]  # "b" of test = "e" of train
    names, firsts, seconds = list("abcdef"), list("afbc"), list("ebcd")
    with PackWriter(tmp_path / "paired16", 16) as writer:
        writer.add(images, names, np.array([2, 2, 2, 2, 0, 0]))
        writer.pair(firsts, seconds, np.array([1, 0, 1, 0]), np.arange(4))
        writer.part_twins()
        writer.info |= {"source": "test", "crop": "none", "resize": "none"}
        pack = open_pack(writer.finish())
    assert [(pack.names[first], pack.names[second], *rest) for first, second, *rest in pack.pairs.tolist()] == [
        ("a", "e", 1, 0),
        ("c", "d", 0, 3),
    ]
    assert told(pack)["pair"] == (2, ["f and b", "b and c"]) and verify_pack(pack.path) == []


def test_twins_are_those_that_all_pairs_tell(rng: np.random.Generator) -> None:
    for count in (0, 1, 60):
        digests, split = rng.integers(0, 25, count).astype(np.uint64), rng.integers(0, 3, count)
        earliest, leaks, repeats = find_twins(digests, split)
        for row in range(count):
            same = [other for other in range(count) if digests[other] == digests[row]]
            assert earliest[row] == min(same, key=lambda other: (split[other], other))
            assert leaks[row] == any(split[other] < split[row] for other in same)
            assert repeats[row] == (
                not leaks[row] and any(other < row and split[other] == split[row] for other in same)
            )


def test_digests_tell_pixels_apart(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (30, 3, 8, 8), np.uint8)
    images[7] = images[3]
    images[8] = images[3]
    images[8, 2, 7, 7] ^= 1
    digests = image_digests(images)
    assert digests.dtype == np.uint64 and digests[7] == digests[3] and len(np.unique(digests)) == 29
    np.testing.assert_array_equal(image_digests(images[::-1]), digests[::-1])
    np.testing.assert_array_equal(image_digests(np.asfortranarray(images)), digests)  # the pixels, however they lie
