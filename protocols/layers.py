"""Which layer knows what: the converged probe at every stage of the encoder, beside the code.

Command: `mdebench measure layers`. Beyond the paper, which reads the code alone. The map after each stage is averaged
over the grid that brings its channels × grid² nearest to a common width, so that no stage wins by its size.
Result: for each stage ("stage1", …, "code") the attribute error in %, the landmark distance in px of 96, and the
accuracy in %, whichever labels the pack has; "code" is the frozen probe of the other protocols. A network with random
weights stands beside: a stage has learned something where it beats the same stage of that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce

import numpy as np
import numpy.typing as npt
from torch.nn.functional import adaptive_avg_pool2d

from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation import tasks
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.passes import Indices, chunks, frozen, grid, load
from mdebench.evaluation.readouts import Readout, converged, probe_seconds
from mdebench.methods.contract import Stages
from mdebench.methods.networks import stages_for
from mdebench.results.displays import PIXELS, PROBE, RANDOM, ChartOf, Display, Metric
from mdebench.results.rows import Measurement

VERSION = 1
NEEDS = "stages"
FEATURES = True
KINDS = (tasks.Attributes, tasks.Landmarks, tasks.Classes)
_HOME = {"attributes": ("attributes", PROBE), "landmarks": ("landmarks", PROBE), "classes": ("classes", "probe")}
DISPLAY = Display(
    title="Layers: which stage of the encoder knows what",
    metrics=(
        replace(tasks.ATTRIBUTE_ERROR, home=_HOME["attributes"]),
        replace(tasks.LANDMARK_DISTANCE, home=_HOME["landmarks"]),
        Metric("accuracy", "Classes", "%", "higher", told=True, axis="Accuracy", home=_HOME["classes"]),
    ),
    reference=PIXELS,
    references=(PIXELS, RANDOM),
    charts=(
        ChartOf(
            "layers",
            "What each layer knows, converged probe",
            ("attribute_error", "landmark_distance", "accuracy"),
            "curves",
            across=("pixels",),
        ),
    ),
)


@dataclass(frozen=True)
class Settings:
    """`width`: about how many numbers each stage is pooled to (a code at the scale `small` has 1,000)."""

    width: int = 1024

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"width={self.width}: a stage is pooled to at least 1 number.")


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes attributes, landmarks, classes or identities."""
    return tasks.lacking(pack, KINDS)


def cases(settings: Settings) -> list[Settings]:
    """One unit, since the images are encoded once for all stages."""
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """All images encoded once more, and a probe for each kind of labels, stage, and the code."""
    asked = sum(kind.lacking(pack) is None for kind in KINDS)
    train = len(pack.indices("train"))
    return Cost(encoded=len(pack.images), seconds=(stages_for(pack.size) + 1) * asked * probe_seconds(train))


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Each kind of labels read from each stage and from the code."""
    asked = tasks.known(pack, KINDS)
    rows = reduce(np.union1d, [part for each in asked for part in _parts(each)])
    maps = stage_features(subject, pack, rows, settings.width)
    sources = {stage: (partial(_at, features, rows), note) for stage, (features, note) in maps.items()}
    sources["code"] = (partial(subject.features, pack), f"{subject.method.feature_dim:,} numbers")
    found = []
    for stage, (features, what) in sources.items():
        for each in asked:
            probe, note = converged(features, each.task, each.task.partition, subject.device)
            readout = Readout(stage, probe(features(each.rows)), tasks.join(what, note))
            found.append(each.headline(readout))
    return found


def stage_features(
    subject: Subject, pack: Pack, rows: Indices, width: int
) -> Mapping[str, tuple[npt.NDArray[np.float32], str]]:
    """Stage → the pooled maps of the images `rows`, (len(rows), about `width`), and their make in words."""
    method = subject.method
    if not isinstance(method, Stages):
        raise UserError(f"{subject.name} has no stages to look into, choose another run.")
    found: dict[str, npt.NDArray[np.float32]] = {}
    notes = {}
    done = 0
    for piece in chunks(rows):
        with frozen(subject.method):
            maps = method.stages(load(pack, piece, subject.device))
        for stage, features in maps.items():
            side = grid(features, width)
            pooled = adaptive_avg_pool2d(features.float(), side).flatten(1).cpu().numpy()
            if not np.isfinite(pooled).all():
                raise UserError(f"{subject.name} has numbers in {stage} that are not finite, on {pack.name}.")
            if not done:
                found[stage] = np.empty((len(rows), pooled.shape[1]), np.float32)
                notes[stage] = f"{features.shape[1]} channels × {side}×{side} = {pooled.shape[1]:,} numbers"
            found[stage][done : done + len(piece)] = pooled
        done += len(piece)
    return {stage: (features, notes[stage]) for stage, features in found.items()}


def _parts(each: tasks.Scored) -> tuple[Indices, Indices, Indices]:
    return each.task.partition.train, each.task.partition.val, each.rows


def _at(features: npt.NDArray[np.float32], rows: Indices, wanted: Indices) -> npt.NDArray[np.float32]:
    """The features of `wanted` images, where `features` are those of the ascending `rows`."""
    return features[np.searchsorted(rows, wanted)]
