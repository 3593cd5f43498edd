"""Attribute recognition from the representation (section 3.2.3, Tables 1 and 2).

Command: `mdebench transfer attributes` (`--setting finetune` trains the encoder along; Table 2: `--set updates=50000`).
Result: the mean error over the attributes, as the tables' figures are, and the balanced accuracy (half the trace of the
row-normalised 2×2 confusion matrix, averaged over the attributes), since Table 1's caption speaks of the trace; both in
%, for the paper's head and for the converged probe, with the probe's error for each attribute. Always answering the
majority value gives about 20 % on CelebA, ridge regression on raw pixels about 12 %, the paper's REC 10.2 %.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdebench.data.pack import Pack
from mdebench.metrics import Floats, bootstrap
from mdebench.probes import Predictions, Readout, Settings, Task, cases, partition, readouts
from mdebench.protocol import Indices, Subject
from mdebench.results import Measurement

__all__ = ["NEEDS", "VERSION", "Settings", "cases", "evaluate", "requires"]

VERSION = 1
NEEDS = "encode"
Flags = npt.NDArray[np.bool_]


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes an attribute known in both the train and the test partition."""
    if not _columns(pack, pack.indices("train")).any():
        return f"{pack.name} has no attribute that is known in both its train and its test partition"
    return None


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Errors and balanced accuracies on the test partition, for each readout of `settings.setting`."""
    rows = partition(pack, _any(pack.attributes >= 0, 1))
    columns = _columns(pack, rows.train)
    truth = pack.attributes[:, columns].astype(np.float32)
    truth[truth < 0] = np.nan
    names = np.array(pack.attribute_names)
    missing = ", ".join(names[~columns])
    notes = [f"unknown in train or test, left out: {missing}"] if missing else []
    test = pack.indices("test")
    task = Task(truth, rows, test, mean_error)
    found = []
    for readout in readouts(subject, pack, task, settings):
        counts = Counts.of(readout.predictions, truth[test])
        found += _summary(readout, counts, names[columns], notes)
        if readout.setting.endswith("probe"):
            found += _each(readout, counts, names[columns])
    return found


def mean_error(predictions: Predictions, targets: Predictions) -> float:
    """Mean over attributes of the share of wrong answers among known targets (n, A) of 0, 1 and NaN; in %."""
    return float(Counts.of(predictions, targets).error(np.ones((1, len(targets))))[0])


@dataclass(frozen=True)
class Counts:
    """What each test image contributes, so that a resampled statistic is a product of matrices; all (n, A)."""

    positive: Flags
    negative: Flags
    hit: Flags  # positive and called so
    rejected: Flags  # negative and called so

    @classmethod
    def of(cls, predictions: Predictions, targets: Predictions) -> "Counts":
        """From predictions (n, A), positive above 0.5, and targets (n, A) of 0, 1 and NaN."""
        positive, negative, called = targets == 1, targets == 0, predictions > 0.5
        return cls(positive, negative, positive & called, negative & ~called)

    def error(self, weights: Floats) -> Floats:
        """Mean error over the attributes in %: weights (d, n) → (d,)."""
        right = self.hit | self.rejected
        return 100 - _mean(_percent(weights, right, self.positive | self.negative))

    def balanced_accuracy(self, weights: Floats) -> Floats:
        """Half the trace of the row-normalised confusion matrix, mean over the attributes with both classes, in %."""
        sensitivity = _percent(weights, self.hit, self.positive)
        return _mean((sensitivity + _percent(weights, self.rejected, self.negative)) / 2)

    def one_class(self) -> Flags:
        """(A,): the attributes without a balanced accuracy, because the test images show one value only."""
        return ~(_any(self.positive, 0) & _any(self.negative, 0))

    def only(self, chosen: Flags) -> "Counts":
        """The same images, some of the attributes."""
        parts = (self.positive, self.negative, self.hit, self.rejected)
        return Counts(*(part[:, chosen] for part in parts))


def _summary(readout: Readout, counts: Counts, names: npt.NDArray[np.str_], notes: list[str]) -> list[Measurement]:
    notes = [readout.note, *notes]
    n = int((counts.positive | counts.negative).any(axis=1).sum())
    images = len(counts.positive)
    error = bootstrap(images, counts.error)
    balanced = bootstrap(images, counts.only(~counts.one_class()).balanced_accuracy)
    alone = ", ".join(names[counts.one_class()])
    both = [*notes, f"one value only in test, left out: {alone}"] if alone else notes
    return [
        Measurement("attribute_error", "%", *error, n, readout.setting, note=_join(notes)),
        Measurement("balanced_accuracy", "%", *balanced, n, readout.setting, note=_join(both)),
    ]


def _each(readout: Readout, counts: Counts, names: npt.NDArray[np.str_]) -> list[Measurement]:
    found = []
    for a, name in enumerate(names):
        one = counts.only(np.arange(len(names)) == a)
        error = bootstrap(len(one.positive), one.error)
        n = int((one.positive | one.negative).sum())
        found.append(Measurement(f"attribute_error/{name}", "%", *error, n, readout.setting, note=readout.note))
    return found


def _columns(pack: Pack, train: Indices) -> Flags:
    """(A,): the attributes with a known value among the given training images and among the test images."""
    known = pack.attributes >= 0
    return _any(known[train], 0) & _any(known[pack.indices("test")], 0)


def _any(flags: Flags, axis: int) -> Flags:
    return np.asarray(flags.any(axis=axis))


def _percent(weights: Floats, part: Flags, whole: Flags) -> Floats:
    """(d, A): weighted counts of `part` in % of those of `whole`; NaN where there is none."""
    return _divide(100 * (weights @ part), weights @ whole)


def _mean(values: Floats) -> Floats:
    """(d, A) → (d,): the mean over the attributes that have a value; NaN where none has."""
    has = ~np.isnan(values)
    return _divide(np.where(has, values, 0).sum(axis=1), has.sum(axis=1, dtype=np.float64))


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """NaN where the denominator is 0."""
    quotient = np.full_like(numerator, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def _join(notes: list[str]) -> str:
    return "; ".join(filter(None, notes))
