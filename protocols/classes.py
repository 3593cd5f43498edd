"""Classification from the frozen code: a converged probe, nearest neighbours, and the probe on 1 % and 10 % of labels.

Command: `mdebench measure classes`. Beyond the paper; the settings are those by which representations are compared
elsewhere (linear probe, k-NN, few labels). The probe is ridge regression on one-hot targets. Neighbours are the nearest
by cosine, and vote alike. Alpha, and k among `KS`, are those of the best accuracy on validation images, and of equals
the one of the least squared error.
Result: accuracy in %. Classes are the pack's (flowers' 102, ten digits) or, where it has none, identities; those of a
face pack do not recur in its test partition, so that a fifth of each one's training images is held out instead (split
"held-out"). Chance is 100 / the number of classes, which the note tells.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize, one_hot

from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation import readouts
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.passes import Indices
from mdebench.evaluation.tasks import Classes, join
from mdebench.results.displays import CODES, PIXELS, ChartOf, Display, Metric
from mdebench.results.rows import Measurement
from mdebench.settings import suggest

VERSION = 1
NEEDS = "encode"
FEATURES = True
SETTINGS = {
    **{"probe": "frozen-probe", "knn": "", "probe-1%": "frozen-probe-1%", "probe-10%": "frozen-probe-10%"},
    "controls": "controls",
}
KS = (1, 3, 5, 10, 20, 50)
SIMILARITY = 2e-8  # seconds that one cosine of two codes of 1,000 takes
DISPLAY = Display(
    title="Classes read off the frozen code",
    metrics=(Metric("accuracy", "Accuracy", "%", "higher", told=True),),
    reference=PIXELS,
    references=CODES,
    charts=(
        ChartOf(
            "classes",
            "Classification from the frozen code",
            ("accuracy",),
            order=("knn", "probe-1%", "probe-10%", "probe"),
        ),
    ),
)


@dataclass(frozen=True)
class Settings:
    """How classes are read: one of `SETTINGS`, or all of them."""

    setting: str = "all"

    def __post_init__(self) -> None:
        options = (*SETTINGS, "all")
        if self.setting not in options:
            raise UserError(
                f"classes has no setting {self.setting!r}.{suggest(self.setting, options)} "
                f"Settings: {', '.join(options)}."
            )


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes classes, or identities with several images each."""
    return Classes.lacking(pack)


def cases(settings: Settings) -> list[Settings]:
    """One unit for each setting."""
    return [Settings(name) for name in SETTINGS] if settings.setting == "all" else [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """What the readouts take."""
    total = Cost()
    for case in cases(settings):
        if case.setting == "knn":
            queries = len(pack.indices("val")) + len(pack.indices("test"))
            one = Cost(seconds=SIMILARITY * queries * len(pack.indices("train")))
        else:
            one = readouts.cost(pack, readouts.Settings(SETTINGS[case.setting]))
        total = replace(total, seconds=total.seconds + one.seconds)
    return total


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """The accuracy for each setting, with its interval over the images told apart."""
    classes = Classes.of(pack)
    found = []
    for case in cases(settings):
        if case.setting == "knn":
            found.append(classes.headline(neighbours(subject, pack, classes)))
            continue
        for readout in readouts.readouts(subject, pack, classes.task, readouts.Settings(SETTINGS[case.setting])):
            name = readout.setting if case.setting == "controls" else case.setting
            found.append(classes.headline(replace(readout, setting=name)))
    return found


def neighbours(subject: Subject, pack: Pack, classes: Classes) -> readouts.Readout:
    """The votes of the k nearest training images for each class, with the k that is best on the validation images."""
    task = classes.task
    rows = task.partition
    train, labels = subject.features(pack, rows.train), classes.truth[rows.train]
    kinds = task.targets.shape[1]
    tried = votes(train, labels, subject.features(pack, rows.val), KS, kinds, subject.device)
    errors = {k: task.error(vote, task.targets[rows.val]) for k, vote in tried.items()}
    best = max(k for k, error in errors.items() if error == min(errors.values()))  # of equals the smoothest
    answers = votes(train, labels, subject.features(pack, task.evaluate), (best,), kinds, subject.device)[best]
    note = f"k = {best} by cosine"
    return readouts.Readout("knn", answers, join(note, rows.note.replace("alpha", "k")))


def votes(
    train: npt.NDArray[np.float32],
    labels: Indices,
    queries: npt.NDArray[np.float32],
    ks: tuple[int, ...],
    classes: int,
    device: torch.device,
) -> dict[int, readouts.Predictions]:
    """k → the share of the k nearest (by cosine) of `train` (n, d), of `labels` (n,), for each class: (m, classes).

    A k above n is n; a vector of zeros is at cosine 0 from all.
    """
    known = normalize(torch.from_numpy(train).to(device))
    of = one_hot(torch.from_numpy(labels).to(device), classes).float()
    found: dict[int, list[torch.Tensor]] = {k: [] for k in ks}
    for start in range(0, len(queries), 256):  # never all pairs at once
        asked = normalize(torch.from_numpy(queries[start : start + 256]).to(device))
        near = (asked @ known.T).topk(min(max(ks), len(train))).indices
        for k, parts in found.items():
            parts.append(of[near[:, :k]].mean(dim=1).cpu())
    return {k: torch.cat(parts).numpy() for k, parts in found.items()}
