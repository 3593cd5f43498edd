"""What this machine can do at best: convolutions and matrix products in bf16 and fp32, and copying memory.

The peak of a kind is the best over a few shapes of the networks here, since libraries do well on some and badly on
others; it is what an update can at most hope for, and less than what the maker promises.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from rich.console import Console
from torch import Tensor

from mdebench.bench.clock import Measured, Seconds, alternate, over_rounds
from mdebench.bench.record import Record, say
from mdebench.compute.machine import default_device

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Images, channels in and out, and side of the maps of 3×3 convolutions: those of the paper's generator at batch 24.
CONVOLUTIONS = ((24, 64, 64, 96), (24, 128, 128, 48), (24, 256, 256, 24), (24, 512, 512, 12))
SIDES = {"cpu": 2048, "cuda": 8192}  # of the square matrices
COPIED = {"cpu": 2**28, "cuda": 2**30}  # bytes: far more than any cache holds


def peak_jobs(device: torch.device) -> dict[str, tuple[float, Callable[[], Tensor]]]:
    """Name → (GFLOP or GB that it takes, the work): "conv bf16 96", …, "matmul fp32", "copy"."""
    jobs: dict[str, tuple[float, Callable[[], Tensor]]] = {}
    for called, dtype in DTYPES.items():
        for n, c, d, side in CONVOLUTIONS:
            x = torch.ones((n, c, side, side), dtype=dtype, device=device).to(memory_format=torch.channels_last)
            weight = torch.ones((d, c, 3, 3), dtype=dtype, device=device).to(memory_format=torch.channels_last)
            gflop = 2 * n * c * d * 9 * side**2 / 1e9
            jobs[f"conv {called} {side}"] = gflop, partial(torch.conv2d, x, weight, padding=1)
        side = SIDES[device.type]
        a = torch.ones((side, side), dtype=dtype, device=device)
        jobs[f"matmul {called}"] = 2 * side**3 / 1e9, partial(torch.matmul, a, a)
    source = torch.ones(COPIED[device.type] // 4, device=device)
    jobs["copy"] = 2 * COPIED[device.type] / 1e9, partial(torch.empty_like(source).copy_, source)
    return jobs


def measure_peak(rounds: int) -> list[Measured]:
    """The best rates: of convolutions and matrix products in bf16 and fp32 in GFLOP/s, of a copy in GB/s."""
    jobs = peak_jobs(default_device())
    with torch.no_grad():
        times = alternate({name: job for name, (_, job) in jobs.items()}, rounds)
    rates = {name: jobs[name][0] / taken for name, taken in times.items()}
    units = dict.fromkeys(("conv bf16", "conv fp32", "matmul bf16", "matmul fp32"), "GFLOP/s") | {"copy": "GB/s"}
    return [best_rate(kind, unit, rates) for kind, unit in units.items()]


def best_rate(kind: str, unit: str, rates: Mapping[str, Seconds]) -> Measured:
    """The rates, over the rounds, of the job of a kind whose median is best; the jobs' names begin with their kind."""
    of_kind = [over_rounds(f"peak of {kind}", unit, r) for name, r in rates.items() if name.startswith(kind)]
    return max(of_kind, key=lambda rate: rate.value)


def bench_peak(rounds: int, console: Console) -> Record:
    """Measure the peaks and say them."""
    record = Record("peak", "peak", {}, measure_peak(rounds))
    say(record, console)
    return record
