"""Landmark localisation from the representation: five points, ten coordinates (section 3.2.3, Table 1).

Command: `mdebench transfer landmarks` (`--setting finetune` trains the encoder along).
Result: the mean point-to-point distance in pixels of a 96×96 image, and in % of the distance between the eyes, for the
paper's head and for the converged probe. Always answering the mean shape gives about 2.2 px on CelebA, ridge regression
on raw pixels about 1 px, the paper's REC 1.45 to 1.51 px.

Where a pack has both annotated and predicted ("pseudo") landmarks, the annotated images are held out from training and
reported by themselves (split "annotated"): an agreement with predictions is not yet an agreement with people.
"""

import numpy as np
import numpy.typing as npt

from mdebench.data.pack import ANNOTATED, LANDMARKS, PSEUDO, Pack
from mdebench.metrics import Floats, bootstrap_mean
from mdebench.probes import Predictions, Readout, Settings, Task, cases, partition, readouts
from mdebench.protocol import Indices, Subject
from mdebench.results import Measurement

__all__ = ["NEEDS", "VERSION", "Settings", "cases", "evaluate", "requires"]

VERSION = 1
NEEDS = "encode"
PIXELS = 96  # the paper's image size, in which distances are told at any working size
FEWEST_ANNOTATED = 10  # fewer annotated images outside the test partition are not worth a row of their own


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes images with all five landmarks in train and in test."""
    known = _known(pack)
    missing = [split for split in ("train", "test") if not known[pack.indices(split)].any()]
    return f"{pack.name} has no image with landmarks in its {' and '.join(missing)} partition" if missing else None


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Distances on the test partition, and on annotated images where only some are, for each readout."""
    known = _known(pack)
    parts = {"test": _rows(pack, "test", known)}
    annotated = _annotated_apart(pack, known)
    if len(annotated):
        parts["annotated"] = annotated
    trainable = known.copy()
    trainable[annotated] = False
    measured = np.unique(np.concatenate(list(parts.values())))
    targets = pack.landmarks.reshape(len(pack.landmarks), -1)
    task = Task(targets, partition(pack, trainable), measured, mean_distance)
    return [
        measurement
        for readout in readouts(subject, pack, task, settings)
        for split, rows in parts.items()
        for measurement in _measure(readout, np.searchsorted(measured, rows), pack, rows, split)
    ]


def distances(predictions: Predictions, targets: Predictions) -> Floats:
    """Point-to-point distances (n, 5) in pixels of a 96×96 image, of coordinates (n, 10) relative to the image."""
    difference = (predictions - targets).astype(np.float64).reshape(len(targets), -1, 2)
    return PIXELS * np.hypot(difference[..., 0], difference[..., 1])


def mean_distance(predictions: Predictions, targets: Predictions) -> float:
    """Mean of `distances`."""
    return float(distances(predictions, targets).mean())


def _measure(
    readout: Readout, predicted: Indices, pack: Pack, rows: Indices, split: str
) -> tuple[Measurement, Measurement]:
    """Both distances over the images `rows`, whose predictions stand at the places `predicted`."""
    truth = pack.landmarks[rows].reshape(len(rows), -1)
    distance = distances(readout.predictions[predicted], truth).mean(axis=1)
    between_eyes = distances(truth[:, _coordinates("lefteye")], truth[:, _coordinates("righteye")])[:, 0]
    apart = between_eyes > 0
    note = "; ".join(filter(None, [readout.note, _sources(pack, rows, split)]))
    flat = f"; {(~apart).sum()} with both eyes at one point left out" if not apart.all() else ""
    pixels = bootstrap_mean(distance)
    relative = bootstrap_mean(100 * distance[apart] / between_eyes[apart])
    n, share = len(rows), int(apart.sum())
    return (
        Measurement("landmark_distance", f"px of {PIXELS}", *pixels, n, readout.setting, split, note),
        Measurement(
            "landmark_distance_iod", "% of inter-ocular", *relative, share, readout.setting, split, note + flat
        ),
    )


def _known(pack: Pack) -> npt.NDArray[np.bool_]:
    """(N,): the images with all five landmarks."""
    return np.asarray(np.isfinite(pack.landmarks).all(axis=(1, 2)))


def _rows(pack: Pack, split: str, known: npt.NDArray[np.bool_]) -> Indices:
    rows = pack.indices(split)
    return rows[known[rows]]


def _annotated_apart(pack: Pack, known: npt.NDArray[np.bool_]) -> Indices:
    """All annotated images of a pack with predicted ones to train on, when enough lie outside its test partition."""
    annotated = np.flatnonzero(known & (pack.landmark_source == ANNOTATED)).astype(np.int64)
    outside = np.setdiff1d(annotated, pack.indices("test"))
    mixed = (pack.landmark_source[_rows(pack, "train", known)] == PSEUDO).any()
    return annotated if mixed and len(outside) >= FEWEST_ANNOTATED else annotated[:0]


def _sources(pack: Pack, rows: Indices, split: str) -> str:
    """Where the landmarks of these images come from, when some of the pack's are predictions."""
    if split == "annotated":
        return "annotated images of all partitions, none of which trained the readout"
    pseudo, total = int((pack.landmark_source[rows] == PSEUDO).sum()), len(rows)
    return f"{pseudo:,} of {total:,} images have predicted landmarks" if pseudo else ""


def _coordinates(landmark: str) -> slice:
    at = 2 * LANDMARKS.index(landmark)
    return slice(at, at + 2)
