"""What users' labels say: nothing unknown becomes a class, a person, an "absent" or a place."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mdebench.cli.main import cli
from mdebench.data import prepare
from mdebench.data.labels import (
    ALL,
    OF_TRAIN,
    divided,
    natural,
    read_attributes,
    read_clips,
    read_codes,
    read_points,
    read_splits,
)
from mdebench.data.pack import LANDMARKS, Pack, open_pack
from mdebench.errors import UserError

UNKNOWN = ("", "NA", "nan", "null", "None", "?")


@pytest.mark.parametrize("column", ["label", "identity"])
def test_nothing_unknown_is_a_class_or_a_person(column: str) -> None:
    numbered = read_codes(column, ["3", *UNKNOWN, "-1", "0", "3.0", "-1.0"])
    assert numbered.numbers.tolist() == [3, *[-1] * 7, 0, 3, -1] and numbered.words is None
    worded = read_codes(column, ["dog", *UNKNOWN, "-1", "cat"])
    assert worded.numbers.tolist() == [1, *[-1] * 7, 0] and worded.words == ["cat", "dog"]
    assert numbered.notes == worded.notes == [f"{column}: -1 was taken as unknown"]


def test_minus_one_beside_other_negative_classes_is_a_class() -> None:
    codes = read_codes("label", ["-2", "-1", "0", "1", "10", "2", "NA"])
    assert codes.words == ["-2", "-1", "0", "1", "2", "10"] and codes.numbers.tolist() == [0, 1, 2, 3, 5, 4, -1]


def test_a_number_is_one_class_however_it_is_written() -> None:
    large = ["10000000000", "10000000000.0", "cat", "007", "7", "7,0", "-1"]
    codes = read_codes("identity", large)
    assert codes.words == ["cat", "7", "10000000000"] and codes.numbers.tolist() == [2, 2, 0, 1, 1, 1, -1]
    assert read_codes("identity", ["1,000", "1"]).words == ["1,000", "1"]  # a thousand is not one


def test_minus_one_and_one_alone_are_asked_about() -> None:
    with pytest.raises(UserError, match="two classes, or one class and unknown ones"):
        read_codes("label", ["-1", "1", "", "1"])
    assert read_codes("identity", ["-1", "1"]).numbers.tolist() == [-1, 1]  # no person is number -1


CODES = {
    "1/0": ("1", "0"),
    "1/-1": ("1", "-1"),
    "decimals": ("1.0", "0.0"),
    "signed decimals": ("1.0", "-1.0"),
    "words": ("True", "False"),
    "shouted": ("YES", "no"),
}


@pytest.mark.parametrize("pair", list(itertools.permutations(CODES, 2)))
def test_each_column_is_read_by_its_own_values(pair: tuple[str, str]) -> None:
    truth = [1, 0, -1, 1, 0, 0]
    columns = {name: [{1: CODES[name][0], 0: CODES[name][1], -1: "NA"}[mark] for mark in truth] for name in pair}
    read = read_attributes(columns, 6, None)
    assert read.names == pair and read.marks.T.tolist() == [truth, truth]


def test_a_column_with_minus_one_and_zero_is_asked_about() -> None:
    columns = {"wide": ["1", "0", "-1"], "plain": ["1", "0", "0"], "half": ["0", "-1", "0"]}
    with pytest.raises(UserError, match=r"2 columns \(wide, half\) hold -1 as well as 0.*--attribute-coding 1/0.*1/-1"):
        read_attributes(columns, 3, None)
    assert read_attributes(columns, 3, "1/0").marks.tolist() == [[1, 1, 0], [0, 0, -1], [-1, 0, 0]]
    signed = read_attributes(columns, 3, "1/-1")
    assert signed.marks.tolist() == [[1, 1, -1], [-1, 0, 0], [0, 0, -1]]
    assert signed.notes == ["attributes read as 1/-1 (1 yes, -1 no, 0 unknown): wide, half"]


def test_minus_one_alone_is_read_as_the_columns_beside_it() -> None:
    rare = ["-1", "-1"]
    assert read_attributes({"bald": rare, "male": ["1", "-1"]}, 2, None).marks[:, 0].tolist() == [0, 0]
    assert read_attributes({"bald": rare, "male": ["1", "0"]}, 2, None).marks[:, 0].tolist() == [-1, -1]
    for beside in ({}, {"male": ["1", "-1"], "young": ["1", "0"]}, {"male": ["1", "1"]}):
        with pytest.raises(UserError, match="The column bald holds -1 alone"):
            read_attributes({"bald": rare, **beside}, 2, None)
    assert read_attributes({"hat": ["yes", "no", "-1"]}, 3, None).marks[:, 0].tolist() == [1, 0, -1]


def test_columns_that_say_something_else_are_named() -> None:
    read = read_attributes({"age": ["3", "1"], "empty": ["", "NA"], "hat": ["1", "0"], "odd": ["1", "x"]}, 2, None)
    assert read.names == ("hat",)
    assert read.notes == ["columns that are neither known nor yes and no, and were not used: age, empty, odd"]


def points(rows: list[list[str]]) -> dict[str, list[str]]:
    """Cells of two points: a_x, a_y, b_x, b_y."""
    return dict(zip(("a_x", "a_y", "b_x", "b_y"), map(list, zip(*rows))))


def test_points_that_are_missing() -> None:
    rows = [
        ["-1", "-1", "5", "6"],
        ["0", "0", "7.5", "8"],
        ["3", "-1", "NA", "4"],
        ["2", "3", "", ""],
        ["x", "1", "4", "5"],
    ]
    read = read_points(points(rows), ("a", "b"), 5)
    assert np.isfinite(read.places).all(axis=2).tolist() == [[0, 1], [0, 1], [0, 0], [1, 0], [0, 1]]
    assert not read.shares and read.unreadable.tolist() == [False] * 4 + [True]
    assert read.notes == ["3 landmarks at -1 or 0,0 were taken as missing"]


def test_points_within_zero_and_one() -> None:
    shares = [["0.25", "0.5", "0.75", "1"], ["-1", "-1", "0,5", "0.5"]]
    assert read_points(points(shares), ("a", "b"), 2).shares
    mixed = read_points(points([*shares, ["10", "20", "30", "40"]]), ("a", "b"), 3)
    assert not mixed.shares and mixed.dropped.tolist() == [True, False, False]  # one point may lie in the first pixel
    assert np.isnan(mixed.places[0]).all() and np.isfinite(mixed.places[2]).all()


def test_words_for_partitions() -> None:
    words = ["Train", "training", "dev", "VALID", "validation", "val", "eval", "test", "testing", "later", ""]
    assert read_splits(words).tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 2, 255, 255]


def test_numbers_within_names_are_sorted_as_numbers() -> None:
    names = ["a10", "a2", "a02b", "b", "", "3", "20", "a", "1" * 5000, "a٣"]
    assert sorted(names, key=natural) == ["", "3", "20", "1" * 5000, "a", "a2", "a02b", "a10", "a٣", "b"]


def test_frames_follow_one_another() -> None:
    """Against the table's own sort by (clip, frame), with stills before and a partition that is none left out."""
    clip = ["walk10", "walk2", "", "walk2", "walk10", "walk2", "walk2", "NA", "walk2"]
    frame = ["1", "10", "7", "9,0", "0.5", "", "soon", "", "11"]
    split = np.array([0, 0, 2, 0, 0, 0, 0, 0, 255], np.uint8)
    clips = read_clips(read_codes("clip", clip), frame, [f"{row}.png" for row in range(9)], split)
    assert clips.order.tolist() == [2, 7, 3, 1, 5, 6, 4, 0] and clips.notes == []
    assert clips.numbers.tolist() == [-1, -1, 0, 0, 0, 0, 1, 1]
    assert clips.order[clips.unreadable].tolist() == [6]


def test_a_clip_in_two_partitions_is_one_in_each() -> None:
    split = np.array([2, 0, 2, 0], np.uint8)
    clips = read_clips(read_codes("clip", ["5"] * 4), ["1", "1", "0", "1"], ["a", "b", "c", "d"], split)
    assert clips.order.tolist() == [1, 3, 2, 0] and clips.numbers.tolist() == [0, 0, 1, 1]
    assert [note.split()[0] for note in clips.notes] == ["1", "1"]


def test_groups_stay_whole_and_keep_their_place() -> None:
    groups = [str(i % 97) for i in range(1000)]
    parts = divided(groups, ALL)
    assert len({(group, part) for group, part in zip(groups, parts)}) == 97
    np.testing.assert_allclose(np.bincount(parts) / 1000, [0.8, 0.1, 0.1], atol=0.1)
    assert (divided(groups[:50], ALL)[:50] == parts[:50]).all()
    for count in range(3, 12):  # nothing stays empty as long as there are three
        assert set(divided([str(i) for i in range(count)], ALL)) == {0, 1, 2}
    for name in map(str, range(100)):  # one group alone is train, wherever its hash lies
        assert divided([name, name], OF_TRAIN).tolist() == divided([name, name], ALL).tolist() == [0, 0]


# Whole packs of drawn pictures: a bright dot stands where a landmark is


def drawn(folder: Path, places: list[NDArray[np.float64]], shape: tuple[int, int], **how: object) -> list[str]:
    """Pictures 0.png … with dots of 3 pixels in red at places (k, 2); their names."""
    folder.mkdir()
    names = []
    for i, some in enumerate(places):
        pixels = np.full((*shape, 3), i, np.uint8)
        for x, y in some:
            pixels[round(y - 1.5) : round(y + 1.5), round(x - 1.5) : round(x + 1.5)] = (255, 0, 0)
        names.append(f"{i}.png")
        Image.fromarray(pixels).save(folder / names[-1], **how)
    return names


def red_centres(pack: Pack, row: int, around: NDArray[np.float32]) -> NDArray[np.float64]:
    """Centres of red within 3 pixels of points (k, 2), all relative to the picture."""
    red = pack.images[row, 0].astype(float) - pack.images[row, 1]
    y, x = np.mgrid[: pack.size, : pack.size] + 0.5
    centres = []
    for px, py in around * pack.size:
        near = red * (np.hypot(x - px, y - py) < 4)
        centres.append([(x * near).sum() / near.sum(), (y * near).sum() / near.sum()])
    return np.array(centres) / pack.size


FIVE = np.array([[20, 32], [44, 32], [32, 44], [22, 54], [42, 54]], float)  # of 64 wide, 80 high
HEADER = ",".join(["path", "split", *(f"{name}_{axis}" for name in LANDMARKS for axis in "xy")])


def made(folder: Path, rows: list[str], header: str = HEADER, **options: object) -> Pack:
    (folder / "labels.csv").write_text("\n".join([header, *rows]))
    return open_pack(prepare("folder", folder, 64, folder.parent / "packs", replace=True, **options))


def cells(values: NDArray[np.float64]) -> str:
    return ",".join(f"{value:g}" for value in values.ravel())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_landmarks_lie_in_the_upright_frame_of_every_format(tmp_path: Path, form: str, orientation: int) -> None:
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # to Image.Transpose: what undoes the turn that EXIF asks for
    root = tmp_path / "mine"
    drawn(root, [FIVE], (80, 64))
    stored, exif = Image.open(root / "0.png"), Image.Exif()
    stored = stored.transpose(Image.Transpose(back[orientation])) if orientation > 1 else stored
    exif[0x0112] = orientation
    lossless = {"lossless": True} if form == "WEBP" else {"quality": 98, "subsampling": 0} if form == "JPEG" else {}
    (root / "0.png").unlink()
    stored.save(root / f"0.{form.lower()}", form, exif=exif, **lossless)
    pack = made(root, [f"0.{form.lower()},train,{cells(FIVE)}"])
    np.testing.assert_allclose(pack.landmarks[0], (FIVE - [0, 8]) / 64, atol=1e-6)
    np.testing.assert_allclose(red_centres(pack, 0, pack.landmarks[0]), pack.landmarks[0], atol=0.4 / 64)
    report = pack.info["report"]
    assert ("exif_orientation" in report, "turned_landmarks" in report) == (orientation > 1,) * 2
    if orientation > 1:
        with pytest.raises(UserError, match=r"strict: .*landmarks of a picture that EXIF turns"):
            made(root, [f"0.{form.lower()},train,{cells(FIVE)}"], strict=True)
        made(root, [f"0.{form.lower()},train"], header="path,split", strict=True)  # without landmarks it is clean


def test_only_what_is_known_counts_as_annotated(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    drawn(root, [FIVE] * 4, (80, 64))
    three = FIVE.copy()
    three[3:] = -1
    outside = FIVE.copy()
    outside[0] = [70, 32]
    rows = [f"0.png,train,{cells(FIVE)}", f"1.png,train,{cells(three)}", f"2.png,test,{cells(outside)}"]
    pack = made(root, [*rows, f"3.png,test,{cells(FIVE * 0 - 1)}"])
    assert np.isfinite(pack.landmarks[..., 0]).sum(axis=1).tolist() == [5, 3, 4, 0]
    assert pack.landmark_source.tolist() == [1, 1, 1, 0]
    assert "landmarks: 1 annotated, 2 with only some of the five points" in pack.footnote()
    assert "landmarks: 1 face with all five points" in pack.summary()
    counts = {kind: entry["count"] for kind, entry in pack.info["report"].items() if "land" in kind or "place" in kind}
    assert counts == {"some_landmarks": 2, "no_place": 1, "no_landmarks": 1}
    with pytest.raises(UserError, match=r"only some of the five.*no place in the picture"):
        made(root, rows, strict=True)


def test_points_outside_the_crop_are_kept_and_told(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    drawn(root, [FIVE - [0, 28], FIVE], (160, 64))  # the square in the middle begins at 48
    rows = [f"0.png,train,{cells(FIVE - [0, 28])}", f"1.png,test,{cells(FIVE + np.array([0, 40]))}"]
    pack = made(root, rows)
    np.testing.assert_allclose(pack.landmarks[0], (FIVE - [0, 76]) / 64, atol=1e-6)
    assert pack.info["report"]["outside_crop"]["names"] == ["0.png"]
    assert pack.footnote().endswith("landmarks: 2 annotated, 1 with points outside the crop")
    with pytest.raises(UserError, match=r"strict: .*landmarks outside the crop"):
        made(root, rows, strict=True)


def test_shares_of_the_picture_are_taken_as_that(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    drawn(root, [FIVE], (80, 64))
    pack = made(root, [f"0.png,train,{cells(FIVE / [64, 80])}"])
    np.testing.assert_allclose(pack.landmarks[0], (FIVE - [0, 8]) / 64, atol=1e-6)
    assert pack.info["report"]["shares"]["count"] == 1


def test_nobody_is_in_two_partitions_without_a_split(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    names = drawn(root, [FIVE[:1] + i % 7 for i in range(60)], (80, 64))
    pack = made(root, [f"{name},{i // 3}" for i, name in enumerate(names)], header="path,identity")
    people = {(int(person), int(part)) for person, part in zip(pack.identity, pack.split)}
    assert len(people) == 20 and len({part for _, part in people}) == 3
    assert any("by a hash of the identity, so that nobody is in two of them" in note for note in pack.info["notes"])
    given = made(
        root, [f"{name},{i // 3},{'test' if i % 3 else 'train'}" for i, name in enumerate(names)], "path,identity,split"
    )
    assert "the split column has 20 people in more than one partition" in given.info["notes"]


def test_a_pack_without_test_images_says_so(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    names = drawn(root, [FIVE[:1] + i for i in range(4)], (80, 64))
    pack = made(root, [f"{name},{'dev' if i else 'train'}" for i, name in enumerate(names)], header="path,split")
    assert any(line.startswith("no test images") for line in pack.summary())


def test_the_coding_is_said_on_the_command_line_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "mine"
    names = drawn(root, [FIVE[:1] + i for i in range(3)], (80, 64))
    (root / "labels.csv").write_text("path,hat\n" + "".join(f"{n},{v}\n" for n, v in zip(names, (1, 0, -1))))
    command = ["data", "prepare", "folder", "--root", str(root), "--size", "16", "--home", str(tmp_path)]
    with pytest.raises(UserError, match="--attribute-coding"):
        cli.main(command, standalone_mode=False)
    cli.main([*command, "--attribute-coding", "1/-1"], standalone_mode=False)
    pack = open_pack(tmp_path / "packs" / "mine16")
    assert pack.attributes[:, 0].tolist() == [1, -1, 0] and pack.info["options"] == {"attribute_coding": "1/-1"}
    assert "attributes read as 1/-1 (1 yes, -1 no, 0 unknown): hat" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"choose --attribute-coding 1/0 \(.*or --attribute-coding 1/-1"):
        prepare("folder", root, 16, tmp_path / "packs", attribute_coding="0/1")
