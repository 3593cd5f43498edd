"""What all of the encoder knows: its best layer, and a fusion of its layers, beside the code that is read by habit.

Command: `mdebench measure depth`. Beyond the paper. The map after each stage is averaged over a grid to about `width`
numbers, as in `layers`; the converged probe reads each by itself, the last two maps on 4×4 places together, the code,
and all stages and the code side by side, every number standardised.
Result: the attribute error in %, the landmark distance in px of 96, and the accuracy in %, whichever labels the pack
has, of "best layer", which is the single candidate that does best on the validation images (the note tells which),
and of "fusion", all of them side by side. The test images choose nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import adaptive_avg_pool2d

from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation import tasks
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.passes import Indices, chunks, frozen, grid, load
from mdebench.evaluation.readouts import LinearProbe, Readout, Task, converged, probe_seconds
from mdebench.methods.contract import Stages
from mdebench.methods.networks import stages_for
from mdebench.results.displays import PIXELS, PROBE, RANDOM, Display, Metric
from mdebench.results.rows import Measurement

VERSION = 1
NEEDS = "stages"
FEATURES = True
KINDS = (tasks.Attributes, tasks.Landmarks, tasks.Classes)
LAST_TWO, SIDE = "last two maps", 4
DISPLAY = Display(
    title="Depth: the best layer of the encoder, and all of its layers together",
    metrics=(
        replace(tasks.ATTRIBUTE_ERROR, home=("attributes", PROBE)),
        replace(tasks.LANDMARK_DISTANCE, home=("landmarks", PROBE)),
        Metric("accuracy", "Classes", "%", "higher", told=True, axis="Accuracy", home=("classes", "probe")),
    ),
    reference=PIXELS,
    references=(PIXELS, RANDOM),
)

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """`width`: about how many numbers each stage is pooled to; half of what `layers` has, as a fusion has them all."""

    width: int = 512

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"width={self.width}: a stage is pooled to at least 1 number.")


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes attributes, landmarks, classes or identities."""
    return tasks.lacking(pack, KINDS)


def cases(settings: Settings) -> list[Settings]:
    """One unit, since the images are encoded once for all candidates."""
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """All images encoded once more, and a probe for each candidate; a fusion is as wide as some stages, squared."""
    asked = sum(kind.lacking(pack) is None for kind in KINDS)
    stages = stages_for(pack.size)
    wide = (1 + stages * settings.width / 1000) ** 2
    seconds = (stages + 2 + wide) * probe_seconds(len(pack.indices("train")))
    return Cost(encoded=len(pack.images), seconds=asked * seconds)


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Each kind of labels read from the best single candidate, and from all layers side by side."""
    asked = tasks.known(pack, KINDS)
    rows = reduce(np.union1d, [part for each in asked for part in _parts(each)])
    layers = features_of(subject, pack, rows, settings.width)
    layers["code"] = subject.features(pack, rows)
    single = [name for name in layers if name != LAST_TWO]
    fused = np.concatenate([layers[name] for name in single], axis=1)
    found = []
    for each in asked:
        name, probe, note = chosen(layers, rows, each.task, subject.device)
        told = f"{name} of {', '.join(layers)}, chosen on {len(each.task.partition.val):,} validation images"
        answers = probe(_at(layers[name], rows, each.rows))
        found.append(each.headline(Readout("best layer", answers, tasks.join(told, note))))
        name, probe, note = chosen({"fusion": fused}, rows, each.task, subject.device)
        told = f"{', '.join(single)}: {fused.shape[1]:,} numbers"
        answers = probe(_at(fused, rows, each.rows))
        found.append(each.headline(Readout("fusion", answers, tasks.join(told, note))))
    return found


def chosen(
    layers: Mapping[str, Features], rows: Indices, task: Task, device: torch.device
) -> tuple[str, LinearProbe, str]:
    """The candidate whose converged probe does best on the validation images, its probe, and the probe's note.

    Features (len(rows), d) are those of the ascending `rows`; of equals the first.
    """
    val, best, least = task.partition.val, None, np.inf
    for name, features in layers.items():
        probe, note = converged(partial(_at, features, rows), task, task.partition, device)
        error = task.error(probe(_at(features, rows, val)), task.targets[val])
        if best is None or error < least:
            best, least = (name, probe, note), error
    assert best is not None
    return best


def features_of(subject: Subject, pack: Pack, rows: Indices, width: int) -> dict[str, Features]:
    """Candidate → its numbers (len(rows), d): each stage at about `width`, and the last two at 4×4 together."""
    method = subject.method
    if not isinstance(method, Stages):
        raise UserError(f"{subject.name} has no stages to look into, choose another run.")
    parts: dict[str, list[Features]] = {}
    for piece in chunks(rows):
        with frozen(subject.method):
            maps = method.stages(load(pack, piece, subject.device))
        pooled = {stage: adaptive_avg_pool2d(x.float(), grid(x, width)).flatten(1) for stage, x in maps.items()}
        last = [adaptive_avg_pool2d(x.float(), min(SIDE, *x.shape[-2:])).flatten(1) for x in list(maps.values())[-2:]]
        pooled[LAST_TWO] = torch.cat(last, dim=1)
        for name, numbers in pooled.items():
            if not torch.isfinite(numbers).all():
                raise UserError(f"{subject.name} has numbers in {name} that are not finite, on {pack.name}.")
            parts.setdefault(name, []).append(numbers.cpu().numpy())
    return {name: np.concatenate(pieces) for name, pieces in parts.items()}


def _parts(each: tasks.Scored) -> tuple[Indices, Indices, Indices]:
    return each.task.partition.train, each.task.partition.val, each.rows


def _at(features: Features, rows: Indices, wanted: Indices) -> Features:
    """The features of `wanted` images, where `features` are those of the ascending `rows`."""
    return features[np.searchsorted(rows, wanted)]
