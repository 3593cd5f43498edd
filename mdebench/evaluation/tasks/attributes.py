"""Binary attributes: the error in % (section 3.2.3) and what else an answer can be judged by (`binary`), for each
attribute and averaged over them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from mdebench.data.finding import no_images
from mdebench.data.pack import Pack
from mdebench.evaluation.metrics import Floats, measure_mean
from mdebench.evaluation.passes import Indices
from mdebench.evaluation.readouts import Predictions, Readout, Task, partition
from mdebench.evaluation.tasks.binary import OF_BOTH, STATISTICS, per_image
from mdebench.evaluation.tasks.scored import draws, join, left_out
from mdebench.results.displays import Metric
from mdebench.results.rows import Measurement

# How the headline is shown by every protocol that reads attributes.
ATTRIBUTE_ERROR = Metric(
    "attribute_error", "Attributes", "% error", "lower", told=True, axis="Attribute error", axis_unit="%"
)

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Attributes:
    """Binary attributes: those known in both train and test."""

    task: Task
    rows: Indices
    names: npt.NDArray[np.str_]  # of the columns of the targets
    note: str

    @classmethod
    def lacking(cls, pack: Pack) -> str | None:
        """It takes an attribute known in both the train and the test partition."""
        if (none := no_images(pack, "train", "test")) or _columns(pack, pack.indices("train")).any():
            return none
        for split in ("train", "test"):
            rows = pack.indices(split)
            if pack.attribute_names and not (pack.attributes[rows] >= 0).any():
                return f"all {len(rows):,} {split} images of {pack.name} are unlabelled: none has a known attribute"
        return f"{pack.name} has no attribute that is known in both its train and its test partition"

    @classmethod
    def of(cls, pack: Pack) -> Self:
        """Targets of 1, 0 and NaN on all images with any known attribute."""
        rows = partition(pack, _any(pack.attributes >= 0, 1))
        columns = _columns(pack, rows.train)
        truth = pack.attributes[:, columns].astype(np.float32)
        truth[truth < 0] = np.nan
        names, test = np.array(pack.attribute_names), pack.indices("test")
        missing = ", ".join(names[~columns])
        unlabelled = int((~_any(pack.attributes[test] >= 0, 1)).sum())
        note = join(
            f"unknown in train or test, left out: {missing}" if missing else "",
            left_out(unlabelled, "unlabelled test images"),
        )
        return cls(Task(truth, rows, test, mean_error), test, names[columns], note)

    def headline(self, readout: Readout) -> Measurement:
        """The error, mean over the attributes."""
        return self._mean("attribute_error", readout)

    def measure(self, readout: Readout, statistics: Iterable[str] = STATISTICS) -> list[Measurement]:
        """Statistics of `binary`, by default all of them, mean over the attributes that have them."""
        return [self._mean(metric, readout) for metric in statistics]

    def each(self, readout: Readout) -> list[Measurement]:
        """Every statistic of each attribute that has it, by itself."""
        return [
            self._measured(f"{metric}/{self.names[a]}", readout, numbers, [a], [readout.note])
            for metric in STATISTICS
            for a, numbers in self._numbers(metric, readout).items()
        ]

    def _mean(self, metric: str, readout: Readout) -> Measurement:
        numbers = self._numbers(metric, readout)
        alone = ", ".join(name for a, name in enumerate(self.names) if a not in numbers)
        notes = [readout.note, self.note, f"one value only in test, left out: {alone}" if alone else ""]
        if metric == "calibration_error":
            notes.append("calibration error: above 0 even for perfect probabilities, comparable at equal n alone")
        mean = np.mean(list(numbers.values()), axis=0) if numbers else np.empty(0)
        return self._measured(metric, readout, mean, list(numbers), notes)

    def _measured(
        self, metric: str, readout: Readout, numbers: Floats, chosen: list[int], notes: list[str]
    ) -> Measurement:
        """The mean of the numbers (n,), over the test images that know one of the chosen attributes."""
        unit = "% points" if metric.startswith("calibration_error") else "%"
        known = int((~np.isnan(self.task.targets[self.rows][:, chosen])).any(axis=1).sum())
        return replace(measure_mean(metric, unit, numbers, readout.setting, notes), n=known)

    def _numbers(self, metric: str, readout: Readout) -> dict[int, Floats]:
        """Attribute's column → the numbers of a statistic, for those of the attributes that have it in test."""
        targets, predictions = self.task.targets[self.rows], draws(readout.predictions)
        both = _any(targets == 1, 0) & _any(targets == 0, 0)
        return {
            a: per_image(STATISTICS[metric], predictions[:, :, a], targets[:, a])
            for a in range(len(self.names))
            if both[a] or metric not in OF_BOTH
        }


def mean_error(predictions: Predictions, targets: Predictions) -> float:
    """Mean over attributes of the share of wrong answers among known targets (n, A) of 0, 1 and NaN; in %."""
    known = ~np.isnan(targets)
    right = (known & ((predictions > 0.5) == (targets == 1))).sum(axis=0)
    some = _any(known, 0)
    return float(100 - (100 * right[some] / known.sum(axis=0)[some]).mean())


def _columns(pack: Pack, train: Indices) -> Flags:
    """(A,): the attributes with a known value among the given training images and among the test images."""
    values = pack.attributes >= 0
    return _any(values[train], 0) & _any(values[pack.indices("test")], 0)


def _any(flags: Flags, axis: int) -> Flags:
    return np.asarray(flags.any(axis=axis))
