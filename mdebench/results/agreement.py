"""Do two lists of methods stand in the same order? Kendall's τ-b and Spearman's ρ, and how sure they are.

How sure has two sources, told apart: other test images show other people (these are drawn with replacement, with all
their images, for all methods together), and another training gives another network (of each method its seeds are
drawn). Neither says anything of the published order itself, which is one number for each method.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from mdebench.home import Home
from mdebench.results.cells import Cell
from mdebench.results.crossings import DRAWS, bootstrapped
from mdebench.results.intervals import LEVEL
from mdebench.results.paired import sample

Floats = NDArray[np.float64]
NOT_KNOWN = (math.nan, math.nan)


class Agreement(NamedTuple):
    """A coefficient in [-1, 1], NaN where all of one list are equal, with its 95 % intervals over people and seeds;
    (NaN, NaN) where values image by image were not kept, or a method has one seed."""

    value: float
    over_people: tuple[float, float]
    over_seeds: tuple[float, float]


def agreements(home: Home, ours: Sequence[Cell], theirs: Sequence[float]) -> tuple[Agreement, Agreement]:
    """Kendall's τ-b and Spearman's ρ of our cells with published values, in the same order and the better way alike."""
    published = np.asarray(theirs, np.float64)
    means = np.array([[cell.value for cell in ours]])
    people, seeds = _over_people(home, ours), _over_seeds(ours)

    def agreement(of: Callable[[Floats, Floats], Floats]) -> Agreement:
        intervals = (NOT_KNOWN if drawn is None else _interval(of(drawn, published)) for drawn in (people, seeds))
        return Agreement(float(of(means, published)[0]), *intervals)

    return agreement(kendall), agreement(spearman)


def kendall(lists: Floats, other: Floats) -> Floats:
    """Kendall's τ-b of each list (D, n) with another one (n,): (D,)."""
    first, second = np.triu_indices(len(other), 1)
    ours, theirs = np.sign(lists[:, first] - lists[:, second]), np.sign(other[first] - other[second])
    untied = np.sqrt((ours != 0).sum(axis=1) * (theirs != 0).sum())
    with np.errstate(invalid="ignore"):
        found: Floats = (ours @ theirs) / untied
    return found


def spearman(lists: Floats, other: Floats) -> Floats:
    """Spearman's ρ of each list (D, n) with another one (n,), ties at the mean of their ranks: (D,)."""
    ours, theirs = rankdata(lists, axis=1), rankdata(other)
    ours, theirs = ours - ours.mean(axis=1, keepdims=True), theirs - theirs.mean()
    with np.errstate(invalid="ignore"):
        found: Floats = (ours @ theirs) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs))
    return found


def _over_people(home: Home, cells: Sequence[Cell]) -> Floats | None:
    """The values of the methods in draws of the people on the images, (DRAWS, n); None where not all were kept."""
    found = [sample(home, cell.rows) for cell in cells]
    kept = [each for each in found if each is not None]
    if len(kept) < len(cells) or len({len(values) for values, _ in kept}) != 1:
        return None
    return bootstrapped(np.stack([values for values, _ in kept], axis=1), kept[0][1])


def _over_seeds(cells: Sequence[Cell]) -> Floats | None:
    """The values of the methods in draws of their seeds, (DRAWS, n); None unless all have several."""
    if min(len(cell.rows) for cell in cells) < 2:
        return None
    rng = np.random.default_rng(0)
    values = [np.array([row["value"] for row in cell.rows]) for cell in cells]
    drawn: Floats = np.stack([each[rng.integers(0, len(each), (DRAWS, len(each)))].mean(axis=1) for each in values], 1)
    return drawn


def _interval(drawn: Floats) -> tuple[float, float]:
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return NOT_KNOWN
    low, high = np.quantile(known, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)
