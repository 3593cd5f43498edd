"""How fast one update is: against the same networks and losses written plainly, and against this machine's peak.

Batches come from a generated pack on disk, as in a run; the plain update is that of ``plain.py``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from rich.console import Console

from mdebench import catalog
from mdebench.bench.clock import Measured, Seconds, alternate, over_rounds, peak_memory, seconds
from mdebench.bench.floor import kernel_times
from mdebench.bench.noise import generated_pack
from mdebench.bench.peak import best_rate, peak_jobs
from mdebench.bench.plain import plain_elsewhere
from mdebench.bench.record import Record, say
from mdebench.bench.sections import LOSSES, sections
from mdebench.compute.machine import default_device, default_precision
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.runs import Recipe
from mdebench.settings import SCALES, choose
from mdebench.training import recipes
from mdebench.training.beside import MADE_UP, made_up
from mdebench.training.operations import Operations
from mdebench.training.trainer import Trainer, batch_at, build_method
from mdebench.training.trial import try_out

WARM_UP = 3
MODES = {"eager": None, "compiled": "default", "captured": "reduce-overhead"}  # captured: in CUDA graphs, on a GPU
PEAKS = ("conv bf16", "matmul bf16")
TURN_SECONDS, TURN_UPDATES = 1.0, 10  # of each in its turn: as in a training, an update comes after another
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
    settings = asdict(entry.load().Method.suited(recipes.method_settings(method, scale, changed), MADE_UP))
    precision = changed.pop("precision", default_precision(default_device()))
    recipe = Recipe(entry.name, method, settings, scale, size, "", "", 0, RUN, batch, precision, changed)
    if batch > images:
        raise UserError(f"a batch of {batch} needs more than {images} images")
    return Case(recipe, images, mode)


def measure_step(case: Case, rounds: int) -> list[Measured]:
    """Updates in alternation, plain and ours, with the machine's peaks; then the operations, where the time goes, and
    the least time of the kernels.

    UserError when the method has nothing to train.
    """
    recipe, device = case.recipe, default_device()
    tried = build_method(recipe.method, recipe.settings, recipe.size, 0)
    quiet, given = Console(quiet=True), made_up(tried, case.images)
    try_out(tried, recipe, device, np.arange(recipe.batch), quiet, catalog.method(recipe.method), given)
    with generated_pack(case.images, recipe.size) as pack, plain_elsewhere(recipe, pack.path) as plain:
        draw = partial(batch_at, pack, pack.indices("train"), recipe, device=device, beside=given)
        ours = Trainer(build_method(recipe.method, recipe.settings, recipe.size, 0), recipe, device)
        if not ours.players:
            raise UserError(f"{recipe.method} has nothing to train, so there is no update to time")

        def update(steps: range) -> None:
            for step in steps:
                ours.update(draw(step))

        last = range(RUN - 1, RUN)
        gflop = Operations().update(ours, draw(last[0]))[1]
        parts = [_parts(ours, draw) for _ in range(rounds)]  # before anything is compiled, which hides the seams
        if mode := MODES[case.mode]:
            for network in ours.method.children():
                network.compile(mode=mode, dynamic=False)
        start = seconds(lambda: update(last))
        memory = peak_memory(lambda: update(range(RUN - WARM_UP, RUN)))
        one = min(seconds(lambda: update(last)) for _ in range(WARM_UP))
        turn = range(RUN - max(1, min(TURN_UPDATES, round(TURN_SECONDS / one))), RUN)
        peaks = {name: job for name, job in peak_jobs(device).items() if "bf16" in name}
        jobs: dict[str, Callable[[], object]] = {
            "plain": partial(plain, turn),
            "ours": partial(update, turn),
            **{name: job for name, (_, job) in peaks.items()},
        }
        times = alternate(jobs, rounds, WARM_UP)
        kernels = _kernels(recipe, draw)
    times |= {name: times[name] / len(turn) for name in ("plain", "ours")}
    rates = {name: peaks[name][0] / times[name] for name in peaks}
    best = {kind: best_rate(kind, "GFLOP/s", rates) for kind in PEAKS}
    floor, by_time = sum(kernels.values()), sorted(kernels, key=lambda kind: -kernels[kind])
    return [
        over_rounds("plain (fp32, contiguous)", "ms", 1e3 * times["plain"]),
        over_rounds("ours", "ms", 1e3 * times["ours"]),
        over_rounds("times as fast", "×", times["plain"] / times["ours"]),
        over_rounds("images", "1/s", recipe.batch / times["ours"]),
        _once("operations of an update", "GFLOP", gflop),
        *best.values(),
        *(_share(f"of the peak of {kind}", gflop / times["ours"], best[kind]) for kind in PEAKS),
        *(over_rounds(name, "% of an update", [100 * p.get(name, 0.0) for p in parts]) for name in _names(parts)),
        _once("all kernels, each alone", "ms", 1e3 * floor),
        *(_once(f"{kind}, each alone", "ms", 1e3 * kernels[kind]) for kind in by_time),
        _share("all kernels alone, of the peak of conv bf16", np.array([gflop / floor]), best["conv bf16"]),
        _once("the first update", "s", start),
        _once("peak memory", "MB", memory / 1e6),
    ]


def _kernels(recipe: Recipe, draw: Callable[[int], Batch]) -> dict[str, float]:
    """The least seconds of the kernels of an update, by kind; of one that was not compiled."""
    trainer = Trainer(build_method(recipe.method, recipe.settings, recipe.size, 0), recipe, default_device())
    trainer.update(draw(RUN - 2))  # the first makes the optimizer's state
    return kernel_times(lambda: trainer.update(draw(RUN - 1)))


def _once(metric: str, unit: str, value: float) -> Measured:
    """What was measured or counted one time."""
    return Measured(metric, unit, value, value, value, 1)


def _share(metric: str, reached: Seconds, best: Measured) -> Measured:
    """Rates in GFLOP/s as a share of the best rate of a kind of work, measured between the updates."""
    return over_rounds(metric, "%", 100 * reached / best.value)


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


def bench_step(case: Case, rounds: int, console: Console) -> Record:
    """Measure an update and say what it takes."""
    settings = {**asdict(case.recipe), "images": case.images}
    record = Record("step", str(case), settings, measure_step(case, rounds))
    say(record, console)
    return record
