"""Timing in alternation, and what a measurement of speed is: a median over rounds with its quartiles."""

import resource
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One quantity: the median of `n` rounds in `unit`, and its quartiles [low, high]."""

    metric: str
    unit: str
    value: float
    low: float
    high: float
    n: int


def over_rounds(metric: str, unit: str, values: npt.ArrayLike) -> Measured:
    """What one number per round (n,) amounts to."""
    numbers = np.asarray(values, dtype=np.float64)
    low, middle, high = np.quantile(numbers, [0.25, 0.5, 0.75])
    return Measured(metric, unit, float(middle), float(low), float(high), numbers.size)


def alternate(jobs: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, Seconds]:
    """Seconds (rounds,) of each job, one after the other in every round, after `warm_up` rounds that do not count."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(warm_up + rounds):
        for name, job in jobs.items():
            times[name].append(seconds(job))
    return {name: np.array(taken[warm_up:]) for name, taken in times.items()}


def seconds(job: Callable[[], object]) -> float:
    """How long a job takes, the work it leaves to a GPU included."""
    wait()
    begin = time.perf_counter()
    job()
    wait()
    return time.perf_counter() - begin


def wait() -> None:
    """Until the GPU, where there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory(job: Callable[[], object]) -> int:
    """Bytes at most in use while a job runs: of the GPU where there is one, else of this process, torch included."""
    if not torch.cuda.is_available():
        return resident_peak(job)
    torch.cuda.reset_peak_memory_stats()
    job()
    return torch.cuda.max_memory_allocated()


def resident_peak(job: Callable[[], object]) -> int:
    """Bytes of memory at most in use by this process while a job runs, torch included."""
    with suppress(OSError):  # without it, it is the peak since the process began, which is never less
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak so far is forgotten
    job()
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
