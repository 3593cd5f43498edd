"""How sure a mean over test images is, where several images may show one person.

Images of one person are no independent evidence: whoever draws other test images draws other people, with all their
images. The error of a mean is therefore that between people, by the jackknife (each person left out in turn; Efron
1982, MacKinnon, Nielsen and Webb 2023), with Student's t at as many degrees of freedom as the effective number of
people allows (Carter, Schnepel and Steigerwald 2017: n² / Σ n_g², less one). Where nobody knows who is on an image,
it stands for itself, and all this is the textbook's s / √n with n − 1.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

LEVEL = 0.05  # of all intervals and verdicts, two-sided
POWER = 0.8  # with which the smallest difference that a table could find is told
FEW = 30  # fewer people than this tell little, and a table says so


class Spread(NamedTuple):
    """A mean, its standard error, the degrees of freedom of that, and the number of people (of images, unknown)."""

    mean: float
    error: float
    degrees: float
    groups: int


def spread(values: ArrayLike, people: NDArray[np.integer] | None = None) -> Spread:
    """The mean of values (n,) and its standard error over `people` (n,), -1 where unknown; by default over images.

    Without two people (images) the error is NaN.
    """
    numbers = np.asarray(values, np.float64)
    n = len(numbers)
    if not n:
        return Spread(math.nan, math.nan, 0, 0)
    mean = float(numbers.mean())
    group = grouped(people, n)
    sizes = np.bincount(group)
    groups = len(sizes)
    if groups < 2:
        return Spread(mean, math.nan, 0, groups)
    beside = np.bincount(group, numbers - mean) / (n - sizes)  # how far the mean moves without each
    error = math.sqrt((groups - 1) / groups * float(beside @ beside))
    return Spread(mean, error, n**2 / float(np.square(sizes).sum()) - 1, groups)


def grouped(people: NDArray[np.integer] | None, n: int) -> NDArray[np.int64]:
    """A number from 0 up for each of n images, the same for those of one person; an unknown is alone."""
    if people is None:
        return np.arange(n)
    own = np.where(people < 0, -1 - np.arange(n), people)
    return np.unique(own, return_inverse=True)[1].astype(np.int64)


def known_people(people: NDArray[np.integer] | None) -> int:
    """How many people the images show; 0 where nothing is known of who they are."""
    return 0 if people is None or not (people >= 0).any() else int(grouped(people, len(people)).max()) + 1


def interval(values: ArrayLike, people: NDArray[np.integer] | None, unit: str) -> tuple[float, float, float]:
    """The mean of values (n,) with its 95 % interval (value, low, high); NaN where it cannot be known.

    It ends where the unit does: a share in % lies in [0, 100], a distance is not below 0. Shares that are 0 or 100 %
    on every image are bounded by what so many people without an exception allow (the exact binomial bound).
    """
    mean, error, degrees, groups = spread(values, people)
    if math.isnan(error):
        return mean, math.nan, math.nan
    half = quantile(degrees) * error
    least, most = limits(unit, mean)
    if error == 0 and mean in (least, most) and unit == "%":
        half = 100 * (1 - (LEVEL / 2) ** (1 / groups))
    return mean, max(mean - half, least), min(mean + half, most)


def limits(unit: str, mean: float) -> tuple[float, float]:
    """The least and the largest mean that a unit allows: "%" alone is a share; none where `mean` is outside of them."""
    least, most = (0.0, 100.0 if unit == "%" else math.inf)
    known = unit.startswith(("px", "%", "of the side")) and least <= mean <= most
    return (least, most) if known else (-math.inf, math.inf)


def quantile(degrees: float, tail: float = LEVEL / 2) -> float:
    """Student's t that is exceeded with probability `tail`."""
    return float(stdtrit(degrees, 1 - tail)) if degrees > 0 else math.nan


def p_value(difference: float, error: float, degrees: float) -> float:
    """The two-sided p-value of a difference with its standard error; NaN where the error is unknown."""
    if math.isnan(error) or math.isnan(difference) or degrees <= 0:
        return math.nan
    if error == 0:
        return float(difference == 0)
    return float(2 * stdtr(degrees, -abs(difference) / error))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values (m,) (Holm 1979): those of at most `LEVEL` hold all together at that level.

    NaN stays NaN and counts as no comparison.
    """
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")
    order = order[~np.isnan(p[order])]
    steps = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * steps)) if len(order) else []
    return adjusted
