"""CelebA, aligned (Liu et al., ICCV 2015): the official files as they are distributed, any subset of the images.

The lists are the official .txt or the .csv that others made of them; the pictures those of the JPEG or PNG edition.

The images may be 178×218 or any other size of that shape: all geometry is relative to the image. The crop is the square
of side 0.75·W centred at (W/2, 121/218·H); landmark coordinates are those of 178×218 images.
"""

import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdebench import files
from mdebench.data import labels
from mdebench.data.decode import RESIZE, Box
from mdebench.data.pack import ANNOTATED, ATTRIBUTES, LANDMARKS, PSEUDO, SPLITS, outside_crop
from mdebench.data.report import Report
from mdebench.data.store import ARCHIVES, PICTURES, BadImage, by_name, open_store
from mdebench.data.store.official import as_listed, find, holds, tell_link
from mdebench.data.tables import decoded_text, is_unknown, number
from mdebench.data.workers import decoding
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError
from mdebench.words import words

TRAIN, TEST = SPLITS.index("train"), SPLITS.index("test")
WIDTH, HEIGHT = 178, 218  # of the official aligned images
SIDE, CENTRE_Y = 0.75, 121 / 218  # PAPER.md: "constant rescaling factor 0.75"
FOLDERS = ("", "Img", "Anno", "Eval", "celeba")
IMAGES, PNG_IMAGES, ATTR = "img_align_celeba", "img_align_celeba_png", "list_attr_celeba.txt"
PARTITION, IDENTITY, POINTS = "list_eval_partition.txt", "identity_CelebA.txt", "list_landmarks_align_celeba.txt"
PSEUDO_POINTS = "pseudo_landmarks.csv"
EXPECTS = (
    f"{IMAGES}/ or {IMAGES}.zip, {PARTITION} and {ATTR}, if possible {POINTS} and {IDENTITY} "
    "(the official CelebA files; also in Img/, Anno/ and Eval/)"
)
POINT_COLUMNS = tuple(f"{name}_{axis}" for name in LANDMARKS for axis in "xy")
_UNKNOWN, _BAD = -2, -3  # in a table of attributes, beside the 1, 0 and -1 that stand there


def write(
    writer: PackWriter,
    root: Path,
    progress: Progress,
    *,
    pseudo_landmarks: bool = False,
    attribute_coding: str | None = None,
    extra_test: int | None = None,
) -> None:
    """Read CelebA below `root` into `writer`.

    pseudo_landmarks: take predicted points from pseudo_landmarks.csv (image_id, NAME_x, NAME_y in 178×218 pixels)
    where an image has no official landmark row; recorded in the pack and its footnote. attribute_coding: how to read
    columns of attributes that hold -1 as well as 0, one of `labels.CODINGS`. extra_test: test on so many images more,
    see `more_test`; recorded likewise.
    """
    labels.check_coding(attribute_coding)
    report, notes = writer.report, writer.info["notes"]
    options: dict[str, Any] = {"pseudo_landmarks": pseudo_landmarks}
    options |= {"attribute_coding": attribute_coding} if attribute_coding else {}
    options |= {"extra_test": extra_test} if extra_test is not None else {}
    where = images_of(root)
    tell_link(root, where, notes)
    partition = read_partition(_need(root, PARTITION), report, notes)
    store = as_listed(open_store(where, report, by_name), partition, notes)
    keys = sorted(store.members.keys() & partition.keys())
    for stray in sorted(store.members.keys() - partition.keys()):
        report.add("unlisted", stray)
    split = np.array([code if (code := partition[key]) in (0, 1, 2) else 255 for key in keys], np.uint8)
    for row in np.flatnonzero(split == 255):
        report.add("no_split", keys[row])
    placed = np.flatnonzero(split != 255)
    keys, split = [keys[row] for row in placed], split[placed]

    with decoding(store, keys, crop, writer.size, report, progress) as parts:  # labels are read beside it
        attributes = read_attributes(_need(root, ATTR), keys, report, notes, attribute_coding)
        identity = read_identities(root, keys, report, notes)
        if extra_test is not None:
            moved = more_test(split, identity, extra_test)
            split[moved] = TEST
            writer.info["extra_test"] = {"images": len(moved), "people": len(np.unique(identity[moved]))}
        landmarks, source = _landmarks(root, keys, report, notes, pseudo_landmarks)
        writer.attribute_names = ATTRIBUTES
        writer.info |= {
            "source": "celeba",
            "options": options,
            "of": len(partition),
            "crop": "square of side 0.75·W centred at (W/2, 121/218·H)",
            "resize": RESIZE,
        }
        notes.append(f"{len(keys):,} of {len(partition):,} images present in {store.where.name}")
        if pseudo_landmarks:
            notes.append(
                f"pseudo landmarks are predictions of a network, not annotations: {(source == PSEUDO).sum():,} images"
            )
        for part in parts:
            rows = part.rows
            for row, kinds in zip(rows, part.kinds):
                if "exif_orientation" in kinds and source[row]:
                    report.add("turned_landmarks", keys[row])
            writer.add(
                part.images,
                [keys[row] for row in rows],
                split[rows],
                attributes=attributes[rows],
                identity=identity[rows],
                landmarks=landmarks[rows],
                landmark_source=source[rows],
            )


def more_test(split: NDArray[np.uint8], identity: NDArray[np.int32], least: int) -> NDArray[np.intp]:
    """The images of train, at least `least`, that test takes as well: all those of as many people as possible.

    split and identity (n,): partition, and person or -1, of every image. People with few pictures come first, for an
    interval over test images rests on people; then those with low numbers. Whoever has pictures in another partition
    stays, since all pictures of a person belong to one. UserError when there are too few; some must stay in train.
    """
    elsewhere = np.unique(identity[split != TRAIN])
    free = (split == TRAIN) & (identity >= 0) & ~np.isin(identity, elsewhere)
    people, pictures = np.unique(identity[free], return_counts=True)
    order = np.lexsort((people, pictures))
    enough = int(np.searchsorted(pictures[order].cumsum(), least)) + 1
    moved = np.flatnonzero(free & np.isin(identity, people[order[:enough]]))
    if least < 1 or len(moved) < least or len(moved) == (split == TRAIN).sum():
        raise UserError(
            f"--extra-test takes from 1 to fewer than all images of people who are in train alone: {free.sum():,} of "
            f"{len(people):,} people are there, not {least:,} and some to train on"
            + ("" if (identity >= 0).any() else f" ({IDENTITY} says who is on a picture)")
        )
    return moved


def crop(width: int, height: int) -> Box:
    """The crop box of an image of that size; BadImage('wrong_shape') unless it is shaped like 178×218."""
    if abs(height - width * HEIGHT / WIDTH) > max(2, 0.01 * height):
        raise BadImage("wrong_shape")
    half = SIDE * width / 2
    x, y = width / 2, CENTRE_Y * height
    if y - half < 0 or y + half > height:
        raise BadImage("wrong_shape")
    return (x - half, y - half, x + half, y + half)


def relative(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (…, 2) in pixels of 178×218 → relative to the crop, [0, 1] inside it."""
    left, top, right, _ = crop(WIDTH, HEIGHT)
    inside: NDArray[np.float64] = (points - np.array([left, top])) / (right - left)
    return inside


def find_list(root: Path, name: str) -> Path | None:
    """An official file, or the .csv of the same name."""
    return find(root, (name, f"{name.removesuffix('.txt')}.csv"), FOLDERS)


def _need(root: Path, name: str) -> Path:
    file = find_list(root, name)
    if file is None:
        raise UserError(f"{root} has no {name} {holds(root)}; CelebA needs {EXPECTS}.")
    return file


def images_of(root: Path) -> Path:
    """The folder or archive of the pictures; UserError when there is none that can be read."""
    for images in (IMAGES, PNG_IMAGES):
        folder = find(root, (images,), FOLDERS)
        if folder is not None and folder.is_dir() and any(folder.iterdir()):
            return folder
        if (archive := find(root, [images + end for end in ARCHIVES], FOLDERS)) is not None:
            return archive
    packed = find(
        root, [images + end for images in (PNG_IMAGES, IMAGES) for end in (".7z", ".7z.001", ".rar")], FOLDERS
    )
    if packed is not None:
        inside = packed.name.partition(".")[0]
        raise UserError(
            f"{packed} cannot be read here: unpack it with 7-Zip, so that {packed.parent / inside}/ is there."
        )
    raise UserError(f"{root} has neither {IMAGES}/ nor {IMAGES}.zip {holds(root)}; CelebA needs {EXPECTS}.")


@dataclass(frozen=True)
class _List:
    """One of CelebA's lists: a row for each picture, its name first, and perhaps a line that names the columns."""

    file: Path
    lines: list[str]
    separator: str | None  # None: white space
    columns: list[str]  # of the values, without the picture's name; empty where no line names them
    place: int  # of the picture's name in a row
    report: Report
    notes: list[str]

    def rows_of(self, values: int, wanted: Collection[str] | None = None) -> Iterator[tuple[str, list[str]]]:
        """Name and cells of the rows with exactly so many values, of the wanted pictures or all; headers and broken
        rows do not fit and are passed over, so that an image without a proper row is reported as unlabelled by whoever
        looks it up.
        """
        met: set[str] = set()
        for line in self.lines:
            name = self._name(line)
            if not name.lower().endswith(PICTURES):
                continue
            if name in met:
                self.report.add("duplicate", f"{name} ({self.file.name})")
            elif wanted is None or name in wanted:  # cutting up the rows of all of CelebA takes seconds
                cells = _cells(line, self.separator)[self.place + 1 :]
                if len(cells) != values:
                    continue
                yield name, cells
            met.add(name)
        said = self.lines[0].strip() if self.lines else ""
        if re.fullmatch("[0-9]{1,18}", said) and int(said) != len(met):
            self.notes.append(
                f"{self.file.name} says that it has {int(said):,} rows, and has {len(met):,}: fetch it again"
            )

    def _name(self, line: str) -> str:
        cells = line.split(self.separator, self.place + 1)
        return cells[self.place].strip(' "') if len(cells) > self.place else ""


def read_list(file: Path, report: Report, notes: list[str]) -> _List:
    """One of CelebA's lists, in whichever way it is written."""
    text, encoding = decoded_text(files.read_bytes(file), str(file))
    if encoding != "utf-8":
        notes.append(f"{file.name} is {encoding.upper()}")
    lines = text.splitlines()
    separator = next((mark for mark in ";," if any(mark in line for line in lines[:3])), None)
    header: list[str] = []
    for line in lines:
        cells = _cells(line, separator)
        named = [place for place, cell in enumerate(cells) if cell.lower().endswith(PICTURES)]
        if named:  # the official header does not name the pictures' own column, a CSV's does
            columns = header[named[0] + 1 :] if separator else header
            return _List(file, lines, separator, columns, named[0], report, notes)
        header = cells if any(cells) else header
    return _List(file, [], separator, header[1:] if separator else header, 0, report, notes)


def _cells(line: str, separator: str | None) -> list[str]:
    return line.split() if separator is None else [cell.strip(' "') for cell in line.split(separator)]


def _whole(cell: str) -> int | None:
    """A whole number, also as pandas writes it where others are missing ('3.0'); None for any other text."""
    value = number(cell)
    return int(value) if value.is_integer() else None


def read_partition(file: Path, report: Report, notes: list[str]) -> dict[str, int | None]:
    """Picture → 0 train, 1 val or 2 test, or whatever else the list says."""
    return {name: _whole(code) for name, (code,) in read_list(file, report, notes).rows_of(1)}


def read_attributes(
    file: Path, keys: list[str], report: Report, notes: list[str], coding: str | None
) -> NDArray[np.int8]:
    """(n, 40) of 1, 0 and -1 (unknown), each column read by its own values: 1 and -1, or 1 and 0; where it holds all
    three, as `coding` (of `labels.CODINGS`) says.
    """
    rows = read_list(file, report, notes)
    if sorted(rows.columns) != sorted(ATTRIBUTES):
        raise UserError(f"{file}: the line before the first picture must name CelebA's 40 attributes.")
    order = [rows.columns.index(name) for name in ATTRIBUTES]
    place = {key: row for row, key in enumerate(keys)}
    table, found = np.full((len(keys), len(ATTRIBUTES)), _UNKNOWN, np.int8), np.zeros(len(keys), bool)
    marks = {"1": 1, "-1": -1, "0": 0}
    for key, cells in rows.rows_of(len(ATTRIBUTES), place):
        for cell in cells:
            if cell not in marks:
                marks[cell] = _mark(cell)
        table[place[key]] = [marks[cell] for cell in cells]
        found[place[key]] = True
    for row, key in enumerate(keys):
        if not found[row]:
            report.add("no_attributes", key)
        elif (table[row] < -1).any():
            report.add("bad_value", f"{key} (attributes)")
    table = table[:, order]
    both = (table == 0).any(axis=0) & (table == -1).any(axis=0)
    if both.any() and coding is None:
        which = words(name for name, asked in zip(ATTRIBUTES, both) if asked)
        raise UserError(
            f"{file} holds -1 as well as 0 ({which}), and either may mean 'no' or 'unknown': say {labels.WAYS}."
        )
    table[(table < -1) | both & (table == (0 if coding == "1/-1" else -1))] = _UNKNOWN
    return np.where(table == _UNKNOWN, -1, np.maximum(table, 0)).astype(np.int8)


def _mark(cell: str) -> int:
    said = {"true": 1, "yes": 1, "false": 0, "no": 0}
    value = said.get(cell.lower(), _whole(cell))
    if value in (1, 0, -1):
        return value
    return _UNKNOWN if is_unknown(cell) else _BAD


def read_identities(root: Path, keys: list[str], report: Report, notes: list[str]) -> NDArray[np.int32]:
    """(n,) the person of each of these pictures, -1 where no list says it."""
    file = find_list(root, IDENTITY)
    rows = read_list(file, report, notes).rows_of(1, set(keys)) if file else ()
    numbers = {name: _whole(cell) for name, (cell,) in rows}
    identity = np.full(len(keys), -1, np.int32)
    for row, key in enumerate(keys):
        value = numbers.get(key)
        if value is not None and 0 <= value < 2**31:
            identity[row] = value
        else:
            report.add("no_identity", key)
    return identity


def _landmarks(
    root: Path, keys: list[str], report: Report, notes: list[str], pseudo: bool
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """(n, 5, 2) relative to the crop, NaN unknown, and (n,) where each row comes from; told, what is odd about them."""
    official, predicted = find_list(root, POINTS), find(root, (PSEUDO_POINTS,), FOLDERS)
    if pseudo and predicted is None:
        raise UserError(f"{root} has no {PSEUDO_POINTS}: leave --pseudo-landmarks out, or put the file there.")
    landmarks, source = np.full((len(keys), 5, 2), np.nan), np.zeros(len(keys), np.uint8)
    for kind, file in ((PSEUDO, predicted if pseudo else None), (ANNOTATED, official)):
        if file is not None:
            points = _read_points(file, keys, report, notes)
            known = np.isfinite(points).any(axis=(1, 2))
            landmarks[known], source[known] = points[known], kind
    landmarks = relative(landmarks)
    known = np.isfinite(landmarks[..., 0])
    some, every = known.any(axis=1), known.all(axis=1)
    odd = {"no_landmarks": ~some, "some_landmarks": some & ~every, "outside_crop": outside_crop(landmarks)}
    for word, which in odd.items():
        for row in np.flatnonzero(which):
            report.add(word, keys[row])
    if not pseudo and predicted is not None and not some.all():
        notes.append(
            f"{predicted.name} is there, and not used: --pseudo-landmarks takes its points, a network's predictions, "
            f"for the {(~some).sum():,} images without official ones"
        )
    return landmarks, source


def _read_points(file: Path, keys: list[str], report: Report, notes: list[str]) -> NDArray[np.float64]:
    """(n, 5, 2) in pixels of 178×218, NaN unknown; further columns (a detector's score) are ignored."""
    rows = read_list(file, report, notes)
    if not set(POINT_COLUMNS) <= set(rows.columns):
        raise UserError(f"{file}: no line names the ten columns {', '.join(POINT_COLUMNS)}.")
    cells = {name: [sys.intern(cell) for cell in values] for name, values in rows.rows_of(len(rows.columns), set(keys))}
    blank = [""] * len(rows.columns)
    order = {column: rows.columns.index(column) for column in POINT_COLUMNS}
    columns = {column: [cells.get(key, blank)[place] for key in keys] for column, place in order.items()}
    points = labels.read_points(columns, LANDMARKS, len(keys))
    places = points.places * ((WIDTH, HEIGHT) if points.shares else 1)
    beyond: NDArray[np.bool_] = (places < 0) | (places > (WIDTH, HEIGHT))
    outside = np.any(beyond, axis=2)
    places[outside] = np.nan
    shares = np.isfinite(places[..., 0]).any(axis=1) & points.shares
    for kind, which in (("no_place", points.dropped | outside.any(axis=1)), ("shares", shares)):
        for row in np.flatnonzero(which):
            report.add(kind, keys[row])
    for row in np.flatnonzero(points.unreadable):
        report.add("bad_value", f"{keys[row]} (landmarks)")
    notes += [f"{file.name}: {note}" for note in points.notes]
    return places
