"""How fast this machine is, measured in seconds: for the times in a plan, not for a claim.

One update and a few images of a method on random pixels, and a small fixed job that tells how this machine compares
with the one on which the protocols' own constants were taken.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from rich.console import Console

from mdebench.compute.machine import default_device
from mdebench.evaluation.passes import frozen
from mdebench.methods.contract import Batch, Completes, Encodes
from mdebench.runs import Recipe
from mdebench.training.beside import made_up
from mdebench.training.recipes import method_of
from mdebench.training.trainer import Trainer, build_method
from mdebench.training.trial import try_out

ENOUGH = 1.0  # seconds: what takes longer is not repeated
FIXED_JOB = 0.055  # seconds that `_fixed_job` takes on two quiet cores, where the constants of `cost` were measured


@dataclass(frozen=True)
class Speed:
    """Seconds for one update, for one image encoded, and for one image completed; 0 for what a method cannot do."""

    update: float
    encode: float
    complete: float


def measure_speed(recipe: Recipe) -> Speed:
    """Time an untrained method of the recipe on random images; UserError where it cannot be trained so."""
    method = build_method(method_of(recipe), recipe.settings, recipe.size, recipe.seed, {})  # of any weights, as fast
    device, given = default_device(), made_up(method, recipe.batch)
    quiet = Console(quiet=True)  # what is said of it is said when it is trained
    try_out(method, recipe, device, np.arange(recipe.batch), quiet, method_of(recipe), given)
    trainer = Trainer(method, recipe, device)
    images = torch.rand(max(recipe.batch, 8), 3, recipe.size, recipe.size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)

    def update() -> None:
        index = torch.arange(recipe.batch)
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng(devices=[]):
            trainer.update(
                Batch(images[: recipe.batch], index, 0, 0, recipe.seed, generator, recipe.updates, given=given)
            )

    def complete() -> None:
        assert isinstance(method, Completes)
        seen = torch.ones_like(images)
        seen[:, :, recipe.size // 4 : recipe.size // 2] = 0
        method.complete(images * seen, seen)

    def encode() -> None:
        assert isinstance(method, Encodes)
        method.encode(images)

    times = {"update": seconds(update) if trainer.players else 0.0}
    with frozen(method):
        times["encode"] = seconds(encode) / len(images) if isinstance(method, Encodes) else 0.0
        times["complete"] = seconds(complete) / len(images) if isinstance(method, Completes) else 0.0
    return Speed(**times)


def seconds(job: Callable[[], object]) -> float:
    """The shortest of three calls after a first one that warms up; of fewer where they are long."""

    def once() -> float:
        begin = time.perf_counter()
        job()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    if once() > 10 * ENOUGH:  # as much warming up as can be borne
        return once()
    times = [once()]
    while len(times) < 3 and sum(times) < ENOUGH:
        times.append(once())
    return min(times)


@cache
def slowness() -> float:
    """How many times longer this machine takes for the fixed job than the one of the protocols' constants."""
    return seconds(_fixed_job) / FIXED_JOB


def _fixed_job() -> object:
    """Products of matrices in double precision and a convolution: what probes and metrics spend their time on."""
    a = torch.ones(600, 600, dtype=torch.float64)
    kernel, images = torch.ones(16, 16, 3, 3), torch.ones(16, 16, 64, 64)
    return [a @ a for _ in range(4)], torch.conv2d(images, kernel)
