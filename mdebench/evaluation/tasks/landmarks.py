"""Five landmarks, ten coordinates relative to the image: the mean point-to-point distance (section 3.2.3), also as a
share of the distance between the eyes (the normalised mean error)."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from mdebench.data.finding import no_images
from mdebench.data.pack import ANNOTATED, LANDMARKS, PSEUDO, SPLITS, Pack
from mdebench.evaluation.metrics import Floats, measure_mean
from mdebench.evaluation.passes import Indices
from mdebench.evaluation.readouts import Predictions, Readout, Task, partition
from mdebench.evaluation.tasks.scored import draws, left_out
from mdebench.methods.masks import preset_box
from mdebench.results.displays import Metric
from mdebench.results.rows import Measurement
from mdebench.words import words

# How the headline is shown by every protocol that reads landmarks.
LANDMARK_DISTANCE = Metric("landmark_distance", "Landmarks", "px of 96", "lower", told=True, axis="Landmark distance")

Flags = npt.NDArray[np.bool_]
PIXELS = 96  # the paper's image size, in which distances are told at any working size
NME, INTER_OCULAR = "landmark_distance_iod", "% of inter-ocular"  # the normalised mean error
NEAR = 10  # % of the distance between the eyes: an image above it is a failure (Zhang et al. 2014, five points too)
FEWEST_ANNOTATED = 10  # fewer annotated images outside the test partition are not worth a row of their own
COVERED = {  # what each occlusion preset is meant to hide
    "left_half": ("lefteye", "leftmouth"),
    "right_half": ("righteye", "rightmouth"),
    "both_eyes": ("lefteye", "righteye"),
    "left_eye": ("lefteye",),
    "right_eye": ("righteye",),
    "mouth": ("leftmouth", "rightmouth"),
}


@dataclass(frozen=True)
class Landmarks:
    """Five points: the mean point-to-point distance, on the test images and on annotated ones where only some are."""

    task: Task
    parts: dict[str, Indices]  # split → the images to measure
    pack: Pack

    @classmethod
    def lacking(cls, pack: Pack) -> str | None:
        """It takes images with all five landmarks in train and in test."""
        located = _located(pack)
        missing = [split for split in ("train", "test") if not located[pack.indices(split)].any()]
        if (none := no_images(pack, "train", "test")) or not missing:
            return none
        what = "image with landmarks" if not np.isfinite(pack.landmarks).any() else "image with all five landmarks"
        told = f"{pack.name} has no {what} in its {' and '.join(missing)} partition"
        return ": ".join(filter(None, [told, _points_there(pack)]))

    @classmethod
    def of(cls, pack: Pack) -> Self:
        """Targets (N, 10); where annotated images are set apart, they train nothing."""
        located = _located(pack)
        parts = {"test": _rows(pack, "test", located)}
        annotated = _annotated_apart(pack, located)
        if len(annotated):
            parts["annotated"] = annotated
        trainable = located.copy()
        trainable[annotated] = False
        measured = np.unique(np.concatenate(list(parts.values())))
        targets = pack.landmarks.reshape(len(pack.landmarks), -1)
        return cls(Task(targets, partition(pack, trainable), measured, mean_distance), parts, pack)

    @property
    def rows(self) -> Indices:
        """The test images with landmarks."""
        return self.parts["test"]

    def headline(self, readout: Readout) -> Measurement:
        """The distance in pixels on the test images."""
        return self._pixels(readout, "test")

    def measure(self, readout: Readout, split: str) -> list[Measurement]:
        """The distance in pixels, and in % of that between the eyes: of all five points, of each, and the share of the
        images whose mean is at most `NEAR`. Predictions are of the images `parts[split]`."""
        rows = self.parts[split]
        between_eyes = self._between_eyes(rows)
        apart = between_eyes > 0
        flat = "" if apart.all() else f"{(~apart).sum()} with both eyes at one point left out"
        relative = 100 * self._distances(readout, rows)[:, apart] / between_eyes[apart, None]
        mean = relative.mean(axis=-1)
        near = 100.0 * (mean <= NEAR)
        found = {NME: (INTER_OCULAR, mean), f"landmark_share_{NEAR}": ("%", near)}
        found |= {f"{NME}/{name}": (INTER_OCULAR, relative[..., k]) for k, name in enumerate(LANDMARKS)}
        return [
            self._pixels(readout, split),
            *(
                self._mean(name, unit, numbers.mean(axis=0), readout, split, rows[apart], flat)
                for name, (unit, numbers) in found.items()
            ),
        ]

    def _pixels(self, readout: Readout, split: str) -> Measurement:
        rows = self.parts[split]
        distance = self._distances(readout, rows).mean(axis=-1).mean(axis=0)
        return self._mean("landmark_distance", f"px of {PIXELS}", distance, readout, split, rows)

    def _mean(
        self, metric: str, unit: str, numbers: Floats, readout: Readout, split: str, rows: Indices, note: str = ""
    ) -> Measurement:
        """The mean of one number for each of these images."""
        lost = len(self.pack.indices("test")) - len(self.rows) if split == "test" else 0
        without = left_out(lost, "test images without all five landmarks")
        notes = [readout.note, _sources(self.pack, self.parts[split], split), note, without]
        images = None if np.array_equal(rows, self.pack.indices("test")) else rows
        return replace(measure_mean(metric, unit, numbers, readout.setting, notes, images=images), split=split)

    def _distances(self, readout: Readout, rows: Indices) -> Floats:
        """(draws, n, 5) in pixels."""
        return distances(draws(readout.predictions), self.pack.landmarks[rows].reshape(len(rows), -1))

    def _between_eyes(self, rows: Indices) -> Floats:
        """(n,) in pixels."""
        left, right = (self.pack.landmarks[rows, LANDMARKS.index(eye)] for eye in ("lefteye", "righteye"))
        return distances(left, right)[:, 0]


def distances(predictions: Predictions, targets: Predictions) -> Floats:
    """Point-to-point distances (..., n, 5) in pixels of a 96×96 image, of coordinates (..., n, 10) and (n, 10)."""
    difference = (predictions - targets).astype(np.float64)
    difference = difference.reshape(*difference.shape[:-1], -1, 2)
    return PIXELS * np.hypot(difference[..., 0], difference[..., 1])


def mean_distance(predictions: Predictions, targets: Predictions) -> float:
    """Mean of `distances`."""
    return float(distances(predictions, targets).mean())


def misplaced(pack: Pack, preset: str) -> str:
    """A warning where a preset, placed for aligned faces, misses what it should hide in over 5 % of the test images."""
    points = pack.landmarks[pack.indices("test")][:, [LANDMARKS.index(landmark) for landmark in COVERED[preset]]]
    points = points[np.isfinite(points).all(axis=(1, 2))]
    if not len(points):
        return "no landmarks in test: the rectangle is where it would be on aligned faces"
    left, top, right, bottom = preset_box(preset)
    x, y = points[..., 0], points[..., 1]
    hidden = ((left <= x) & (x <= right) & (top <= y) & (y <= bottom)).all(axis=1).mean()
    return (
        f"the rectangle hides {', '.join(COVERED[preset])} in only {hidden:.0%} of the images" if hidden < 0.95 else ""
    )


def _points_there(pack: Pack) -> str:
    """How many images know how many of the five points, in words; "" where none knows any."""
    known: Flags = np.isfinite(pack.landmarks).all(axis=2)  # type: ignore[assignment]  # (N, 5)
    parts = []
    for count in range(len(LANDMARKS) - 1, 0, -1):
        rows = known[known.sum(axis=1) == count]
        if len(rows):
            have = "image has" if len(rows) == 1 else "images have"
            names = words(name for name, there in zip(LANDMARKS, rows[0]) if there)
            same = f" ({names})" if (rows == rows[0]).all() else ""
            parts.append(f"{len(rows):,} {have} {count} of the five points{same}")
    located = _located(pack)
    if located.any():
        each = ", ".join(f"{located[pack.indices(split)].sum():,} {split}" for split in SPLITS)
        return "; ".join([*parts, f"{located.sum():,} have all five ({each})"])
    return "; ".join([*parts, "none has all five"]) if parts else ""


def _located(pack: Pack) -> Flags:
    """(N,): the images with all five landmarks."""
    return np.asarray(np.isfinite(pack.landmarks).all(axis=(1, 2)))


def _rows(pack: Pack, split: str, located: Flags) -> Indices:
    rows = pack.indices(split)
    return rows[located[rows]]


def _annotated_apart(pack: Pack, located: Flags) -> Indices:
    """All annotated images of a pack with predicted ones to train on, when enough lie outside its test partition."""
    annotated = np.flatnonzero(located & (pack.landmark_source == ANNOTATED)).astype(np.int64)
    outside = np.setdiff1d(annotated, pack.indices("test"))
    mixed = (pack.landmark_source[_rows(pack, "train", located)] == PSEUDO).any()
    return annotated if mixed and len(outside) >= FEWEST_ANNOTATED else annotated[:0]


def _sources(pack: Pack, rows: Indices, split: str) -> str:
    """Where the landmarks of these images come from, when some of the pack's are predictions."""
    if split == "annotated":
        return "annotated images of all partitions, none of which trained the readout"
    pseudo, total = int((pack.landmark_source[rows] == PSEUDO).sum()), len(rows)
    return f"{pseudo:,} of {total:,} images have predicted landmarks" if pseudo else ""
