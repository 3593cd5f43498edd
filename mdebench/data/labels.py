"""From the cells of a table to labels: classes and identities, attributes, landmarks, partitions, clips.

Every column is read by its own values. What means "unknown" becomes no class, no person, no "absent" and no place;
where a column can be read in two ways, the person is asked. What was assumed comes back as notes.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdebench.data.tables import is_unknown, number
from mdebench.errors import UserError
from mdebench.words import shown

SPLIT_WORDS = {"train": 0, "training": 0, "test": 2, "testing": 2}
SPLIT_WORDS |= dict.fromkeys(("val", "valid", "validation", "dev", "eval"), 1)
ALL, OF_TRAIN = {1: (0.8, 0.9), 2: (0.9, 1.0)}, {1: (0.0, 0.1)}  # where val and test lie, in shares of a hash
CODINGS = {"1/0": "1 yes, 0 no, -1 unknown", "1/-1": "1 yes, -1 no, 0 unknown"}
WAYS = " or ".join(f"--attribute-coding {coding} ({meaning})" for coding, meaning in CODINGS.items())
_MARKS = {  # coding → what a cell counts as
    "1/0": {"yes": 1, "1": 1, "no": 0, "0": 0},
    "1/-1": {"yes": 1, "1": 1, "no": 0, "-1": 0},
}
_WORDS = dict.fromkeys(("true", "yes", "t", "y"), "yes") | dict.fromkeys(("false", "no", "f", "n"), "no")
_NUMBERS = {1.0: "1", 0.0: "0", -1.0: "-1"}
# In the digits 0 to 9: '3', and '3.0' as pandas writes it where others are missing; not the '1,000' of a thousand
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}(\.0+|,00?)?")


@dataclass(frozen=True)
class Codes:
    """Classes or people: (n,) numbers, -1 unknown; the words that they number, None where the cells hold numbers."""

    numbers: NDArray[np.int32]
    words: list[str] | None
    notes: list[str]


@dataclass(frozen=True)
class Attributes:
    """(n, A) of 1, 0 and -1 (unknown), the columns' names, and how they were read."""

    names: tuple[str, ...]
    marks: NDArray[np.int8]
    notes: list[str]


@dataclass(frozen=True)
class Points:
    """(n, k, 2) x and y as the cells say, NaN where nothing is known; whether they are shares of width and height; and
    of each row whether a cell was no number, and whether its points were dropped as they lie within a single pixel.
    """

    places: NDArray[np.float64]
    shares: bool
    unreadable: NDArray[np.bool_]
    dropped: NDArray[np.bool_]
    notes: list[str]


@dataclass(frozen=True)
class Clips:
    """The rows of a list (n,) in the order of a pack, in which the frames of a clip follow one another; and of each in
    that order its clip (-1 none) and whether its frame's cell was no number.
    """

    order: NDArray[np.int64]
    numbers: NDArray[np.int32]
    unreadable: NDArray[np.bool_]
    notes: list[str]


def read_codes(column: str, texts: Sequence[str]) -> Codes:
    """Whole numbers as they are ('3', '3.0' and '03' are the same), else words numbered in sorted order.

    -1 is unknown where no other number is negative. UserError for classes of -1 and 1 alone, which may be two classes
    or one with unknown ones.
    """
    known = {text for text in texts if not is_unknown(text)}
    whole = {text: int(re.split("[.,]", text)[0]) for text in known if _WHOLE.fullmatch(text)}
    if column != "identity" and len(whole) == len(known) and set(whole.values()) == {-1, 1}:
        raise UserError(
            f"The column {column} holds -1 and 1 alone: two classes, or one class and unknown ones? Write 0 and 1 for "
            "two classes, or leave the cells of unknown ones empty."
        )
    unknown = {text for text, value in whole.items() if value == -1} if min(whole.values(), default=0) == -1 else set()
    known -= unknown
    if all(0 <= whole.get(text, -1) < 2**31 for text in known):
        words, numbers = None, whole
    else:
        spelt = {text: str(whole.get(text, text)) for text in known}
        words = sorted(set(spelt.values()), key=lambda word: (whole.get(word, 0), word))
        numbers = {text: words.index(word) for text, word in spelt.items()}
    codes = (numbers[text] if text in known else -1 for text in texts)
    notes = [f"{column}: -1 was taken as unknown"] if unknown else []
    odd = sorted(known - whole.keys())
    if words is not None and whole.keys() & known and odd:  # one cell gave all of them other numbers
        notes.append(
            f"{column}: read as {len(words):,} words, numbered in sorted order, since {_some([*map(repr, odd)])} "
            f"{'is no whole number' if len(odd) == 1 else 'are no whole numbers'}"
        )
    words = None if words is None else [shown(word) for word in words]
    return Codes(np.fromiter(codes, np.int32, len(texts)), words, notes)


def read_attributes(columns: Mapping[str, Sequence[str]], count: int, coding: str | None) -> Attributes:
    """Those of the columns (of ``count`` cells) that say yes or no, each in its own coding.

    The codings are 1/0, 1/-1, the same with decimals, true/false, yes/no and their first letters, in any case.
    Where a column holds -1 beside 0, ``coding`` (of `CODINGS`) says which of the two is "no"; UserError asks for it. A
    column of nothing but -1 is read as the columns beside it, if all of those agree.
    """
    meaning = {text: _mark(text) for texts in columns.values() for text in set(texts)}
    marks = {name: [meaning[text] for text in texts] for name, texts in columns.items()}
    values = {name: set(column) - {""} for name, column in marks.items()}
    names = [name for name, found in values.items() if found and "other" not in found]
    codings = {name: _coding(values[name]) for name in names}
    evident = {codings[name] for name in names if values[name] & {"0", "-1"}} - {None}
    for name in names:
        if values[name] == {"-1"} and len(evident) == 1:
            (codings[name],) = evident
    asked = [name for name in names if codings[name] is None]
    if asked and coding is None:
        raise _which_coding(asked, {name: values[name] for name in asked})
    used = {name: codings[name] or coding or "" for name in names}
    table = [[_MARKS[used[name]].get(mark, -1) for mark in marks[name]] for name in names]
    notes = []
    for each, how in CODINGS.items():
        if which := [name for name in names if used[name] == each and "-1" in values[name]]:
            notes.append(f"attributes read as {each} ({how}): {_some(which)}")
    if other := [name for name in columns if name not in names]:
        notes.append(f"columns that are neither known nor yes and no, and were not used: {', '.join(other)}")
    return Attributes(tuple(names), np.array(table, np.int8).reshape(len(names), count).T, notes)


def check_coding(coding: str | None) -> None:
    """UserError unless it is one of `CODINGS`, or None."""
    if coding not in (None, *CODINGS):
        raise UserError(f"--attribute-coding {coding}: choose {WAYS}.")


def _mark(text: str) -> str:
    """A cell as 'yes', 'no', '1', '0', '-1', '' (unknown) or 'other'."""
    if is_unknown(text) or text.lower() == "unknown":
        return ""
    return _WORDS.get(text.lower()) or _NUMBERS.get(number(text), "other")


def _coding(values: set[str]) -> str | None:
    """How a column with these values is to be read; None where -1 and 0 could either be 'no'."""
    if "-1" not in values or values & {"no", "0"} == {"no"}:
        return "1/0"
    return "1/-1" if "0" not in values and values & {"1", "yes"} else None


def _which_coding(names: list[str], values: dict[str, set[str]]) -> UserError:
    which = f"The column {names[0]} holds" if len(names) == 1 else f"{len(names)} columns ({_some(names)}) hold"
    both = "-1 as well as 0" if any("0" in found for found in values.values()) else "-1 alone"
    return UserError(f"{which} {both}, and either may mean 'no' or 'unknown': say {WAYS}.")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def read_points(columns: Mapping[str, Sequence[str]], names: Sequence[str], count: int) -> Points:
    """The points NAME_x, NAME_y of ``names`` in ``count`` rows, from those of the columns that there are.

    A point is unknown where a cell is, and at -1 or 0,0. Coordinates that all lie within 0 and 1 are shares of the
    picture's width and height; where other rows are in pixels, points all within the first pixel are dropped.
    """
    cells = np.full((count, len(names), 2), np.nan)
    unreadable = np.zeros(count, bool)
    for point, name in enumerate(names):
        for axis, letter in enumerate("xy"):
            for row, text in enumerate(columns.get(f"{name}_{letter}", ())):
                value = number(text)
                if value == value:
                    cells[row, point, axis] = value
                elif not is_unknown(text):
                    unreadable[row] = True
    missing = (cells == -1).any(axis=2) | (cells == 0).all(axis=2)
    cells[missing | np.isnan(cells).any(axis=2)] = np.nan
    known = np.isfinite(cells[..., 0])
    small = np.where(known, ((cells >= 0) & (cells <= 1)).all(axis=2), True)
    shares = bool(small.all() and ((cells > 0) & (cells < 1)).any())
    dropped = np.zeros(count, bool) if shares else small.all(axis=1) & (known.sum(axis=1) > 1)
    cells[dropped] = np.nan
    notes = [f"{missing.sum():,} landmarks at -1 or 0,0 were taken as missing"] if missing.any() else []
    return Points(cells, shares, unreadable, dropped, notes)


def read_clips(codes: Codes, frames: Sequence[str], paths: Sequence[str], split: NDArray[np.uint8]) -> Clips:
    """The rows that are in a known partition: stills as they stand, then clip by clip the frames by their numbers, and
    those without one in the natural order of their paths.

    codes: which clip each row is a frame of. A clip with frames in several partitions becomes one clip in each.
    """
    numbers = [number(text) for text in frames]
    unknown = [value != value for value in numbers]

    def place(row: int) -> tuple[Any, ...]:
        code = codes.numbers[row]
        if code < 0:
            return 0, row
        name = str(code) if codes.words is None else codes.words[code]
        return 1, natural(name), split[row], unknown[row], 0 if unknown[row] else numbers[row], natural(paths[row])

    order = sorted(np.flatnonzero(split < 3).tolist(), key=place)
    clip_of = {row: (int(codes.numbers[row]), int(split[row])) for row in order if codes.numbers[row] >= 0}
    clips = {clip: count for count, clip in enumerate(dict.fromkeys(clip_of.values()))}
    cut = len(clips) - len({code for code, _ in clips})
    known = [(clip, numbers[row]) for row, clip in clip_of.items() if not unknown[row]]
    twice = len(known) - len(set(known))
    notes = [f"{cut:,} clips were cut in two, as they have frames in more than one partition"] if cut else []
    notes += [f"{twice:,} frames have a number that one of their clip has already; the paths decide"] if twice else []
    return Clips(
        np.array(order, np.int64),
        np.array([clips[clip_of[row]] if row in clip_of else -1 for row in order], np.int32),
        np.array([row in clip_of and unknown[row] and not is_unknown(frames[row]) for row in order], bool),
        notes,
    )


def natural(text: str) -> list[tuple[bool, int, str]]:
    """What texts are sorted by so that 2 comes before 10: digits as numbers, and before all else."""
    parts = re.findall("([0-9]+)|([^0-9]+)", text)
    return [(not digits, len(digits.lstrip("0")), digits.lstrip("0") or other) for digits, other in parts]


def read_splits(texts: Iterable[str]) -> NDArray[np.uint8]:
    """(n,) index into SPLITS of words such as train, dev, valid, testing in any case; 255 for any other."""
    return np.fromiter((SPLIT_WORDS.get(text.lower(), 255) for text in texts), np.uint8)


def divided(groups: Sequence[str], shares: Mapping[int, tuple[float, float]]) -> NDArray[np.uint8]:
    """(n,) partitions: to each of ``shares`` the groups whose hash lies in its part of [0, 1), to train (0) the rest.

    Groups stay whole, and each keeps its place when others come. A partition that would remain empty is given the group
    of train that lies nearest to it, as long as train keeps one; train is never empty.
    """
    draws = {group: int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 2**32 for group in sorted(set(groups))}
    place = dict.fromkeys(draws, 0)
    for part, (lower, upper) in shares.items():
        place |= {group: part for group, draw in draws.items() if lower <= draw < upper}
    for part, bounds in shares.items():
        train = [group for group in draws if place[group] == 0]
        if part not in place.values() and len(train) > 1:
            place[min(train, key=lambda group: abs(draws[group] - sum(bounds) / 2))] = part
    if 0 not in place.values():
        place = dict.fromkeys(place, 0)
    return np.fromiter((place[group] for group in groups), np.uint8, len(groups))
