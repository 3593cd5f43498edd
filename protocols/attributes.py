"""Attribute recognition from the representation (section 3.2.3, Tables 1 and 2).

Command: `mdebench transfer attributes` (`--setting finetune` trains the encoder along, `--setting few-labels` reads 1 %
and 10 % of the labels; Table 2: `--set updates=50000`).
Result: the mean error over the attributes, as the tables' figures are, and the balanced accuracy (half the trace of the
row-normalised 2×2 confusion matrix, averaged over the attributes), since Table 1's caption speaks of the trace; both in
%, for the paper's head and for the converged probe, with the probe's error for each attribute. Always answering the
majority value gives about 20 % on CelebA, ridge regression on raw pixels about 12 %, the paper's REC 10.2 %.
"""

from mdebench.data.pack import Pack
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.readouts import Settings, cases, cost, few_labels_chart, few_labels_table, readouts
from mdebench.evaluation.tasks import ATTRIBUTE_ERROR, Attributes
from mdebench.results.displays import Display, Metric
from mdebench.results.rows import Measurement

__all__ = ["FEATURES", "NEEDS", "VERSION", "Settings", "cases", "cost", "evaluate", "requires"]

VERSION = 1
NEEDS = "encode"
FEATURES = True
DISPLAY = Display(
    metrics=(
        ATTRIBUTE_ERROR,
        Metric("balanced_accuracy", "Attributes, balanced accuracy", "%", "higher"),
    ),
    tables=(few_labels_table("attribute_error", "balanced_accuracy"),),  # beside the paper's Tables 1 and 2
    charts=(few_labels_chart("attribute_error"),),
)


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes an attribute known in both the train and the test partition."""
    return Attributes.lacking(pack)


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Errors and balanced accuracies on the test partition, for each readout of `settings.setting`."""
    attributes = Attributes.of(pack)
    found = []
    for readout in readouts(subject, pack, attributes.task, settings):
        found += [attributes.headline(readout), attributes.balanced_accuracy(readout)]
        if readout.setting.endswith("probe"):
            found += attributes.each(readout)
    return found
