"""What of the representation survives when the test face itself is occluded.

Command: `mdebench measure robustness`. Beyond the paper, which occludes faces only to complete them. The converged
probes are those of the other protocols, trained on clean images; then each test image loses the rectangle of a preset
(Table 3), its pixels set to zero, as the encoder knows missing pixels from pretraining, and is encoded and read again.
Result: attribute error in % and landmark distance in px of 96 for "clean" and for each of the six presets. The probes
see no occluded image, so a code that ignores the hole loses nothing but what only the hole told.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from mdebench.data.pack import Pack
from mdebench.evaluation import tasks
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.passes import chunks, encode, frozen, load
from mdebench.evaluation.readouts import Readout, converged, probe_seconds
from mdebench.evaluation.tasks.landmarks import misplaced
from mdebench.methods.masks import PRESETS, preset
from mdebench.results.displays import CODES, PIXELS, ChartOf, Display
from mdebench.results.rows import Measurement

VERSION = 1
NEEDS = "encode"
FEATURES = True
_BOTH = ("attribute_error", "landmark_distance")
IN_TABLE_3 = ("right_half", "left_half", "both_eyes", "right_eye", "left_eye", "mouth")  # the presets in its order
DISPLAY = Display(
    title="Robustness: what is read off a face that is itself occluded",
    metrics=(
        tasks.ATTRIBUTE_ERROR,
        tasks.LANDMARK_DISTANCE,
    ),
    reference=PIXELS,
    references=CODES,
    charts=(
        ChartOf(
            "robustness",
            "Representations of occluded faces",
            _BOTH,
            "dots",
            note="upright ticks: the same line on clean faces",
            order=("clean", *IN_TABLE_3),
            origin="clean",
        ),
    ),
)
KINDS = (tasks.Attributes, tasks.Landmarks)
CLEAN = "clean"


@dataclass(frozen=True)
class Settings:
    """Nothing to set: all presets are measured with the same probes."""


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes attributes or landmarks."""
    return tasks.lacking(pack, KINDS)


def cases(settings: Settings) -> list[Settings]:
    """One unit, since the probes are trained once."""
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """The test images encoded once for each preset, and a probe for each kind of labels."""
    asked = sum(kind.lacking(pack) is None for kind in KINDS)
    return Cost(
        encoded=len(PRESETS) * len(pack.indices("test")), seconds=asked * probe_seconds(len(pack.indices("train")))
    )


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Each kind of labels read from the clean test images and from those with a rectangle missing."""
    features, test = partial(subject.features, pack), pack.indices("test")
    trained = [
        (each, *converged(features, each.task, each.task.partition, subject.device))
        for each in tasks.known(pack, KINDS)
    ]
    found = []
    for name in (CLEAN, *PRESETS):
        codes = features(test) if name == CLEAN else occluded_features(subject, pack, name)
        what = "" if name == CLEAN else tasks.join("missing pixels are zero", misplaced(pack, name))
        for each, probe, note in trained:
            predictions = probe(codes[np.searchsorted(test, each.rows)])
            found.append(each.headline(Readout(name, predictions, tasks.join(what, note))))
    return found


def occluded_features(subject: Subject, pack: Pack, name: str) -> npt.NDArray[np.float32]:
    """The codes (n, feature_dim) of the test images without the rectangle of a preset."""
    seen = preset(name, pack.size).to(subject.device)
    with frozen(subject.method) as method:
        pieces = (load(pack, piece, subject.device) for piece in chunks(pack.indices("test")))
        return np.concatenate([encode(method, images * seen).cpu().numpy() for images in pieces])
