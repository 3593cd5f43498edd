"""Your own images: a folder or zip with one CSV, for any data set that has no reader of its own.

The CSV has a column `path` (relative to the folder or zip) and, as far as there are labels, `split` (train, val, test
and their like), `identity`, `label` (or `class`), NAME_x and NAME_y in pixels of the upright image (or as shares of its
width and height) for the five landmarks of `pack.LANDMARKS`, and attribute columns that say yes or no, under any name.
The crop is the largest centred square. Rows without a split are divided by a hash: of their identity, or of their path.

Clips are folders of frames: `clip` says which clip a picture is a frame of (its folder, where the CSV has `frame`
alone), `frame` which place it has there. Frames without a number follow in the natural order of their paths, in which
2 comes before 10.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdebench import files
from mdebench.data import labels
from mdebench.data.decode import RESIZE, centre_square
from mdebench.data.pack import ANNOTATED, LANDMARKS, NO_LANDMARKS, outside_crop
from mdebench.data.report import Report
from mdebench.data.store import (
    ARCHIVES,
    PICTURES,
    BadImage,
    ImageStore,
    is_archive,
    is_litter,
    open_store,
    read_member,
    safe_path,
)
from mdebench.data.tables import read_table
from mdebench.data.workers import Decoded, decoding
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError
from mdebench.words import words

EXPECTS = "one CSV with a column 'path', and the images, loose or in one zip or tar"
POINTS = tuple(f"{name}_{axis}" for name in LANDMARKS for axis in "xy")
PACKED = (".7z", ".rar", ".gz", ".bz2", ".xz", ".zst")  # archives that `open_store` names, or single files
KNOWN = ("path", "split", "identity", "label", "class", "clip", "frame", *POINTS)

Cells = dict[str, list[str]]  # column → its cells


def write(writer: PackWriter, root: Path, progress: Progress, *, attribute_coding: str | None = None) -> None:
    """Read the folder or zip `root` into `writer`.

    attribute_coding: how to read attribute columns that hold -1 as well as 0, one of `labels.CODINGS`.
    """
    labels.check_coding(attribute_coding)
    report, notes = writer.report, writer.info["notes"]
    store, file, data = _open(root, report)
    keys, cells = _listed(file, data, report, notes)
    if "frame" in cells and "clip" not in cells:
        cells["clip"] = [key.rpartition("/")[0] for key in keys]
        notes.append("no clip column: the frames of a folder are a clip")
    store = store.meeting(keys)
    for stray in sorted(store.members.keys() - set(keys)):
        if not stray.lower().endswith((".csv", *ARCHIVES)):
            report.add("unlisted", stray)
    codes = labels.read_codes("clip", cells.get("clip", [""] * len(keys)))
    split = _split(keys, cells, codes.numbers, report, notes)
    of, given = len(keys), any(name in cells for name in POINTS)
    clips = labels.read_clips(codes, cells.get("frame", [""] * len(keys)), keys, split)
    order, notes[:] = clips.order, notes + codes.notes + clips.notes
    keys, split = [keys[row] for row in order], split[order]
    cells = {name: [column[row] for row in order] for name, column in cells.items()}
    for row in np.flatnonzero(clips.unreadable):
        report.add("bad_value", f"{keys[row]} (frame)")
    points = labels.read_points(cells, LANDMARKS, len(keys))
    others = {name: texts for name, texts in cells.items() if name not in KNOWN}
    attributes = labels.read_attributes(others, len(keys), attribute_coding)
    writer.attribute_names = attributes.names
    read: dict[str, NDArray[Any]] = {"attributes": attributes.marks}
    read |= {"clip": clips.numbers} if "clip" in cells else {}
    for name, column in (("identity", "identity"), ("label", "label" if "label" in cells else "class")):
        codes = labels.read_codes(column, cells.get(column, [""] * len(keys)))
        read[name] = codes.numbers
        notes += codes.notes
        writer.info |= {f"{column}_names": codes.words} if codes.words is not None else {}
    notes += ["the column class was not used: label is there"] if {"label", "class"} <= cells.keys() else []
    notes += attributes.notes + points.notes
    _tell_unlabelled(keys, cells, read, points, report)
    writer.info |= {
        "source": "folder",
        "options": {} if attribute_coding is None else {"attribute_coding": attribute_coding},
        "of": of,
        "crop": "largest centred square",
        "resize": RESIZE,
    }
    with decoding(store, keys, centre_square, writer.size, report, progress) as parts:
        for part in parts:
            landmarks = _placed(part, points, keys, report) if given else np.full((len(part.rows), 5, 2), np.nan)
            writer.add(
                part.images,
                [keys[row] for row in part.rows],
                split[part.rows],
                landmarks=landmarks,
                landmark_source=np.where(np.isfinite(landmarks).any(axis=(1, 2)), ANNOTATED, NO_LANDMARKS),
                **{name: values[part.rows] for name, values in read.items()},
            )


def _open(root: Path, report: Report) -> tuple[ImageStore, str, bytes]:
    """The images, and the CSV's name and content: it lies beside the images or their one archive, or with them in the
    archive. Whether a folder is around all of it does not matter.
    """
    loose = sorted(path for path in root.iterdir() if not path.is_dir()) if root.is_dir() else []
    archives = [path.name for path in loose if is_archive(path)]
    if len(archives) > 1:
        what = f"{len(archives)} archives ({words(archives)})"
        raise UserError(f"{root} holds {what}; the source folder needs {EXPECTS}.")
    store = open_store(root / archives[0] if archives else root, report)
    packed = [path for path in loose if path.suffix.lower() in PACKED]
    if packed and not archives and not any(key.lower().endswith(PICTURES) for key in store.members):
        store = open_store(packed[0], report)  # which says what it is, unless it is something better than its name
    beside = [path.name for path in loose if _is_table(path.name)]
    level, tables = store, beside
    if not beside:
        found = ((level, sorted(filter(_is_table, level.members))) for level in store.levels())
        level, tables = next((each for each in found if each[1]), (store, []))
    if len(tables) != 1:
        deeper = sorted(key for key in store.members if key.lower().endswith(".csv"))
        none = f"no CSV file at its top (there is {deeper[0]})" if deeper else "no CSV file"
        what = f"{len(tables)} CSV files ({words(tables)})" if tables else none
        raise UserError(f"{root} holds {what}; the source folder needs {EXPECTS}.")
    (file,) = tables
    try:
        return store, file, files.read_bytes(root / file) if beside else read_member(level.read, level.member(file))
    except BadImage as verdict:
        raise UserError(f"{root}: {file} cannot be read: {verdict.told()}.") from verdict
    except OSError as error:
        raise UserError(f"{root}: {file} cannot be read: {files.said(error)}.") from error


def _is_table(path: str) -> bool:
    return path.lower().endswith(".csv") and "/" not in path and not is_litter(path)


def _listed(file: str, data: bytes, report: Report, notes: list[str]) -> tuple[list[str], Cells]:
    """The paths of the CSV in sorted order, and of each other column the cells in that order."""
    table = read_table(data, file, "path", KNOWN)
    notes += table.notes
    place = table.columns.index("path")
    rows: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(table.rows):
        try:
            path = safe_path(row[place]) if row[place] else ""
        except BadImage as verdict:
            report.add(str(verdict), row[place])
            continue
        if not path:
            report.add("no_path", f"row {number + 1}")
            continue
        if path in rows:
            report.add("duplicate", path)
            continue
        rows[path] = row
        if number in table.longer:  # an unquoted separator, most likely
            report.add("bad_value", f"{path} (more cells than columns)")
    keys = sorted(rows)
    columns = zip(table.columns, zip(*(rows[key] for key in keys))) if keys else ()
    return keys, {name: list(column) for name, column in columns if name != "path"}


def _cells_of(rows: NDArray[np.int64], cells: Cells) -> Cells:
    return {name: [column[row] for row in rows] for name, column in cells.items()}


def _split(
    keys: list[str], cells: Cells, clips: NDArray[np.int32], report: Report, notes: list[str]
) -> NDArray[np.uint8]:
    """(n,) index into SPLITS, 255 for a row that names no known split. Nobody gets into two partitions by chance."""
    codes = labels.read_codes("identity", cells.get("identity", [""] * len(keys)))
    people = codes.numbers if codes.words is None else np.array([*codes.words, ""], object)[codes.numbers]
    known = codes.numbers >= 0
    paths = [key if clip < 0 else f"clip {clip}" for key, clip in zip(keys, clips)]
    groups = [f"identity {person}" if told else path for person, told, path in zip(people, known, paths)]
    by = "of the clip, so that none is in two of them" if (clips >= 0).any() else "of the path"
    by = "of the identity, so that nobody is in two of them" if known.any() else by
    if "split" not in cells:
        notes.append(f"no split column: 80 % train, 10 % val, 10 % test by a hash {by}")
        return labels.divided(groups, labels.ALL)
    split = labels.read_splits(cells["split"])
    for row in np.flatnonzero(split == 255):
        report.add("no_split", keys[row])
    train = np.flatnonzero(split == 0)
    if not (split == 1).any() and len(train):
        notes.append(f"no validation rows: a tenth of train, chosen by a hash {by}, is val")
        split[train] = labels.divided([groups[row] for row in train], labels.OF_TRAIN)
    parts: dict[str, set[int]] = {}
    for group, part in zip(groups, split):
        parts.setdefault(group, set()).add(int(part))
    if several := sum(len(each - {255}) > 1 for each in parts.values()):
        notes.append(f"the split column has {several:,} people in more than one partition")
    return split


def _tell_unlabelled(
    keys: list[str], cells: Cells, read: dict[str, NDArray[Any]], points: labels.Points, report: Report
) -> None:
    """What is to be said of rows whatever their image: a column is there, and says nothing of them."""
    label = "label" in cells or "class" in cells
    unlabelled = {
        "no_identity": (read["identity"] < 0) & ("identity" in cells),
        "no_label": (read["label"] < 0) & label,
        "no_attributes": (read["attributes"] < 0).all(axis=1) & (read["attributes"].shape[1] > 0),
        "no_place": points.dropped,
    }
    for kind, which in unlabelled.items():
        for row in np.flatnonzero(which):
            report.add(kind, keys[row])
    for row in np.flatnonzero(points.unreadable):
        report.add("bad_value", f"{keys[row]} (landmarks)")


def _placed(part: Decoded, points: labels.Points, keys: list[str], report: Report) -> NDArray[np.float64]:
    """(n, 5, 2) relative to the crop, NaN unknown; whatever is odd about the points of an image is told."""
    size = part.boxes[:, :2] + part.boxes[:, 2:]  # of the upright images: the square lies in their middle
    places: NDArray[np.float64] = points.places[part.rows] * (size[:, None] if points.shares else np.ones(1))
    beyond: NDArray[np.bool_] = (places < 0) | (places > size[:, None])
    outside: NDArray[np.bool_] = np.any(beyond, axis=2)
    places[outside] = np.nan
    inside: NDArray[np.float64] = (places - part.boxes[:, None, :2]) / (part.boxes[:, 2:] - part.boxes[:, :2])[:, None]
    known: NDArray[np.bool_] = np.isfinite(inside[..., 0])
    some, every = np.any(known, axis=1), np.all(known, axis=1)
    turned = np.array(["exif_orientation" in kinds for kinds in part.kinds])
    odd = {
        "no_place": np.any(outside, axis=1),
        "no_landmarks": ~some,
        "some_landmarks": some & ~every,
        "outside_crop": outside_crop(inside),
        "shares": some & points.shares,
        "turned_landmarks": some & turned,
    }
    for kind, which in odd.items():
        for row in np.flatnonzero(which):
            report.add(kind, keys[part.rows[row]])
    return inside
