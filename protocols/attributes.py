"""Attribute recognition from the representation (section 3.2.3, Tables 1 and 2).

Command: `mdebench transfer attributes` (`--setting finetune` trains the encoder along, `--setting few-labels` reads 1 %
and 10 % of the labels; Table 2: `--set updates=50000`).
Result: means over the attributes in %, for the paper's head and for the converged probe: the error, as the tables'
figures are; the balanced accuracy (half the trace of the row-normalised 2×2 confusion matrix), since Table 1's caption
speaks of the trace; and, as the answers are scores, the area under the ROC curve, the average precision, and the
expected calibration error of the scores as probabilities (the probe's clipped to [0, 1]). Of the probe also for each
attribute, `auc/Smiling`. As negative controls the probe is trained where there is nothing to learn (`--setting
controls`): on shuffled labels, and on shuffled images. Always answering the majority value gives about 20 % error on
CelebA, ridge regression on raw pixels about 12 %, the paper's REC 10.2 %.
"""

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
from mdebench.evaluation.tasks import ATTRIBUTE_ERROR, Attributes
from mdebench.results.displays import CONTROLS, Display, Metric
from mdebench.results.rows import Measurement

__all__ = ["FEATURES", "NEEDS", "VERSION", "Settings", "cases", "cost", "evaluate", "requires"]

VERSION = 1
CONTROLLED = ("attribute_error", "balanced_accuracy", "auc")  # by which the majority answer is as good as chance
NEEDS = "encode"
FEATURES = True
_METRICS = (
    ATTRIBUTE_ERROR,
    Metric("balanced_accuracy", "Attributes, balanced accuracy", "%", "higher", axis="Balanced accuracy"),
    Metric("auc", "Attributes, area under the ROC curve", "%", "higher", told=True, axis="Area under the ROC curve"),
    Metric("average_precision", "Attributes, average precision", "%", "higher", told=True, axis="Average precision"),
    Metric(
        "calibration_error",
        "Attributes, expected calibration error",
        "% points",
        "lower",
        told=True,
        axis="Calibration error",
    ),
)
DISPLAY = Display(
    metrics=_METRICS,
    tables=(  # beside the paper's Tables 1 and 2
        few_labels_table("attribute_error", "balanced_accuracy"),
        judged_table(
            "attributes",
            "Attributes, judged five ways",
            *(metric.name for metric in _METRICS),
        ),
    ),
    charts=(few_labels_chart("attribute_error"),),
)


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes an attribute known in both the train and the test partition."""
    return Attributes.lacking(pack)


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Every statistic on the test partition, for each readout of `settings.setting`."""
    attributes = Attributes.of(pack)
    found = []
    for readout in readouts(subject, pack, attributes.task, settings):
        control = readout.setting in CONTROLS
        found += attributes.measure(readout, CONTROLLED) if control else attributes.measure(readout)
        if readout.setting.endswith("probe"):
            found += attributes.each(readout)
    return found
