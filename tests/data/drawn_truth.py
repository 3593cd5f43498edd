"""The oracle: what a pack says of each row, held against what the picture of that row shows.

It knows packs and drawn pictures, and nothing of how a source is read.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unicodedata import normalize

import numpy as np
from drawn_pictures import NEAR, Box, Point, Unreadable, draw, encoded, read
from numpy.typing import NDArray

from mdebench.data.pack import ANNOTATED, LANDMARKS, NO_LANDMARKS, SPLITS, Pack


class Wrong(AssertionError):
    """The pack says something that its pictures do not show, or does not hold what it should."""


@dataclass(frozen=True)
class Picture:
    """What a picture shows. None: its table is to leave that unknown, and the picture shows this as well."""

    number: int
    path: str
    split: str = "train"
    identity: int | None = None
    label: int | None = None
    attributes: tuple[int | None, ...] = ()
    dots: dict[str, Point] = field(default_factory=dict)
    size: tuple[int, int] = (60, 60)  # width, height; upright
    format: str = "png"
    orientation: int = 1  # as EXIF says it
    has_file: bool = True
    has_row: bool = True

    def shown(self, widths: Mapping[str, int]) -> dict[str, int]:
        """The values that its blocks tell: of a label one more than it is, 0 where it is unknown."""
        labels = {"identity": self.identity, "label": self.label}
        labels |= {f"attribute {place}": mark for place, mark in enumerate(self.attributes)}
        values = {name: _told(labels[name], widths[name]) for name in labels if name in widths}
        return {"number": self.number, "split": SPLITS.index(self.split)} | values

    def drawn(self, widths: Mapping[str, int], box: Box) -> NDArray[np.uint8]:
        """(height, width, 3): the upright picture."""
        return draw(self.shown(widths), widths, self.dots, self.size, box)

    def file(self, widths: Mapping[str, int], box: Box) -> bytes:
        """The picture in its format."""
        return encoded(self.drawn(widths, box), self.format, self.orientation)


def _told(value: int | None, width: int) -> int:
    if width == 1:  # one bit: never unknown
        return int(value or 0)
    return 0 if value is None else value + 1


def _meant(shown: int, width: int) -> int | None:
    return shown if width == 1 else shown - 1 if shown else None


@dataclass(frozen=True)
class Truth:
    """How packs of a layout are to be read: what its pictures show in how many bits, and what codes stand for."""

    widths: dict[str, int]
    attribute_names: tuple[str, ...] = ()  # in the order of `attribute 0`, `attribute 1`, …
    identity: Callable[[Pack, int], Any] = lambda pack, code: code  # a code of the pack → what the picture shows
    label: Callable[[Pack, int], Any] = lambda pack, code: code
    splits: bool = True  # whether the source says which; else nobody may stand in two
    is_list: bool = False  # of files that should be there: CelebA's and Oxford-102's lists are of all that there are
    landmark_source: Callable[[Picture], int] = lambda picture: ANNOTATED if picture.dots else NO_LANDMARKS


def compare(pack: Pack, pictures: Iterable[Picture], truth: Truth) -> None:
    """Raise Wrong unless the pack holds just the pictures that it should, each with the labels that it shows."""
    widths = truth.widths
    expected = {picture.number: picture for picture in pictures if picture.has_file and picture.has_row}
    _same("attribute names", sorted(pack.attribute_names), sorted(truth.attribute_names))
    columns = [pack.attribute_names.index(name) for name in truth.attribute_names]
    carved = truth.splits and not any(picture.split == "val" for picture in pictures if picture.has_row)
    met: set[int] = set()
    split_of: dict[Any, str] = {}
    for row, name in enumerate(pack.names):
        try:
            values, dots = read(pack.images[row], widths)
        except Unreadable as error:
            raise Wrong(f"the picture of {name}: {error}") from error
        number = values["number"]
        if number not in expected or number in met:
            raise Wrong(f"{name} shows picture {number}, which should not be there (again)")
        met.add(number)
        _same(f"what the picture of {name} shows", values, expected[number].shown(widths))
        _same(f"name of picture {number}", normalize("NFC", name), normalize("NFC", expected[number].path))
        split, shown = SPLITS[pack.split[row]], SPLITS[values["split"]]
        if truth.splits and not (carved and (shown, split) == ("train", "val")):
            _same(f"split of {name}", split, shown)
        for word, codes, meant in (("identity", pack.identity, truth.identity), ("label", pack.label, truth.label)):
            code = int(codes[row])
            told = None if code == -1 else meant(pack, code)
            _same(f"{word} of {name}", told, _meant(values[word], widths[word]) if word in widths else None)
        marks = [None if mark == -1 else int(mark) for mark in pack.attributes[row, columns]]
        attributes = [f"attribute {place}" for place in range(len(columns))]
        _same(f"attributes of {name}", marks, [_meant(values[each], widths[each]) for each in attributes])
        _compare_points(name, pack.landmarks[row], dots)
        _same(f"landmark source of {name}", int(pack.landmark_source[row]), truth.landmark_source(expected[number]))
        if values.get("identity") and (not truth.splits or carved):  # by chance, so nobody may be in two
            group = (values["identity"], truth.splits and shown)
            _same(f"split of {name}, whose identity was met before", split, split_of.setdefault(group, split))
    _same("pictures in the pack", sorted(met), sorted(expected))


def compare_report(pack: Pack, pictures: Iterable[Picture], truth: Truth) -> None:
    """Raise Wrong if anything of a valid layout was left out, or called bad, but rows without files and the reverse."""
    report = pack.info["report"]
    found = {kind: entry["count"] for kind, entry in report.items() if entry["outcome"] == "left out"}
    found |= {kind: report[kind]["count"] for kind in ("bad_value",) if kind in report}
    missing = sum(picture.has_row and not picture.has_file for picture in pictures) if truth.is_list else 0
    strays = sum(picture.has_file and not picture.has_row for picture in pictures)
    _same("rows reported to have no file", found.pop("missing_file", 0), missing)
    if (told := found.pop("unlisted", 0)) < strays:
        raise Wrong(f"files reported to have no row: the pack has {told}, the truth is at least {strays}")
    _same("what else is reported of a valid layout", found, {})


def _compare_points(name: str, told: NDArray[np.float32], dots: Mapping[str, Point]) -> None:
    for landmark, (x, y) in zip(LANDMARKS, told.tolist()):
        pack_has = f"{landmark} of {name}: the pack has ({x:.3f}, {y:.3f})"
        if landmark not in dots:
            if not (np.isnan(x) and np.isnan(y)):
                raise Wrong(f"{pack_has}, the picture shows none")
            continue
        dot_x, dot_y = dots[landmark]
        if not max(abs(x - dot_x), abs(y - dot_y)) < NEAR:  # so that NaN fails as well
            raise Wrong(f"{pack_has}, the picture shows ({dot_x:.3f}, {dot_y:.3f})")


def _same(what: str, told: Any, truth: Any) -> None:
    if told != truth:
        raise Wrong(f"{what}: the pack has {told!r}, the truth is {truth!r}")
