"""CelebA-HQ (Karras et al., ICLR 2018): 30,000 aligned squares made from pictures of CelebA, whose labels they inherit.

The squares are numbered from 0 in an order of their own; `CelebA-HQ-to-CelebA-mapping.txt` (of CelebAMask-HQ) or
`image_list.txt` (of the progressive GAN) says which picture of CelebA each is. CelebA's own lists, where they lie
beside it, give attributes, identities and the partition, which keeps people apart as CelebA's does. The crop is the
whole square: it shows more of the head than CelebA's crop, and CelebA's aligned landmarks are not those of the squares.

In CelebAMask-HQ's copy the same picture stands under two neighbouring numbers thirteen times (switchablenorms/
CelebAMask-HQ, issue 84), so that the labels of one of the two are in doubt: the report names them, as of any pack.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdebench import files
from mdebench.data import labels
from mdebench.data.decode import RESIZE, whole_square
from mdebench.data.faces import celeba
from mdebench.data.pack import ATTRIBUTES
from mdebench.data.report import Report
from mdebench.data.store import ARCHIVES, PICTURES, ImageStore, by_name, open_store
from mdebench.data.store.official import find, holds, tell_link
from mdebench.data.tables import decoded_text
from mdebench.data.workers import decoding
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError

MAPPINGS = ("CelebA-HQ-to-CelebA-mapping.txt", "image_list.txt")
ATTRIBUTE_LIST = "CelebAMask-HQ-attribute-anno.txt"  # CelebA's, under the squares' names
IMAGES = ("CelebA-HQ-img", "celeba_hq", "celeba-hq", "celebahq", "data1024x1024", "images", "img")
FOLDERS = ("", "CelebAMask-HQ", "Anno", "Eval")
EXPECTS = (
    "the squares, named by their number (CelebA-HQ-img/, celeba_hq/ or images/, or an archive of such a name), and "
    "CelebA-HQ-to-CelebA-mapping.txt or image_list.txt, if possible with CelebA's own lists"
)
# CelebA's official partition is by the number of the picture (list_eval_partition.txt): the last of train, and of val.
# So 24,183 squares are train, 2,993 val and 2,824 test (lyndonzheng/Pluralistic-Inpainting, issue 30).
LAST = (162_770, 182_637)
# "123.jpg", "00123.png", or "imgHQ00123.npy" turned into pictures, as the progressive GAN's tool numbers them.
_NUMBER = re.compile(r"(?:imgHQ)?([0-9]{1,8})", re.IGNORECASE)
_CELLS = re.compile(r"[0-9]{1,8} [0-9]{1,8} [0-9]{1,8}\.jpg")


@dataclass(frozen=True)
class Square:
    """A picture: its key in a store, its number in CelebA-HQ, and the name of the picture of CelebA that it is."""

    key: str
    number: int
    original: str


@dataclass(frozen=True)
class Squares:
    """The squares that are there, in the order of their numbers, and what CelebA says of them: (n,) each."""

    store: ImageStore
    each: list[Square]
    split: NDArray[np.uint8]
    identity: NDArray[np.int32]
    attributes: NDArray[np.int8]  # (n, A): A is 40, or 0 without a list


def write(writer: PackWriter, root: Path, progress: Progress, *, attribute_coding: str | None = None) -> None:
    """Read CelebA-HQ below `root` into `writer`; attribute_coding: as for the source celeba."""
    write_squares(writer, read_squares(writer, root, "celeba-hq", EXPECTS, attribute_coding), progress)


def read_squares(writer: PackWriter, root: Path, source: str, expects: str, coding: str | None) -> Squares:
    """The squares below `root` with their labels; what is missing or odd is told to the writer."""
    labels.check_coding(coding)
    report, notes = writer.report, writer.info["notes"]
    mapping = find(root, MAPPINGS, FOLDERS)
    if mapping is None:
        raise UserError(f"{root} has neither {' nor '.join(MAPPINGS)} {holds(root)}; {source} needs {expects}.")
    originals = read_mapping(mapping)
    where = _images_of(root, source, expects)
    tell_link(root, where, notes)
    store = open_store(where, report)
    each = _numbered(store, originals, mapping.name, report, notes)
    split = _partition(root, each, report, notes)
    placed = np.flatnonzero(split < 3)
    each, split = [each[row] for row in placed], split[placed]
    attributes = _attributes(root, each, report, notes, coding)
    identity = np.full(len(each), -1, np.int32)
    if celeba.find_list(root, celeba.IDENTITY) is not None:
        identity = celeba.read_identities(root, [square.original for square in each], report, notes)
    else:
        notes.append(f"no identities: put CelebA's {celeba.IDENTITY} there to have them")
    writer.attribute_names = ATTRIBUTES if attributes.shape[1] else ()
    writer.info |= {
        "source": source,
        "options": {"attribute_coding": coding} if coding else {},
        "of": len(originals),
        "crop": "none: the whole square",
        "resize": RESIZE,
    }
    notes.append(f"{len(each):,} of {len(originals):,} squares present in {where.name}")
    return Squares(store, each, split, identity, attributes)


def write_squares(
    writer: PackWriter,
    squares: Squares,
    progress: Progress,
    further: Callable[[list[Square]], dict[str, NDArray[Any]]] = lambda some: {},
) -> None:
    """Write the squares, and what `further` says of some of them."""
    keys = [square.key for square in squares.each]
    with decoding(squares.store, keys, whole_square, writer.size, writer.report, progress) as parts:
        for part in parts:
            rows = part.rows
            writer.add(
                part.images,
                [by_name(keys[row]) for row in rows],
                squares.split[rows],
                identity=squares.identity[rows],
                attributes=squares.attributes[rows],
                **further([squares.each[row] for row in rows]),
            )


def read_mapping(file: Path) -> dict[int, str]:
    """Number in CelebA-HQ → the name of its picture in CelebA.

    A line reads "0  119613  119614.jpg", in image_list.txt with two checksums behind (elvisyjlin/AttGAN-PyTorch, issue
    4), and the first line names the columns, which the authors' own script forgot (switchablenorms/CelebAMask-HQ, issue
    37). The second column counts from 0, so it is one less than the picture's name says: who takes it for the name has
    the labels of the picture before, and another partition at its borders (issue 118). Only the name is used.
    """
    text, _ = decoded_text(files.read_bytes(file), str(file))
    found: dict[int, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.split()
        if not cells or (number == 1 and cells[0].lower() == "idx"):
            continue
        if len(cells) < 3 or not _CELLS.fullmatch(" ".join(cells[:3])) or int(cells[0]) in found:
            raise UserError(f"{file}, line {number} does not say which picture of CelebA a square is: fetch it again.")
        found[int(cells[0])] = cells[2]
    if not found:
        raise UserError(f"{file} names no picture of CelebA: fetch it again.")
    return found


def _images_of(root: Path, source: str, expects: str) -> Path:
    """The folder or archive of the squares: one of the usual names, or `root` itself if it holds numbered pictures."""
    if (found := find(root, [name + end for name in IMAGES for end in ("", *ARCHIVES)], FOLDERS)) is not None:
        return found
    if any(_number(path.name) is not None for path in root.iterdir()):
        return root
    raise UserError(f"{root} has no folder of squares {holds(root)}; {source} needs {expects}.")


def _numbered(
    store: ImageStore, originals: dict[int, str], mapping: str, report: Report, notes: list[str]
) -> list[Square]:
    """The pictures of a store by their numbers; UserError where two have the same one.

    Six digits may be CelebA's own numbers: StarGAN v2 (clovaai/stargan-v2, assets/representative/celeba_hq) and others
    (chail/gan-ensembling, issue 2) have named the squares so. They are where each of them is in the list, and otherwise
    the squares' numbers with zeros before them.
    """
    named = {key: number for key in sorted(store.members) if (number := _number(key)) is not None}
    for key in sorted(store.members.keys() - named.keys()):
        if key.lower().endswith(PICTURES):
            report.add("odd_name", key)
    by_original = {int(name.partition(".")[0]): number for number, name in originals.items()}
    six = bool(named) and all(re.search(r"(^|/)[0-9]{6}\.[^/]*$", key) for key in named)
    if six and all(number in by_original for number in named.values()):
        named = {key: by_original[number] for key, number in named.items()}
        notes.append(f"the squares are named by CelebA's numbers, as each of these is in {mapping}")
    first: dict[int, str] = {}
    for key, number in named.items():
        if number in first:
            # Copies hold the squares in several sizes (CompVis/net2net, issue 6), or number those of train and of val
            # from 0 each (CompVis/taming-transformers, issue 177): then a number is not that of the list.
            raise UserError(
                f"{store.where} has two squares of number {number} ({first[number]}, {key}): give the folder of one "
                "size, whose numbers are those of the list."
            )
        first[number] = key
        if number not in originals:
            report.add("unlisted", key)
    return [Square(first[number], number, originals[number]) for number in sorted(first.keys() & originals.keys())]


def _number(path: str) -> int | None:
    """The number that a picture is named by; None for anything else."""
    name = path.rpartition("/")[2]
    match = _NUMBER.fullmatch(name.rpartition(".")[0])
    return int(match[1]) if match and name.lower().endswith(PICTURES) else None


def _partition(root: Path, each: Sequence[Square], report: Report, notes: list[str]) -> NDArray[np.uint8]:
    """(n,) CelebA's partition of each square, by its list, or else by the numbers at which that list changes."""
    file = celeba.find_list(root, celeba.PARTITION)
    if file is None:
        notes.append(f"no {celeba.PARTITION}: train is CelebA's pictures up to {LAST[0]}, val those up to {LAST[1]}")
        parts = [sum(int(square.original.partition(".")[0]) > last for last in LAST) for square in each]
        return np.array(parts, np.uint8)
    listed = celeba.read_partition(file, report, notes)
    parts = [code if (code := listed.get(square.original)) in (0, 1, 2) else 255 for square in each]
    for square, part in zip(each, parts):
        if part == 255:
            report.add("no_split", square.key)
    return np.array(parts, np.uint8)


def _attributes(
    root: Path, each: Sequence[Square], report: Report, notes: list[str], coding: str | None
) -> NDArray[np.int8]:
    """(n, 40) from CelebA's list, or from the copy of it under the squares' names; (n, 0) without either.

    The copy has two spaces after a name, so that its columns cannot be told by single ones.
    """
    if (file := celeba.find_list(root, celeba.ATTR)) is not None:
        return celeba.read_attributes(file, [square.original for square in each], report, notes, coding)
    if (file := find(root, (ATTRIBUTE_LIST,), FOLDERS)) is not None:
        return celeba.read_attributes(file, [f"{square.number}.jpg" for square in each], report, notes, coding)
    notes.append(f"no attributes: put CelebA's {celeba.ATTR} or {ATTRIBUTE_LIST} there to have them")
    return np.empty((len(each), 0), np.int8)
