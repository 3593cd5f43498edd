"""Is one run better than another, and by how much? The same images are compared one by one wherever that can be done.

Two runs are measured on the same test images, so the spread between images, which makes up most of each interval,
cancels out of their difference. Three rules, and every comparison says which of them it used:

- "paired": the mean of the differences image by image, with Student's interval;
- "seeds": several seeds on either side; the difference of their means, with Welch's interval;
- "intervals": only the two intervals are known; distinguishable when they lie apart.
"""

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.results.cells import Cell, Rule, Verdict, compare
from mdebench.results.rows import values_path

Row = Mapping[Any, Any]  # a stored row, or its columns
LEVEL = 0.975  # two-sided 95 %
SAME = ("dataset", "pack_hash", "split", "metric", "n")
CHOOSING = ("images", "mask_seed")  # settings of protocols that take part of the test images
UNSEEDED = ("constant", "pixels", "mean_colour", "biharmonic")  # no seed changes what these do


@dataclass(frozen=True)
class Difference:
    """a − b with its 95 % interval [low, high] (NaN where unknown), over `n` images, or runs when these are seeds."""

    mean: float
    low: float
    high: float
    paired: bool
    n: int

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Comparison:
    """How one cell stands against another, by how much, and by which rule that was found."""

    verdict: Verdict
    difference: Difference
    rule: Rule


def difference(home: Home, row_a: Row, row_b: Row) -> Difference:
    """The difference of two rows of one metric: paired where both have per-image values on the same test images.

    Otherwise the two intervals are taken as independent: half-widths add as squares. On the same images that is too
    wide rather than too narrow, since what is hard for one run mostly is for the other.
    """
    if (pair := _pair(home, row_a, row_b)) is not None:
        a, b = pair
        return _around(float((a - b).mean()), _standard_error(a - b), len(a) - 1, paired=True, n=len(a))
    mean = row_a["value"] - row_b["value"]
    below = math.hypot(row_a["value"] - row_a["low"], row_b["high"] - row_b["value"])
    above = math.hypot(row_a["high"] - row_a["value"], row_b["value"] - row_b["low"])
    return Difference(mean, mean - below, mean + above, False, min(row_a["n"], row_b["n"]))


def seed_difference(rows_a: Sequence[Row], rows_b: Sequence[Row]) -> Difference:
    """The difference of the means over seeds, with Welch's interval (Welch 1947); one side has several seeds.

    A side of one seed is taken to spread as the other does, unless no seed changes it (`UNSEEDED`).
    """
    a, b = (np.array([row["value"] for row in rows], np.float64) for rows in (rows_a, rows_b))
    if len(a) > 1 and len(b) > 1:
        of_a, of_b = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
        variance = of_a + of_b
        degrees = variance**2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1)) if variance else 1.0
    else:
        several, one = (a, rows_b[0]) if len(a) > 1 else (b, rows_a[0])
        degrees = len(several) - 1
        variance = several.var(ddof=1) * (1 / len(several) + (one["method"] not in UNSEEDED))
    return _around(float(a.mean() - b.mean()), math.sqrt(variance), degrees, paired=False, n=len(a) + len(b))


def contrast(home: Home, cell: Cell, other: Cell, higher_is_better: bool) -> Comparison:
    """How `cell` stands against `other`, both made from rows; "" as verdict and rule where that cannot be said."""
    if not cell.rows or not other.rows:
        return Comparison("", Difference(math.nan, math.nan, math.nan, False, 0), "")
    if max(len(cell.rows), len(other.rows)) > 1:
        found = seed_difference(cell.rows, other.rows)
        return Comparison(_verdict(found, higher_is_better), found, "seeds")
    found = difference(home, cell.rows[0], other.rows[0])
    if found.paired:
        return Comparison(_verdict(found, higher_is_better), found, "paired")
    return Comparison(compare(cell, other, higher_is_better), found, "intervals")


def _verdict(found: Difference, higher_is_better: bool) -> Verdict:
    if math.isnan(found.low):
        return ""
    if found.low <= 0 <= found.high:
        return "overlap"
    return "better" if (found.mean > 0) == higher_is_better else "worse"


def _pair(home: Home, row_a: Row, row_b: Row) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Both rows' values on the same images, or None.

    Images are the same, in the same order, where pack, partition, number and the settings that choose images agree.
    """
    chosen = [[row["protocol_settings"].get(name) for name in CHOOSING] for row in (row_a, row_b)]
    if chosen[0] != chosen[1] or any(row_a[name] != row_b[name] for name in SAME):
        return None
    values = [_values(home, row) for row in (row_a, row_b)]
    a, b = values
    if a is None or b is None or len(a) != len(b):
        return None
    known = np.isfinite(a) & np.isfinite(b)
    return (a[known], b[known]) if known.any() else None


def _values(home: Home, row: Row) -> NDArray[np.float64] | None:
    """The numbers (n,) whose mean is the row's value; None where they were not kept."""
    path = values_path(home, row["key"])
    if not path.is_file():
        return None
    values = _stored(path, path.stat().st_mtime_ns).get(f"{row['setting']}|{row['metric']}|{row['split']}")
    return None if values is None else values.astype(np.float64)


@lru_cache(maxsize=4096)
def _stored(path: Path, modified: int) -> dict[str, NDArray[np.float32]]:
    """All arrays of a file, read once for all the cells that need one; `modified` makes a new file a new entry."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); delete it, and comparisons do without it") from error


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def _around(mean: float, error: float, degrees: float, *, paired: bool, n: int) -> Difference:
    half = float(stdtrit(degrees, LEVEL)) * error if degrees > 0 else math.nan
    return Difference(mean, mean - half, mean + half, paired, n)
