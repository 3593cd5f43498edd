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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdebench.data.decode import (
    RESIZE,
    BadImage,
    ImageStore,
    Progress,
    centre_square,
    decoding,
    open_store,
    safe_path,
)
from mdebench.data.pack import ANNOTATED, LANDMARKS, NO_LANDMARKS
from mdebench.data.report import Report
from mdebench.data.writer import PackWriter
from mdebench.errors import UserError

EXPECTS = "one CSV with a column 'path', and the images, loose or in one zip"
SPLIT_WORDS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
POINTS = tuple(f"{name}_{axis}" for name in LANDMARKS for axis in "xy")
Rows = dict[str, dict[str, str]]  # path → column → text


def write(writer: PackWriter, root: Path, progress: Progress) -> None:
    """Read the folder or zip `root` into `writer`."""
    report, notes = writer.report, writer.info["notes"]
    store, file, text = _open(root, report)
    columns, rows = _read_table(file, text, report)
    keys = sorted(rows)
    for stray in sorted(store.members.keys() - rows.keys()):
        if not stray.endswith((".csv", ".zip")):
            report.add("unlisted", stray)
    split = _split(columns, rows, keys, report, notes)
    keys, split = [key for key, s in zip(keys, split) if s < 3], split[split < 3]
    points = _points(columns, rows, keys, report)
    labels: dict[str, NDArray[Any]] = {"identity": _codes("identity", columns, rows, keys, writer)}
    labels["label"] = _codes("label" if "label" in columns else "class", columns, rows, keys, writer)
    writer.attribute_names, labels["attributes"] = _attributes(columns, rows, keys, report, notes)
    writer.info |= {
        "source": "folder",
        "options": {},
        "of": len(rows),
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


def _open(root: Path, report: Report) -> tuple[ImageStore, str, str]:
    """The images, and the CSV's name and text: in a folder it lies beside the images, in a zip inside."""
    zips = sorted(root.glob("*.zip")) if root.is_dir() else []
    if len(zips) > 1:
        raise UserError(f"{root} holds {len(zips)} zip files; the source folder needs {EXPECTS}.")
    store = open_store(zips[0] if zips else root, report)
    inside = {key for key in store.members if key.endswith(".csv") and "/" not in key}
    tables = sorted(p.name for p in root.glob("*.csv")) if root.is_dir() else sorted(inside)
    if len(tables) != 1:
        raise UserError(f"{root} holds {len(tables)} CSV files; the source folder needs {EXPECTS}.")
    try:
        data = (root / tables[0]).read_bytes() if root.is_dir() else store.read(tables[0])
        return store, tables[0], data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, BadImage) as error:
        raise UserError(f"{root}: {tables[0]} cannot be read as UTF-8 text.") from error


def _read_table(file: str, text: str, report: Report) -> tuple[list[str], Rows]:
    try:
        table = csv.DictReader(io.StringIO(text), restval="")
        columns = [column.strip() for column in table.fieldnames or []]
        table.fieldnames = columns
        if "path" not in columns or len(set(columns)) != len(columns):
            raise UserError(f"{file} needs a column 'path' and no column twice; it has: {', '.join(columns)}.")
        rows: Rows = {}
        for row in table:
            try:
                path = safe_path(row["path"])
            except BadImage as verdict:
                report.add(str(verdict), row["path"])
                continue
            if path in rows:
                report.add("duplicate", path)
            else:
                rows[path] = {column: row[column].strip() for column in columns}
                if None in row:  # an unquoted comma, most likely
                    report.add("bad_value", f"{path} (more cells than columns)")
    except csv.Error as error:
        raise UserError(f"{file} is not a readable CSV: {error}.") from error
    return columns, rows


def _split(columns: list[str], rows: Rows, keys: list[str], report: Report, notes: list[str]) -> NDArray[np.uint8]:
    """(n,) index into SPLITS, 255 for a row that names no known split."""
    draw = np.array([int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32 for key in keys])
    if "split" not in columns:
        notes.append("no split column: 80 % train, 10 % val, 10 % test by a hash of the path")
        return np.array(np.digitize(draw, [0.8, 0.9]), np.uint8)
    split = np.array([SPLIT_WORDS.get(rows[key]["split"].lower(), 255) for key in keys], np.uint8)
    for row in np.flatnonzero(split == 255):
        report.add("no_split", keys[row])
    if not (split == 1).any():
        notes.append("no validation rows: a tenth of train, chosen by a hash of the path, is val")
        split[(split == 0) & (draw < 0.1)] = 1
    return split


def _points(columns: list[str], rows: Rows, keys: list[str], report: Report) -> NDArray[np.float64]:
    """(n, 5, 2) in pixels of the original image, NaN unknown."""
    points = np.full((len(keys), len(POINTS)), np.nan)
    given = [(i, column) for i, column in enumerate(POINTS) if column in columns]
    for row, key in enumerate(keys) if given else ():
        for i, column in given:
            points[row, i] = _number(rows[key][column], f"{key} ({column})", report)
        if not np.isfinite(points[row]).any():
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


def _codes(column: str, columns: list[str], rows: Rows, keys: list[str], writer: PackWriter) -> NDArray[np.int32]:
    """(n,) whole numbers as they are; words numbered in sorted order, kept as info['<column>_names']; -1 unknown."""
    texts = [rows[key][column] for key in keys] if column in columns else []
    for key in (key for key, text in zip(keys, texts) if not text):
        writer.report.add("no_identity" if column == "identity" else "no_label", key)
    words = sorted({text for text in texts if text})
    if all(word.isdecimal() and int(word) < 2**31 for word in words):
        numbers = {word: int(word) for word in words}
    else:
        numbers = {word: i for i, word in enumerate(words)}
        writer.info[f"{column}_names"] = words
    return np.array([numbers.get(text, -1) for text in texts] or [-1] * len(keys), np.int32)


def _attributes(
    columns: Sequence[str], rows: Rows, keys: list[str], report: Report, notes: list[str]
) -> tuple[tuple[str, ...], NDArray[np.int8]]:
    """The columns of 0 and 1 and their (n, A) table; any other column is named in the notes."""
    other = {"path", "split", "identity", "label", "class", *POINTS}
    values = {name: {rows[key][name] for key in keys} for name in columns if name not in other}
    names = tuple(name for name, seen in values.items() if seen <= {"0", "1", "-1", ""} and seen & {"0", "1", "-1"})
    ignored = [name for name in values if name not in names]
    if ignored:
        notes.append(f"columns that are neither known nor 0/1 and were not used: {', '.join(ignored)}")
    seen = set().union(*(values[name] for name in names))
    codes = {"1": 1, "0": 0, "-1": -1}
    if "-1" in seen and "0" not in seen:
        codes["-1"] = 0
        notes.append("attributes hold 1 and -1 but no 0: assumed that -1 means 'absent', as in CelebA, not 'unknown'")
    table = np.array([[codes.get(rows[key][name], -1) for name in names] for key in keys], np.int8)
    table = table.reshape(len(keys), len(names))
    for row in np.flatnonzero((table < 0).all(axis=1)) if names else ():
        report.add("no_attributes", keys[row])
    return names, table
