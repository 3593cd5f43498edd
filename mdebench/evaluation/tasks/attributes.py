"""Binary attributes: the error in %, and the balanced accuracy (half the trace of the row-normalised 2×2 confusion
matrix), both averaged over the attributes (section 3.2.3)."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from mdebench.data.pack import Pack
from mdebench.evaluation.metrics import Floats, bootstrap
from mdebench.evaluation.passes import Indices
from mdebench.evaluation.readouts import Predictions, Readout, Task, partition
from mdebench.evaluation.tasks.scored import draws, join
from mdebench.results.displays import Metric
from mdebench.results.rows import Measurement

# How the headline is shown by every protocol that reads attributes.
ATTRIBUTE_ERROR = Metric(
    "attribute_error", "Attributes", "% error", "lower", told=True, axis="Attribute error", axis_unit="%"
)

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Attributes:
    """Binary attributes: the error in % and the balanced accuracy over those known in both train and test."""

    task: Task
    rows: Indices
    names: npt.NDArray[np.str_]  # of the columns of the targets
    note: str

    @classmethod
    def lacking(cls, pack: Pack) -> str | None:
        """It takes an attribute known in both the train and the test partition."""
        if not _columns(pack, pack.indices("train")).any():
            return f"{pack.name} has no attribute that is known in both its train and its test partition"
        return None

    @classmethod
    def of(cls, pack: Pack) -> Self:
        """Targets of 1, 0 and NaN on all images with any known attribute."""
        rows = partition(pack, _any(pack.attributes >= 0, 1))
        columns = _columns(pack, rows.train)
        truth = pack.attributes[:, columns].astype(np.float32)
        truth[truth < 0] = np.nan
        names, test = np.array(pack.attribute_names), pack.indices("test")
        missing = ", ".join(names[~columns])
        note = f"unknown in train or test, left out: {missing}" if missing else ""
        return cls(Task(truth, rows, test, mean_error), test, names[columns], note)

    def counts(self, readout: Readout) -> "Counts":
        """What each test image contributes."""
        return Counts.of(readout.predictions, self.task.targets[self.rows])

    def headline(self, readout: Readout) -> Measurement:
        """The error, mean over the attributes."""
        return self._error("attribute_error", self.counts(readout), readout.setting, join(readout.note, self.note))

    def balanced_accuracy(self, readout: Readout) -> Measurement:
        """The balanced accuracy, mean over the attributes with both values in test."""
        counts = self.counts(readout)
        alone = ", ".join(self.names[counts.one_class()])
        note = join(readout.note, self.note, f"one value only in test, left out: {alone}" if alone else "")
        value = bootstrap(len(self.rows), counts.only(~counts.one_class()).balanced_accuracy)
        return Measurement("balanced_accuracy", "%", *value, counts.known(), readout.setting, note=note)

    def each(self, readout: Readout) -> list[Measurement]:
        """The error of each attribute by itself."""
        counts, places = self.counts(readout), np.arange(len(self.names))
        return [
            self._error(f"attribute_error/{name}", counts.only(places == a), readout.setting, readout.note)
            for a, name in enumerate(self.names)
        ]

    def _error(self, metric: str, counts: "Counts", setting: str, note: str) -> Measurement:
        error = bootstrap(len(self.rows), counts.error)
        return Measurement(metric, "%", *error, counts.known(), setting, note=note, values=counts.per_image())


def mean_error(predictions: Predictions, targets: Predictions) -> float:
    """Mean over attributes of the share of wrong answers among known targets (n, A) of 0, 1 and NaN; in %."""
    return float(Counts.of(predictions, targets).error(np.ones((1, len(targets))))[0])


@dataclass(frozen=True)
class Counts:
    """What each test image contributes, so that a resampled statistic is a product of matrices; all (n, A)."""

    positive: Flags
    negative: Flags
    hit: Floats  # positive and called so, in this share of the draws
    rejected: Floats  # negative and called so, likewise

    @classmethod
    def of(cls, predictions: Predictions, targets: Predictions) -> "Counts":
        """From predictions (n, A) or (draws, n, A), positive above 0.5, and targets (n, A) of 0, 1 and NaN."""
        positive, negative, called = targets == 1, targets == 0, draws(predictions) > 0.5
        return cls(positive, negative, (positive & called).mean(axis=0), (negative & ~called).mean(axis=0))

    def known(self) -> int:
        """How many of the images have a known value."""
        return int((self.positive | self.negative).any(axis=1).sum())

    def per_image(self) -> npt.NDArray[np.float32] | None:
        """(n,): the wrong attributes of each image, in %; None where a value is unknown (it is no mean over images)."""
        if not (self.positive | self.negative).all():
            return None
        return np.asarray(100 * (1 - (self.hit + self.rejected).mean(axis=1)), dtype=np.float32)

    def error(self, weights: Floats) -> Floats:
        """Mean error over the attributes in %: weights (d, n) → (d,)."""
        return 100 - _mean(_percent(weights, self.hit + self.rejected, self.positive | self.negative))

    def balanced_accuracy(self, weights: Floats) -> Floats:
        """Half the trace of the row-normalised confusion matrix, mean over the attributes with both classes, in %."""
        sensitivity = _percent(weights, self.hit, self.positive)
        return _mean((sensitivity + _percent(weights, self.rejected, self.negative)) / 2)

    def one_class(self) -> Flags:
        """(A,): the attributes without a balanced accuracy, because the test images show one value only."""
        return ~(_any(self.positive, 0) & _any(self.negative, 0))

    def only(self, chosen: Flags) -> "Counts":
        """The same images, some of the attributes."""
        at = np.s_[:, chosen]
        return Counts(self.positive[at], self.negative[at], self.hit[at], self.rejected[at])


def _columns(pack: Pack, train: Indices) -> Flags:
    """(A,): the attributes with a known value among the given training images and among the test images."""
    values = pack.attributes >= 0
    return _any(values[train], 0) & _any(values[pack.indices("test")], 0)


def _any(flags: Flags, axis: int) -> Flags:
    return np.asarray(flags.any(axis=axis))


def _percent(weights: Floats, part: Floats, whole: Flags) -> Floats:
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
