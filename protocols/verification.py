"""Are two pictures of one person? Answered by the cosine of their frozen codes, without any training on identities.

Command: `mdebench measure verification`. Beyond the paper; the way of Labeled Faces in the Wild (Huang et al. 2007,
"View 2"): ten folds of pairs, half of them of one person; the threshold of a fold is the one that is right most often
on the pairs of the other nine, and of equals the middle one.
Pairs are the pack's own (`lfw` has the official ones) as far as both pictures are test images. Where a pack has none,
they are drawn from its test identities, always the same: folds of identities, so that nobody is in two of them, in each
fold as many pairs of one person as of two, whose people stand for themselves equally often as far as they have enough
pictures.
Result: the accuracy in % (mean over pairs, which is the mean over the folds where these are of one size) and the area
under the ROC curve in %, over all pairs and needing no threshold. Chance is 50 % for both. Intervals are over the
people on the first picture of each pair.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdebench.data.finding import no_images
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.metrics import Floats, measure_mean
from mdebench.evaluation.passes import Indices
from mdebench.evaluation.tasks.binary import auc
from mdebench.evaluation.tasks.scored import join
from mdebench.results.displays import CODES, PIXELS, ChartOf, Display, Metric
from mdebench.results.rows import Measurement

VERSION = 1
NEEDS = "encode"
FEATURES = True
FOLDS = 10
SECONDS = 2e-6  # that the cosine of a pair of codes of 1,000 takes
DISPLAY = Display(
    title="Verification: are two pictures of one person?",
    metrics=(
        Metric("accuracy", "Verification, accuracy", "%", "higher", told=True, axis="Accuracy"),
        Metric("auc", "Verification, area under the ROC curve", "%", "higher", told=True, axis="Area under the ROC"),
    ),
    reference=PIXELS,
    references=CODES,
    charts=(
        ChartOf(
            "verification",
            "Verification by the cosine of frozen codes",
            ("accuracy", "auc"),
            "dots",
            levels=(("chance", 50.0),),
        ),
    ),
)

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Settings:
    """`pairs`: at most so many are drawn where the pack has none of its own (LFW has 6,000)."""

    pairs: int = 6000

    def __post_init__(self) -> None:
        if self.pairs < 2 * FOLDS:
            raise UserError(f"pairs={self.pairs}: it takes at least {2 * FOLDS}, two in each fold.")


@dataclass(frozen=True)
class Pairs:
    """Rows of the pack (P,), whether both show one person, the fold of each pair, and what must be said."""

    first: Indices
    second: Indices
    same: Flags
    fold: npt.NDArray[np.int64]
    note: str


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes pairs, or test identities with several pictures each."""
    if none := no_images(pack, "test"):
        return none
    if len(pack.pairs):
        pairs = official(pack)
        if len(np.unique(pairs.fold)) > 1 and 0 < pairs.same.sum() < len(pairs.same):
            return None
        return f"{pack.name} has pairs, and too few of both kinds and of several folds among its test images"
    people = len(_people(pack))
    if people < 4:
        what = f"{people} people with two pictures" if people else "nobody with two pictures"
        return f"{pack.name} has no pairs, and {what} in its test partition: it takes four"
    return None


def cases(settings: Settings) -> list[Settings]:
    """One unit."""
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """The cosines."""
    return Cost(seconds=SECONDS * (len(pack.pairs) or settings.pairs))


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Accuracy and area under the ROC curve over the pairs."""
    pairs = official(pack) if len(pack.pairs) else drawn(pack, settings.pairs)
    rows, place = np.unique(np.stack([pairs.first, pairs.second]), return_inverse=True)
    codes = subject.features(pack, rows).astype(np.float64)
    codes /= np.linalg.norm(codes, axis=1, keepdims=True).clip(min=1e-12)
    one, other = codes[place.reshape(2, -1)]
    cosine = (one * other).sum(axis=1)
    right = answers(cosine, pairs.same, pairs.fold) == pairs.same
    found = {"accuracy": 100.0 * right, "auc": auc(cosine, pairs.same)}
    return [
        measure_mean(name, "%", values, "cosine", [pairs.note], images=pairs.first) for name, values in found.items()
    ]


def answers(scores: Floats, same: Flags, fold: npt.NDArray[np.int64]) -> Flags:
    """(P,) whether each pair is of one person, by the threshold that is best on the pairs of the other folds."""
    found = np.empty(len(scores), bool)
    for each in np.unique(fold):
        here = fold == each
        found[here] = scores[here] > threshold(scores[~here], same[~here])
    return found


def threshold(scores: Floats, same: Flags) -> float:
    """The threshold above which a score says "one person" that is right most often; of equals the middle one.

    It lies halfway between two scores, or 1 beyond the last.
    """
    levels = np.unique(scores)
    between = np.concatenate([[levels[0] - 1], (levels[1:] + levels[:-1]) / 2, [levels[-1] + 1]])
    place = np.searchsorted(levels, scores)
    ones, twos = (np.bincount(place[which], minlength=len(levels)) for which in (same, ~same))
    right = np.concatenate([[0], twos.cumsum()]) + np.concatenate([[0], ones[::-1].cumsum()])[::-1]
    best = np.flatnonzero(right == right.max())
    return float(between[best[len(best) // 2]])


def official(pack: Pack) -> Pairs:
    """The pack's own pairs, of which both pictures are test images."""
    test = pack.split == 2
    first, second, same, fold = pack.pairs.astype(np.int64).T
    kept = test[first] & test[second]
    note = f"{kept.sum():,} pairs of the pack in {len(np.unique(fold[kept]))} folds"
    without = f"{(~kept).sum():,} pairs with an image outside of test left out" if not kept.all() else ""
    return Pairs(first[kept], second[kept], same[kept] == 1, fold[kept], join(note, without))


def drawn(pack: Pack, count: int) -> Pairs:
    """At most ``count`` pairs of test images, half of one person and half of two, in folds of people."""
    rng = np.random.default_rng(0)
    people = rng.permutation(_people(pack))
    folds = min(FOLDS, len(people) // 2)
    test, parts = pack.indices("test"), []
    for fold in range(folds):
        rows = test[np.isin(pack.identity[test], people[fold::folds])]
        one, other = np.triu_indices(len(rows), 1)
        shuffled = rng.permutation(len(one))
        first, second = rows[one[shuffled]], rows[other[shuffled]]
        same = pack.identity[first] == pack.identity[second]
        alike = np.flatnonzero(same)
        alike = alike[np.argsort(_rank(pack.identity[first[alike]]), kind="stable")]  # everybody's first pair, then …
        apart = np.flatnonzero(~same)
        half = min(count // (2 * folds), len(alike), len(apart))
        chosen = np.concatenate([alike[:half], apart[:half]])
        parts.append((first[chosen], second[chosen], same[chosen], np.full(2 * half, fold)))
    first, second, same, fold_of = (np.concatenate(each) for each in zip(*parts))
    note = f"{len(first):,} pairs drawn from {len(people):,} test identities with two images or more, in {folds} folds"
    return Pairs(first, second, same, fold_of, note)


def _people(pack: Pack) -> npt.NDArray[np.int32]:
    """The identities with two test images or more."""
    identity = pack.identity[pack.indices("test")]
    names, counts = np.unique(identity[identity >= 0], return_counts=True)
    return np.asarray(names[counts > 1])


def _rank(groups: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """(n,): how many of the same group stand before each."""
    order = np.argsort(groups, kind="stable")
    _, begins, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    rank = np.empty(len(groups), np.int64)
    rank[order] = np.arange(len(groups)) - np.repeat(begins, sizes)
    return rank
