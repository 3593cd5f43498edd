"""Which part of a face each pixel shows, read off the maps of every stage: a dense linear probe.

Command: `mdebench measure parsing` (packs with segments: `toyfaces --segments`, `celebamask-hq`). Beyond the paper. A
pixel is described by the map's values there, bilinear between its places, and answered by a 1×1 convolution and nothing
else: linear discriminant analysis, in closed form, with a ridge (Friedman 1989). Ridge regression on one-hot classes,
by which images are answered, is no choice here: its small classes are masked by large ones (Hastie, Tibshirani and
Friedman, section 4.2), and eyes would never be found. It is trained on pixels drawn from some of the training images,
always the same; alpha is that of the best mean IoU on pixels of validation images, and of equals the largest.
Result: for each stage ("stage1", …), and for all of them side by side ("every stage", also class by class), the mean
over the classes of the intersection over union in %, and the share of the pixels that are right. "layout" answers every
picture with the most frequent class of each place in training, and looks at nothing: on aligned faces that is much. A
network with random weights stands beside: a stage has learned something where it beats the same stage of that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, one_hot

from mdebench.data.finding import no_images
from mdebench.data.pack import NO_SEGMENT, Pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.metrics import Floats, measure_mean
from mdebench.evaluation.passes import Indices, chunks, frozen, load
from mdebench.evaluation.readouts import ALPHAS, LinearProbe, partition, probe_seconds
from mdebench.evaluation.tasks.scored import join, left_out
from mdebench.methods.contract import Stages
from mdebench.results.displays import RANDOM, ChartOf, Display, Metric
from mdebench.results.rows import Measurement

VERSION = 1
NEEDS = "stages"
FEATURES = False
EVERY, LAYOUT = "every stage", "layout"
NEVER = 1e-300  # the share of a class without a pixel: its logarithm is a number, and far below any other score
DISPLAY = Display(
    title="Parsing: which part of a face each pixel shows",
    metrics=(
        Metric("mean_iou", "Parsing, mean intersection over union", "%", "higher", told=True, axis="Mean IoU"),
        Metric("pixel_accuracy", "Parsing, pixels that are right", "%", "higher", axis="Pixels that are right"),
    ),
    reference=RANDOM,
    references=(RANDOM,),
    charts=(ChartOf("parsing", "Parts of faces read off each layer, dense linear probe", ("mean_iou",), "curves"),),
)

Classes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Settings:
    """`pixels` of each of at most `images` training images train the probe; a quarter as many images choose alpha."""

    images: int = 1000
    pixels: int = 64

    def __post_init__(self) -> None:
        if min(self.images, self.pixels) < 1:
            raise UserError("parsing takes at least one image and one pixel of each.")


@dataclass(frozen=True)
class Pixels:
    """Some pixels of each of some images: (n, p) their places in the flat image, and their classes, 255 unknown."""

    rows: Indices
    places: npt.NDArray[np.int64]
    classes: Classes

    @property
    def flat(self) -> npt.NDArray[np.int64]:
        """(n·p,) the classes."""
        return self.classes.ravel().astype(np.int64)


@dataclass(frozen=True)
class Counts:
    """Pixels of each test image and class, (n, k): answered so and right, in either of truth and answer, in truth."""

    both: Floats
    either: Floats
    truth: Floats

    def iou(self, kind: int) -> Floats:
        """The intersection over union of a class in %, as numbers whose mean it is: value plus influence, (n,)."""
        either = self.either[:, kind].sum()
        value = self.both[:, kind].sum() / either
        return np.asarray(100 * (value + len(self.both) * (self.both[:, kind] - value * self.either[:, kind]) / either))

    def accuracy(self) -> Floats:
        """The share of the known pixels that are right in %, likewise."""
        right, known = self.both.sum(axis=1), self.truth.sum(axis=1)
        value = right.sum() / known.sum()
        return np.asarray(100 * (value + len(known) * (right - value * known) / known.sum()))


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes segments of two classes, and images in train and in test."""
    if none := no_images(pack, "train", "test"):
        return none
    if not pack.segment_names:
        return f"{pack.name} has no segments"
    for split in ("train", "test"):
        kinds = np.unique(pack.segments[pack.indices(split)])
        if (kinds != NO_SEGMENT).sum() < 2:
            return f"{pack.name} has fewer than two classes of segments in its {split} partition"
    return None


def cases(settings: Settings) -> list[Settings]:
    """One unit, since the images are encoded once for all stages."""
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """The images encoded, and a probe on the pixels for each stage and for all of them."""
    train, val = (min(settings.images // part, len(pack.indices(s))) for part, s in ((1, "train"), (4, "val")))
    probes = 2 * probe_seconds(train * settings.pixels)  # that of all stages, and all others together
    return Cost(encoded=train + val + len(pack.indices("test")), seconds=probes)


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """The parts of the test images, read off each stage and all of them, and answered by the layout."""
    known = np.asarray((pack.segments != NO_SEGMENT).any(axis=(1, 2)))
    rows = partition(pack, known)
    train = drawn(pack, rows.train, settings.images, settings.pixels)
    val = drawn(pack, rows.val, max(1, settings.images // 4), settings.pixels)
    probes, notes = trained(subject, pack, train, val)
    test = pack.indices("test")
    measured = test[known[test]]
    counted: dict[str, list[Counts]] = {}
    layout = most_frequent(pack, train.rows)
    for piece in chunks(measured):
        truth = pack.segments[piece]
        for name, logits in _answers(subject, pack, piece, probes):
            counted.setdefault(name, []).append(count(logits, truth, len(pack.segment_names)))
        same = np.broadcast_to(layout, truth.shape)
        counted.setdefault(LAYOUT, []).append(count(same, truth, len(pack.segment_names)))
    notes[LAYOUT] = f"the most frequent class of each place in {len(train.rows):,} training images"
    lost = left_out(len(test) - len(measured), "test images without segments")
    found: list[Measurement] = []
    for name, parts in counted.items():
        whole = Counts(*(np.concatenate(each) for each in zip(*((p.both, p.either, p.truth) for p in parts))))
        found += _measured(name, whole, pack, measured, [notes[name], rows.note, lost])
    return found


def _measured(name: str, counts: Counts, pack: Pack, rows: Indices, notes: list[str]) -> Iterator[Measurement]:
    kinds = np.flatnonzero(counts.truth.sum(axis=0)).tolist()  # of the test images
    each = {pack.segment_names[kind]: counts.iou(kind) for kind in kinds}
    absent = [other for kind, other in enumerate(pack.segment_names) if kind not in kinds]
    note = join(*notes, f"on no test image, left out: {', '.join(absent)}" if absent else "")
    numbers = {"mean_iou": np.mean(list(each.values()), axis=0), "pixel_accuracy": counts.accuracy()}
    numbers |= {f"iou/{kind}": values for kind, values in each.items()} if name == EVERY else {}
    for metric, values in numbers.items():
        yield measure_mean(metric, "%", values, name, [note], images=rows)


def drawn(pack: Pack, rows: Indices, images: int, pixels: int) -> Pixels:
    """Pixels of evenly spaced images among the ascending rows; which ones depends on the pack alone."""
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(images, len(rows))).round().astype(np.int64))]
    rng = np.random.default_rng(0)
    places = rng.integers(0, pack.size**2, (len(chosen), min(pixels, pack.size**2)))
    flat = pack.segments[chosen].reshape(len(chosen), -1)
    return Pixels(chosen, places, np.take_along_axis(flat, places, axis=1))


def trained(subject: Subject, pack: Pack, train: Pixels, val: Pixels) -> tuple[dict[str, LinearProbe], dict[str, str]]:
    """The probe of each stage and of all of them side by side, and what must be said about it."""
    maps, chosen = (described(subject, pack, pixels) for pixels in (train, val))
    maps[EVERY], chosen[EVERY] = (np.concatenate(list(each.values()), axis=1) for each in (maps, chosen))
    told, asked = train.flat != NO_SEGMENT, val.flat != NO_SEGMENT
    truth = val.flat[asked]
    probes, notes = {}, {}
    for name, features in maps.items():
        path = discriminants(features[told], train.flat[told], len(pack.segment_names), ALPHAS, subject.device)
        errors = [_error(probe(chosen[name][asked]).argmax(axis=1), truth) for probe in path]
        best = int(np.flatnonzero(np.equal(errors, min(errors)))[-1])
        probes[name] = path[best]
        notes[name] = f"{features.shape[1]:,} channels; alpha {ALPHAS[best]:.2g}"
    return probes, notes


def discriminants(
    features: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    kinds: int,
    alphas: Sequence[float],
    device: torch.device,
) -> list[LinearProbe]:
    """Linear discriminants of classes (n,) on standardised features (n, d), one for each alpha; (d, kinds) float64.

    Of a class c with mean m and share p the score of z is m'A⁻¹z − m'A⁻¹m / 2 + log p, where A is the covariance within
    classes plus alpha times the identity. A feature that never varies has no weight, and a class that no pixel has is
    never the answer.
    """
    x = torch.from_numpy(features).to(device)
    of = one_hot(torch.from_numpy(classes).to(device), kinds).double()
    share, n, d = of.mean(dim=0), len(x), x.shape[1]

    def pieces() -> Iterator[tuple[Tensor, Tensor]]:  # never all of x in float64 at once
        for start in range(0, n, 4096):
            yield x[start : start + 4096].double(), of[start : start + 4096]

    mean = sum((piece.sum(dim=0) for piece, _ in pieces()), share.new_zeros(d)) / n
    variance = sum(((piece - mean).square().sum(dim=0) for piece, _ in pieces()), share.new_zeros(d)) / n
    scale = torch.where(variance.sqrt() > 1e-6 * mean.abs(), variance.rsqrt(), 0.0)
    within, centres = share.new_zeros(d, d), share.new_zeros(kinds, d)
    for piece, its in pieces():
        z = (piece - mean) * scale
        within += z.T @ z / n
        centres += its.T @ z / n
    centres = centres / share.clamp_min(1e-300)[:, None]
    within -= centres.T @ (share[:, None] * centres)
    found = []
    for alpha in alphas:
        factor = torch.linalg.cholesky(within + alpha * torch.eye(d).to(within))
        weight = torch.cholesky_solve(centres.T, factor)
        bias = share.clamp_min(NEVER).log() - (centres.T * weight).sum(dim=0) / 2
        weight = scale[:, None] * weight
        found.append(LinearProbe(weight.cpu().numpy(), (bias - mean @ weight).cpu().numpy()))
    return found


def _error(answer: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> float:
    """1 − the mean IoU over the classes in truth (n,)."""
    counts = [((answer == k) & (truth == k), (answer == k) | (truth == k)) for k in np.unique(truth)]
    return 1 - float(np.mean([both.sum() / either.sum() for both, either in counts]))


def described(subject: Subject, pack: Pack, pixels: Pixels) -> dict[str, npt.NDArray[np.float32]]:
    """Stage → (n·p, C) float32: each pixel by the stage's map there."""
    found: dict[str, list[npt.NDArray[np.float32]]] = {}
    done = 0
    for piece in chunks(pixels.rows):
        places = torch.from_numpy(pixels.places[done : done + len(piece)]).to(subject.device)
        for stage, maps in _maps(subject, pack, piece).items():
            found.setdefault(stage, []).append(at(maps, places, pack.size).flatten(0, 1).cpu().numpy())
        done += len(piece)
    return {stage: np.concatenate(parts) for stage, parts in found.items()}


def at(maps: Tensor, places: Tensor, size: int) -> Tensor:
    """Maps (N, C, h, w), stretched to size × size, at places (N, p) of the flat image: (N, p, C).

    What `interpolate(maps, size, mode="bilinear")` has there, which is never made.
    """
    x, y = (2 * (each + 0.5) / size - 1 for each in (places % size, places // size))
    grid = torch.stack([x, y], dim=-1).to(maps)[:, None]
    sampled = grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[:, :, 0].transpose(1, 2)


def _answers(
    subject: Subject, pack: Pack, rows: Indices, probes: Mapping[str, LinearProbe]
) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Name of a probe, and its answers (n, size, size). A linear map may be applied before the map is stretched."""
    maps = _maps(subject, pack, rows)
    begin = 0
    every: Tensor | float = 0.0
    for stage, values in maps.items():
        channels = values.shape[1]
        part = LinearProbe(probes[EVERY].weight[begin : begin + channels], 0 * probes[EVERY].bias)
        every = every + _stretched(values, part, pack.size)
        begin += channels
        yield stage, _stretched(values, probes[stage], pack.size).argmax(dim=1).cpu().numpy()
    assert isinstance(every, Tensor)
    bias = torch.from_numpy(probes[EVERY].bias).to(every)
    yield EVERY, (every + bias[:, None, None]).argmax(dim=1).cpu().numpy()


def _stretched(maps: Tensor, probe: LinearProbe, size: int) -> Tensor:
    weight, bias = (torch.from_numpy(each).to(maps) for each in (probe.weight, probe.bias))
    logits = torch.einsum("nchw,ck->nkhw", maps, weight) + bias[:, None, None]
    return interpolate(logits, (size, size), mode="bilinear", align_corners=False)


def _maps(subject: Subject, pack: Pack, rows: Indices) -> dict[str, Tensor]:
    """Stage → (n, C, h, w) float32; UserError where there are none, or they are not finite."""
    method = subject.method
    if not isinstance(method, Stages):
        raise UserError(f"{subject.name} has no stages to look into, choose another run.")
    with frozen(subject.method):
        found = {stage: maps.float() for stage, maps in method.stages(load(pack, rows, subject.device)).items()}
    for stage, maps in found.items():
        if not maps.isfinite().all():
            raise UserError(f"{subject.name} has numbers in {stage} that are not finite, on {pack.name}.")
    return found


def most_frequent(pack: Pack, rows: Indices) -> Classes:
    """(size, size): the most frequent class of each place in these images, of those that are known there."""
    segments = pack.segments[rows]
    counts = np.stack([(segments == kind).sum(axis=0) for kind in range(len(pack.segment_names))])
    return np.asarray(counts.argmax(axis=0), np.uint8)


def count(answer: npt.NDArray[np.integer], truth: Classes, kinds: int) -> Counts:
    """What answers (n, H, W) get right of truth (n, H, W); where that is unknown, nothing counts."""
    known = truth != NO_SEGMENT

    def of(flags: npt.NDArray[np.bool_]) -> Floats:
        return np.asarray(flags.sum(axis=(1, 2)), np.float64)

    both, either, true = (np.empty((len(truth), kinds)) for _ in range(3))
    for kind in range(kinds):
        said, is_so = known & (answer == kind), truth == kind
        both[:, kind], either[:, kind], true[:, kind] = of(said & is_so), of(said | is_so), of(is_so)
    return Counts(both, either, true)
