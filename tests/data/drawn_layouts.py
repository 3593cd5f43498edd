"""How drawn pictures and their labels lie on a disk: folders, archives, tables of every dialect, official layouts.

Each layout is written by `prepare`, which returns its pack, and says by `truth` how that pack is to be read.
"""

import csv
import gzip
import io
import random
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from drawn_pictures import Box, Point
from drawn_truth import Picture, Truth
from numpy.typing import NDArray
from scipy.io import savemat

from mdebench.data import open_pack, prepare
from mdebench.data.pack import ANNOTATED, ATTRIBUTES, LANDMARKS, NO_LANDMARKS, PSEUDO, SPLITS, Pack

SIZE = 40  # of a pack: four pixels a block
POINTS = tuple(f"{name}_{axis}" for name in LANDMARKS for axis in "xy")


def prepared(source: str, root: Path, where: Path, **options: Any) -> Pack:
    """The pack `where`/packs/drawn."""
    return open_pack(prepare(source, root, SIZE, where / "packs", name="drawn", replace=True, **options))


# Folders and archives, with what lies about in them.


@dataclass(frozen=True)
class Holder:
    """How files are laid down by their paths."""

    kind: str = "folder"  # or zip, tar, tgz, tar.gz
    method: int = zipfile.ZIP_STORED
    names: str = "flagged"  # of a zip; or "bare" UTF-8, as macOS writes it, or "cp437", as DOS does
    top: str = ""  # a folder that everything lies in
    form: str = "NFC"  # of the paths
    macosx: bool = False  # __MACOSX/, with a ._ file for every file
    doubles: bool = False  # these ._ files beside the files
    litter: bool = False
    separator: str = "/"  # of the names in a zip, some of which Windows wrote
    start: str = ""  # of the names in an archive, or "./"
    folders: bool = False  # an archive's entries for folders
    linked: bool = False  # a folder's sub folders are links to others beside them
    upper: bool = False  # an archive's ending in capitals
    order: int = 0  # a seed: in which order the members stand


LITTER = (".DS_Store", "Thumbs.db", "desktop.ini", ".~lock.labels.csv#", "README.txt")


class BareName(zipfile.ZipInfo):
    """A member whose name does not carry the flag of UTF-8."""

    coding = "utf-8"

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.filename.encode(self.coding), self.flag_bits & ~0x800


def lay_down(files: dict[str, bytes], holder: Holder, where: Path) -> Path:
    """The files in the folder `where` or in the archive of that name, with its ending; returns which."""
    entries = [(normalize(holder.form, name), data) for name, data in files.items()]
    random.Random(holder.order).shuffle(entries)
    if holder.litter:
        entries += [(name, b"\0\0\0\1Bud1") for name in LITTER]
    if holder.top:
        entries = [(f"{normalize(holder.form, holder.top)}/{name}", data) for name, data in entries]
    doubles = [(re.sub(r"([^/]+)$", r"._\1", name), b"\0\5\26\7\0\2\0\0Mac OS X") for name, _ in entries]
    entries += doubles * holder.doubles
    entries += [(f"__MACOSX/{name}", data) for name, data in doubles] * holder.macosx
    if holder.kind == "folder":
        _fill_folder(where, entries, holder.linked)
        return where
    if holder.folders:
        parents = {name[: place + 1] for name, _ in entries for place, letter in enumerate(name) if letter == "/"}
        entries = [*((parent, b"") for parent in sorted(parents)), *entries]
    entries = [(holder.start + name.replace("/", holder.separator), data) for name, data in entries]
    ending = f".{holder.kind}"
    where = where.with_name(where.name + (ending.upper() if holder.upper else ending))
    (_write_zip if holder.kind == "zip" else _write_tar)(where, entries, holder)
    return where


def _fill_folder(where: Path, entries: list[tuple[str, bytes]], linked: bool) -> None:
    where.mkdir(parents=True, exist_ok=True)
    for name, data in entries:
        first, slash, _ = name.partition("/")
        if linked and slash and first != "__MACOSX" and not (where / first).is_symlink():
            (where / f"real {first}").mkdir()
            (where / first).symlink_to(f"real {first}")
        file = where / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def _write_zip(where: Path, entries: list[tuple[str, bytes]], holder: Holder) -> None:
    with zipfile.ZipFile(where, "w") as archive:
        for name, data in entries:
            member = zipfile.ZipInfo(name) if holder.names == "flagged" else BareName(name)
            if holder.names == "cp437" and _fits(name, "cp437"):
                member.coding = "cp437"
            is_folder = name[-1] in "/\\"
            member.external_attr = (0o40755 if is_folder else 0o100644) << 16
            member.compress_type = zipfile.ZIP_STORED if is_folder else holder.method
            archive.writestr(member, data)


def _fits(text: str, coding: str) -> bool:
    try:
        return bool(text.encode(coding))
    except UnicodeEncodeError:
        return False


def _write_tar(where: Path, entries: list[tuple[str, bytes]], holder: Holder) -> None:
    with tarfile.open(where, "w" if holder.kind == "tar" else "w:gz") as archive:
        for name, data in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = (tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE), len(data)
            archive.addfile(entry, io.BytesIO(data))


# The source `folder`: pictures and a CSV.

UNKNOWN = ("", "NA", "nan", "NaN", "null", "None", "?")
# yes, no, and the words for unknown: −1 only where it is not "no" and nobody could ask whether it is.
CODINGS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "1/0": ("1", "0", UNKNOWN),
    "1/-1": ("1", "-1", UNKNOWN),
    "True/False": ("True", "False", (*UNKNOWN, "-1")),
    "TRUE/FALSE": ("TRUE", "FALSE", UNKNOWN),
    "yes/no": ("yes", "no", (*UNKNOWN, "-1")),
    "Yes/No": ("Yes", "No", UNKNOWN),
    "1.0/0.0": ("1.0", "0.0", UNKNOWN),
    "1.0/-1.0": ("1.0", "-1.0", UNKNOWN),
}
# Where a column holds 1, 0 and -1, the person is asked which coding it is.
ASKED = {"1/0": ("1", "0", (*UNKNOWN, "-1")), "1/-1": ("1", "-1", (*UNKNOWN, "0"))}
NUMBERS = ("{}", "{}.0", "{:04}")  # how whole numbers are written
CLASSES = ("cat", "dog", "été", "New York, NY", 'the "best"', "a;b", "Straße 7")
PERSONS = ("Ana", "Zoë", "O'Neil, Sam", "7 of 9", "李", 'Joe "J" Doe', "b;c")
ATTRIBUTE_NAMES = ("smile", "Bart, voll", 'so-called "age"', "glad; not sad")
SPLIT_WORDS = {
    "train": ("train", "training", "Train"),
    "val": ("val", "valid", "validation", "dev", "eval", "VAL"),
    "test": ("test", "testing", "Test"),
}


@dataclass(frozen=True)
class Dialect:
    """How a CSV is written."""

    file: str = "labels.csv"
    delimiter: str = ","
    quoting: int = csv.QUOTE_MINIMAL
    line_end: str = "\n"
    coding: str = "utf-8"
    ends: bool = True  # the last line has an end
    nameless: int = 0  # empty columns at the end, without a name
    index: bool = False  # a first column without a name that counts the rows, as pandas writes it
    empty_rows: str = ""  # or "blank" lines, or rows of "delimiters", or a blank line that comes "first"
    padded: bool = False  # a space after every delimiter, where nothing is quoted
    says_separator: bool = False  # a first line sep=; for Excel
    ragged: bool = False  # empty cells at the end of a row are not written
    separator: str = "/"  # in paths
    dot: bool = False  # paths begin with ./
    form: str = "NFC"  # of paths
    identity: str | None = None  # one of NUMBERS, "mixed" of them, "words", or no such column
    base: int = 0  # added to identities that are numbers
    label: str | None = None  # as identity
    label_column: str = "label"
    attributes: tuple[str, ...] = ()  # of CODINGS, for each column
    asked: str = ""  # or that of ASKED which all of them are in
    split_words: tuple[str, ...] = SPLITS  # or no such column
    landmarks: tuple[str, ...] = ()  # those that have columns
    digits: int = 0  # after the point, of coordinates
    no_point: tuple[str, ...] = ("",)  # words that stand, in x as in y, where a point is unknown
    half: bool = False  # such a word stands in y alone
    shares: bool = False  # coordinates are shares of the picture's width and height
    comma: bool = False  # a decimal comma, as Excel writes it beside a semicolon
    extra: bool = False  # columns that are no labels
    order: int = 0  # a seed: of rows and columns, and which word stands for unknown


@dataclass(frozen=True)
class FolderLayout:
    """A folder or archive with a CSV."""

    pictures: tuple[Picture, ...]
    dialect: Dialect = Dialect()
    holder: Holder = Holder()
    place: str = "inside"  # of the CSV: inside, beside the archive, or inside one that lies alone in a folder

    def prepare(self, where: Path, **options: Any) -> Pack:
        """Write it below `where` and make its pack there."""
        widths = self.truth().widths
        options |= {"attribute_coding": self.dialect.asked} if self.dialect.asked else {}
        files = {p.path: p.file(widths, centred(p.size)) for p in self.pictures if p.has_file}
        table = {self.dialect.file: table_of(self.pictures, self.dialect)}
        if self.place == "inside":
            return prepared("folder", lay_down(files | table, self.holder, where / "faces"), where, **options)
        root = where / "faces"
        root.mkdir()
        lay_down(files if self.place == "beside" else files | table, self.holder, root / "images")
        if self.place == "beside":
            lay_down(table, Holder(), root)
        return prepared("folder", root, where, **options)

    def truth(self) -> Truth:
        """How its pack is to be read."""
        dialect, marks = self.dialect, range(len(self.dialect.attributes))
        return Truth(
            {"number": 9, "split": 2, "identity": 3, "label": 3, **{f"attribute {place}": 2 for place in marks}},
            ATTRIBUTE_NAMES[: len(marks)],
            identity=_reading("identity", dialect.identity, PERSONS, dialect.base),
            label=_reading(dialect.label_column, dialect.label, CLASSES, 0),
            splits=bool(dialect.split_words),
            is_list=True,
        )


def centred(size: tuple[int, int]) -> Box:
    """The largest square in the middle."""
    width, height = size
    side = min(size)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def _reading(column: str, way: str | None, words: Sequence[str], base: int) -> Callable[[Pack, int], Any]:
    """From a code of the pack to what its picture shows, by the names that the pack gives."""

    def meant(pack: Pack, code: int) -> Any:
        name = pack.info.get(f"{column}_names", {code: code})[code]  # numbers stand for themselves, unless too large
        if way == "words":
            return words.index(name) if name in words else name
        whole = re.fullmatch(r"(\d+)(\.0)?", str(name))
        return int(whole[1]) - base if whole else name

    return meant


def table_of(pictures: Iterable[Picture], dialect: Dialect) -> bytes:
    """The CSV of the pictures that have a row."""
    rng = random.Random(dialect.order)
    rows = [picture for picture in pictures if picture.has_row]
    rng.shuffle(rows)
    columns = _columns(rows, dialect, rng)
    names = list(columns)
    rng.shuffle(names)
    lines = [names, *([columns[name][row] for name in names] for row in range(len(rows)))]
    if dialect.index:
        lines = [[str(row - 1) if row else "", *line] for row, line in enumerate(lines)]
    lines = [line + [""] * dialect.nameless for line in lines]
    if dialect.ragged:
        lines = [lines[0], *map(_without_end, lines[1:])]
    stream = io.StringIO()
    if dialect.says_separator:
        stream.write(f"sep={dialect.delimiter}{dialect.line_end}")
    if dialect.empty_rows == "first":
        stream.write(dialect.line_end)
    if dialect.padded:
        lines = [
            [line[0], *(f" {cell}" if not set(cell) & set(',;\t"\n') else cell for cell in line[1:])] for line in lines
        ]
    how: dict[str, Any] = {"delimiter": dialect.delimiter, "quoting": dialect.quoting}
    writer = csv.writer(stream, lineterminator=dialect.line_end, **how)
    delimiters = dialect.delimiter * (len(lines[0]) - 1)
    empty = {"": "", "first": "", "blank": dialect.line_end, "delimiters": delimiters + dialect.line_end}
    for row, line in enumerate(lines):
        writer.writerow(line)
        stream.write(empty[dialect.empty_rows] * (row % 2))
    text = stream.getvalue()
    return (text if dialect.ends else text.removesuffix(dialect.line_end)).encode(dialect.coding)


def _without_end(line: list[str]) -> list[str]:
    while len(line) > 1 and not line[-1]:
        line = line[:-1]
    return line


def _columns(rows: list[Picture], dialect: Dialect, rng: random.Random) -> dict[str, list[str]]:
    """Name → texts of the rows."""
    start = "./" if dialect.dot else ""
    columns = {"path": [normalize(dialect.form, start + p.path).replace("/", dialect.separator) for p in rows]}
    if dialect.split_words:
        columns["split"] = [dialect.split_words[SPLITS.index(p.split)] for p in rows]
    if dialect.identity:
        columns["identity"] = _codes([p.identity for p in rows], dialect.identity, PERSONS, dialect.base, rng)
    if dialect.label:
        columns[dialect.label_column] = _codes([p.label for p in rows], dialect.label, CLASSES, 0, rng)
    for place, (name, coding) in enumerate(zip(ATTRIBUTE_NAMES, dialect.attributes)):
        yes, no, unknown = ASKED[dialect.asked] if dialect.asked else CODINGS[coding]
        texts = {1: yes, 0: no}
        columns[name] = [texts.get(p.attributes[place], rng.choice(unknown)) for p in rows]
    for name in dialect.landmarks:
        points = [in_pixels(p, name, centred(p.size)) if name in p.dots else None for p in rows]
        words = [rng.choice(dialect.no_point) for _ in rows]
        for axis, letter in enumerate("xy"):
            sides = [p.size[axis] if dialect.shares else 1 for p in rows]
            nothing = ["30" if dialect.half and letter == "x" else word for word in words]
            values = [point[axis] / side if point else None for point, side in zip(points, sides)]
            digits = dialect.digits + 4 * dialect.shares
            texts = [word if value is None else f"{value:.{digits}f}" for value, word in zip(values, nothing)]
            columns[f"{name}_{letter}"] = [text.replace(".", ",") if dialect.comma else text for text in texts]
    if dialect.extra:
        columns["note"] = [f'seen, "{p.number}";\nthen\tnot' for p in rows]
        columns["age"] = [f"{20 + p.number / 4}" for p in rows]
    return columns


def _codes(values: list[int | None], way: str, words: Sequence[str], base: int, rng: random.Random) -> list[str]:
    ways = NUMBERS if way == "mixed" else [way]
    unknown = list(UNKNOWN)
    if way == "words" or {value + base for value in values if value is not None} != {1}:  # −1 and 1: two classes?
        unknown += ["-1.0"] if way == "{}.0" else ["-1"]
    texts = []
    for value in values:
        how = rng.choice(ways)
        word = words[value] if way == "words" and value is not None else how.format((value or 0) + base)
        texts.append(rng.choice(unknown) if value is None else word)
    return texts


def in_pixels(picture: Picture, name: str, box: Box) -> Point:
    """Where a dot of the upright picture is."""
    left, top, right, bottom = box
    x, y = picture.dots[name]
    return left + x * (right - left), top + y * (bottom - top)


def on_grid(picture: Picture, box: Box, digits: int) -> Picture:
    """The picture with its dots where coordinates of so many digits can say that they are."""
    left, top, right, bottom = box
    dots = {}
    for name in picture.dots:
        x, y = (round(value, digits) for value in in_pixels(picture, name, box))
        dots[name] = ((x - left) / (right - left), (y - top) / (bottom - top))
    return replace(picture, dots=dots)


# CelebA, as it is distributed.

WIDTH, HEIGHT = 178, 218
LISTS = ("list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt", "list_landmarks_align_celeba.txt")


@dataclass(frozen=True)
class CelebALayout:
    """The official files, and any subset of the pictures in any size."""

    pictures: tuple[Picture, ...]
    holder: Holder = Holder()
    png: bool = False  # the pictures of img_align_celeba_png, which the lists call .jpg
    images_in: str = ""  # or Img
    lists_in: tuple[str, ...] = ("", "", "", "")  # or Anno, Eval
    coding: str = "utf-8"
    line_end: str = "\n"
    gap: str = " "
    commas: bool = False  # the lists as .csv, whose first column has a name, too
    predicted: tuple[int, ...] = ()  # the pictures whose points are in pseudo_landmarks.csv alone
    order: int = 0  # a seed: of the rows

    def prepare(self, where: Path, **options: Any) -> Pack:
        """Write it below `where` and make its pack there."""
        root, widths = where / "celeba", self.truth().widths
        for folder, (name, lines) in zip(self.lists_in, self._lists().items()):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / (name.replace(".txt", ".csv") if self.commas else name)).write_bytes(self._text(lines))
        if self.predicted:
            rows = [p for p in self.pictures if p.number in self.predicted and p.dots]
            lines = [",".join(["image_id", *POINTS, "probability"])]
            lines += [",".join([p.path, *_coordinates(p), "0.99"]) for p in rows]
            (root / "pseudo_landmarks.csv").write_bytes(self._text(lines))
            options["pseudo_landmarks"] = True
        name, ending = ("img_align_celeba_png", ".png") if self.png else ("img_align_celeba", ".jpg")
        named = {p.path.replace(".jpg", ending): p for p in self.pictures if p.has_file}
        (root / self.images_in).mkdir(exist_ok=True)
        files = {path: p.file(widths, celeba_box(p.size)) for path, p in named.items()}
        lay_down(files, self.holder, root / self.images_in / name)
        return prepared("celeba", root, where, **options)

    def truth(self) -> Truth:
        """How its pack is to be read."""
        sources = {p.number: PSEUDO if p.number in self.predicted else ANNOTATED for p in self.pictures if p.dots}
        return Truth(
            {"number": 5, "split": 2, "identity": 4, **{f"attribute {place}": 1 for place in range(40)}},
            ATTRIBUTES,
            landmark_source=lambda picture: sources.get(picture.number, NO_LANDMARKS),
        )

    def _text(self, lines: list[str]) -> bytes:
        return self.line_end.join([*lines, ""]).encode(self.coding)

    def _lists(self) -> dict[str, list[str]]:
        rows = [picture for picture in self.pictures if picture.has_row]
        random.Random(self.order).shuffle(rows)
        pointed = [p for p in rows if p.dots and p.number not in self.predicted]
        marks = [[p.path, *("1" if mark else "-1" for mark in p.attributes)] for p in rows]
        points = [[p.path, *_coordinates(p)] for p in pointed]
        splits = [[p.path, str(SPLITS.index(p.split))] for p in rows]
        people = [[p.path, str(p.identity)] for p in rows if p.identity is not None]
        if self.commas:
            heads = [ATTRIBUTES, ["partition"], ["identity"], POINTS]
            tables = [[["image_id", *head], *rows] for head, rows in zip(heads, (marks, splits, people, points))]
            return {name: [",".join(cells) for cells in table] for name, table in zip(LISTS, tables)}
        numbered = [[[str(len(rows))], head, *rows] for head, rows in ((ATTRIBUTES, marks), (POINTS, points))]
        tables = [numbered[0], splits, people, numbered[1]]
        return {name: [self.gap.join(cells) for cells in table] for name, table in zip(LISTS, tables)}


def celeba_box(size: tuple[int, int]) -> Box:
    """The crop that the paper takes: 133.5 pixels around (89, 121) of 178×218."""
    x, y = size[0] / WIDTH, size[1] / HEIGHT
    return 22.25 * x, 54.25 * y, 155.75 * x, 187.75 * y


def _coordinates(picture: Picture) -> list[str]:
    """x and y of each dot in whole pixels of 178×218, as the official list has them."""
    points = [in_pixels(picture, name, celeba_box((WIDTH, HEIGHT))) for name in LANDMARKS]
    return [f"{value:.0f}" for point in points for value in point]


# Oxford-102 and MNIST.


@dataclass(frozen=True)
class FlowersLayout:
    """jpg/ or 102flowers.tgz, and the lists of Matlab."""

    pictures: tuple[Picture, ...]  # the paths image_00001.jpg …, of train or test
    holder: Holder = Holder()

    def prepare(self, where: Path, **options: Any) -> Pack:
        """Write it below `where` and make its pack there."""
        root, widths = where / "flowers", self.truth().widths
        root.mkdir()
        numbers = {split: [p.number + 1 for p in self.pictures if p.split == split] for split in SPLITS}
        lists = {"trnid": numbers["train"][::2], "tstid": numbers["train"][1::2], "valid": numbers["test"]}
        savemat(root / "setid.mat", {name: np.array([values], np.uint16) for name, values in lists.items()})
        labels = [p.label + 1 for p in sorted(self.pictures, key=lambda p: p.number) if p.label is not None]
        savemat(root / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
        files = {p.path: p.file(widths, centred(p.size)) for p in self.pictures if p.has_file}
        if self.holder.kind == "folder":
            lay_down(files, self.holder, root / "jpg")
        else:
            lay_down(files, replace(self.holder, top="jpg"), root / "102flowers")
        return prepared("flowers", root, where, **options)

    def truth(self) -> Truth:
        """How its pack is to be read."""
        return Truth({"number": 6, "split": 2, "label": 7})


@dataclass(frozen=True)
class MnistLayout:
    """The four idx files."""

    pictures: tuple[Picture, ...]  # the paths train-00000 … and t10k-00000 …, in this order
    folder: str = ""  # or raw, MNIST/raw
    dots: bool = False  # train-images.idx3-ubyte, as some programs unpack it
    packed: bool = False

    def prepare(self, where: Path, **options: Any) -> Pack:
        """Write it below `where` and make its pack there."""
        root, widths = where / "mnist", self.truth().widths
        (root / self.folder).mkdir(parents=True)
        for part, split in (("train", "train"), ("t10k", "test")):
            here = [p for p in self.pictures if p.split == split]
            digits = [p.drawn(widths, (0, 0, 28, 28))[..., 0] for p in here]
            self._write(root, f"{part}-images-idx3-ubyte", np.array(digits, np.uint8).reshape(-1, 28, 28))
            self._write(root, f"{part}-labels-idx1-ubyte", np.array([p.label for p in here], np.uint8))
        return prepared("mnist", root, where, **options)

    def _write(self, root: Path, name: str, values: NDArray[np.uint8]) -> None:
        data = struct.pack(f">4B{values.ndim}i", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()
        name = name.replace("-idx", ".idx") if self.dots else name
        file = root / self.folder / (f"{name}.gz" if self.packed else name)
        file.write_bytes(gzip.compress(data) if self.packed else data)

    def truth(self) -> Truth:
        """How its pack is to be read."""
        return Truth({"number": 6, "split": 2, "label": 4})


Layout = FolderLayout | CelebALayout | FlowersLayout | MnistLayout
