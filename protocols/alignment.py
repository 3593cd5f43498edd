"""What is read off faces that are misaligned: turned, scaled and shifted at random by up to 0, 5, 10 and 20 %.

Command: `mdebench measure alignment`. Beyond the paper, whose faces are aligned, which raw pixels live on. At level j
an image is turned by up to ±34°·j (6.8° at 20 %), scaled by up to ±j and shifted by up to ±j of its side, each drawn
uniformly from pack, image and seed alone, so that all runs meet the same; a higher level goes further the same way. The
borders continue the edge pixels; sampling is bilinear, antialiased where the image shrinks.
Result: attribute error in %, landmark distance in px of 96 and accuracy in %, whichever labels the pack has, by the
converged probe, with training, validation and test images misaligned ("10 %"), and test images alone under the probe
of aligned ones ("10 %, test alone"); "0 %" is the frozen probe of the other protocols. Landmarks move along, and are
measured where they come to lie, also outside of the picture (the note counts those). The table says from which level
on a line is better than raw pixels.
"""

from dataclasses import dataclass, replace
from functools import partial, reduce

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation import tasks
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.passes import Indices, chunks, encode, frozen, load
from mdebench.evaluation.readouts import Readout, converged, probe_seconds
from mdebench.results.displays import CODES, PIXELS, ChartOf, Crossing, Display, Metric, TableOf
from mdebench.results.rows import Measurement

VERSION = 1
NEEDS = "encode"
FEATURES = True
KINDS = (tasks.Attributes, tasks.Landmarks, tasks.Classes)
LEVELS = (0.05, 0.1, 0.2)
DEGREES = 34.0  # of rotation at level 1
MISALIGNED = 1e-4  # seconds on two cores that an image of 64×64 takes
CORNERS = [(-1, -1), (1, -1), (-1, 1), (1, 1)]
ALONE = "test alone"
_METRICS = (
    tasks.ATTRIBUTE_ERROR,
    tasks.LANDMARK_DISTANCE,
    Metric("accuracy", "Classes", "%", "higher", told=True, axis="Accuracy"),
)
_NAMES = tuple(metric.name for metric in _METRICS)
_TITLE = "Alignment: what is read off misaligned faces"
_BOTH = ("0 %", *(f"{level:.0%}".replace("%", " %") for level in LEVELS))
_TEST = ("0 %", *(f"{level}, {ALONE}" for level in _BOTH[1:]))
_SHARES = (0, *(100 * level for level in LEVELS))


def _charts(name: str, title: str, settings: tuple[str, ...]) -> tuple[ChartOf, ChartOf]:
    """Classes stand apart, since identities are of held-out images."""
    return (
        ChartOf(name, title, _NAMES[:2], "curves", "", settings, settings),
        ChartOf(
            f"{name}-classes", f"Classes, {title[0].lower()}{title[1:]}", _NAMES[2:], "curves", "", settings, settings
        ),
    )


DISPLAY = Display(
    title=_TITLE,
    metrics=_METRICS,
    tables=(
        TableOf(
            "alignment",
            _TITLE,
            _NAMES,
            CODES[0],
            CODES,
            manners=((ALONE, "misaligned in test alone"), ("", "misaligned in training and test")),
            crossings=(
                Crossing("in training and test", "% misaligned", tuple(zip(_BOTH, _SHARES))),
                Crossing("in test alone", "% misaligned", tuple(zip(_TEST, _SHARES))),
            ),
        ),
    ),
    charts=(
        *_charts("alignment", "Misaligned in training and test", _BOTH),
        *_charts("alignment-test-alone", "Misaligned in test alone", _TEST),
    ),
    reference=PIXELS,
)


@dataclass(frozen=True)
class Settings:
    """`seed`: of the misalignments, the same for all runs."""

    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"seed={self.seed}: a seed is at least 0.")


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes attributes, landmarks, classes or identities."""
    return tasks.lacking(pack, KINDS)


def cases(settings: Settings) -> list[Settings]:
    """One unit, since the images are encoded once per level for all labels."""
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """All images misaligned and encoded once for each level; a probe for each kind of labels and level, and aligned."""
    asked, images = sum(kind.lacking(pack) is None for kind in KINDS), len(LEVELS) * len(pack.images)
    probes = (len(LEVELS) + 1) * asked * probe_seconds(len(pack.indices("train")))
    return Cost(encoded=images, seconds=images * MISALIGNED * (pack.size / 64) ** 2 + probes)


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Each kind of labels read at each level, with the probe of misaligned images and with that of aligned ones."""
    aligned = tasks.known(pack, KINDS)
    features = partial(subject.features, pack)
    probes = [converged(features, each.task, each.task.partition, subject.device) for each in aligned]
    found = [
        each.headline(Readout(_BOTH[0], probe(features(each.rows)), note))
        for each, (probe, note) in zip(aligned, probes)
    ]
    parts = [(each.task.partition.train, each.task.partition.val, each.rows) for each in aligned]
    rows = reduce(np.union1d, [part for three in parts for part in three])
    draws = drawn(pack, settings.seed)
    for level, setting in zip(LEVELS, _BOTH[1:]):
        codes = _encoded(subject, pack, rows, draws, level)
        at = partial(_at, codes, rows)
        points = moved(pack.landmarks, draws, level)
        for each, (probe, note) in zip(aligned, probes):
            there, outside = _along(each, points)
            own, own_note = converged(at, there.task, there.task.partition, subject.device)
            for name, read, trained in ((setting, own, own_note), (f"{setting}, {ALONE}", probe, note)):
                told = tasks.join(_told(level, settings.seed), outside, trained)
                found.append(there.headline(Readout(name, read(at(there.rows)), told)))
    return found


def drawn(pack: Pack, seed: int) -> npt.NDArray[np.float64]:
    """(N, 4) uniform in [−1, 1): rotation, scale, and shift in x and y of each image of the pack.

    One stream for all images in the order of the whole pack, so that a draw depends on pack, image and seed alone, and
    never on which images are asked for.
    """
    sequence = np.random.SeedSequence([int(pack.hash[:16], 16), seed])
    return np.random.default_rng(sequence).uniform(-1, 1, (len(pack.images), 4))


def matrices(draws: npt.NDArray[np.float64], level: float) -> npt.NDArray[np.float64]:
    """(n, 2, 3): where a point (x, y) in [−1, 1] of the aligned image comes to lie, of draws (n, 4)."""
    angle, scale = np.radians(DEGREES * level * draws[:, 0]), 1 + level * draws[:, 1]
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    shift = 2 * level * draws[:, 2:]
    return np.stack([np.stack([cos, -sin, shift[:, 0]], axis=1), np.stack([sin, cos, shift[:, 1]], axis=1)], axis=1)


def moved(points: npt.NDArray[np.float32], draws: npt.NDArray[np.float64], level: float) -> npt.NDArray[np.float32]:
    """Landmarks (N, 5, 2) in [0, 1] of the image where they come to lie; NaN stays NaN."""
    to = matrices(draws, level)
    there = np.einsum("nij,nkj->nki", to[:, :, :2], 2 * points.astype(np.float64) - 1) + to[:, None, :, 2]
    found: npt.NDArray[np.float32] = ((there + 1) / 2).astype(np.float32)
    return found


def misaligned(images: Tensor, draws: npt.NDArray[np.float64], level: float) -> Tensor:
    """Images (n, 3, H, W) turned, scaled and shifted by their draws (n, 4), channels last.

    Bilinear sampling has a triangle of variance 1/6 pixel² as its kernel, which antialiasing stretches by 1 / scale
    where an image shrinks. The mean of 2×2 samples √((1 − scale²) / 6) of a new pixel off its centre has that variance.
    """
    to, scale = matrices(draws, level), 1 + level * draws[:, 1]
    back, sides = np.linalg.inv(to[:, :, :2]), np.array(images.shape[:-3:-1])
    inverse = torch.from_numpy(np.concatenate([back, -back @ to[:, :, 2:]], axis=2)).to(images)
    grid = affine_grid(inverse, list(images.shape), align_corners=False)
    apart = 2 * np.sqrt((1 - np.minimum(scale, 1) ** 2) / 6)[:, None] / sides

    def sampled(rows: Indices, corner: tuple[int, int]) -> Tensor:
        off = torch.from_numpy(back[rows] @ (apart[rows] * corner)[:, :, None]).to(images)
        here = grid[torch.from_numpy(rows)] + off[:, None, None, :, 0]
        return grid_sample(images[torch.from_numpy(rows)], here, padding_mode="border", align_corners=False)

    found = torch.empty_like(images, memory_format=torch.channels_last)
    for corners, chosen in (([(0, 0)], scale >= 1), (CORNERS, scale < 1)):
        if len(rows := np.flatnonzero(chosen)):
            found[torch.from_numpy(rows)] = sum(sampled(rows, corner) for corner in corners) / len(corners)
    return found


def _told(level: float, seed: int) -> str:
    moves = f"turned by up to {DEGREES * level:.1f}°, scaled and shifted by up to {level:.0%}"
    return f"{moves}, seed {seed}, borders continue the edge pixels".replace("%", " %")


def _along(each: tasks.Scored, points: npt.NDArray[np.float32]) -> tuple[tasks.Scored, str]:
    """The labels of the misaligned images, and how many landmarks left the picture."""
    if not isinstance(each, tasks.Landmarks):
        return each, ""
    task = replace(each.task, targets=points.reshape(len(points), -1))
    mine = points[each.rows]
    count = int(((mine < 0) | (mine > 1)).any(axis=2).sum())
    told = f"{count:,} of {mine.shape[0] * mine.shape[1]:,} landmarks lie outside of the picture, measured there"
    return replace(each, task=task, pack=replace(each.pack, landmarks=points)), told if count else ""


def _encoded(
    subject: Subject, pack: Pack, rows: Indices, draws: npt.NDArray[np.float64], level: float
) -> npt.NDArray[np.float32]:
    """The codes of the images `rows` at a level, (len(rows), width)."""
    codes, done = np.empty((len(rows), subject.width), np.float32), 0
    with frozen(subject.method) as method:
        for piece in chunks(rows):
            images = misaligned(load(pack, piece, subject.device), draws[piece], level)
            codes[done : done + len(piece)] = encode(method, images).cpu().numpy()
            done += len(piece)
    if not np.isfinite(codes).all():
        raise UserError(f"{subject.name} encodes misaligned images of {pack.name} to numbers that are not finite.")
    return codes


def _at(codes: npt.NDArray[np.float32], rows: Indices, wanted: Indices) -> npt.NDArray[np.float32]:
    """The codes of `wanted` images, where `codes` are those of the ascending `rows`."""
    return codes[np.searchsorted(rows, wanted)]
