"""Labeled Faces in the Wild (Huang et al. 2007): pictures by person, and the official pairs for verification.

View 2 (`pairs.txt`, the default) is what results are reported on: ten folds of 300 pairs of one person and 300 of two.
View 1 (`pairsDevTrain.txt`, `pairsDevTest.txt`) is for development: its first list is fold 0, its second fold 1.
Test is everybody whom a pair names, as either picture of every pair is measured on; of all others nine tenths are train
and one tenth is val, by a hash of the person.

The crop is the square of 0.6 of the width in the middle of an official picture (250×250), which shows about as much of
a face as CelebA's crop does: the detector's square was enlarged 2.2 times to make the picture (official README, section
1). Pictures of another size were cut by somebody else, and give their largest centred square.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mdebench import files
from mdebench.data import labels
from mdebench.data.decode import RESIZE, Box, centre_square
from mdebench.data.report import Report
from mdebench.data.store import ARCHIVES, PICTURES, ImageStore, by_name, open_store
from mdebench.data.store.official import find, holds, tell_link
from mdebench.data.tables import decoded_text
from mdebench.data.workers import decoding
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError
from mdebench.words import words

OFFICIAL, SHOWN = 250, 0.6  # side of the official pictures, and how much of it the crop shows
# The originals, then the aligned copies. torchvision (datasets/lfw.py) has the folder of the funneled ones with another
# spelling than their archive: lfw_funneled in lfw-funneled.tgz.
IMAGES = ("lfw", "lfw_funneled", "lfw-funneled", "lfw-deepfunneled", "lfw_deepfunneled", "lfw2", "lfwa")
FOLDERS = ("", "lfw-py", "lfw_home")  # the second is torchvision's, the third scikit-learn's
PAIRS = {2: ("pairs.txt",), 1: ("pairsDevTrain.txt", "pairsDevTest.txt")}
EXPECTS = (
    "lfw/ or lfw.tgz (or the funneled or deep-funneled pictures) and pairs.txt, or for view 1 pairsDevTrain.txt and "
    "pairsDevTest.txt (the official LFW files)"
)
# "Name_0001.jpg". Pictures that facenet aligned may be called "Name_0001_0.png", the last number being that of a face
# in the picture (davidsandberg/facenet, issue 524), and a reader of one ending finds nothing of the other (issue 289):
# pairs name no file, but a person and a number.
_PICTURE = re.compile(r"(.+?)_([0-9]{4})(?:_[0-9]+)?")

Face = tuple[str, int]  # a person, and the number of one of their pictures, from 1


@dataclass(frozen=True)
class Pair:
    """Two pictures, whether they show one person, and the fold."""

    first: Face
    second: Face
    same: bool
    fold: int


def write(writer: PackWriter, root: Path, progress: Progress, *, view: int = 2) -> None:
    """Read LFW below `root` into `writer`, with the pairs of that view (2, or 1)."""
    report, notes = writer.report, writer.info["notes"]
    if view not in PAIRS:
        raise UserError(f"LFW has the views 1 and 2, not {view}.")
    pairs = [pair for fold, name in enumerate(PAIRS[view]) for pair in read_pairs(_need(root, name), fold, notes)]
    where = images_of(root, notes)
    tell_link(root, where, notes)
    store = open_store(where, report, by_name)
    names = _pictures(store, report)
    faces = {name: face for face, name in names.items()}
    keys = sorted(faces)
    of_person = [faces[key][0] for key in keys]
    people = sorted(set(of_person))
    identity = np.searchsorted(people, of_person)
    named = {person for pair in pairs for person in (pair.first[0], pair.second[0])}
    others = sorted(set(people) - named)
    part = dict(zip(others, labels.divided(others, labels.OF_TRAIN).tolist()))
    split = np.array([part.get(person, 2) for person in of_person], np.uint8)
    writer.info |= {
        "source": "lfw",
        "options": {} if view == 2 else {"view": view},
        "identity_names": people,
        "crop": f"centred square, of {SHOWN} of the width of pictures of {OFFICIAL}×{OFFICIAL}, else the largest",
        "resize": RESIZE,
    }
    notes.append(
        f"test is everybody in the pairs of {words(PAIRS[view])}; of the {len(others):,} other people a tenth is val, "
        "chosen by a hash of the name"
    )
    cut = 0
    with decoding(store, keys, crop, writer.size, report, progress) as decoded:
        for piece in decoded:
            cut += int((piece.boxes[:, 2] - piece.boxes[:, 0] != SHOWN * OFFICIAL).sum())
            rows = piece.rows
            writer.add(piece.images, [keys[row] for row in rows], split[rows], identity=identity[rows])
    if cut:
        notes.append(f"{cut:,} pictures are not of {OFFICIAL}×{OFFICIAL}: of those the largest square was taken")
    first, second = ([names.get(face, _shown(face)) for face in side] for side in _sides(pairs))
    writer.pair(first, second, np.array([pair.same for pair in pairs]), np.array([pair.fold for pair in pairs]))


def crop(width: int, height: int) -> Box:
    """The square in the middle of a picture of that size."""
    if (width, height) != (OFFICIAL, OFFICIAL):
        return centre_square(width, height)
    edge = OFFICIAL * (1 - SHOWN) / 2
    return (edge, edge, OFFICIAL - edge, OFFICIAL - edge)


def read_pairs(file: Path, fold: int, notes: list[str]) -> list[Pair]:
    """The pairs of a list, whose first fold has this number: three cells are one person's pictures, four are two's.

    A fold is a run of pairs of one person and the run of pairs of two that follows it, which is how the list is written
    (scikit-learn, datasets/_lfw.py reads it by the number of cells); so the folds are found whether or not a first line
    counts them. That line reads "10  300" in view 2 and "1100" in view 1 (torchvision, datasets/lfw.py).
    """
    text, _ = decoded_text(files.read_bytes(file), str(file))
    pairs: list[Pair] = []
    said: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        # Official lists are separated by tabs, copies by spaces (facenet's lfw.py splits at either); the copy on
        # Kaggle, to which torchvision's documentation leads now, has a pairs.csv, and no first line with counts
        # (Youngjun-H/torch-insightface, datasets/lfw.py reads it: pairs of one person have an empty fourth cell).
        cells = [cell for cell in re.split(r"[\s,]+", line) if cell]
        if not cells or (number == 1 and cells[0].lower() == "name"):
            continue
        if number == 1 and all(map(_is_number, cells)):
            said = [int(cell) for cell in cells]
            continue
        faces = _faces(cells)
        if faces is None:
            raise UserError(
                f"{file}, line {number} is no pair (a name and two numbers, or name, number, name, number): fetch it "
                "again."
            )
        same = len(cells) == 3
        if pairs and same and not pairs[-1].same:
            fold += 1
        pairs.append(Pair(*faces, same, fold))
    folds = {pair.fold for pair in pairs}
    if not pairs or max(folds) > 9:
        raise UserError(
            f"{file} has {len(folds)} runs of pairs of one person and then of two, where ten folds belong: fetch the "
            "official list, whose order says which fold a pair is of."
        )
    if said and (len(folds) != ([1, *said])[-2] or len(pairs) != 2 * len(folds) * said[-1]):
        notes.append(
            f"{file.name} says that it has {' × '.join(map(str, said))} pairs of each kind, and has {len(pairs):,} in "
            f"{len(folds)} folds: fetch it again"
        )
    return pairs


def _faces(cells: Sequence[str]) -> tuple[Face, Face] | None:
    """The two pictures that a line names; None where it is no pair."""
    if len(cells) == 3 and _is_number(cells[1]) and _is_number(cells[2]):
        return (cells[0], int(cells[1])), (cells[0], int(cells[2]))
    if len(cells) == 4 and _is_number(cells[1]) and _is_number(cells[3]):
        return (cells[0], int(cells[1])), (cells[2], int(cells[3]))
    return None


def _is_number(cell: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", cell) is not None


def _pictures(store: ImageStore, report: Report) -> Mapping[Face, str]:
    """Face → its name in the store, which is found by the number in the name: not by its place among a folder's files
    (as scikit-learn has it, datasets/_lfw.py), which is another one as soon as a picture is missing.
    """
    names: dict[Face, str] = {}
    for name in sorted(store.members):
        if not name.lower().endswith(PICTURES):
            continue  # the lists may lie among the pictures
        match = _PICTURE.fullmatch(name.rpartition(".")[0])
        if match is None:
            report.add("odd_name", name)
        elif (face := (match[1], int(match[2]))) in names:
            report.add("duplicate", f"{name} ({names[face]})")
        else:
            names[face] = name
    return names


def _sides(pairs: Sequence[Pair]) -> tuple[list[Face], list[Face]]:
    return [pair.first for pair in pairs], [pair.second for pair in pairs]


def _shown(face: Face) -> str:
    """What a picture that is not there would be called."""
    return f"{face[0]}_{face[1]:04d}"


def images_of(root: Path, notes: list[str]) -> Path:
    """The folder or archive of the pictures; what other copies there are is told."""
    found = [each for name in IMAGES for end in ("", *ARCHIVES) if (each := find(root, (name + end,), FOLDERS))]
    if not found and root.is_dir() and any(root.glob("*/*_0001.*")):
        return root  # the people's folders lie beside the lists
    if not found:
        raise UserError(f"{root} has neither lfw/ nor lfw.tgz {holds(root)}; lfw needs {EXPECTS}.")
    if others := [path.name for path in found[1:] if path.name.partition(".")[0] != found[0].name.partition(".")[0]]:
        notes.append(f"the pictures are those of {found[0].name}; {', '.join(others)} are there, and were not used")
    return found[0]


def _need(root: Path, name: str) -> Path:
    file = find(root, (name, f"{name.removesuffix('.txt')}.csv"), FOLDERS)
    if file is None or file.is_dir():
        raise UserError(f"{root} has no {name} {holds(root)}; lfw needs {EXPECTS}.")
    return file
