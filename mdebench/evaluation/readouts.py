"""Readouts: what a linear map can tell from a representation, by the paper's short training and by the exact solution.

The paper trains a linear layer with a sigmoid for 5,000 updates; how far that gets depends on the optimizer as much as
on the representation. Beside it stands the converged probe, ridge regression in closed form, whose regularisation is
chosen on the validation partition. Both see the same cached features; `finetune` trains the encoder along instead, and
`few-labels` gives the probe a hundredth and a tenth of the labels.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mdebench.catalog import told
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Cost, Subject, Unfit
from mdebench.evaluation.passes import Indices, chunks, encode, frozen, load, steps
from mdebench.methods.contract import Method
from mdebench.results.displays import CODES, CONTROLS, PIXELS, PROBE, ChartOf, TableOf
from mdebench.training.trial import one_value

Predictions = npt.NDArray[np.float32]
Features = Callable[[Indices], npt.NDArray[np.float32]]  # rows of the pack (n,) → (n, d)
ALPHAS = tuple(float(alpha) for alpha in np.logspace(-6, 1, 15))  # per training image, on standardised features
FEW = {"frozen-probe-1%": 0.01, "frozen-probe-10%": 0.1}  # setting → share of the labels that may be read
DRAWS = 5  # of so many images, since which they are matters when they are few
# Seconds on two cores, for a code of 1,000: an update of a head, an image of a Gram matrix, the solution for one alpha.
UPDATE, GRAM, SOLVE = 4.8e-4, 6.5e-5, 2.5e-2
HELD_OUT = 10  # without a validation partition, one training image in so many chooses alpha


@dataclass(frozen=True)
class Settings:
    """How a representation is read out (section 3.2.3)."""

    # or "finetune" or "few-labels"; Table 1 can only mean a frozen encoder (its random weights do so badly)
    setting: str = "frozen"
    updates: int = 5000  # Table 1; Table 2 has 50,000
    batch_size: int = 16  # section 3.2.3
    # The paper names no optimizer for transfer: the generator's (section 2.5), annealing included.
    learning_rate: float = 2e-4
    beta1: float = 0.5
    annealing_power: float = 0.9

    def __post_init__(self) -> None:
        if self.setting not in ("frozen", "frozen-head", "frozen-probe", "controls", "finetune", "few-labels", *FEW):
            told = "none of 'frozen', 'controls', 'finetune' and 'few-labels'"
            raise UserError(f"setting={self.setting!r} is {told}")
        if min(self.updates, self.batch_size, self.learning_rate) <= 0:
            raise UserError("updates, batch_size and learning_rate of a head must be above 0")


def few_labels_table(*metrics: str) -> TableOf:
    """A protocol's part of the table of few labels."""
    title = "Few labels: the probe trained on 1 % and on 10 % of them"
    return TableOf("few_labels", title, metrics, PIXELS, CODES, (*FEW, PROBE), lines_with=tuple(FEW))


def few_labels_chart(*metrics: str) -> ChartOf:
    """A protocol's part of the chart of few labels."""
    every = (*FEW, PROBE)
    return ChartOf("few_labels", "Probes with few labels", metrics, "dots", "", every, every, lines_with=tuple(FEW))


def judged_table(name: str, title: str, *metrics: str) -> TableOf:
    """A table of all that the answers of the probe, and of the paper's head, are judged by."""
    settings = (PROBE, f"frozen-head-{Settings.updates}")
    return TableOf(name, title, metrics, PIXELS, CODES, settings, by_setting=True)


def cases(settings: Settings) -> list[Settings]:
    """Three units for a frozen encoder: probe and controls do not depend on how a head is trained. One for each few."""
    if settings.setting == "frozen":
        return [replace(settings, setting="frozen-head"), Settings("frozen-probe"), Settings("controls")]
    if settings.setting == "few-labels":
        return [Settings(setting=few) for few in FEW]
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """What the readouts of a setting take at the scale `small` (a code of 1,000); measured on two cores."""
    train = len(pack.indices("train"))
    head, probe, few = settings.updates * UPDATE, probe_seconds(train), DRAWS * len(FEW) * probe_seconds(0)
    if settings.setting == "finetune":  # forward and twice as much backward
        return Cost(encoded=3 * settings.updates * settings.batch_size, seconds=head)
    controls = len(CONTROLS) * probe
    units = {"frozen": head + probe + controls, "frozen-head": head, "frozen-probe": probe, "few-labels": few}
    units["controls"] = controls
    return Cost(seconds=units.get(settings.setting, few / len(FEW)))


def probe_seconds(images: int) -> float:
    """Seconds that a converged probe on a code of 1,000 takes: its Gram matrix, and a solve for each alpha."""
    return images * GRAM + len(ALPHAS) * SOLVE


@dataclass(frozen=True)
class Partition:
    """Which images train a readout, which choose its regularisation, and what must be said about that."""

    train: Indices
    val: Indices
    note: str = ""


@dataclass(frozen=True)
class Task:
    """What a readout predicts: targets (N, k) float32 for all images of the pack, NaN where unknown.

    `error(predictions, targets)` is the metric, lower is better, by which alpha is chosen; `evaluate` are the images to
    predict. Every column has a known target among the training images. Where `strata` (N,) are given, few labels hold
    at least one image of each stratum.
    """

    targets: npt.NDArray[np.float32]
    partition: Partition
    evaluate: Indices
    error: Callable[[Predictions, Predictions], float]
    strata: npt.NDArray[np.integer] | None = None


@dataclass(frozen=True)
class Readout:
    """A setting's name, its predictions (n, k), and what must be said about it.

    A readout of few labels has predictions (DRAWS, n, k): what is measured is the mean over the draws.
    """

    setting: str
    predictions: Predictions
    note: str = ""


def partition(pack: Pack, usable: npt.NDArray[np.bool_]) -> Partition:
    """Training and validation images among the usable (N,); without any of the latter, every tenth of the former.

    UserError when nothing is left to train on.
    """
    train, val = (rows[usable[rows]] for rows in (pack.indices("train"), pack.indices("val")))
    if len(train) and len(val):
        return Partition(train, val)
    if len(train) < 2:
        raise UserError(f"{pack.name} has too few training images with known targets: {len(train)}.")
    chosen = np.arange(len(train)) % HELD_OUT == 0
    note = f"no validation partition: alpha chosen on {chosen.sum():,} held-out training images"
    return Partition(train[~chosen], train[chosen], note)


def readouts(subject: Subject, pack: Pack, task: Task, settings: Settings) -> list[Readout]:
    """The head, the converged probe and its controls on the frozen encoder, or the head trained with the encoder."""
    found = []
    if settings.setting in ("frozen", "frozen-head"):
        found.append(_frozen_head(subject, pack, task, settings))
    if settings.setting in ("frozen", "frozen-probe"):
        found.append(_probe(subject, pack, task))
    if settings.setting in ("frozen", "controls"):
        found += [_control(subject, pack, task, kind) for kind in CONTROLS]
    for setting, share in FEW.items():
        if settings.setting in ("few-labels", setting):
            found.append(_few_labels(subject, pack, task, setting, share))
    if settings.setting == "finetune":
        found.append(_finetune(subject, pack, task, settings))
    for readout in found:
        if not np.isfinite(readout.predictions).all():
            raise UserError(f"{readout.setting} on {subject.name} diverged: lower its learning_rate.")
    return found


# --- the converged probe


def _probe(subject: Subject, pack: Pack, task: Task) -> Readout:
    probe, note = converged(partial(subject.features, pack), task, task.partition, subject.device)
    return Readout("frozen-probe", probe(subject.features(pack, task.evaluate)), note)


def _control(subject: Subject, pack: Pack, task: Task, kind: str) -> Readout:
    """The probe where there is nothing to learn: all that it can find on the test images is the majority answer.

    Trained on "shuffled-labels", each column's known ones for itself, or on "shuffled-images", among those that train
    and among those that choose alpha; the same in every encoder.
    """
    rng, rows, targets = np.random.default_rng(0), task.partition, task.targets.copy()
    place = np.arange(len(targets))
    for part in (rows.train, rows.val):
        if kind == "shuffled-images":
            place[part] = rng.permutation(part)
            continue
        for column in targets.T:
            known = part[~np.isnan(column[part])]
            column[known] = column[rng.permutation(known)]
    features = partial(subject.features, pack)
    probe, note = converged(lambda part: features(place[part]), replace(task, targets=targets), rows, subject.device)
    return Readout(kind, probe(features(task.evaluate)), note)


def _few_labels(subject: Subject, pack: Pack, task: Task, setting: str, share: float) -> Readout:
    """The probe on a share of the labels, drawn `DRAWS` times; the draws depend on the pack and the task alone."""
    features, rows, found = partial(subject.features, pack), task.partition, []
    for draw in range(DRAWS):
        train, val = draw_few(rows.train, share, draw, task.strata), draw_few(rows.val, share, draw)
        probe, _ = converged(features, task, Partition(train, val), subject.device)
        found.append(probe(features(task.evaluate)))
    note = f"labels of {len(train):,} of {len(rows.train):,} training images"
    note += " (at least one of each class)" if task.strata is not None else ""
    note += f", alpha chosen on {len(val):,} of {len(rows.val):,} others; mean over {DRAWS} draws"
    return Readout(setting, np.stack(found), note)


def draw_few(rows: Indices, share: float, draw: int, strata: npt.NDArray[np.integer] | None = None) -> Indices:
    """A share of `rows`, rounded up, ascending; at least one of each stratum where the pack's `strata` (N,) are given.

    The same rows and the same number of the draw give the same images, and a larger share holds the smaller one.
    """
    shuffled = rows[np.random.default_rng(draw).permutation(len(rows))]
    count = math.ceil(share * len(rows))
    if strata is not None:
        _, first = np.unique(strata[shuffled], return_index=True)
        shuffled = np.concatenate([shuffled[first], np.delete(shuffled, first)])
        count = max(count, len(first))
    return np.sort(shuffled[:count])


def converged(features: Features, task: Task, rows: Partition, device: torch.device) -> tuple["LinearProbe", str]:
    """The ridge probe trained on `rows.train` with the alpha that is best on `rows.val`, and what must be said."""
    path = ridge(features(rows.train), task.targets[rows.train], ALPHAS, device)
    val = features(rows.val)
    errors = [task.error(probe(val), task.targets[rows.val]) for probe in path]
    best = int(np.flatnonzero(np.equal(errors, min(errors)))[-1])  # of equals the strongest, that is the simplest
    note = f"alpha {ALPHAS[best]:.2g} per image"
    if best in (0, len(ALPHAS) - 1) and min(errors) < max(errors):
        note += " (at the edge of the grid)"
    return path[best], "; ".join(filter(None, [note, rows.note]))


@dataclass(frozen=True)
class LinearProbe:
    """features (n, d) → (n, k): features @ weight + bias, with weight (d, k) and bias (k,) float64."""

    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]

    def __call__(self, features: npt.NDArray[np.float32]) -> Predictions:
        """Predictions (n, k) float32."""
        return (features @ self.weight + self.bias).astype(np.float32)


def ridge(
    features: npt.NDArray[np.float32], targets: Predictions, alphas: Sequence[float], device: torch.device
) -> list[LinearProbe]:
    """Ridge regressions of targets (n, k), NaN where unknown, on standardised features (n, d), one for each alpha.

    Minimises mean_i |y_i − x_i W − b|² + alpha |W|² for each column over the images that know it, in float64; the bias
    is not penalised, a feature that never varies has no weight, and a column that no image knows is predicted as 0.
    """
    known = ~np.isnan(targets)
    weights = np.zeros((len(alphas), features.shape[1], targets.shape[1]))
    biases = np.zeros((len(alphas), targets.shape[1]))
    # Columns known for the same images share one Gram matrix.
    patterns, group = np.unique(known, axis=1, return_inverse=True)
    for g in range(patterns.shape[1]):
        columns, rows = np.flatnonzero(group.ravel() == g), patterns[:, g]
        if not rows.any():
            continue
        x = features if rows.all() else features[rows]
        y = torch.from_numpy(targets[np.ix_(rows, columns)]).to(device, torch.float64)
        for a, (weight, bias) in enumerate(_solve(x, y, alphas)):
            weights[a][:, columns], biases[a, columns] = weight.cpu().numpy(), bias.cpu().numpy()
    return [LinearProbe(weight, bias) for weight, bias in zip(weights, biases)]


def _solve(x: npt.NDArray[np.float32], y: Tensor, alphas: Sequence[float]) -> Iterator[tuple[Tensor, Tensor]]:
    """Weights (d, k) and biases (k,) for each alpha; x (n, d), y (n, k) float64 on the device that computes."""
    n, d = x.shape

    def pieces() -> Iterator[tuple[slice, Tensor]]:  # never all of x in float64 at once
        for start in range(0, n, 4096):
            rows = slice(start, start + 4096)
            yield rows, torch.from_numpy(x[rows]).to(y.device, torch.float64)

    mean = sum((piece.sum(0) for _, piece in pieces()), y.new_zeros(d)) / n
    variance = sum(((piece - mean).square().sum(0) for _, piece in pieces()), y.new_zeros(d)) / n
    std = variance.sqrt()
    scale = torch.where(std > 1e-6 * mean.abs(), 1 / std, 0.0)
    target_mean = y.mean(0)
    gram, cross = y.new_zeros(d, d), y.new_zeros(d, y.shape[1])
    for rows, piece in pieces():
        z = (piece - mean) * scale
        gram += z.T @ z / n
        cross += z.T @ (y[rows] - target_mean) / n
    for alpha in alphas:
        factor = torch.linalg.cholesky(gram + alpha * torch.eye(d, dtype=gram.dtype, device=gram.device))
        weight = scale[:, None] * torch.cholesky_solve(cross, factor)
        yield weight, target_mean - mean @ weight


# --- the paper's head


def _frozen_head(subject: Subject, pack: Pack, task: Task, settings: Settings) -> Readout:
    train = torch.from_numpy(subject.features(pack, task.partition.train)).to(subject.device)
    targets = torch.from_numpy(task.targets[task.partition.train]).to(subject.device)
    head = train_head(lambda rows: train[rows], train.shape[1], targets, settings, subject.seed)
    with torch.no_grad():
        evaluate = torch.from_numpy(subject.features(pack, task.evaluate)).to(subject.device)
        return Readout(f"frozen-head-{settings.updates}", head(evaluate).cpu().numpy())


def _finetune(subject: Subject, pack: Pack, task: Task, settings: Settings) -> Readout:
    """Train a copy of the encoder through, batch-norm in train mode; the subject itself stays as it is.

    All of its parameters are trained, also those that came frozen, as people freeze what they load; the note tells it.
    Unfit where its code depends on no parameter: that would be a frozen encoder's row.
    """
    method, rows = copy.deepcopy(subject.method), task.partition.train
    held = sum(not parameter.requires_grad for parameter in method.parameters())
    encoder = [parameter for parameter in method.parameters() if parameter.is_floating_point()]
    for parameter in encoder:
        parameter.requires_grad_()
    if not encode(method.eval(), load(pack, rows[:2], subject.device)).requires_grad:
        raise Unfit(f"{subject.name} has nothing to finetune: its code depends on no parameter; measure it frozen.")
    note = f"{held:,} tensors of parameters that came frozen are trained along" if held else ""
    method.train()
    _try_batch(method, subject, settings.batch_size)
    targets = torch.from_numpy(task.targets[rows]).to(subject.device)

    def code_of(batch: Tensor) -> Tensor:
        return encode(method, load(pack, rows[batch.cpu().numpy()], subject.device))

    head = train_head(code_of, subject.width, targets, settings, subject.seed, encoder)
    with frozen(method):
        pieces = (load(pack, piece, subject.device) for piece in chunks(task.evaluate))
        predictions = torch.cat([head(encode(method, images)) for images in pieces])
    return Readout(f"finetune-head-{settings.updates}", predictions.cpu().numpy(), note)


def _try_batch(method: Method, subject: Subject, size: int) -> None:
    """UserError where the encoder, as it is trained, cannot take a batch of so many images; nothing of it moves."""
    black = torch.zeros(size, 3, method.size, method.size, device=subject.device)
    with torch.random.fork_rng(devices=[subject.device] if black.is_cuda else []):
        try:
            encode(copy.deepcopy(method), black).sum().backward()  # type: ignore[no-untyped-call]
        except UserError:
            raise
        except Exception as error:
            why = f"{told(error)}; give another --set batch_size=N"
            if one_value(error):
                why = "batch-norm would normalise over a single value of a channel; give --set batch_size=2 or more"
            raise UserError(f"{subject.name} cannot be finetuned in batches of {size}: {why}") from error


def train_head(
    code_of: Callable[[Tensor], Tensor],
    dim: int,
    targets: Tensor,
    settings: Settings,
    seed: int,
    encoder: Sequence[nn.Parameter] = (),
) -> nn.Sequential:
    """A linear layer with a sigmoid, dim → k, and the `encoder` parameters, trained on squared error (section 3.2.3).

    `code_of` maps rows (b,) of `targets` (n, k) to codes (b, dim); NaN targets count nothing. Images are drawn in
    shuffled epochs. The same seed gives the same head; the global random state is left as it was.
    """
    known = ~targets.isnan()
    targets = targets.nan_to_num()
    count = settings.updates * settings.batch_size
    with torch.random.fork_rng(devices=[targets.device] if targets.is_cuda else []):
        torch.manual_seed(seed)
        head = nn.Sequential(nn.Linear(dim, targets.shape[1]), nn.Sigmoid()).to(targets.device)
        epochs = [torch.randperm(len(targets)) for _ in range(-(-count // len(targets)))]
        optimizer = torch.optim.Adam(
            [*head.parameters(), *encoder], lr=settings.learning_rate, betas=(settings.beta1, 0.999), fused=True
        )
        schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, settings.updates, settings.annealing_power)
        batches = torch.cat(epochs)[:count].to(targets.device).view(-1, settings.batch_size)
        for rows in steps(batches, settings.updates):
            error = known[rows] * (head(code_of(rows)) - targets[rows])
            optimizer.zero_grad()
            error.square().sum(1).mean().backward()
            optimizer.step()
            schedule.step()
    return head
