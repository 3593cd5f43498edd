"""Is one line better than another, and by how much? Image by image, over people, and over seeds where they are known.

All lines of a table are measured on the same test images, so what is hard for one is mostly hard for the other and
cancels out of their difference; a line of several seeds enters with the mean of its runs on each image. How sure the
mean difference is has two sources:

- **images**: other test images show other people. The differences image by image, with the error over people
  (`intervals.spread`). Where values image by image are missing, from the two intervals, and called "unpaired".
- **seeds**: another training gives another network. The variance of a run's mean over seeds is pooled over all lines of
  a column that have several runs, so that their degrees of freedom add; a line of S runs has a share 1 / S of it.

The first alone says something about *these runs*; both together, with Satterthwaite's degrees of freedom, about the
*methods*. What is found of a few runs is never taken back because the spread over seeds is badly known: it is said of
the runs then, and not of their methods. All comparisons of a table are judged together (`Family`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mdebench.files import Damaged, read_arrays
from mdebench.home import Home
from mdebench.results.cells import Cell, Rule, Scope, Verdict
from mdebench.results.intervals import LEVEL, POWER, Spread, holm, interval, limits, p_value, quantile, spread
from mdebench.results.rows import values_path

Row = Mapping[Any, Any]  # a stored row, or its columns
SAME = ("dataset", "pack_hash", "split", "metric", "n")
CHOOSING = ("images", "mask_seed")  # settings of protocols that take part of the test images
# No seed changes what these do.
UNSEEDED = ("constant", "pixels", "mean_colour", "biharmonic", "telea", "navier_stokes", "patch_match")


class Seeds(NamedTuple):
    """The variance of a run's mean over seeds, pooled over the lines that have several, and its degrees of freedom."""

    variance: float
    degrees: int


@dataclass(frozen=True)
class Comparison:
    """a − b, how sure that is of these runs and of their methods, and what the table's `Family` makes of it.

    `runs` and `methods` are (error, degrees of freedom); `methods` has NaN where the spread over seeds is not known.
    `verdict` says how a stands against b, `scope` of what that is said, `half` is half the width of the interval that
    the verdict belongs to: it holds 0 exactly where the verdict is "overlap".
    """

    difference: float
    runs: tuple[float, float]
    methods: tuple[float, float]
    rule: Rule
    groups: int
    verdict: Verdict = ""
    scope: Scope = ""
    half: float = math.nan

    def p(self, scope: Scope) -> float:
        """The two-sided p-value of no difference between these runs, or between their methods."""
        return p_value(self.difference, *(self.runs if scope == "runs" else self.methods))


NOTHING = Comparison(math.nan, (math.nan, 0), (math.nan, 0), "", 0)


def pooled_seeds(cells: Iterable[Cell]) -> Seeds:
    """The variance over seeds of a column: within its lines of several runs, pooled over these lines."""
    squares, degrees = 0.0, 0
    for cell in cells:
        values = np.array([row["value"] for row in cell.rows], np.float64)
        if len(values) > 1 and _seeded(cell) and np.isfinite(values).all():
            squares += float(np.square(values - values.mean()).sum())
            degrees += len(values) - 1
    return Seeds(squares / degrees if degrees else math.nan, degrees)


def contrast(home: Home, cell: Cell, other: Cell, seeds: Seeds) -> Comparison:
    """How `cell` stands against `other`, both made from rows; `NOTHING` where that cannot be said."""
    if not cell.rows or not other.rows:
        return NOTHING
    found = _paired(home, cell.rows, other.rows)
    rule: Rule = "paired" if found else "unpaired"
    mean, error, degrees, groups = found or _unpaired(cell.rows, other.rows)
    if math.isnan(error):
        return NOTHING
    share = sum(1 / len(each.rows) for each in (cell, other) if _seeded(each))
    return Comparison(mean, (error, degrees), _with_seeds(error, degrees, share, seeds), rule, groups)


def cell_interval(home: Home, cell: Cell, seeds: Seeds) -> tuple[float, float]:
    """The 95 % interval of a cell of several runs, over people and seeds; of one run, that of its row."""
    if len(cell.rows) == 1:
        return cell.rows[0]["low"], cell.rows[0]["high"]
    if (found := sample(home, cell.rows)) is None:
        return cell.low, cell.high
    _, error, degrees, _ = spread(*found)
    wide, fewer = _with_seeds(error, degrees, 1 / len(cell.rows) if _seeded(cell) else 0.0, seeds)
    error, degrees = (error, degrees) if math.isnan(wide) else (wide, fewer)
    half, (least, most) = quantile(degrees) * error, limits(cell.rows[0]["unit"], cell.value)
    return max(cell.value - half, least), min(cell.value + half, most)


class Family:
    """All comparisons of one table, which are judged together: Holm's levels, so that all verdicts hold at once.

    First everything that is shown is asked for, then `settle`, then each can be read. A comparison of a line that was
    chosen because it is the best of n stands for others, too, and counts as so many: n with a fixed line, and n/2 with
    another of the n, for there are n (n − 1) / 2 such pairs.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._asked: dict[tuple[Any, ...], tuple[Comparison, float]] = {}
        self._found: dict[tuple[Any, ...], Comparison] = {}
        self._first = math.nan  # the level of the first step

    def ask(self, cell: Cell, other: Cell, seeds: Seeds, stands_for: float = 1.0) -> None:
        """Enter a comparison, and for how many it stands."""
        place, turned = _place(cell, other)
        known, weight = self._asked.get(place, (None, 1.0))
        if known is None:
            known = contrast(self._home, *((other, cell) if turned else (cell, other)), seeds)
        self._asked[place] = known, max(weight, stands_for)

    def settle(self) -> "Family":
        """Judge all that was asked; returns itself."""
        places = list(self._asked)
        comparisons, weights = [self._asked[place][0] for place in places], [self._asked[place][1] for place in places]
        runs, self._first = holm_levels([each.p("runs") for each in comparisons], weights)
        methods, _ = holm_levels([each.p("methods") for each in comparisons], weights)
        for place, each, of_runs, of_methods in zip(places, comparisons, runs, methods):
            self._found[place] = _judged(each, of_runs, of_methods)
        return self

    def read(self, cell: Cell, other: Cell, higher_is_better: bool) -> Comparison:
        """What was found for a comparison that was asked, in either direction."""
        place, turned = _place(cell, other)
        found = self._found[place]
        difference = -found.difference if turned else found.difference
        verdict = found.verdict
        if verdict in ("better", "worse"):
            verdict = "better" if (difference > 0) == higher_is_better else "worse"
        return replace(found, difference=difference, verdict=verdict)

    def smallest(self, cell: Cell, other: Cell, stands_for: float = 1.0) -> float:
        """The difference between two lines' runs that this table would have found with a chance of `POWER`."""
        error, degrees = self.read(cell, other, True).runs
        level = self._first / max(1.0, stands_for)
        return error * (quantile(degrees, level / 2) + quantile(degrees, 1 - POWER))

    def __len__(self) -> int:
        return sum(bool(each.rule) for each in self._found.values())


def holm_levels(p_values: Sequence[float], weights: Sequence[float]) -> tuple[list[float], float]:
    """The level at which each comparison is held to belong to its set of rejected or kept ones, and that of step one.

    Holm's procedure steps down the p-values times their weights, the smallest first, until one is above its level;
    those before it are rejected at their own levels, it and all others are judged at the level where it stopped, so
    that an interval at a comparison's level holds 0 exactly where it is not rejected. NaN has no level.
    """
    weighted = np.asarray(p_values, np.float64) * np.asarray(weights, np.float64)
    m = int(np.isfinite(weighted).sum())
    order = [int(i) for i in np.argsort(weighted, kind="stable")[:m]]
    rejected = int((holm(weighted)[order] <= LEVEL).sum())
    levels = [math.nan] * len(weighted)
    for step, i in enumerate(order):
        levels[i] = LEVEL / (m - min(step, rejected)) / weights[i]
    return levels, LEVEL / m if m else math.nan


def _judged(found: Comparison, of_runs: float, of_methods: float) -> Comparison:
    """The verdict at the levels of its place: of the methods where it is clear, else of these runs."""
    if not found.rule:
        return found
    clear = not math.isnan(of_methods) and found.p("methods") <= of_methods
    seen = clear or found.p("runs") <= of_runs
    scope: Scope = "methods" if clear else "runs"
    error, degrees = found.methods if clear else found.runs
    half = quantile(degrees, (of_methods if clear else of_runs) / 2) * error if error else 0.0
    return replace(found, verdict="better" if seen else "overlap", scope=scope if seen else "", half=half)


def _with_seeds(error: float, degrees: float, share: float, seeds: Seeds) -> tuple[float, float]:
    """The error of the images joined with `share` of the seeds' variance, and Satterthwaite's degrees of freedom.

    NaN where a seed matters and its spread is not known. What images and seeds do together is in both: the error is
    rather too large than too small.
    """
    if not share:
        return error, degrees
    if not seeds.degrees:
        return math.nan, 0
    of_images, of_seeds = error**2, share * seeds.variance
    total = of_images + of_seeds
    if not total:
        return 0.0, degrees
    return math.sqrt(total), total**2 / (of_images**2 / degrees + of_seeds**2 / seeds.degrees)


def _seeded(cell: Cell) -> bool:
    return cell.rows[0]["method"] not in UNSEEDED


def _place(cell: Cell, other: Cell) -> tuple[tuple[Any, ...], bool]:
    """The name of a comparison, the same in both directions, and whether this is the other one."""
    ours, theirs = (
        tuple((row["run"], row["key"], row["setting"], row["metric"], row["split"]) for row in each.rows)
        for each in (cell, other)
    )
    return ((theirs, ours), True) if theirs < ours else ((ours, theirs), False)


def _paired(home: Home, rows: Sequence[Row], others: Sequence[Row]) -> Spread | None:
    """Their mean with its error; None where they are not known on any image."""
    found = differences(home, rows, others)
    if found is None:
        return None
    values, people = found
    known = np.isfinite(values)
    return spread(values[known], people[known] if people is not None else None) if known.any() else None


def differences(
    home: Home, rows: Sequence[Row], others: Sequence[Row]
) -> tuple[NDArray[np.float64], NDArray[np.int64] | None] | None:
    """The mean of `rows` less that of `others` on each image (n,) and who is on it (n,), None where nobody knows.

    NaN on an image that one of them has no value of; None where images differ, or a row's values were not kept. Images
    are the same, in the same order, where pack, partition, number and the settings that choose images agree.
    """
    if len({_images(row) for row in (*rows, *others)}) != 1:
        return None
    ours, theirs = sample(home, rows), sample(home, others)
    if ours is None or theirs is None or len(ours[0]) != len(theirs[0]):
        return None
    return ours[0] - theirs[0], ours[1] if ours[1] is not None else theirs[1]


def _unpaired(rows: Sequence[Row], others: Sequence[Row]) -> Spread:
    """The difference of two means whose intervals are taken as independent: their errors add as squares.

    On the same images that is too wide rather than too narrow.
    """
    mean = _mean(rows, "value") - _mean(others, "value")
    ours, theirs = _error(rows, towards_less=mean > 0), _error(others, towards_less=mean < 0)
    groups = min(row["people"] or row["n"] for row in (*rows, *others))
    return Spread(mean, math.hypot(ours, theirs), groups - 1, groups)


def _error(rows: Sequence[Row], *, towards_less: bool) -> float:
    """The error that an interval tells, on the side of the other line; of several runs their mean."""
    degrees = min(row["people"] or row["n"] for row in rows) - 1
    half = _mean(rows, "value") - _mean(rows, "low") if towards_less else _mean(rows, "high") - _mean(rows, "value")
    return half / quantile(degrees) if degrees > 0 else math.nan


def _mean(rows: Sequence[Row], name: str) -> float:
    return math.fsum(row[name] for row in rows) / len(rows)


def _images(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in SAME) + tuple(row["protocol_settings"].get(name) for name in CHOOSING)


def sample(home: Home, rows: Sequence[Row]) -> tuple[NDArray[np.float64], NDArray[np.int64] | None] | None:
    """The mean of the rows' values on each image (n,) and who is on it (n,); None where any row's were not kept, or are
    damaged (see `damaged_values`)."""
    try:
        found = [stored_values(home, row) for row in rows]
    except Damaged:
        return None
    kept = [each for each in found if each is not None]
    if len(kept) < len(rows) or len({len(values) for values, _ in kept}) != 1:
        return None
    return np.mean([values for values, _ in kept], axis=0), kept[0][1]


def stored_values(home: Home, row: Row) -> tuple[NDArray[np.float64], NDArray[np.int64] | None] | None:
    """The numbers (n,) whose mean is the row's value, and who is on each image (n,), -1 or None where that is unknown.

    None where they were not kept; Damaged.
    """
    stored = stored_arrays(home, row["key"])
    place = f"{row['setting']}|{row['metric']}|{row['split']}"
    if place not in stored:
        return None
    values = stored[place].astype(np.float64)
    people = stored.get(f"people|{place}", stored.get(f"people|{row['split']}"))
    return values, None if people is None or len(people) != len(values) else people.astype(np.int64)


def remade(home: Home, row: Row) -> tuple[float, float, float] | None:
    """A row's value and interval as its stored values give them; None where they were not kept."""
    found = stored_values(home, row)
    if found is None:
        return None
    values, people = found
    known = np.isfinite(values)
    return interval(values[known], people[known] if people is not None else None, row["unit"])


def stored_arrays(home: Home, key: str) -> dict[str, NDArray[Any]]:
    """All arrays kept for a unit, none where there is no file; Damaged."""
    path = values_path(home, key)
    return _stored(path, path.stat().st_mtime_ns) if path.is_file() else {}


@lru_cache(maxsize=4096)
def _stored(path: Path, modified: int) -> dict[str, NDArray[Any]]:
    """All arrays of a file, read once for all the cells that need one; `modified` makes a new file a new entry."""
    stored = read_arrays(path, "delete it, and comparisons do without it")
    if odd := [name for name, array in stored.items() if array.ndim != 1 or array.dtype.kind not in "fiu"]:
        raise Damaged(f"{path} is damaged ({odd[0]} is no list of numbers); delete it, and comparisons do without it")
    return stored


def damaged_values(home: Home, rows: Iterable[Row]) -> dict[str, str]:
    """Of each file of stored values of these rows that is damaged, its name and the sentence about it."""
    found = {}
    for key in dict.fromkeys(row["key"] for row in rows):
        try:
            stored_arrays(home, key)
        except Damaged as problem:
            found[values_path(home, key).name] = str(problem)
    return found
