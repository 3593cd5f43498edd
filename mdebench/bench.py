"""How fast one update is: against the same networks and losses written plainly, and against this machine's peak.

Everything is measured in one process in alternation (plain, ours, peak, plain, …), so that a drift of the machine
touches all alike; what counts are the ratios.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from mdebench import catalog
from mdebench.errors import UserError
from mdebench.method import Batch, Method
from mdebench.runs import Recipe
from mdebench.settings import SCALES, choose
from mdebench.train import Trainer, build_method, default_device, default_precision, optimizer_of, step_seed

WARM_UP = 3
RUN = 10**6  # updates of the run that the timed ones are the last of
_PEAK_SIZE = {"cpu": 2048, "cuda": 8192}  # side of the square matrices whose product gives the peak


@dataclass(frozen=True)
class StepBench:
    """Medians over the rounds: milliseconds per update, the pairwise ratio plain/ours, and the floating-point account.

    ``gflop`` counts multiplications and additions of convolutions and matrix products in one update; ``peak`` is the
    best rate of a square matrix product here, in GFLOP/s, in the better of bf16 and fp32.
    """

    plain_ms: float
    ours_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    gflop: float
    peak: float
    precision: str

    @property
    def share_of_peak(self) -> float:
        """Achieved rate over the peak, in [0, 1]."""
        return self.gflop / (self.ours_ms / 1000) / self.peak


class _Plain:
    """The same game without any trick: fp32, contiguous, ``backward()`` for everything, Adam as it comes."""

    def __init__(self, method: Method, device: torch.device):
        self.method = method.to(device)
        self.players = method.players()
        self.optimizers = {name: optimizer_of(player, fast=False) for name, player in self.players.items()}

    def update(self, batch: Batch) -> None:
        for name in self.method.turns(batch.step, batch.updates):
            loss = self.method.loss(name, batch).total
            self.optimizers[name].zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizers[name].step()


def measure_step(
    method: str,
    scale: str,
    rounds: int,
    overrides: Mapping[str, str],
    size: int | None = None,
    count: int | None = None,
) -> StepBench:
    """Time ``rounds`` alternations of one update of a method (after three to warm up), on random images.

    At a scale, with its size and batch of ``count`` images unless others are given. The updates are those of the end of
    a run, where in a game of several phases all players move.
    """
    values, device = choose(scale, SCALES, "scale"), default_device()
    size, count, precision = size or values.size, count or values.batch, default_precision(device)
    entry = catalog.method(method)
    own = entry.load().Settings.__dataclass_fields__
    # Its published weights are not always here, and cost nothing different.
    vgg = {"perceptual": "random:0"} if "perceptual" in own and "vgg" in values.losses else {}
    settings = asdict(entry.settings(values, {**vgg, **overrides}))
    recipe = Recipe(entry.name, entry.name, settings, scale, size, "", "", 0, RUN, count, precision, {})
    plain = _Plain(build_method(entry.name, settings, size, 0), device)
    ours = Trainer(build_method(entry.name, settings, size, 0), recipe, device)
    if not ours.players:
        raise UserError(f"{entry.name} has nothing to train, so there is no update to time")
    rows = []
    for step in range(RUN - WARM_UP - rounds, RUN):
        batch = _random_batch(count, size, step, device)
        fast = replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))
        rows.append((_seconds(plain.update, batch), _seconds(ours.update, fast), _peak(device)))
    plain_s, ours_s, peak = np.array(rows[WARM_UP:]).T
    with FlopCounterMode(display=False) as counter:
        ours.update(fast)
    return StepBench(
        plain_ms=float(np.median(plain_s)) * 1e3,
        ours_ms=float(np.median(ours_s)) * 1e3,
        ratio=float(np.median(plain_s / ours_s)),
        ratio_low=float((plain_s / ours_s).min()),
        ratio_high=float((plain_s / ours_s).max()),
        gflop=counter.get_total_flops() / 1e9,
        peak=float(np.median(peak)),
        precision=precision,
    )


def _random_batch(count: int, size: int, step: int, device: torch.device) -> Batch:
    generator = torch.Generator().manual_seed(step_seed(0, step))
    images = torch.rand((count, 3, size, size), generator=generator).to(device)
    return Batch(images, torch.arange(count), step, 0, 0, generator, RUN)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds(work: Callable[[Batch], object], batch: Batch) -> float:
    # Both sides draw the same masks: each gets a generator at the same state.
    batch = replace(batch, generator=torch.Generator().manual_seed(step_seed(0, batch.step)))
    _wait(batch.images.device)
    begin = time.perf_counter()
    work(batch)
    _wait(batch.images.device)
    return time.perf_counter() - begin


def _peak(device: torch.device) -> float:
    """The better rate of a square matrix product in bf16 and fp32, in GFLOP/s."""
    side, rates = _PEAK_SIZE[device.type], []
    for dtype in (torch.bfloat16, torch.float32):
        a = torch.ones((side, side), dtype=dtype, device=device)
        _wait(device)
        begin = time.perf_counter()
        a @ a
        _wait(device)
        rates.append(2 * side**3 / (time.perf_counter() - begin) / 1e9)
    return max(rates)


def bench_step(
    method: str,
    scale: str,
    rounds: int,
    overrides: Mapping[str, str],
    size: int | None,
    count: int | None,
    console: Console,
) -> None:
    """Measure and say: plain, ours, ratio, operations, and the share of the machine's measured peak."""
    b = measure_step(method, scale, rounds, overrides, size, count)
    machine = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    size, count = size or SCALES[scale].size, count or SCALES[scale].batch
    what = f"{method} at scale {scale}, {size}×{size} pixels, batch {count}"
    console.print(f"{what}, {rounds} rounds in alternation, {machine}")
    console.print(f"plain (fp32, contiguous)          {b.plain_ms:8.1f} ms per update")
    console.print(f"ours  ({b.precision}, channels last)        {b.ours_ms:8.1f} ms per update")
    console.print(
        f"ratio                             {b.ratio:8.2f} times as fast ({b.ratio_low:.2f} to {b.ratio_high:.2f})"
    )
    console.print(
        f"operations                        {b.gflop:8.1f} GFLOP per update (convolutions and matrix products)"
    )
    console.print(f"peak of a square matrix product   {b.peak:8.1f} GFLOP/s, measured between the updates")
    console.print(f"share of the peak                 {b.share_of_peak:8.1%}")
