"""Which class an image is of: the pack's classes, or without any its identities."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from mdebench.data.finding import no_images
from mdebench.data.pack import Pack
from mdebench.evaluation.metrics import measure_mean
from mdebench.evaluation.passes import Indices
from mdebench.evaluation.readouts import Predictions, Readout, Task, partition
from mdebench.evaluation.tasks.scored import draws, join, left_out
from mdebench.results.rows import Measurement

IDENTITIES = 200  # those with the most training images are the classes
FEWEST_IMAGES = 5  # that an identity has, so that a fifth of them can be held out


@dataclass(frozen=True)
class Classes:
    """Which class an image is of: the pack's classes, or without any its identities; the accuracy in %.

    Where the test images are of other identities than the training images, a fifth of each identity's training images
    is held out in their place (split "held-out").
    """

    task: Task  # targets one-hot, NaN where the class is unknown; the images of a class are its stratum
    rows: Indices
    split: str
    note: str

    @classmethod
    def lacking(cls, pack: Pack) -> str | None:
        """It takes two classes, or two identities with some training images each, and test images."""
        if none := no_images(pack, "train", "test"):
            return none
        if len(_chosen(pack)[1]) < 2:
            return f"{pack.name} has neither classes nor identities with {FEWEST_IMAGES} training images each"
        place = _places(pack)
        train, test = pack.indices("train"), pack.indices("test")
        if not (place[test] >= 0).any() and not len(_every_fifth(train[place[train] >= 0], place)):
            values, _ = _chosen(pack)
            unlabelled = "unlabelled" if (values[test] < 0).all() else "unlabelled or of other classes"
            return f"all {len(test):,} test images of {pack.name} are {unlabelled}"
        return None

    @classmethod
    def of(cls, pack: Pack) -> Self:
        """Targets (N, classes)."""
        values, chosen = _chosen(pack)
        place, kind = _places(pack), "classes" if values is pack.label else "identities"
        train, test = (rows[place[rows] >= 0] for rows in (pack.indices("train"), pack.indices("test")))
        unlabelled = int((values[pack.indices("test")] < 0).sum())
        others = len(pack.indices("test")) - len(test) - unlabelled
        usable, rows, split = place >= 0, test, "test"
        without = "unlabelled test images" if kind == "classes" else "test images of unknown identity"
        note = join(
            f"{len(chosen)} classes", left_out(unlabelled, without), left_out(others, "test images of other classes")
        )
        if not len(test):
            rows, split = _every_fifth(train, place), "held-out"
            usable[rows] = False
            counts = np.bincount(place[train])
            why = f"test has other {kind}" if others else f"the {kind} of test images are unknown"
            told = f"{len(chosen)} {kind} with {counts.min()} to {counts.max()} training images"
            note = f"{told}, of which a fifth is held out: {why}"
        targets = np.full((len(place), len(chosen)), np.nan, np.float32)
        targets[place >= 0] = np.eye(len(chosen), dtype=np.float32)[place[place >= 0]]
        return cls(Task(targets, partition(pack, usable), rows, misclassified, strata=place), rows, split, note)

    @property
    def truth(self) -> npt.NDArray[np.int64]:
        """(N,): the column of each image's class."""
        assert self.task.strata is not None
        return self.task.strata.astype(np.int64)

    def headline(self, readout: Readout) -> Measurement:
        """The accuracy; the class with the largest prediction is the answer."""
        right = draws(readout.predictions).argmax(axis=-1) == self.truth[self.rows]
        notes = [readout.note, self.note]
        accuracy = measure_mean("accuracy", "%", 100 * right.mean(axis=0), readout.setting, notes, images=self.rows)
        return replace(accuracy, split=self.split)


def misclassified(predictions: Predictions, targets: Predictions) -> float:
    """Share of the images (n, classes) whose largest prediction is not that of their class, in %.

    A trace of the squared error is added, too small to outweigh one image in 100,000: few validation images often tell
    two alphas apart in no other way.
    """
    wrong = (predictions.argmax(axis=1) != targets.argmax(axis=1)).mean()
    return float(100 * wrong + 1e-4 * min(1.0, np.square(predictions - targets).mean()))


def _chosen(pack: Pack) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The class of each image (N,), and the classes to tell apart, ascending."""
    train = pack.indices("train")
    if (pack.label[train] >= 0).any():
        return pack.label, np.unique(pack.label[train][pack.label[train] >= 0])
    names, counts = np.unique(pack.identity[train][pack.identity[train] >= 0], return_counts=True)
    most = np.argsort(-counts, kind="stable")[:IDENTITIES]
    return pack.identity, np.sort(names[most[counts[most] >= FEWEST_IMAGES]])


def _places(pack: Pack) -> npt.NDArray[np.int64]:
    """(N,): which of the chosen classes each image is of, −1 for none of them."""
    values, chosen = _chosen(pack)
    place = np.searchsorted(chosen, values).clip(max=len(chosen) - 1)
    return np.where(chosen[place] == values, place, -1)


def _every_fifth(train: Indices, place: npt.NDArray[np.int64]) -> Indices:
    """The fifth, tenth, … image of each class among the training images."""
    by_class = [train[place[train] == which] for which in np.unique(place[train])]
    return np.sort(np.concatenate([rows[4::5] for rows in by_class]))
