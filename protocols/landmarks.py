"""Landmark localisation from the representation: five points, ten coordinates (section 3.2.3, Table 1).

Command: `mdebench transfer landmarks` (`--setting finetune` trains the encoder along, `--setting few-labels` reads 1 %
and 10 % of the labels).
Result: the mean point-to-point distance in pixels of a 96×96 image, and in % of the distance between the eyes (the
normalised mean error), of all five points and of each, with the share of the images in which the mean is at most 10 %,
for the paper's head and for the converged probe; the figure shows that share for every bound. Always answering the
mean shape gives about 2.2 px on CelebA, ridge regression on raw pixels about 1 px, the paper's REC 1.45 to 1.51 px.

Where a pack has both annotated and predicted ("pseudo") landmarks, the annotated images are held out from training and
reported by themselves (split "annotated"): an agreement with predictions is not yet an agreement with people.
"""

from dataclasses import replace

import numpy as np

from mdebench.data.pack import Pack
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.readouts import (
    Settings,
    cases,
    cost,
    few_labels_chart,
    few_labels_table,
    judged_table,
    readouts,
)
from mdebench.evaluation.tasks import LANDMARK_DISTANCE, Landmarks
from mdebench.evaluation.tasks.landmarks import INTER_OCULAR, NEAR, NME
from mdebench.results.displays import PROBE, ChartOf, Display, Metric
from mdebench.results.rows import Measurement

__all__ = ["FEATURES", "NEEDS", "VERSION", "Settings", "cases", "cost", "evaluate", "requires"]

VERSION = 1
NEEDS = "encode"
FEATURES = True
_POINTS = {
    "lefteye": "Left eye",
    "righteye": "Right eye",
    "nose": "Nose",
    "leftmouth": "Left corner of the mouth",
    "rightmouth": "Right corner of the mouth",
}
_METRICS = (
    LANDMARK_DISTANCE,
    Metric(
        NME,
        "Landmarks, share of the distance between the eyes",
        INTER_OCULAR,
        "lower",
        axis="Normalised mean error",
    ),
    Metric(
        f"landmark_share_{NEAR}",
        f"Landmarks, images with a normalised mean error of at most {NEAR} %",
        "%",
        "higher",
        told=True,
        axis=f"Images with at most {NEAR} %",
    ),
    *(
        Metric(f"{NME}/{point}", f"Landmarks, {name.lower()}", INTER_OCULAR, "lower", axis=name)
        for point, name in _POINTS.items()
    ),
)
DISPLAY = Display(
    metrics=_METRICS,
    tables=(  # beside the paper's Table 1
        few_labels_table("landmark_distance"),
        judged_table("landmarks", "Landmarks, point by point", *(metric.name for metric in _METRICS)),
    ),
    charts=(
        few_labels_chart("landmark_distance"),
        ChartOf(
            "landmark_errors", "How far landmarks are off, converged probe", (NME,), "distribution", settings=(PROBE,)
        ),
    ),
)


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes images with all five landmarks in train and in test."""
    return Landmarks.lacking(pack)


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Distances on the test partition, and on annotated images where only some are, for each readout."""
    landmarks = Landmarks.of(pack)
    found: list[Measurement] = []
    for readout in readouts(subject, pack, landmarks.task, settings):
        for split, rows in landmarks.parts.items():
            predicted = np.searchsorted(landmarks.task.evaluate, rows)
            part = replace(readout, predictions=readout.predictions[..., predicted, :])
            found += landmarks.measure(part, split)
    return found
