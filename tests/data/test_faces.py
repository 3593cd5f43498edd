"""LFW, UTKFace, CelebA-HQ, CelebAMask-HQ and FFHQ are read as they are published, on small files made after that: what
a pack holds is compared with what the files were made from, and each oddity of real releases has its own test.
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mdebench.cli.main import cli
from mdebench.data import SOURCES, open_pack, prepare
from mdebench.data.faces.celebamask_hq import PARTS
from mdebench.data.faces.lfw import crop, read_pairs
from mdebench.data.faces.utkface import read_name
from mdebench.data.pack import ATTRIBUTES, Pack, verify_pack
from mdebench.errors import UserError

RNG = np.random.default_rng(0)


def picture(side: int = 40, height: int | None = None, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (height or side, side, 3), np.uint8)).save(stream, kind)
    return stream.getvalue()


def put(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def made(source: str, root: Path, **options: Any) -> Pack:
    pack = open_pack(prepare(source, root, 16, root.parent / f"packs-{root.name}", replace=True, **options))
    assert verify_pack(pack.path) == []
    return pack


def counts(pack: Pack) -> dict[str, int]:
    return {kind: entry["count"] for kind, entry in pack.info["report"].items()}


def noted(pack: Pack, words: str) -> bool:
    return any(words in note for note in pack.info["notes"])


# LFW

# Two people with three pictures, eight with one; "Al-Tikriti" and "B._J." are as odd as real names get.
PEOPLE = {"Abid_Hamid_Mahmud_Al-Tikriti": 3, "George_W_Bush": 3, "B._J._Habibie": 1}
PEOPLE |= {f"Person_{letter}": 1 for letter in "ABCDEFG"}


def lfw_pictures(end: str = ".jpg") -> dict[str, bytes]:
    kind = "JPEG" if end == ".jpg" else "PNG"
    return {
        f"{name}/{name}_{number:04d}{end}": picture(250, kind=kind)
        for name, count in PEOPLE.items()
        for number in range(1, count + 1)
    }


def pairs_file(folds: int = 10, tab: str = "\t", head: str | None = None) -> str:
    """Of each fold two pairs of one person and two of two people; nobody of Person_C to G is in any."""
    one = ["Abid_Hamid_Mahmud_Al-Tikriti\t1\t3", "George_W_Bush\t2\t3"]
    two = ["George_W_Bush\t1\tPerson_A\t1", "B._J._Habibie\t1\tPerson_B\t1"]
    first = [f"{folds}\t2" if head is None else head]
    return "\n".join([*filter(None, first), *(line for _ in range(folds) for line in one + two), ""]).replace("\t", tab)


def lfw_root(root: Path, folder: str = "lfw", lists: str | None = None, end: str = ".jpg") -> Path:
    pictures = {f"{folder}/{name}": data for name, data in lfw_pictures(end).items()}
    return put(root, {**pictures, "pairs.txt": pairs_file() if lists is None else lists})


def named_pairs(pack: Pack) -> list[tuple[str, str, int, int]]:
    return [(pack.names[a], pack.names[b], same, fold) for a, b, same, fold in pack.pairs.tolist()]


def test_lfw_pairs_people_and_partitions(tmp_path: Path) -> None:
    pack = made("lfw", lfw_root(tmp_path / "lfw"))
    of_fold = [
        ("Abid_Hamid_Mahmud_Al-Tikriti_0001.jpg", "Abid_Hamid_Mahmud_Al-Tikriti_0003.jpg", 1),
        ("George_W_Bush_0002.jpg", "George_W_Bush_0003.jpg", 1),
        ("George_W_Bush_0001.jpg", "Person_A_0001.jpg", 0),
        ("B._J._Habibie_0001.jpg", "Person_B_0001.jpg", 0),
    ]
    assert named_pairs(pack) == [(*pair, fold) for fold in range(10) for pair in of_fold]
    people = pack.info["identity_names"]
    assert len(pack.names) == 14 and counts(pack) == {}
    assert [people[code] for code in pack.identity] == [name.rpartition("_")[0] for name in pack.names]
    test = {name.rpartition("_")[0] for name in np.array(pack.names)[pack.indices("test")]}
    assert test == set(PEOPLE) - {f"Person_{letter}" for letter in "CDEFG"}
    assert len(pack.indices("train")) == 4 and len(pack.indices("val")) == 1  # somebody must be in val


def test_lfw_copies_are_the_same_pack(tmp_path: Path) -> None:
    """Spaces for tabs, a CSV with a header in place of counts, doubled folders, and an archive."""
    root = lfw_root(tmp_path / "lfw")
    pack = made("lfw", root)
    files = {f"{name}": (root / "lfw" / name).read_bytes() for name in lfw_pictures()}
    spaces = put(tmp_path / "spaces", {f"lfw-deepfunneled/lfw-deepfunneled/{n}": d for n, d in files.items()})
    put(spaces, {"pairs.txt": pairs_file(tab=" ")})
    table = "".join(
        (line + ",," if line.count("\t") == 2 else line).replace("\t", ",") + "\n"
        for line in pairs_file(head="").splitlines()
    )
    kaggle = put(tmp_path / "kaggle", {"pairs.csv": f"name,imagenum1,imagenum2,\n{table}"})
    with tarfile.open(kaggle / "lfw-funneled.tgz", "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"lfw_funneled/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    bare = put(tmp_path / "bare", {**files, "pairs.txt": pairs_file()})
    assert {made("lfw", other).hash for other in (spaces, kaggle, bare)} == {pack.hash}


def test_lfw_pictures_are_found_by_their_number_not_by_their_place(tmp_path: Path) -> None:
    root = lfw_root(tmp_path / "lfw")
    gone = "George_W_Bush/George_W_Bush_0001.jpg"
    (root / "lfw" / gone).unlink()
    pack = made("lfw", root)
    assert ("George_W_Bush_0002.jpg", "George_W_Bush_0003.jpg", 1, 0) in named_pairs(pack)
    assert len(pack.pairs) == 30 and counts(pack) == {"pair": 10}


def test_lfw_as_other_tools_align_it(tmp_path: Path) -> None:
    root = put(tmp_path / "lfw", {"pairs.txt": pairs_file()})
    for name in lfw_pictures():
        put(root / "lfw", {name.replace(".jpg", "_0.png"): picture(160)})
    put(root / "lfw", {"George_W_Bush/George_W_Bush_0001_1.png": picture(160), "George_W_Bush/boxes.txt": "1"})
    pack = made("lfw", root)
    assert len(pack.pairs) == 40 and counts(pack) == {"duplicate": 1}
    assert noted(pack, "14 pictures are not of 250×250")


def test_lfw_development_pairs(tmp_path: Path) -> None:
    root = lfw_root(tmp_path / "lfw")
    put(root, {"pairsDevTrain.txt": "1\nGeorge_W_Bush\t1\t2\nPerson_A\t1\tPerson_B\t1\n"})
    put(root, {"pairsDevTest.txt": "1\nAbid_Hamid_Mahmud_Al-Tikriti\t1\t2\nPerson_C\t1\tPerson_D\t1\n"})
    pack = made("lfw", root, view=1)
    assert pack.pairs[:, 2:].tolist() == [[1, 0], [0, 0], [1, 1], [0, 1]]
    test = {name.rpartition("_")[0] for name in np.array(pack.names)[pack.indices("test")]}
    assert test == {"Abid_Hamid_Mahmud_Al-Tikriti", "George_W_Bush", *(f"Person_{letter}" for letter in "ABCD")}
    assert pack.info["options"] == {"view": 1}


def test_lfw_crop() -> None:
    assert crop(250, 250) == (50, 50, 200, 200)
    assert crop(112, 96) == (8, 0, 104, 96)


def test_lfw_lists_that_are_none(tmp_path: Path) -> None:
    notes: list[str] = []
    shuffled = put(tmp_path, {"pairs.txt": "A\t1\t2\nA\t1\tB\t1\n" * 11}) / "pairs.txt"
    with pytest.raises(UserError, match="11 runs of pairs"):
        read_pairs(shuffled, 0, notes)
    shuffled.write_text("2\t1\nA\t1\t2\nA\t1\tB\tone\n")
    with pytest.raises(UserError, match=r"line 3 is no pair"):
        read_pairs(shuffled, 0, notes)
    shuffled.write_text("10\t300\nA\t1\t2\nA\t1\tB\t1\n")
    assert [pair.fold for pair in read_pairs(shuffled, 0, notes)] == [0, 0]
    assert notes == ["pairs.txt says that it has 10 × 300 pairs of each kind, and has 2 in 1 folds: fetch it again"]
    with pytest.raises(UserError, match="views 1 and 2"):
        made("lfw", lfw_root(tmp_path / "lfw"), view=3)


# UTKFace


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("26_1_4_20170103213057382.jpg.chip.jpg", (26, 0, 4, True)),
        ("100_0_2_20170112213500903.jpg", (100, 1, 2, True)),
        ("24_0_1_20170116220224657 .jpg", (24, 1, 1, True)),
        ("61_1_20170109142408075.jpg.chip.jpg", (61, -1, -1, False)),  # sex or race? nobody can say
        ("53__0_20170116184028385.jpg", (53, -1, 0, False)),
        ("39_2_0_20170116174525125.jpg", (39, -1, 0, False)),
        ("117_0_0_20170116174525125.jpg", (None, 1, 0, False)),
    ],
)
def test_utkface_names(name: str, said: tuple[float | None, int, int, bool]) -> None:
    found = read_name(name)
    assert found is not None
    age = None if np.isnan(found.age) else found.age
    assert (age, found.male, found.race, found.whole) == said


def test_utkface(tmp_path: Path) -> None:
    names = [f"{i}_{i % 2}_{i % 5}_201701{i:02d}213057382.jpg.chip.jpg" for i in range(1, 41)]
    odd = ["61_1_20170109142408075.jpg.chip.jpg", "face.jpg", "ReadMe.txt"]
    root = put(tmp_path / "utk", {f"UTKFace/{name}": picture(kind="JPEG") for name in [*names, *odd[:2]]})
    put(root, {f"UTKFace/{odd[2]}": "read me"})
    pack = made("utkface", root)
    assert sorted(pack.names) == sorted([*names, odd[0]])
    assert counts(pack) == {"odd_name": 1, "bad_name": 1} and pack.info["report"]["bad_name"]["names"] == [odd[0]]
    assert pack.attribute_names == ("Male",) and pack.info["label_names"][2] == "Asian"
    for name, age, male, race in zip(pack.names, pack.age, pack.attributes[:, 0], pack.label):
        if name in names:
            assert [age, 1 - male, race] == [int(cell) for cell in name.split("_")[:3]]
        else:
            assert [age, male, race] == [61, -1, -1]
    assert all(len(pack.indices(split)) for split in ("train", "val", "test"))
    with zipfile.ZipFile(tmp_path / "UTKFace.zip", "w") as archive:
        for path in (root / "UTKFace").iterdir():
            archive.write(path, f"UTKFace/{path.name}")
    assert made("utkface", tmp_path / "UTKFace.zip").hash == pack.hash


def test_utkface_pictures_of_one_time_stay_together(tmp_path: Path) -> None:
    """Real names give one time two ages; whoever has trained on the one must not be tested on the other."""
    times = [f"2017011{i:02d}84028385" for i in range(60)]
    root = put(tmp_path / "utk", {f"{age}_1_0_{time}.jpg": picture() for time in times for age in (53, 62)})
    pack = made("utkface", root)
    of_time: dict[str, set[int]] = {}
    for name, split in zip(pack.names, pack.split.tolist()):
        of_time.setdefault(name.split("_")[3], set()).add(split)
    assert len(of_time) == 60 and all(len(each) == 1 for each in of_time.values())


def test_utkface_uncut_pictures_are_told(tmp_path: Path) -> None:
    root = put(
        tmp_path / "utk", {"26_1_4_20170103213057382.jpg": picture(60, 40), "5_1_4_20170103213057999.jpg": picture()}
    )
    assert noted(made("utkface", root), "1 pictures are no squares")


# CelebA-HQ and CelebAMask-HQ

ORIGINALS = {0: 119614, 1: 99095, 2: 200122, 3: 162770, 4: 162771, 5: 182637, 6: 182638, 7: 615}
OFFICIAL = [0, 0, 2, 0, 1, 1, 2, 0]  # the partition of each, by list_eval_partition.txt


def mapping(checksums: bool = False) -> str:
    """As published: the second column counts CelebA's pictures from 0, so it is one less than the name."""
    more = "  " + "0" * 32 + "  " + "f" * 32 if checksums else ""
    head = "idx  orig_idx  orig_file" + ("  proc_md5  final_md5" if checksums else "")
    rows = [f"{i}\t    {number - 1}\t    {number:06d}.jpg{more}" for i, number in ORIGINALS.items()]
    return "\n".join([head, *rows, ""])


def marks(number: int) -> list[int]:
    return [1 if (number + place) % 3 == 0 else -1 for place in range(40)]


def celeba_lists() -> dict[str, str]:
    names = {number: f"{number:06d}.jpg" for number in sorted({*ORIGINALS.values(), 1, 2, 99096})}
    rows = "".join(f"{name} {' '.join(map(str, marks(number)))}\n" for number, name in names.items())
    return {
        "list_attr_celeba.txt": f"{len(names)}\n{' '.join(ATTRIBUTES)}\n{rows}",
        "identity_CelebA.txt": "".join(f"{name} {number % 1000}\n" for number, name in names.items()),
        "list_eval_partition.txt": "".join(
            f"{name} {(number > 162770) + (number > 182637)}\n" for number, name in names.items()
        ),
    }


def squares(numbers: Iterable[int] = ORIGINALS, name: str = "{}.jpg", side: int = 40) -> dict[str, bytes]:
    return {name.format(number): picture(side, kind="JPEG" if name.endswith("jpg") else "PNG") for number in numbers}


def test_celeba_hq_labels_are_those_of_the_picture_it_was_made_from(tmp_path: Path) -> None:
    root = put(tmp_path / "hq", {f"CelebA-HQ-img/{name}": data for name, data in squares().items()})
    put(root, {"CelebA-HQ-to-CelebA-mapping.txt": mapping(), **celeba_lists()})
    pack = made("celeba-hq", root)
    assert pack.names == [f"{number}.jpg" for number in ORIGINALS] and pack.split.tolist() == OFFICIAL
    assert pack.identity.tolist() == [number % 1000 for number in ORIGINALS.values()]
    expected = [np.maximum(marks(number), 0) for number in ORIGINALS.values()]
    np.testing.assert_array_equal(pack.attributes, expected)
    assert counts(pack) == {} and noted(pack, "8 of 8 squares")


def test_celeba_hq_without_celebas_lists(tmp_path: Path) -> None:
    """The partition follows from the numbers at which CelebA's list changes; what is missing is said."""
    root = put(tmp_path / "hq", {f"imgHQ{number:05d}.png": picture() for number in ORIGINALS})
    put(root, {"image_list.txt": mapping(checksums=True)})
    pack = made("celeba-hq", root)
    assert pack.split.tolist() == OFFICIAL and pack.attribute_names == () and (pack.identity < 0).all()
    assert noted(pack, "no attributes") and noted(pack, "no identities") and noted(pack, "up to 162770")


def test_celeba_hq_named_by_celebas_numbers(tmp_path: Path) -> None:
    """In folders of women and men, as StarGAN v2 has them; with zeros before the squares' own numbers it is not so."""
    root = put(tmp_path / "hq", {"image_list.txt": mapping(), **celeba_lists()})
    for number in ORIGINALS.values():
        put(root, {f"celeba_hq/{'male' if number % 2 else 'female'}/{number:06d}.jpg": picture(kind="JPEG")})
    pack = made("celeba-hq", root)
    assert [int(name[-10:-4]) for name in pack.names] == list(ORIGINALS.values())
    assert pack.identity.tolist() == [number % 1000 for number in ORIGINALS.values()]
    assert noted(pack, "named by CelebA's numbers")
    padded = put(tmp_path / "padded", {"image_list.txt": mapping(), **squares(name="{:06d}.png"), **celeba_lists()})
    assert made("celeba-hq", padded).identity.tolist() == pack.identity.tolist()


def test_celeba_hq_oddities(tmp_path: Path) -> None:
    root = put(tmp_path / "hq", {"image_list.txt": mapping(), **squares(), "99.jpg": picture(), "x.jpg": picture()})
    put(root, {"1.jpg": picture(40, 30), **celeba_lists()})
    listed = (root / "list_eval_partition.txt").read_text().replace("200122.jpg 2\n", "")
    put(root, {"list_eval_partition.txt": listed})
    pack = made("celeba-hq", root)
    assert counts(pack) == {"unlisted": 1, "odd_name": 1, "wrong_shape": 1, "no_split": 1}
    assert pack.names == [f"{number}.jpg" for number in (0, 3, 4, 5, 6, 7)]
    put(root, {"small/3.jpg": picture(20)})
    with pytest.raises(UserError, match=r"two squares of number 3 .*folder of one size"):
        made("celeba-hq", root)
    put(root, {"image_list.txt": "idx orig_idx orig_file\n0 119614.jpg\n"})
    with pytest.raises(UserError, match="line 2 does not say"):
        made("celeba-hq", root)


def mask(*boxes: tuple[int, int, int, int], mode: str = "RGB", side: int = 64) -> bytes:
    """White boxes (left, top, right, bottom) on black, in 64 pixels where the real ones have 512."""
    image, stream = Image.new(mode, (side, side)), io.BytesIO()
    for box in boxes:
        image.paste("white", box)
    image.save(stream, "PNG")
    return stream.getvalue()


def mask_root(tmp_path: Path) -> Path:
    root = put(tmp_path / "mask", {f"CelebA-HQ-img/{name}": data for name, data in squares(side=128).items()})
    put(root, {"CelebA-HQ-to-CelebA-mapping.txt": mapping()})
    rows = "".join(f"{i}.jpg  {' '.join(map(str, marks(number)))}\n" for i, number in ORIGINALS.items())
    put(root, {"CelebAMask-HQ-attribute-anno.txt": f"8\n{' '.join(ATTRIBUTES)}\n{rows}"})
    put(root, {"CelebAMask-HQ-pose-anno.txt": "8\nYaw Pitch Roll\n0.jpg 1.95 -3.7 0.1\n"})
    folder = "CelebAMask-HQ-mask-anno/0/"
    for number in (0, 1, 2, 3, 4):
        put(root, {f"{folder}{number:05d}_skin.png": mask((16, 16, 48, 64))})
        put(root, {f"{folder}{number:05d}_hair.png": mask((0, 0, 64, 24), mode="L")})
    put(root, {f"{folder}00000_l_lip.png": mask((24, 52, 40, 56)), f"{folder}00000_nose.png": mask((28, 20, 36, 44))})
    return put(root, {f"{folder}00003_nose.png": b"no picture", f"{folder}00004_beard.png": mask()})


def test_celebamask_hq_segments(tmp_path: Path) -> None:
    pack = made("celebamask-hq", mask_root(tmp_path))
    assert pack.segment_names == ("background", *PARTS) and len(pack.segment_names) == 19
    codes = {name: code for code, name in enumerate(pack.segment_names)}
    # What the masks say, laid over each other by hand in the order of the authors' script: hair covers skin and nose.
    whole = np.zeros((64, 64), np.uint8)
    whole[16:64, 16:48] = codes["skin"]
    whole[20:44, 28:36] = codes["nose"]
    whole[52:56, 24:40] = codes["l_lip"]
    whole[:24] = codes["hair"]
    np.testing.assert_array_equal(pack.segments[0], whole[2::4, 2::4])  # 64 → 16 pixels: the nearest to each middle
    assert set(np.unique(pack.segments[1])) == {0, codes["skin"], codes["hair"]}
    assert (pack.segments[3] == 255).all() and (pack.segments[5:] == 255).all()
    assert counts(pack) == {"no_segments": 4, "odd_name": 1}
    assert noted(pack, "no place for poses")
    np.testing.assert_array_equal(pack.attributes, [np.maximum(marks(n), 0) for n in ORIGINALS.values()])


def test_celebamask_hq_from_archives_is_the_same(tmp_path: Path) -> None:
    root = mask_root(tmp_path)
    pack = made("celebamask-hq", root)
    for folder in ("CelebA-HQ-img", "CelebAMask-HQ-mask-anno"):
        with tarfile.open(root / f"{folder}.tar.gz", "w:gz") as archive:
            archive.add(root / folder, folder)
        (root / folder).rename(root.parent / folder)
    assert made("celebamask-hq", root).hash == pack.hash
    (root / "CelebAMask-HQ-mask-anno.tar.gz").unlink()
    with pytest.raises(UserError, match="has no CelebAMask-HQ-mask-anno/"):
        made("celebamask-hq", root)


# FFHQ

NUMBERS = [*range(0, 30), 1000, 59_999, 60_000, 69_999]


def described(number: int, points: list[list[float]] | None = None) -> dict[str, Any]:
    """An entry of ffhq-dataset-v2.json, with points of the photograph that would be wrong in the square."""
    image = {"file_url": "https://", "file_path": f"images1024x1024/{number:05d}.png", "pixel_size": [1024, 1024]}
    wild = {"pixel_size": [2016, 1512], "face_rect": [1, 2, 3, 4], "face_quad": [[0, 0]] * 4}
    wild |= {"face_landmarks": [[5.0, 5.0]] * 68}
    return {
        "category": "training" if number < 60_000 else "validation",
        "metadata": {"author": "somebody", "country": ""},
        "image": image | ({"face_landmarks": points} if points else {}),
        "thumbnail": {"pixel_size": [128, 128]},
        "in_the_wild": wild,
    }


def test_ffhq_partitions_and_points(tmp_path: Path) -> None:
    root = put(tmp_path / "ffhq", {f"thumbnails128x128/{n // 1000 * 1000:05d}/{n:05d}.png": picture() for n in NUMBERS})
    put(root, {"thumbnails128x128/LICENSE.txt": "licence"})
    bare = made("ffhq", root)
    assert len(bare.names) == len(NUMBERS) and counts(bare) == {} and not bare.landmark_source.any()
    points = RNG.uniform(200, 800, (68, 2)).round(2)
    text = json.dumps({str(n): described(n, None if n == 1 else points.tolist()) for n in NUMBERS})
    put(root, {"ffhq-dataset-v2.json": text})
    pack = made("ffhq", root)
    assert (pack.split == bare.split).all()
    test = [name for name, split in zip(pack.names, pack.split) if split == 2]
    assert [name[-9:] for name in test] == ["60000.png", "69999.png"]
    assert 1 <= len(pack.indices("val")) <= 8
    # CelebA's left eye is the one on the left of the picture, and dlib's points 36 to 41 are that one.
    eyes = [points[36:42].mean(axis=0), points[42:48].mean(axis=0)]
    np.testing.assert_allclose(pack.landmarks[0] * 1024, [*eyes, points[30], points[48], points[54]], rtol=1e-5)
    assert pack.landmark_source.tolist() == [2, 0, *[2] * (len(NUMBERS) - 2)]
    assert counts(pack) == {"no_landmarks": 1} and noted(pack, "predictions of dlib")


def test_ffhq_other_layouts_are_the_same_images(tmp_path: Path) -> None:
    images = {n: picture() for n in (0, 5, 60_000)}
    official = put(
        tmp_path / "a", {f"images1024x1024/{n // 1000 * 1000:05d}/{n:05d}.png": d for n, d in images.items()}
    )
    flat = put(tmp_path / "b", {f"{n:05d}.png": data for n, data in images.items()})
    (tmp_path / "c").mkdir()
    with zipfile.ZipFile(tmp_path / "c" / "images.zip", "w") as archive:
        for n, data in images.items():
            archive.writestr(f"{n // 1000:05d}/img{n:08d}.png", data)
    packs = [made("ffhq", root) for root in (official, flat, tmp_path / "c")]
    assert packs[1].hash == packs[0].hash
    np.testing.assert_array_equal(packs[2].images, packs[0].images)
    assert packs[2].split.tolist() == packs[0].split.tolist()


def test_ffhq_oddities(tmp_path: Path) -> None:
    root = put(tmp_path / "ffhq", {"00001.png": picture(), "00002.png": picture(60, 40), "70000.png": picture()})
    pack = made("ffhq", root)
    assert counts(pack) == {"wrong_shape": 1, "unlisted": 1} and pack.names == ["00001.png"]
    put(root, {"ffhq-dataset-v2.json": "[1"})
    with pytest.raises(UserError, match="not the official description"):
        made("ffhq", root)
    put(root, {"ffhq-dataset-v2.json": "{}", "again/00001.png": picture()})
    with pytest.raises(UserError, match="two images of number 1"):
        made("ffhq", root)


# The command line


def test_every_source_is_on_the_command_line(tmp_path: Path) -> None:
    told = CliRunner().invoke(cli, ["data", "list", "--home", str(tmp_path)])
    assert set(told.output.partition("sources: ")[2].strip().split(", ")) == set(SOURCES)


def test_lfw_by_command(tmp_path: Path) -> None:
    root = lfw_root(tmp_path / "root")
    words = ["data", "prepare", "lfw", "--root", str(root), "--size", "16", "--home", str(tmp_path)]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0 and "40 in 10 folds, 20 of them of one person" in result.output
    refused = CliRunner().invoke(cli, [*words, "--view", "1"])
    assert isinstance(refused.exception, UserError) and "has no pairsDevTrain.txt" in str(refused.exception)
