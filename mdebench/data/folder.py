"""Your own images: a folder or zip with one CSV, for any data set that has no reader of its own.

The CSV has a column `path` (relative to the folder or zip) and, as far as there are labels, `split` (train, val or
validation or valid, test), `identity`, `label` (or `class`), NAME_x and NAME_y in pixels of the original image for the
five landmarks of `pack.LANDMARKS`, and attribute columns of 0 and 1 under any name (empty or -1: unknown).
The crop is the largest centred square. Rows without a split are divided by a hash of their path.
"""

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdebench.data.decode import RESIZE, centre_square
from mdebench.data.pack import ANNOTATED, LANDMARKS, NO_LANDMARKS
from mdebench.data.report import Report
from mdebench.data.store import BadImage, ImageStore, is_archive, is_litter, open_store, read_member, safe_path
from mdebench.data.store.official import holds
from mdebench.data.workers import decoding
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError
from mdebench.words import words

EXPECTS = "one CSV with a column 'path', and the images, loose or in one zip"
SPLIT_WORDS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
POINTS = tuple(f"{name}_{axis}" for name in LANDMARKS for axis in "xy")


@dataclass(frozen=True)
class Table:
    """The CSV by path: of each row the texts of the other columns, in their order."""

    columns: tuple[str, ...]  # without 'path'
    rows: dict[str, tuple[str, ...]]

    def column(self, name: str, keys: Sequence[str]) -> list[str]:
        """The texts of one column for some paths."""
        place = self.columns.index(name)
        return [self.rows[key][place] for key in keys]


def write(writer: PackWriter, root: Path, progress: Progress) -> None:
    """Read the folder or zip `root` into `writer`."""
    report, notes = writer.report, writer.info["notes"]
    store, file, data = _open(root, report)
    table = _read_table(file, data, report)
    store = store.meeting(table.rows)
    keys = sorted(table.rows)
    for stray in sorted(key for key in store.members if key not in table.rows):
        if not stray.endswith((".csv", ".zip")):
            report.add("unlisted", stray)
    split = _split(table, keys, report, notes)
    keys, split = [key for key, s in zip(keys, split) if s < 3], split[split < 3]
    points = _points(table, keys, report)
    labels: dict[str, NDArray[Any]] = {"identity": _codes("identity", table, keys, writer)}
    labels["label"] = _codes("label" if "label" in table.columns else "class", table, keys, writer)
    writer.attribute_names, labels["attributes"] = _attributes(table, keys, report, notes)
    writer.info |= {
        "source": "folder",
        "options": {},
        "of": len(table.rows),
        "crop": "largest centred square",
        "resize": RESIZE,
    }
    with decoding(store, keys, centre_square, writer.size, report, progress) as parts:
        for part in parts:
            corner, side = part.boxes[:, None, :2], part.boxes[:, 2] - part.boxes[:, 0]
            landmarks = (points[part.rows] - corner) / side[:, None, None]
            writer.add(
                part.images,
                [keys[row] for row in part.rows],
                split[part.rows],
                landmarks=landmarks,
                landmark_source=np.where(np.isfinite(landmarks).any(axis=(1, 2)), ANNOTATED, NO_LANDMARKS),
                **{name: values[part.rows] for name, values in labels.items()},
            )


def _open(root: Path, report: Report) -> tuple[ImageStore, str, bytes]:
    """The images, and the CSV's name and content: it lies beside the images or their one archive, or with them in the
    archive. Whether a folder is around all of it does not matter.
    """
    files = sorted(path for path in root.iterdir() if path.is_file()) if root.is_dir() else []
    archives = [path.name for path in files if is_archive(path)]
    if len(archives) > 1:
        what = f"{len(archives)} archives ({words(archives)})"
        raise UserError(f"{root} holds {what}; the source folder needs {EXPECTS}.")
    store = open_store(root / archives[0] if archives else root, report)
    beside = [path.name for path in files if _is_table(path.name)]
    level, tables = store, beside
    if not beside:
        found = ((level, sorted(filter(_is_table, level.members))) for level in store.levels())
        level, tables = next((each for each in found if each[1]), (store, []))
    if len(tables) != 1:
        what = f"{len(tables)} CSV files ({words(tables)})" if tables else f"no CSV file {holds(root)}"
        raise UserError(f"{root} holds {what}; the source folder needs {EXPECTS}.")
    (file,) = tables
    try:
        return store, file, (root / file).read_bytes() if beside else read_member(level.read, level.member(file))
    except BadImage as verdict:
        raise UserError(f"{root}: {file} cannot be read: {verdict.told()}.") from verdict
    except OSError as error:
        raise UserError(f"{root}: {file} cannot be read: {error.strerror}.") from error


def _is_table(path: str) -> bool:
    return path.lower().endswith(".csv") and "/" not in path and not is_litter(path)


def _read_table(file: str, data: bytes, report: Report) -> Table:
    rows: dict[str, tuple[str, ...]] = {}
    try:
        lines = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline=""))
        columns = [column.strip() for column in next(lines, [])]
        if "path" not in columns or len(set(columns)) != len(columns):
            raise UserError(f"{file} needs a column 'path' and no column twice; it has: {', '.join(columns)}.")
        place = columns.index("path")
        for cells in filter(None, lines):
            texts = [cell.strip() for cell in cells[: len(columns)]] + [""] * (len(columns) - len(cells))
            try:
                path = safe_path(texts.pop(place))
            except BadImage as verdict:
                report.add(str(verdict), cells[place] if place < len(cells) else "")
                continue
            if path in rows:
                report.add("duplicate", path)
            else:
                rows[path] = tuple(texts)
                if len(cells) > len(columns):  # an unquoted comma, most likely
                    report.add("bad_value", f"{path} (more cells than columns)")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} cannot be read as UTF-8 text.") from error
    except csv.Error as error:
        raise UserError(f"{file} is not a readable CSV: {error}.") from error
    return Table(tuple(columns[:place] + columns[place + 1 :]), rows)


def _split(table: Table, keys: list[str], report: Report, notes: list[str]) -> NDArray[np.uint8]:
    """(n,) index into SPLITS, 255 for a row that names no known split."""
    draw = np.fromiter((int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32 for key in keys), float)
    if "split" not in table.columns:
        notes.append("no split column: 80 % train, 10 % val, 10 % test by a hash of the path")
        return np.array(np.digitize(draw, [0.8, 0.9]), np.uint8)
    words = table.column("split", keys)
    split = np.fromiter((SPLIT_WORDS.get(word.lower(), 255) for word in words), np.uint8)
    for row in np.flatnonzero(split == 255):
        report.add("no_split", keys[row])
    if not (split == 1).any():
        notes.append("no validation rows: a tenth of train, chosen by a hash of the path, is val")
        split[(split == 0) & (draw < 0.1)] = 1
    return split


def _points(table: Table, keys: list[str], report: Report) -> NDArray[np.float64]:
    """(n, 5, 2) in pixels of the original image, NaN unknown."""
    given = [(i, name) for i, name in enumerate(POINTS) if name in table.columns]
    if not given:
        return np.broadcast_to(np.nan, (len(keys), 5, 2))
    points = np.full((len(keys), len(POINTS)), np.nan)
    for i, name in given:
        for row, text in enumerate(table.column(name, keys)):
            points[row, i] = _number(text, f"{keys[row]} ({name})", report)
    for key, known in zip(keys, np.isfinite(points).any(axis=1)):
        if not known:
            report.add("no_landmarks", key)
    return points.reshape(-1, 5, 2)


def _number(text: str, what: str, report: Report) -> float:
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if math.isinf(value):
        report.add("bad_value", what)
        return math.nan
    return value


def _codes(column: str, table: Table, keys: list[str], writer: PackWriter) -> NDArray[np.int32]:
    """(n,) whole numbers as they are; words numbered in sorted order, kept as info['<column>_names']; -1 unknown."""
    if column not in table.columns:
        return np.full(len(keys), -1, np.int32)
    texts = table.column(column, keys)
    for key in (key for key, text in zip(keys, texts) if not text):
        writer.report.add("no_identity" if column == "identity" else "no_label", key)
    words = sorted({text for text in texts if text})
    if all(word.isdecimal() and int(word) < 2**31 for word in words):
        numbers = {word: int(word) for word in words}
    else:
        numbers = {word: i for i, word in enumerate(words)}
        writer.info[f"{column}_names"] = words
    return np.fromiter((numbers.get(text, -1) for text in texts), np.int32)


def _attributes(
    table: Table, keys: list[str], report: Report, notes: list[str]
) -> tuple[tuple[str, ...], NDArray[np.int8]]:
    """The columns of 0 and 1 and their (n, A) table; any other column is named in the notes."""
    other = {"split", "identity", "label", "class", *POINTS}
    values = {name: set(table.column(name, keys)) for name in table.columns if name not in other}
    names = tuple(name for name, seen in values.items() if seen <= {"0", "1", "-1", ""} and seen & {"0", "1", "-1"})
    ignored = [name for name in values if name not in names]
    if ignored:
        notes.append(f"columns that are neither known nor 0/1 and were not used: {', '.join(ignored)}")
    seen = set().union(*(values[name] for name in names))
    codes = {"1": 1, "0": 0, "-1": -1}
    if "-1" in seen and "0" not in seen:
        codes["-1"] = 0
        notes.append("attributes hold 1 and -1 but no 0: assumed that -1 means 'absent', as in CelebA, not 'unknown'")
    marks = np.empty((len(keys), len(names)), np.int8)
    for place, name in enumerate(names):
        marks[:, place] = [codes.get(text, -1) for text in table.column(name, keys)]
    for row in np.flatnonzero((marks < 0).all(axis=1)) if names else ():
        report.add("no_attributes", keys[row])
    return names, marks
