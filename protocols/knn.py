"""What the nearest training images know: attributes, landmarks and classes by k nearest neighbours on the frozen code.

Command: `mdebench measure knn`. Beyond the paper, whose readouts are linear: neighbours ask of a code that images alike
lie together, and nothing of it is trained. k, distance and weighting are those that do best on the validation images;
the note tells which.
Distance: cosine of the codes, or Euclidean of the codes standardised on the training images, as the similarity
s = 1 - |a - b|² / 2d with d numbers that vary, on which standardised codes of equal length have their cosine.
Weighting: all alike, or exp(s / 0.07) (Wu et al. 2018, as DINO votes).
Result: the attribute error in %, the landmark distance in px of 96, and the accuracy in %, whichever labels the pack
has. A share of neighbours above a half says that an attribute is there.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mdebench.data.pack import Pack
from mdebench.evaluation import tasks
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.passes import chunks
from mdebench.evaluation.readouts import Predictions, Readout, Task
from mdebench.results.displays import CODES, PIXELS, Display, Metric
from mdebench.results.rows import Measurement

VERSION = 1
NEEDS = "encode"
FEATURES = True
KINDS = (tasks.Attributes, tasks.Landmarks, tasks.Classes)
KS = (1, 3, 5, 10, 20, 50, 100, 200)
DISTANCES = ("cosine", "Euclidean")
WEIGHTINGS = ("uniform", "exp(s/0.07)")
TEMPERATURE = 0.07
SIMILARITY = 2e-8  # seconds that one similarity of two codes of 1,000 takes on two cores
DISPLAY = Display(
    title="Neighbours: what the nearest training images know",
    metrics=(
        tasks.ATTRIBUTE_ERROR,
        tasks.LANDMARK_DISTANCE,
        Metric("accuracy", "Classes", "%", "higher", told=True, axis="Accuracy"),
    ),
    reference=PIXELS,
    references=CODES,
)

Codes = npt.NDArray[np.float32]
Choice = tuple[int, str]  # k and weighting


@dataclass(frozen=True)
class Settings:
    """Nothing to set: all that could be is chosen on the validation images."""


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes attributes, landmarks, classes or identities."""
    return tasks.lacking(pack, KINDS)


def cases(settings: Settings) -> list[Settings]:
    """One unit."""
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """The validation images by each distance, the test images by the chosen one, for each kind of labels."""
    asked = sum(kind.lacking(pack) is None for kind in KINDS)
    queries = len(DISTANCES) * len(pack.indices("val")) + len(pack.indices("test"))
    return Cost(seconds=asked * SIMILARITY * queries * len(pack.indices("train")))


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Each kind of labels read from the neighbours."""
    found = []
    for each in tasks.known(pack, KINDS):
        # Landmarks are measured on annotated images, too: the headline is about `rows` alone.
        found.append(each.headline(neighbours(subject, pack, replace(each.task, evaluate=each.rows))))
    return found


def neighbours(subject: Subject, pack: Pack, task: Task) -> Readout:
    """The answers of the neighbours for `task.evaluate`, by what was best on the validation images."""
    rows = task.partition
    train, val = subject.features(pack, rows.train), subject.features(pack, rows.val)
    targets, truth = task.targets[rows.train], task.targets[rows.val]
    every = tuple(itertools.product(KS, WEIGHTINGS))
    errors = {
        (distance, choice): task.error(answers, truth)
        for distance in DISTANCES
        for choice, answers in vote(train, targets, val, distance, every, subject.device).items()
    }
    distance, (k, weighting) = min(errors, key=lambda tried: (errors[tried], -tried[1][0]))  # of equals the smoothest
    chosen = (k, weighting)
    asked = subject.features(pack, task.evaluate)
    answers = vote(train, targets, asked, distance, (chosen,), subject.device)[chosen]
    note = (
        f"k = {min(k, len(train))}, {distance} distance, {weighting} weights, chosen on {len(val):,} validation images"
    )
    return Readout("knn", answers, tasks.join(note, rows.note.replace("alpha", "k")))


def vote(
    train: Codes, targets: Predictions, queries: Codes, distance: str, choices: tuple[Choice, ...], device: torch.device
) -> dict[Choice, Predictions]:
    """(k, weighting) → the weighted mean of the targets of the k nearest of `train` (n, d) for queries (m, d): (m, t).

    A target (n, t) that is NaN does not vote; where no neighbour knows, the mean over the training images answers. A k
    above n is n; a code of zeros is at cosine 0 from all.
    """
    known, asked = embed(train, queries, distance, device)
    labels = torch.from_numpy(targets).to(device)
    voting = (~labels.isnan()).float()
    labels, mean = labels.nan_to_num(), labels.nanmean(dim=0)
    most = min(max(k for k, _ in choices), len(train))
    found: dict[Choice, list[Tensor]] = {choice: [] for choice in choices}
    for piece in _pieces(asked):
        similarity, near = (_similarity(piece, known, distance)).topk(most)
        for (k, weighting), parts in found.items():
            closest, which = similarity[:, :k], near[:, :k]
            # Divided by the largest, which changes no mean and keeps exp within range.
            exact = weighting != "uniform"
            weight = ((closest - closest[:, :1]) / TEMPERATURE).exp() if exact else torch.ones_like(closest)
            votes = weight[:, :, None] * voting[which]
            total = votes.sum(dim=1)
            answer = (votes * labels[which]).sum(dim=1) / total.clamp_min(1e-30)
            parts.append(torch.where(total > 0, answer, mean).cpu())
    return {choice: torch.cat(parts).numpy() for choice, parts in found.items()}


def embed(train: Codes, queries: Codes, distance: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Codes (n, d) and (m, d) as they are compared: of length 1, or standardised on `train` over √d of the d numbers
    that vary."""
    known, asked = (torch.from_numpy(codes).to(device) for codes in (train, queries))
    if distance == "cosine":
        return normalize(known), normalize(asked)
    mean, std = known.mean(dim=0), known.std(dim=0, correction=0)
    varies = std > 1e-6 * mean.abs()
    scale = torch.where(varies, 1 / std, 0.0) / varies.sum().clamp_min(1).sqrt()
    return (known - mean) * scale, (asked - mean) * scale


def _similarity(asked: Tensor, known: Tensor, distance: str) -> Tensor:
    """(m, n) of embedded codes (m, d) and (n, d)."""
    product = asked @ known.T
    if distance == "cosine":
        return product
    return 1 + product - (asked.square().sum(dim=1)[:, None] + known.square().sum(dim=1)) / 2


def _pieces(asked: Tensor) -> Iterator[Tensor]:
    """Never all pairs at once."""
    for piece in chunks(np.arange(len(asked), dtype=np.int64), 256):
        yield asked[piece[0] : piece[-1] + 1]
