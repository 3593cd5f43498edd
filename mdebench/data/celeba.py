"""CelebA, aligned (Liu et al., ICCV 2015): the official files as they are distributed, any subset of the images.

The images may be 178×218 or any other size of that shape: all geometry is relative to the image. The crop is the square
of side 0.75·W centred at (W/2, 121/218·H); landmark coordinates are those of 178×218 images.
"""

import math
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mdebench.data.decode import RESIZE, Box
from mdebench.data.pack import ANNOTATED, ATTRIBUTES, LANDMARKS, PSEUDO
from mdebench.data.report import Report
from mdebench.data.store import BadImage, by_name, open_store
from mdebench.data.workers import decoding
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError

WIDTH, HEIGHT = 178, 218  # of the official aligned images
SIDE, CENTRE_Y = 0.75, 121 / 218  # PAPER.md: "constant rescaling factor 0.75"
IMAGES, ATTR = "img_align_celeba", "list_attr_celeba.txt"
PARTITION, IDENTITY, POINTS = "list_eval_partition.txt", "identity_CelebA.txt", "list_landmarks_align_celeba.txt"
PSEUDO_POINTS = "pseudo_landmarks.csv"
EXPECTS = (
    f"{IMAGES}/ or {IMAGES}.zip, {PARTITION} and {ATTR}, if possible {POINTS} and {IDENTITY} "
    "(the official CelebA files; also in Img/, Anno/ and Eval/)"
)


def write(writer: PackWriter, root: Path, progress: Progress, *, pseudo_landmarks: bool = False) -> None:
    """Read CelebA below `root` into `writer`.

    pseudo_landmarks: take predicted points from pseudo_landmarks.csv (image_id, NAME_x, NAME_y in 178×218 pixels)
    where an image has no official landmark row; recorded in the pack and its footnote.
    """
    report = writer.report
    store = open_store(images_of(root), report, by_name)
    partition = {name: code for name, (code,) in _rows(_need(root, PARTITION), 1, report)}
    keys = sorted(store.members.keys() & partition.keys())
    for stray in sorted(store.members.keys() - partition.keys()):
        report.add("unlisted", stray)
    codes = {"0": 0, "1": 1, "2": 2}
    split = np.array([codes.get(partition[key], 255) for key in keys], np.uint8)
    for row in np.flatnonzero(split == 255):
        report.add("no_split", keys[row])
    placed = np.flatnonzero(split != 255)
    keys, split = [keys[row] for row in placed], split[placed]

    with decoding(store, keys, crop, writer.size, report, progress) as parts:  # labels are read beside it
        attributes = _attributes(_need(root, ATTR), keys, report)
        identity = _identities(root, keys, report)
        landmarks, source = _landmarks(root, keys, report, pseudo_landmarks)
        writer.attribute_names = ATTRIBUTES
        writer.info |= {
            "source": "celeba",
            "options": {"pseudo_landmarks": pseudo_landmarks},
            "of": len(partition),
            "crop": "square of side 0.75·W centred at (W/2, 121/218·H)",
            "resize": RESIZE,
        }
        writer.info["notes"].append(f"{len(keys):,} of {len(partition):,} images present in {store.where.name}")
        if pseudo_landmarks:
            writer.info["notes"].append(
                f"pseudo landmarks are predictions of a network, not annotations: {(source == PSEUDO).sum():,} images"
            )
        for part in parts:
            rows = part.rows
            writer.add(
                part.images,
                [keys[row] for row in rows],
                split[rows],
                attributes=attributes[rows],
                identity=identity[rows],
                landmarks=landmarks[rows],
                landmark_source=source[rows],
            )


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


def _find(root: Path, name: str) -> Path | None:
    places = [root / folder / name for folder in ("", "Img", "Anno", "Eval", "celeba")]
    return next((place for place in places if place.exists()), None)


def _need(root: Path, name: str) -> Path:
    file = _find(root, name)
    if file is None:
        raise UserError(f"{root} has no {name}; CelebA needs {EXPECTS}.")
    return file


def images_of(root: Path) -> Path:
    """The folder or archive of the pictures; UserError when there is neither."""
    folder = _find(root, IMAGES)
    if folder is not None and any(folder.iterdir()):
        return folder
    archive = _find(root, f"{IMAGES}.zip")
    if archive is None:
        raise UserError(f"{root} has neither {IMAGES}/ nor {IMAGES}.zip; CelebA needs {EXPECTS}.")
    return archive


def _rows(
    file: Path, values: int, report: Report, wanted: Collection[str] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Rows 'name value …' with exactly so many values, of the wanted names or all; headers and broken rows do not fit
    and are passed over, so that an image without a proper row is reported as unlabelled by whoever looks it up.
    """
    met: set[str] = set()
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, *rest = line.split(maxsplit=1) or [""]
            unwanted = wanted is not None and name not in wanted  # cutting up the rows of all of CelebA takes seconds
            cells = [] if unwanted or not rest else rest[0].split()
            if "." not in name or (not unwanted and len(cells) != values):
                continue
            if name in met:
                report.add("duplicate", f"{name} ({file.name})")
            elif not unwanted:
                yield name, cells
            met.add(name)


def _attributes(file: Path, keys: list[str], report: Report) -> NDArray[np.int8]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        next(lines, "")
        header = next(lines, "").split()
    if sorted(header) != sorted(ATTRIBUTES):
        raise UserError(f"{file}: the second line must name CelebA's 40 attributes.")
    order = [header.index(name) for name in ATTRIBUTES]
    codes = {"1": 1, "-1": 0, "0": 0}
    place = {key: row for row, key in enumerate(keys)}
    table, found = np.full((len(keys), len(ATTRIBUTES)), -1, np.int8), np.zeros(len(keys), bool)
    for key, cells in _rows(file, len(ATTRIBUTES), report, place):
        table[place[key]] = [codes.get(cell, -1) for cell in cells]
        found[place[key]] = True
    for row, key in enumerate(keys):
        if not found[row]:
            report.add("no_attributes", key)
        elif -1 in table[row]:
            report.add("bad_value", f"{key} (attributes)")
    return table[:, order]


def _identities(root: Path, keys: list[str], report: Report) -> NDArray[np.int32]:
    file = _find(root, IDENTITY)
    rows = {name: number for name, (number,) in _rows(file, 1, report, set(keys))} if file else {}
    identity = np.full(len(keys), -1, np.int32)
    for row, key in enumerate(keys):
        cell = rows.get(key, "")
        if cell.isdecimal() and int(cell) < 2**31:
            identity[row] = int(cell)
        else:
            report.add("no_identity", key)
    return identity


def _landmarks(
    root: Path, keys: list[str], report: Report, pseudo: bool
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """(n, 5, 2) relative to the crop, NaN unknown, and (n,) where each row comes from."""
    file = _find(root, POINTS)
    found = {ANNOTATED: _read_points(file, None, report, keys) if file else {}}
    if pseudo:
        found[PSEUDO] = _read_points(_need_pseudo(root), ",", report, keys)
    landmarks, source = np.full((len(keys), 5, 2), np.nan), np.zeros(len(keys), np.uint8)
    for row, key in enumerate(keys):
        kind = next((kind for kind, points in found.items() if key in points), None)
        if kind is None:
            report.add("no_landmarks", key)
        else:
            landmarks[row], source[row] = found[kind][key], kind
    return relative(landmarks), source


def _need_pseudo(root: Path) -> Path:
    file = _find(root, PSEUDO_POINTS)
    if file is None:
        raise UserError(f"{root} has no {PSEUDO_POINTS}: leave --pseudo-landmarks out, or put the file there.")
    return file


def _read_points(
    file: Path, separator: str | None, report: Report, keys: Collection[str]
) -> dict[str, NDArray[np.float64]]:
    """Rows of ten coordinates; further columns (a detector's score) are ignored."""
    wanted = set(keys)
    columns = [f"{name}_{axis}" for name in LANDMARKS for axis in "xy"]
    points: dict[str, NDArray[np.float64]] = {}
    order: list[int] = []
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if order and (line.split(separator, 1) or [""])[0].strip() not in wanted:
                continue
            cells = [cell.strip() for cell in line.split(separator)]
            if not order:
                if set(columns) <= set(cells):
                    # CelebA's header does not name the first column, a CSV's does
                    shift = 0 if separator else 1
                    order = [cells.index(column) + shift for column in columns]
                continue
            try:
                values = [float(cells[i]) for i in order]
            except (ValueError, IndexError):
                values = [math.nan]
            if all(map(math.isfinite, values)):
                points[cells[0]] = np.array(values).reshape(5, 2)
            else:
                report.add("bad_value", f"{cells[0]} (landmarks)")
    if not order:
        raise UserError(f"{file}: no line names the ten columns {', '.join(columns)}.")
    return points
