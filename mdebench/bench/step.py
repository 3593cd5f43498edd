"""How fast one update is: against the same networks and losses written plainly, and against this machine's peak.

Batches come from a generated pack on disk, as in a run. The plain update has no trick: fp32, contiguous, eager,
``backward()`` for everything, Adam as it comes.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from mdebench import catalog, suite
from mdebench.bench.clock import Measured, Seconds, alternate, over_rounds, peak_memory, seconds
from mdebench.bench.peak import peak_jobs
from mdebench.bench.record import Record, say
from mdebench.bench.sections import LOSSES, sections
from mdebench.data.pack import ARRAYS, Pack, array_shapes
from mdebench.errors import UserError
from mdebench.method import Batch, Method
from mdebench.runs import Recipe
from mdebench.settings import SCALES, choose
from mdebench.train import Operations, Trainer, batch_at, build_method, default_device, default_precision, optimizer_of

WARM_UP = 3
MODES = {"eager": None, "compiled": "default", "captured": "reduce-overhead"}  # captured: in CUDA graphs, on a GPU
RUN = 10**6  # updates of the run that the timed ones are the last of: in a game of several phases all players move


@dataclass(frozen=True)
class Case:
    """What is timed: a method's recipe on ``images`` generated images, its networks run in a mode of MODES."""

    recipe: Recipe
    images: int
    mode: str = "eager"

    def __str__(self) -> str:
        r = self.recipe
        changed = "".join(f", {key}={value}" for key, value in r.overrides.items())
        what = f"{r.size}×{r.size}, batch {r.batch}, {r.precision}, {self.mode}{changed}"
        return f"{r.label} at scale {r.scale} ({what})"


def step_case(
    method: str,
    scale: str,
    overrides: Mapping[str, str],
    size: int | None = None,
    batch: int | None = None,
    images: int = 2000,
    mode: str = "eager",
) -> Case:
    """The case of a method at a scale, with the scale's size and batch unless others are given.

    ``overrides`` may name the precision beside the method's settings. UserError where something does not exist.
    """
    choose(mode, MODES, "mode")
    values, entry = choose(scale, SCALES, "scale"), catalog.method(method)
    size, batch = size or values.size, batch or values.batch
    own = entry.load().Settings.__dataclass_fields__
    # Its published weights are not always here, and cost nothing different.
    vgg = {"perceptual": "random:0"} if "perceptual" in own and "vgg" in values.losses else {}
    changed = {**vgg, **overrides}
    settings = asdict(suite.method_settings(method, scale, changed))
    precision = changed.pop("precision", default_precision(default_device()))
    recipe = Recipe(entry.name, method, settings, scale, size, "", "", 0, RUN, batch, precision, changed)
    if batch > images:
        raise UserError(f"a batch of {batch} needs more than {images} images")
    return Case(recipe, images, mode)


class _Plain:
    """The same game written plainly."""

    def __init__(self, method: Method, device: torch.device):
        self.method = method.to(device)
        self.players = method.players()
        self.optimizers = {name: optimizer_of(player, fast=False) for name, player in self.players.items()}

    def update(self, batch: Batch) -> None:
        batch = replace(batch, images=batch.images.float().contiguous())  # `batch_at` gives channels last
        for name in self.method.turns(batch.step, batch.updates):
            loss = self.method.loss(name, batch).total
            self.optimizers[name].zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizers[name].step()


def measure_step(case: Case, rounds: int) -> list[Measured]:
    """Updates in alternation, plain and ours, with the machine's peaks; then the operations, and where the time goes.

    UserError when the method has nothing to train.
    """
    recipe, device = case.recipe, default_device()
    with generated_pack(case.images, recipe.size) as pack:
        draw = partial(batch_at, pack, pack.indices("train"), recipe, device=device)
        ours = Trainer(build_method(recipe.method, recipe.settings, recipe.size, 0), recipe, device)
        if not ours.players:
            raise UserError(f"{recipe.method} has nothing to train, so there is no update to time")
        gflop = Operations().update(ours, draw(RUN - 1))[1]
        parts = [_parts(ours, draw) for _ in range(rounds)]  # before anything is compiled, which hides the seams
        if mode := MODES[case.mode]:
            for network in ours.method.children():
                network.compile(mode=mode, dynamic=False)
        start = seconds(lambda: ours.update(draw(RUN - 1)))
        memory = peak_memory(lambda: [ours.update(draw(step)) for step in range(RUN - WARM_UP, RUN)])
        plain = _Plain(build_method(recipe.method, recipe.settings, recipe.size, 0), device)
        peaks = {name: job for name, job in peak_jobs(device).items() if "bf16" in name}
        first, second = (iter(range(RUN - WARM_UP - rounds, RUN)) for _ in range(2))
        jobs = {
            "plain": lambda: plain.update(draw(next(first))),
            "ours": lambda: ours.update(draw(next(second))),
            **{name: job for name, (_, job) in peaks.items()},
        }
        times = alternate(jobs, rounds, WARM_UP)
    rates = [over_rounds(name, "GFLOP/s", peaks[name][0] / times[name]) for name in peaks]
    return [
        over_rounds("plain (fp32, contiguous)", "ms", 1e3 * times["plain"]),
        over_rounds("ours", "ms", 1e3 * times["ours"]),
        over_rounds("times as fast", "×", times["plain"] / times["ours"]),
        over_rounds("images", "1/s", recipe.batch / times["ours"]),
        Measured("operations of an update", "GFLOP", gflop, gflop, gflop, 1),
        *(_share(kind, rates, gflop / times["ours"]) for kind in ("conv bf16", "matmul bf16")),
        *(over_rounds(name, "% of an update", [100 * p.get(name, 0.0) for p in parts]) for name in _names(parts)),
        Measured("the first update", "s", start, start, start, 1),
        Measured("peak memory", "MB", memory / 1e6, memory / 1e6, memory / 1e6, 1),
    ]


def _share(kind: str, rates: Sequence[Measured], ours: Seconds) -> Measured:
    """The rate of our updates as a share of the best rate of a kind of work, measured between them."""
    best = max((rate.value for rate in rates if rate.metric.startswith(kind)), default=math.nan)
    return over_rounds(f"of the peak of {kind} ({best:,.0f} GFLOP/s)", "%", 100 * ours / best)


def _parts(ours: Trainer, draw: Callable[[int], Batch]) -> dict[str, float]:
    """The shares of one update, in [0, 1], by where they go; the drawing of masks, timed apart, is among the losses."""
    batch: list[Batch] = []
    data = seconds(lambda: batch.append(draw(RUN - 1)))
    spent = {"data": data, **sections(ours, batch[0])}
    masks = seconds(lambda: ours.method.draw_seen(batch[0]))
    spent[LOSSES] -= masks
    whole = sum(spent.values()) + masks
    return {name: taken / whole for name, taken in {**spent, "masks": masks}.items()}


def _names(parts: Sequence[Mapping[str, float]]) -> list[str]:
    """The sections of an update, the one that takes longest first."""
    names = dict.fromkeys(name for part in parts for name in part)
    return sorted(names, key=lambda name: -sum(part.get(name, 0.0) for part in parts))


@contextmanager
def generated_pack(count: int, size: int) -> Iterator[Pack]:
    """A pack of ``count`` training images of noise, memory-mapped from a temporary file."""
    rng, shape = np.random.default_rng(0), (count, 3, size, size)
    with tempfile.TemporaryDirectory() as folder:
        images = np.lib.format.open_memmap(Path(folder) / "images.npy", "w+", np.uint8, shape)
        for start in range(0, count, 1000):
            images[start : start + 1000] = rng.integers(0, 256, (min(1000, count - start), *shape[1:]), np.uint8)
        images.flush()
        labels = {
            name: np.full(s, unknown, dtype)
            for name, (dtype, unknown) in ARRAYS.items()
            if name != "images"
            for s in [array_shapes(count, size, 0)[name]]
        }
        yield Pack(Path(folder) / "noise", {"hash": "", "attribute_names": ()}, images, **labels)


def bench_step(case: Case, rounds: int, console: Console) -> Record:
    """Measure an update and say what it takes."""
    settings = {**asdict(case.recipe), "images": case.images}
    record = Record("step", str(case), settings, measure_step(case, rounds))
    say(record, console)
    return record
