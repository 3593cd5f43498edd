"""How good a completion is (pSNR, SSIM), and how sure a mean over test images is.

Both image metrics equal scikit-image's; each can be read over a part of the image, because the papers disagree
silently about whether the seen pixels count. They return one number per image, so that an interval can be drawn.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from mdebench.results.intervals import interval
from mdebench.results.rows import Measurement

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004
C1, C2 = 0.01**2, 0.03**2  # the same, for a data range of 1
PSNR_CAP = 100.0  # dB; what an exact copy counts as in a mean, where infinity would hide every other image

Floats = npt.NDArray[np.float64]


def composite(images: torch.Tensor, seen: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """The seen pixels of `images` (seen = 1) pasted over `output`; all (N, C, H, W), `seen` may broadcast."""
    return seen * images + (1 - seen) * output


def psnr(x: torch.Tensor, y: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
    """Peak signal-to-noise ratio of each image, in dB, for x, y (N, C, H, W) in [0, 1]: (N,) float64.

    The squared error is averaged over the entries that `where` (broadcastable to x) marks with 1, or over all.
    Equal images give infinity, as in scikit-image (a mean caps it: PSNR_CAP); an empty `where` gives NaN.
    """
    return -10 * torch.log10(_mean_over((x.double() - y.double()) ** 2, where))


def ssim_map(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Structural similarity around every entry of x, y (N, C, H, W) in [0, 1]: (N, C, H, W) float64.

    Gaussian window 11, sigma 1.5, population covariance, images mirrored at their edges: scikit-image's `full` map
    with gaussian_weights=True, use_sample_covariance=False, data_range=1. Each side has at least 11 pixels.
    """
    height, width = x.shape[-2:]
    if min(height, width) < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW}×{WINDOW} pixels, these have {height}×{width}")
    x, y = x.double(), y.double()
    rows, columns = _blur_matrix(height).to(x.device), _blur_matrix(width).to(x.device)

    def blur(image: torch.Tensor) -> torch.Tensor:
        return rows @ image @ columns.T

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return numerator / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))


def ssim(x: torch.Tensor, y: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
    """Structural similarity of each image, at most 1, for x, y (N, C, H, W) in [0, 1]: (N,) float64."""
    return mean_ssim(ssim_map(x, y), where)


def mean_ssim(similarity: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
    """The mean of a `ssim_map` (N, C, H, W), for each image: (N,).

    Over the whole image, the map's mean without the outer five pixels, whose windows lean on mirrored ones: what
    scikit-image returns. Over `where` (1 = counts, broadcastable to x), the map's mean over just those entries, the
    outer five included, since a hole at the edge has no others; an empty `where` gives NaN.
    """
    if where is None:
        pad = WINDOW // 2
        return similarity[..., pad:-pad, pad:-pad].mean(dim=(1, 2, 3))
    return _mean_over(similarity, where)


def measure_mean(
    metric: str,
    unit: str,
    values: npt.ArrayLike,
    setting: str,
    notes: Iterable[str] = (),
    *,
    images: npt.NDArray[np.int64] | None = None,
) -> Measurement:
    """The mean of one number per test image (n,) with its 95 % interval, and the numbers themselves.

    For another statistic than a mean, hand over its value plus each image's influence. `images` (n,) are the rows of
    the pack that the values belong to, where these are not its test partition in order: who is on them decides how sure
    the number is, once it is measured on a pack. Readings in dB are capped at PSNR_CAP, and the note says of how many
    images; empty ``notes`` are passed over.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if unit == "dB" and (copies := int((numbers > PSNR_CAP).sum())):
        notes = [*notes, f"{copies} exact copies counted as {PSNR_CAP:g} dB"]
        numbers = np.minimum(numbers, PSNR_CAP)
    found = interval(numbers, None, unit)
    note = "; ".join(filter(None, notes))
    kept = numbers.astype(np.float32)
    return Measurement(metric, unit, *found, len(numbers), setting, note=note, values=kept, images=images)


def _mean_over(values: torch.Tensor, where: torch.Tensor | None) -> torch.Tensor:
    if where is None:
        return values.mean(dim=(1, 2, 3))
    weights = where.to(values).expand_as(values)
    return (weights * values).sum(dim=(1, 2, 3)) / weights.sum(dim=(1, 2, 3))


@lru_cache(maxsize=8)
def _blur_matrix(size: int) -> torch.Tensor:
    """(size, size) float64: row i holds the Gaussian around pixel i, folded back at the edges (d c b a | a b c d)."""
    radius = WINDOW // 2
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / SIGMA) ** 2)
    positions = (torch.arange(size)[:, None] + offsets) % (2 * size)
    mirrored = torch.where(positions < size, positions, 2 * size - 1 - positions)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, mirrored, (weights / weights.sum()).expand(size, WINDOW))
