"""How near a set of pictures is to another, read from a classifier's features: Inception score, FID and KID.

FID and KID through torchmetrics, which is handed what a judge said of the pictures instead of the pictures. Everything
is computed in float64 on the CPU, and shuffles are drawn from a seed: the global generator stays as it was.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

KID_SUBSETS, KID_SUBSET = 100, 1000  # Bińkowski et al. 2018


class _AsGiven(nn.Module):
    """Stands where torchmetrics expects a feature network."""

    def __init__(self, width: int):
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torchmetrics draws from the default generator and warns of the memory that it needs; neither gets out."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `.*` will save all extracted features")
        torch.default_generator.manual_seed(seed)
        yield


class InceptionScore(NamedTuple):
    """Mean and standard deviation (NaN for a single split) over so many splits."""

    mean: float
    sd: float
    splits: int


def inception_score(logits: Tensor, splits: int = 10, seed: int = 0) -> InceptionScore:
    """exp E KL(p(y|x) ‖ p(y)) of Salimans et al. 2016 over random splits, as their code has it (`improved-gan`).

    ``logits`` (N, classes). From 1 to the number of classes, or to the images in a split where these are fewer. Every
    image is in one split, and their sizes differ by at most one; the deviation is that of the scores themselves
    (divided by their number). An image alone scores 1 whatever it shows, so no split has fewer than two images, and
    there are fewer splits where images are few.
    """
    splits = max(1, min(splits, len(logits) // 2))
    log_p = _double(logits).log_softmax(dim=1)
    log_p = log_p[torch.randperm(len(log_p), generator=torch.Generator().manual_seed(seed))]
    ends = [i * len(log_p) // splits for i in range(1, splits)]
    scores = torch.stack([_score_of_split(part) for part in log_p.tensor_split(ends)])
    return InceptionScore(float(scores.mean()), float(scores.std(correction=0)) if splits > 1 else math.nan, splits)


def _score_of_split(log_p: Tensor) -> Tensor:
    log_marginal = log_p.logsumexp(dim=0) - math.log(len(log_p))
    return (log_p.exp() * (log_p - log_marginal)).sum(dim=1).mean().exp()


def fid(real: Tensor, fake: Tensor) -> float:
    """Fréchet distance of two Gaussians fitted to features (N, d) and (M, d), Heusel et al. 2017; ≥ 0, 0 when equal.

    Biased upwards where N or M is not far above d: compare at equal numbers only. NaN for fewer than two images.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    if min(len(real), len(fake)) < 2:
        return math.nan
    metric = FrechetInceptionDistance(_AsGiven(real.shape[1]))
    metric.update(_double(real), real=True)
    metric.update(_double(fake), real=False)
    return float(metric.compute())


def kid(real: Tensor, fake: Tensor, seed: int = 0) -> tuple[float, float]:
    """Squared MMD with the cubic kernel between features (N, d) and (M, d), Bińkowski et al. 2018: unbiased.

    Mean and standard deviation over 100 random subsets of 1000 images, or of half of what there is. NaN for fewer than
    four images.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    fewest = min(len(real), len(fake))
    if fewest < 4:
        return math.nan, math.nan
    size = min(KID_SUBSET, fewest // 2)
    with _seeded(seed):
        metric = KernelInceptionDistance(_AsGiven(real.shape[1]), subsets=KID_SUBSETS, subset_size=size)
        metric.update(_double(real), real=True)
        metric.update(_double(fake), real=False)
        mean, sd = metric.compute()
    return float(mean), float(sd)


def _double(values: Tensor) -> Tensor:
    return values.detach().cpu().double()
