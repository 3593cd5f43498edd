"""How fast pSNR and SSIM are, against torchmetrics, and how near to scikit-image, which is the reference."""

from importlib import import_module
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from mdebench.bench.clock import Measured, alternate, over_rounds
from mdebench.bench.record import Record, say
from mdebench.compute.machine import default_device
from mdebench.errors import UserError
from mdebench.evaluation.metrics import psnr, ssim

CHECKED = 20  # pairs compared with scikit-image
CHUNK = 100  # pairs at a time, for both


def pairs(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Smooth pictures (count, 3, size, size) in [0, 1] and the same under noise: correlated, as completions are."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand((count, 3, 8, 8), generator=generator)
    x = torch.nn.functional.interpolate(small, (size, size), mode="bicubic").clamp(0, 1)
    y = (x + 0.1 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    return x, y


def ours(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """pSNR in dB and SSIM of each pair: (N,) each."""
    return psnr(x, y), ssim(x, y)


def theirs(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The same by torchmetrics."""
    return (
        peak_signal_noise_ratio(x, y, data_range=1.0, reduction="none", dim=(1, 2, 3)),
        structural_similarity_index_measure(x, y, data_range=1.0, reduction="none"),  # type: ignore[return-value]
    )


def difference(x: Tensor, y: Tensor) -> tuple[float, float]:
    """The largest differences from scikit-image, in dB and in SSIM; UserError where it is not installed."""
    try:
        reference: Any = import_module("skimage.metrics")
    except ImportError as error:
        raise UserError("scikit-image, the reference, is not installed: pip install 'mdebench[test]'") from error
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    found = ours(x, y)
    images = [[t.permute(1, 2, 0).double().cpu().numpy() for t in pair] for pair in zip(x, y)]
    expected = (
        [reference.peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in images],
        [reference.structural_similarity(a, b, channel_axis=2, **options) for a, b in images],
    )
    worst = [float(np.abs(f.cpu().numpy() - np.array(e)).max()) for f, e in zip(found, expected)]
    return worst[0], worst[1]


def measure_metrics(count: int, size: int, rounds: int) -> list[Measured]:
    """Both metrics of ``count`` pairs, ours and torchmetrics' in alternation, in chunks of the same size."""
    x, y = (t.to(default_device()) for t in pairs(count, size))
    chunks = list(zip(torch.split(x, CHUNK), torch.split(y, CHUNK)))
    jobs = {"ours": lambda: [ours(*c) for c in chunks], "theirs": lambda: [theirs(*c) for c in chunks]}
    times = alternate(jobs, rounds)
    decibels, similarity = difference(x[:CHECKED], y[:CHECKED])
    return [
        over_rounds("pSNR and SSIM, ours", "pairs/s", count / times["ours"]),
        over_rounds("pSNR and SSIM, torchmetrics", "pairs/s", count / times["theirs"]),
        over_rounds("times as fast", "×", times["theirs"] / times["ours"]),
        Measured("largest difference from scikit-image, pSNR", "dB", decibels, decibels, decibels, 1),
        Measured("largest difference from scikit-image, SSIM", "", similarity, similarity, similarity, 1),
    ]


def bench_metrics(count: int, size: int, rounds: int, console: Console) -> Record:
    """Measure the metrics and say it."""
    measured = measure_metrics(count, size, rounds)
    record = Record("metrics", f"{count:,} pairs of {size}×{size}", {"count": count, "size": size}, measured)
    say(record, console)
    return record
