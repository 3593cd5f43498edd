"""What attention finds in the last map that a mean of it cannot: an attentive probe over the tokens of the encoder.

Command: `mdebench measure attentive`. Beyond the paper. An encoder trained on patches need not write what it knows
into the mean of its tokens; a few learned queries look for it ("Attention, please! Revisiting Attentive Probing Through
the Lens of Efficiency", Psomas et al.). Each of `queries` vectors q attends directly to the tokens x, by
softmax(q·x / √C), without projections of keys or values and without heads; the queries' averages of the tokens, side by
side, go into one linear layer. Tokens are the last of `stages`, each place of its map one, standardised by channel on
the training images.
Recipe: AdamW on the squared error of standardised targets, `updates` of `batch_size` images, warm-up over a twentieth
and cosine to zero; learning rate and weight decay are those that do best on the validation images after the last
update. The last update is read, never the best one. The chosen ones are trained `draws` times: the value is the mean
over the draws, the note tells their spread, and the interval is that over images.
Result: the attribute error in %, the landmark distance in px of 96, and the accuracy in %, whichever labels the pack
has.
"""

import itertools
import math
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation import tasks
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.passes import Indices, chunks, frozen, load, steps
from mdebench.evaluation.readouts import Predictions, Readout, Task
from mdebench.methods.contract import Stages
from mdebench.results.displays import PIXELS, PROBE, RANDOM, Display, Metric
from mdebench.results.rows import Measurement

VERSION = 1
NEEDS = "stages"
FEATURES = False
KINDS = (tasks.Attributes, tasks.Landmarks, tasks.Classes)
LEARNING_RATES = (1e-4, 1e-3, 1e-2)
DECAYS = (1e-3, 1e-1)
SIDE = 8  # maps are averaged to at most so many places a side
UPDATE = 6.3e-3  # seconds of an update on two cores, with 16 tokens of 256 channels and 40 targets
DISPLAY = Display(
    title="An attentive probe over the tokens of the last map",
    metrics=(
        replace(tasks.ATTRIBUTE_ERROR, home=("attributes", PROBE)),
        replace(tasks.LANDMARK_DISTANCE, home=("landmarks", PROBE)),
        Metric("accuracy", "Classes", "%", "higher", told=True, axis="Accuracy", home=("classes", "probe")),
    ),
    reference=PIXELS,
    references=(PIXELS, RANDOM),
)

Tokens = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Settings:
    """`queries`, the recipe of their training, how often it is drawn, and the seed of the draws."""

    queries: int = 8
    updates: int = 1000
    batch_size: int = 128
    draws: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.queries, self.updates, self.batch_size, self.draws) < 1 or self.seed < 0:
            raise UserError("attentive takes queries, updates, batch_size and draws of at least 1, and a seed from 0")


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes attributes, landmarks, classes or identities."""
    return tasks.lacking(pack, KINDS)


def cases(settings: Settings) -> list[Settings]:
    """One unit, since the images are encoded once for all labels."""
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """All images encoded once more, and a training for each candidate and further draw of each kind of labels."""
    asked = sum(kind.lacking(pack) is None for kind in KINDS)
    trainings = len(LEARNING_RATES) * len(DECAYS) + settings.draws - 1
    return Cost(encoded=len(pack.images), seconds=asked * trainings * settings.updates * UPDATE)


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Each kind of labels read by attention."""
    asked = tasks.known(pack, KINDS)
    rows = reduce(np.union1d, [part for each in asked for part in _parts(each)])
    tokens, what = tokens_of(subject, pack, rows)
    seed = (int(pack.hash[:12], 16), settings.seed)
    found = []
    for each in asked:
        task = replace(each.task, evaluate=each.rows)
        predictions, note = attended(tokens, rows, task, settings, seed, subject.device)
        apart = [each.headline(Readout("attentive", drawn)).value for drawn in predictions]
        spread = f"{settings.draws} draws of the probe: {', '.join(f'{value:.2f}' for value in apart)}"
        if len(apart) > 1:
            spread += f" (standard deviation {np.std(apart, ddof=1):.2f}, not in the interval)"
        told = tasks.join(what, note, spread, each.task.partition.note.replace("alpha", "learning rate and decay"))
        found.append(each.headline(Readout("attentive", predictions, told)))
    return found


def tokens_of(subject: Subject, pack: Pack, rows: Indices) -> tuple[Tokens, str]:
    """The tokens (len(rows), T, C) of the images `rows`, in half precision, and their make in words."""
    method = subject.method
    if not isinstance(method, Stages):
        raise UserError(f"{subject.name} has no stages to attend to, choose another run.")
    parts, what = [], ""
    for piece in chunks(rows):
        with frozen(subject.method):
            name, features = list(method.stages(load(pack, piece, subject.device)).items())[-1]
        side = (min(SIDE, features.shape[-2]), min(SIDE, features.shape[-1]))
        kept = adaptive_avg_pool2d(features.float(), side).flatten(2).transpose(1, 2).half().cpu().numpy()
        if not np.isfinite(kept).all():
            raise UserError(f"{subject.name} has numbers in {name} that half precision cannot hold, on {pack.name}.")
        parts.append(kept)
        what = f"{name}: {kept.shape[1]:,} tokens of {kept.shape[2]:,} channels in half precision"
    return np.concatenate(parts), what


def attended(
    tokens: Tokens, rows: Indices, task: Task, settings: Settings, seed: tuple[int, ...], device: torch.device
) -> tuple[Predictions, str]:
    """Predictions (draws, n, k) for `task.evaluate` by what was best on the validation images, and what that was.

    `tokens` (len(rows), T, C) are those of the ascending `rows`.
    """
    train, val, asked = (
        np.searchsorted(rows, part) for part in (task.partition.train, task.partition.val, task.evaluate)
    )
    targets, truth = task.targets[task.partition.train], task.targets[task.partition.val]
    mean, scale = _standard(tokens[train])
    every = list(itertools.product(LEARNING_RATES, DECAYS))
    order = [(0, *choice) for choice in every]
    found: dict[tuple[int, float, float], Predictions] = {}
    best, least, most = every[0], math.inf, -math.inf

    def train_one(draw: int, rate: float, decay: float) -> AttentiveProbe:
        probe = train_probe(tokens[train], targets, mean, scale, settings, rate, decay, (*seed, draw), device)
        found[draw, rate, decay] = answers(probe, tokens[asked], device)
        return probe

    for draw, rate, decay in steps(order, len(order)):
        probe = train_one(draw, rate, decay)
        error = task.error(answers(probe, tokens[val], device), truth)
        most = max(most, error)
        if error < least:
            best, least = (rate, decay), error
    for draw in range(1, settings.draws):
        train_one(draw, *best)
    note = f"{settings.queries} queries, learning rate {best[0]:g} and decay {best[1]:g} chosen on {len(val):,} images"
    if best[0] in (LEARNING_RATES[0], LEARNING_RATES[-1]) and least < most:
        note += " (rate at the edge of the grid)"
    return np.stack([found[draw, *best] for draw in range(settings.draws)]), note


class AttentiveProbe(nn.Module):
    """Tokens (N, T, C) → (N, k): the averages of the tokens by each query's attention, and a linear layer on them.

    Tokens are standardised by `mean` and `scale` (C,); what the layer says is in units of the targets' own `centre` and
    `spread` (k,).
    """

    def __init__(self, queries: int, mean: Tensor, scale: Tensor, centre: Tensor, spread: Tensor):
        super().__init__()
        channels = len(mean)
        self.queries = nn.Parameter(torch.randn(queries, channels) / math.sqrt(channels))
        self.linear = nn.Linear(queries * channels, len(centre))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.mean, self.scale, self.centre, self.spread = (nn.Buffer(value) for value in (mean, scale, centre, spread))

    def standardised(self, tokens: Tensor) -> Tensor:
        """What is predicted, in standard deviations of the targets from their mean."""
        x = (tokens - self.mean) * self.scale
        attention = (self.queries @ x.transpose(1, 2) / math.sqrt(x.shape[2])).softmax(dim=2)  # (N, queries, T)
        answer: Tensor = self.linear((attention @ x).flatten(1))
        return answer

    def forward(self, tokens: Tensor) -> Tensor:
        """What is predicted."""
        return self.standardised(tokens) * self.spread + self.centre


def train_probe(
    tokens: Tokens,
    targets: Predictions,
    mean: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
    settings: Settings,
    rate: float,
    decay: float,
    seed: tuple[int, ...],
    device: torch.device,
) -> AttentiveProbe:
    """The probe after the last update, trained on tokens (n, T, C) and targets (n, k), of which NaN count nothing.

    The same seed gives the same queries and batches; the global random state is left as it was.
    """
    y = torch.from_numpy(targets)
    known = ~y.isnan()
    centre = y.nanmean(dim=0)
    spread = ((y - centre).square().nanmean(dim=0)).sqrt()
    spread = torch.where(spread > 0, spread, 1.0)
    y = ((y - centre) / spread).nan_to_num()
    drawn, start = (int(word) for word in np.random.SeedSequence(seed).generate_state(2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(start)
        probe = AttentiveProbe(settings.queries, torch.from_numpy(mean), torch.from_numpy(scale), centre, spread)
    probe.to(device)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=rate, weight_decay=decay)
    warm = max(1, settings.updates // 20)

    def schedule(update: int) -> float:
        if update < warm:
            return (update + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (update - warm) / max(1, settings.updates - warm)))

    schedule_of = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    rng = np.random.default_rng(drawn)
    size = min(settings.batch_size, len(targets))
    waiting: Indices = np.empty(0, np.int64)
    for _ in steps(range(settings.updates), settings.updates):
        if len(waiting) < size:  # shuffled epochs
            waiting = np.concatenate([waiting, rng.permutation(len(targets))])
        batch, waiting = waiting[:size], waiting[size:]
        x = torch.from_numpy(tokens[batch]).to(device).float()
        error = known[batch].to(device) * (probe.standardised(x) - y[batch].to(device))
        optimizer.zero_grad()
        error.square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule_of.step()
    return probe


def answers(probe: AttentiveProbe, tokens: Tokens, device: torch.device) -> Predictions:
    """Predictions (n, k) for tokens (n, T, C)."""
    with torch.no_grad():
        pieces = (tokens[start : start + 256] for start in range(0, len(tokens), 256))
        told = [probe(torch.from_numpy(piece).to(device).float()).cpu() for piece in pieces]
    predictions = torch.cat(told).numpy()
    if not np.isfinite(predictions).all():
        raise UserError("the attentive probe diverged, which no recipe of its grid should on finite tokens.")
    return predictions


def _standard(tokens: Tokens) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The mean of each channel (C,) and what brings it to a variance of 1, 0 for one that never varies."""
    mean = tokens.mean(axis=(0, 1), dtype=np.float64)
    square = np.mean([((part - mean) ** 2).mean(axis=(0, 1)) for part in tokens[:, None]], axis=0)
    std = np.sqrt(square).ravel()
    scale = np.divide(1, std, out=np.zeros_like(std), where=std > 1e-6 * np.abs(mean))
    return mean.astype(np.float32), scale.astype(np.float32)


def _parts(each: tasks.Scored) -> tuple[Indices, Indices, Indices]:
    return each.task.partition.train, each.task.partition.val, each.rows
