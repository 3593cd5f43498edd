"""Valid inputs of every dialect and layout, drawn by hypothesis: their packs must say what the pictures show.

SOURCES draws what pictures show, how tables are written and where files lie; `hold` writes one, makes its pack and
asks the oracle. ``make dialects`` holds 2,000, counts what was drawn, and shows of each way to fail the smallest
layout (``python tests/data/drawn_dialects.py COUNT SEED`` holds others).
"""

import csv
import re
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from drawn_layouts import (
    ASKED,
    CODINGS,
    HEIGHT,
    LISTS,
    NUMBERS,
    SPLIT_WORDS,
    UNKNOWN,
    WIDTH,
    CelebALayout,
    Dialect,
    FlowersLayout,
    FolderLayout,
    Holder,
    Layout,
    MnistLayout,
    celeba_box,
    centred,
    on_grid,
)
from drawn_pictures import FORMATS, JITTER, PLACES, WITH_EXIF, Point
from drawn_truth import Picture, Wrong, compare, compare_report
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from mdebench.data import workers
from mdebench.data.pack import LANDMARKS, SPLITS
from mdebench.errors import UserError

STEMS = ("p{}", "{}", "IMG ({})", "a,b {}", "it's {}", 'say "{}"', "[{}]", "semi;{}", "été {}", "ñandú-{}")
STEMS += (
    "über.{}",
    "日本{}",
    "100% {}",
    "#{}",
    "a..{}",
    "São João_{}",
    "-{}",
    "{}.5",
    "NA{}",
    "한글{}",
    "\u212b {}",
    "🙂{}",
)
FOLDERS = ("", "", "", "sub/", "a/b/", "train [1]/", "Übung/", "with space/")
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def hold(layout: Layout) -> None:
    """AssertionError unless the pack of the layout is what its pictures show."""
    with tempfile.TemporaryDirectory() as folder:
        pack = layout.prepare(Path(folder))
        compare(pack, layout.pictures, layout.truth())
        compare_report(pack, layout.pictures, layout.truth())


def hold_in_processes(layout: Layout) -> None:
    """AssertionError unless processes, as they decode many pictures, make the pack that threads make of few."""
    with tempfile.TemporaryDirectory() as threads, tempfile.TemporaryDirectory() as processes:
        expected, many = layout.prepare(Path(threads)).hash, workers.MANY
        workers.MANY = 1
        try:
            assert layout.prepare(Path(processes)).hash == expected, "processes make another pack than threads"
        finally:
            workers.MANY = many


def rarely(times: int = 6) -> st.SearchStrategy[bool]:
    """True once in so many."""
    return st.integers(1, times).map(lambda drawn: drawn == times)


@st.composite
def holders(draw: st.DrawFn, *kinds: str, tops: tuple[str, ...] = ("",)) -> Holder:
    """Folders and archives of these kinds."""
    kind = draw(st.sampled_from(kinds))
    holder = Holder(
        kind,
        form=draw(st.sampled_from(["NFC", "NFC", "NFD"])),
        macosx=draw(rarely()),
        doubles=draw(rarely()),
        litter=draw(rarely()),
        order=draw(st.integers(0, 99)),
    )
    holder = replace(holder, top=draw(st.sampled_from(tops)))
    if kind == "folder":
        return replace(holder, linked=not holder.top and draw(rarely()))
    if kind == "zip":
        names = draw(st.sampled_from(["flagged", "flagged", "bare", "cp437"]))
        separator = draw(st.sampled_from(["/", "/", "/", "/", "\\"]))
        holder = replace(holder, method=draw(st.sampled_from(METHODS)), names=names, separator=separator)
    return replace(holder, start=draw(st.sampled_from(["", "", "./"])), folders=draw(rarely()), upper=draw(rarely()))


@st.composite
def dialects(draw: st.DrawFn) -> Dialect:
    """CSVs as spreadsheets and data frames write them."""
    pick = lambda *choices: draw(st.sampled_from(choices))  # noqa: E731
    delimiter = pick(",", ",", ";", "\t")
    no_point = pick(("",), UNKNOWN, UNKNOWN, ("-1",), ("0",), ("-1.0",), ("0.0",), ("9999",), ("-20",))
    line_end = pick("\n", "\r\n", "\r\n", "\r")
    if draw(rarely(20)):
        return Dialect(delimiter=delimiter, split_words=())  # a list of paths
    return Dialect(
        file=pick("labels.csv", "labels.csv", "LABELS.CSV", "my labels (é).Csv"),
        delimiter=delimiter,
        quoting=pick(csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL),
        line_end=line_end,
        coding=pick("utf-8", "utf-8", "utf-8-sig", "utf-16"),
        ends=not draw(rarely(4)),
        nameless=pick(0, 0, 0, 1, 2),
        index=draw(rarely()),
        empty_rows=pick("", "", "", "", "blank", "blank", "delimiters", "delimiters", "first"),
        ragged=draw(rarely()),
        padded=draw(rarely()),
        says_separator=line_end != "\r" and draw(rarely()),
        separator=pick("/", "/", "/", "\\"),
        dot=draw(rarely()),
        form=pick("NFC", "NFC", "NFD"),
        identity=pick(None, *NUMBERS, "mixed", "words"),
        base=pick(0, 1, 10177, 10**10),
        label=pick(None, *NUMBERS, "mixed", "words"),
        label_column=pick("label", "class"),
        attributes=tuple(draw(st.lists(st.sampled_from(list(CODINGS)), max_size=4))),
        asked=pick("", "", "", "", *ASKED),
        split_words=() if draw(rarely(4)) else tuple(pick(*SPLIT_WORDS[split]) for split in SPLITS),
        landmarks=pick((), LANDMARKS, LANDMARKS, LANDMARKS[:3], LANDMARKS[1:]),
        digits=pick(0, 1, 2),
        no_point=no_point,
        half=no_point[-1] in ("?", "-1") and draw(rarely()),
        shares=no_point[0] not in ("9999", "-20") and draw(rarely()),  # else not all lie within 0 and 1
        comma=delimiter == ";" and draw(rarely()),
        extra=draw(rarely()),
        order=draw(st.integers(0, 99)),
    )


@st.composite
def dots(draw: st.DrawFn, names: tuple[str, ...]) -> dict[str, Point]:
    """Those of the names, each near its usual place."""
    off = st.integers(-10, 10).map(lambda tenth: tenth / 10 * JITTER)
    return {name: (PLACES[name][0] + draw(off), PLACES[name][1] + draw(off)) for name in names}


def some_of(names: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    """All of them, more often than some or none."""
    chosen = st.lists(st.sampled_from(names), unique=True).map(tuple) if names else st.just(())
    return st.one_of(st.just(names), st.just(names), st.just(names), chosen)


def orientations(format: str) -> st.SearchStrategy[int]:
    """What EXIF may say in a format."""
    told = [*range(2, 9), *([] if format in ("tif", "tiff") else [0])]  # which Pillow does not write into a TIFF
    return st.sampled_from([1, 1, 1, *told]) if format in WITH_EXIF else st.just(1)


@st.composite
def folder_layouts(draw: st.DrawFn) -> FolderLayout:
    """Folders and archives with a CSV."""
    dialect = draw(dialects())
    numbers = draw(st.permutations(range(draw(st.integers(2, 8)))))  # else names would stand in their order
    code = st.none() | st.integers(0, draw(st.sampled_from([2, 6])))  # few people, each in several pictures, or many
    pictures = []
    for place, number in enumerate(numbers):
        format = draw(st.sampled_from(list(FORMATS)))
        stem, folder = draw(st.sampled_from(STEMS)), draw(st.sampled_from(FOLDERS))
        ending = format.rpartition(".")[2]
        # The first two rows show both values of each attribute: a column of one value alone may mean either.
        mark = st.just(1 - place) if place < 2 else st.sampled_from([0, 1, None])
        picture = Picture(
            number,
            f"{folder}{stem.format(number)}.{ending.upper() if draw(rarely()) else ending}",
            split=draw(st.sampled_from(SPLITS)),
            identity=draw(code) if dialect.identity else None,
            label=draw(code) if dialect.label else None,
            attributes=tuple(draw(mark) for _ in dialect.attributes),
            dots=draw(some_of(dialect.landmarks).flatmap(dots)),
            size=(draw(st.integers(50, 90)), draw(st.integers(50, 90))),
            format=format,
            orientation=draw(orientations(format)),
            has_file=place == 0 or not draw(rarely(8)),
            has_row=place < 2 or not draw(rarely(8)),
        )
        pictures.append(on_grid(picture, centred(picture.size), dialect.digits))
    tops = ("", "", "photos", "Fotos é (1)")
    holder = draw(holders("folder", "folder", "zip", "zip", "tar", "tgz", "tar.gz", tops=tops))
    place = draw(st.sampled_from(["inside", "beside", "alone"])) if holder.kind == "zip" else "inside"
    return FolderLayout(tuple(pictures), dialect, holder, place)


@st.composite
def celeba_layouts(draw: st.DrawFn) -> CelebALayout:
    """The official layout with any subset of pictures, in any of its sizes."""
    png = draw(rarely())
    pictures = []
    for number in range(draw(st.integers(1, 6))):
        format = "png" if png else draw(st.sampled_from(["jpg", "jpg", "jpeg", "png"]))
        scale = draw(st.sampled_from([1, 0.5, 1.5]))
        picture = Picture(
            number,
            f"{number + 1:06d}.jpg",
            split=draw(st.sampled_from(SPLITS)),
            identity=draw(st.none() | st.integers(1, 14)),
            attributes=tuple(map(int, f"{draw(st.integers(0, 2**40 - 1)):040b}")),
            dots=draw(st.sampled_from([LANDMARKS, LANDMARKS, ()]).flatmap(dots)),
            size=(round(WIDTH * scale), round(HEIGHT * scale)),
            format=format,
            orientation=draw(orientations(format)),
            has_file=number == 0 or not draw(rarely()),
            has_row=number == 0 or not draw(rarely()),
        )
        official = replace(picture, size=(WIDTH, HEIGHT))
        dotted = on_grid(official, celeba_box(official.size), 0)
        pictures.append(replace(picture, dots=dotted.dots))
    predicted = tuple(p.number for p in pictures if p.dots and p.has_row and draw(rarely(4)))
    return CelebALayout(
        tuple(pictures),
        draw(holders("folder", "zip", tops=("img_align_celeba", ""))),
        png=png,
        images_in=draw(st.sampled_from(["", "Img"])),
        lists_in=tuple(draw(st.sampled_from(["", "", "Anno", "Eval"])) for _ in LISTS),
        coding=draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"])),
        line_end=draw(st.sampled_from(["\n", "\r\n"])),
        gap=draw(st.sampled_from([" ", "  "])),
        commas=draw(rarely()),
        predicted=predicted,
        order=draw(st.integers(0, 99)),
    )


@st.composite
def flowers_layouts(draw: st.DrawFn) -> FlowersLayout:
    """Oxford-102 with any subset of pictures."""
    pictures = []
    for number in range(draw(st.integers(1, 6))):
        format = draw(st.sampled_from(["jpg", "jpeg"]))
        picture = Picture(
            number,
            f"image_{number + 1:05d}.jpg",
            split=draw(st.sampled_from(["train", "test"])),
            label=draw(st.integers(0, 101)),
            size=(draw(st.integers(50, 90)), draw(st.integers(50, 90))),
            format=format,
            orientation=draw(orientations(format)),
            has_file=number == 0 or not draw(rarely()),
        )
        pictures.append(picture)
    return FlowersLayout(tuple(pictures), draw(holders("folder", "tgz")))


@st.composite
def mnist_layouts(draw: st.DrawFn) -> MnistLayout:
    """MNIST with fewer digits."""
    pictures = []
    for part, split in (("train", "train"), ("t10k", "test")):
        for place in range(draw(st.integers(1, 4))):
            label = draw(st.integers(0, 9))
            pictures.append(Picture(len(pictures), f"{part}-{place:05d}", split, label=label, size=(28, 28)))
    folder = draw(st.sampled_from(["", "raw", "MNIST/raw"]))
    return MnistLayout(tuple(pictures), folder, dots=draw(st.booleans()), packed=draw(st.booleans()))


SOURCES: dict[str, st.SearchStrategy[Any]] = {
    "folder": folder_layouts(),
    "celeba": celeba_layouts(),
    "flowers": flowers_layouts(),
    "mnist": mnist_layouts(),
}
# Of a batch. Within one, hypothesis likes to vary what it drew before: five small ones meet more than a large one.
BATCH = {"folder": 14, "celeba": 4, "flowers": 1, "mnist": 1}


def try_batch(number: int, test: Callable[[Layout], None], *phases: Phase) -> None:
    """Give the layouts of a batch to `test`: always the same for a number."""
    for source, count in BATCH.items():
        how = settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate, *phases])
        how = settings(how, suppress_health_check=list(HealthCheck))
        seed(number)(how(given(SOURCES[source])(test)))()


def unusual(thing: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not as they are by default."""
    default = {f.name: f.default_factory() if f.default_factory is not MISSING else f.default for f in fields(thing)}
    return {name: getattr(thing, name) for name in default if getattr(thing, name) != default[name]}


def parts(layout: Layout) -> dict[str, dict[str, Any]]:
    """What is unusual about each part of a layout but its pictures."""
    found = {"layout": {k: v for k, v in unusual(layout).items() if k not in ("pictures", "dialect", "holder")}}
    names = [name for name in ("dialect", "holder") if hasattr(layout, name)]
    return found | {name: unusual(getattr(layout, name)) for name in names}


def told(layout: Layout) -> str:
    """The layout in lines for a person, without what is as usual."""
    lines = [type(layout).__name__, *(f"  {name}: {words}" for name, words in parts(layout).items() if words)]
    for picture in layout.pictures:
        words = unusual(picture) | {"dots": ", ".join(f"{n} ({x:.3f}, {y:.3f})" for n, (x, y) in picture.dots.items())}
        words |= {"attributes": "".join("?" if mark is None else str(mark) for mark in picture.attributes)}
        lines.append("  picture: " + "; ".join(f"{name} {value}" for name, value in words.items() if value != ""))
    return "\n".join(lines)


def kinds(layout: Layout) -> set[str]:
    """What is unusual about a layout, in words to count."""
    found = {type(layout).__name__}
    for part, values in parts(layout).items():
        for name, value in values.items():
            if name not in ("order", "base", "predicted"):
                each = value if isinstance(value, tuple) and value else [value]
                found |= {f"{part}: {name} {one!r}" for one in each}
    for picture in layout.pictures:
        found |= {f"format {picture.format}", f"orientation {picture.orientation} of {picture.format}"}
        found |= {f"file: {picture.has_file}, row: {picture.has_row}"}
        found |= {f"name like {re.sub(r'[0-9]+', '…', picture.path)}"}
    return found


@dataclass(frozen=True)
class Failure:
    """A way to fail: the smallest layout that does, what was said of it, and how many did."""

    layout: Layout
    words: str
    size: int
    times: int


def survey(count: int, chosen: int) -> tuple[Counter[str], dict[str, Failure]]:
    """Hold so many layouts: what was drawn how often, and the ways to fail."""
    drawn: Counter[str] = Counter()
    failures: dict[str, Failure] = {}
    began = time.monotonic()

    def one(layout: Layout) -> None:
        found = kinds(layout)
        drawn.update(found)
        drawn["all"] += 1
        try:
            hold(layout)
            if drawn["all"] % 50 == 0:
                hold_in_processes(layout)
        except Exception as error:
            sentence = f"{type(error).__name__}: {error}"
            key = re.sub(r"it has: .*|/tmp/[^ :,;]+|'[^']*'|[0-9.]+|of [^ ].*?:", "…", sentence)[:90]
            known = failures.get(key)
            words = sentence if isinstance(error, (Wrong, UserError)) else traceback.format_exc()
            mine = Failure(layout, words, len(found) + 3 * len(layout.pictures), known.times + 1 if known else 1)
            failures[key] = mine if not known or mine.size < known.size else replace(known, times=known.times + 1)
        if drawn["all"] % 100 == 0:
            failed = sum(failure.times for failure in failures.values())
            print(f"{drawn['all']} held, {failed} failed, {time.monotonic() - began:.0f} s", file=sys.stderr)  # noqa: T201

    for batch in range(count // sum(BATCH.values())):
        try_batch(10**6 * chosen + batch, one)
    return drawn, failures


def main(count: int = 2000, chosen: int = 0) -> int:
    """Print what was drawn and what failed; 1 if anything did."""
    drawn, failures = survey(count, chosen)
    for kind, times in sorted(drawn.items()):
        print(f"{times:6} {kind}")  # noqa: T201
    for key, failure in sorted(failures.items(), key=lambda item: -item[1].times):
        print(f"\n=== {failure.times} times: {key}\n{failure.words}\n{told(failure.layout)}")  # noqa: T201
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
