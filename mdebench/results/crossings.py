"""At which level of a difficulty does one line overtake another? Where their difference, linear between levels, turns.

How sure that is, is told by the bootstrap (Efron 1979): people are drawn with all their images, of both lines and all
levels together, the crossing is found anew in each draw, and 95 % of them are the interval. It is one of these runs: of
several seeds the mean on each image counts, and their spread is left out.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdebench.home import Home
from mdebench.results.cells import Cell
from mdebench.results.intervals import LEVEL, grouped
from mdebench.results.paired import differences

DRAWS = 1000

Floats = NDArray[np.float64]


class Overtaking(NamedTuple):
    """A level with its 95 % interval: the first level where a line is ahead at once, infinite where it never is."""

    level: float
    low: float
    high: float


def overtaking(
    home: Home, cells: Sequence[Cell], others: Sequence[Cell], levels: Sequence[float], higher_is_better: bool
) -> Overtaking | None:
    """Where a line overtakes another, given the cells of both at the ascending `levels`.

    None where one has no value at a level; the interval is NaN where values image by image were not kept.
    """
    gains = np.array([cell.value - other.value for cell, other in zip(cells, others, strict=True)])
    if not np.isfinite(gains).all():
        return None
    sign = 1 if higher_is_better else -1
    level = float(crossing(levels, sign * gains))
    found = [differences(home, cell.rows, other.rows) for cell, other in zip(cells, others)]
    kept = [each for each in found if each is not None]
    if len(kept) < len(levels):
        return Overtaking(level, math.nan, math.nan)
    drawn = crossing(levels, sign * bootstrapped(np.stack([values for values, _ in kept], axis=1), kept[0][1]))
    low = np.quantile(drawn, LEVEL / 2, method="lower")
    high = np.quantile(drawn, 1 - LEVEL / 2, method="higher")  # never between a level and the infinite
    return Overtaking(level, float(low), float(high))


def crossing(levels: Sequence[float], gains: ArrayLike) -> Floats:
    """The level from which on gains (…, L), linear between the ascending levels, are above 0 up to the last: (…).

    The first level where they are throughout, infinite where they are not at the last.
    """
    gains, at = np.asarray(gains, np.float64), np.asarray(levels, np.float64)
    behind = gains <= 0
    last = len(at) - 1 - behind[..., ::-1].argmax(axis=-1)  # where a line is behind for the last time, if ever
    after = np.minimum(last + 1, len(at) - 1)
    from_, to = (np.take_along_axis(gains, k[..., None], axis=-1)[..., 0] for k in (last, after))
    share = -from_ / np.where(to > from_, to - from_, 1)
    turned = np.where(last == len(at) - 1, np.inf, at[last] + share * (at[after] - at[last]))
    return np.where(behind.any(axis=-1), turned, at[0])


def bootstrapped(values: Floats, people: NDArray[np.integer] | None) -> Floats:
    """Means over the images that have all values (n, L), in `DRAWS` draws of the people (n,) on them: (DRAWS, L)."""
    known = np.isfinite(values).all(axis=1)
    group = grouped(people[known] if people is not None else None, int(known.sum()))
    sizes = np.bincount(group)
    sums = np.stack([np.bincount(group, column) for column in values[known].T], axis=1)
    often = _often(len(sizes))
    means: Floats = (often @ sums) / (often @ sizes)[:, None]
    return means


@lru_cache(maxsize=2)
def _often(groups: int) -> NDArray[np.float32]:
    """How often each is drawn, (DRAWS, groups): the same for all lines and columns of a table."""
    drawn = np.random.default_rng(0).multinomial(groups, np.full(groups, 1 / groups), size=DRAWS)
    return drawn.astype(np.float32)
