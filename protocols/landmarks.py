"""Landmark localisation from the representation: five points, ten coordinates (section 3.2.3, Table 1).

Command: `mdebench transfer landmarks` (`--setting finetune` trains the encoder along, `--setting few-labels` reads 1 %
and 10 % of the labels).
Result: the mean point-to-point distance in pixels of a 96×96 image, and in % of the distance between the eyes, for the
paper's head and for the converged probe. Always answering the mean shape gives about 2.2 px on CelebA, ridge regression
on raw pixels about 1 px, the paper's REC 1.45 to 1.51 px.

Where a pack has both annotated and predicted ("pseudo") landmarks, the annotated images are held out from training and
reported by themselves (split "annotated"): an agreement with predictions is not yet an agreement with people.
"""

from dataclasses import replace

import numpy as np

from mdebench.data.pack import Pack
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.readouts import Settings, cases, cost, few_labels_chart, few_labels_table, readouts
from mdebench.evaluation.tasks import LANDMARK_DISTANCE, Landmarks
from mdebench.results.displays import Display, Metric
from mdebench.results.rows import Measurement

__all__ = ["FEATURES", "NEEDS", "VERSION", "Settings", "cases", "cost", "evaluate", "requires"]

VERSION = 1
NEEDS = "encode"
FEATURES = True
DISPLAY = Display(
    metrics=(
        LANDMARK_DISTANCE,
        Metric(
            "landmark_distance_iod", "Landmarks, share of the distance between the eyes", "% of inter-ocular", "lower"
        ),
    ),
    tables=(few_labels_table("landmark_distance"),),  # beside the paper's Table 1
    charts=(few_labels_chart("landmark_distance"),),
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
