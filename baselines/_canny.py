"""Canny's edges: where a smoothed grey image changes most along its gradient, and strongly, or weakly but in touch with
places where it does so strongly (Canny 1986; the same edges as `skimage.feature.canny` finds).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

GREY = (0.2125, 0.7154, 0.0721)  # luminance of linear RGB by ITU-R BT.709, as in `skimage.color.rgb2gray`
SIGMA = 2.0
WEAK, STRONG = 0.1, 0.2  # norms of the gradient by Sobel's kernels, for grey in [0, 1]


def grey(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) → (N, 1, H, W)."""
    return (images * images.new_tensor(GREY)[:, None, None]).sum(dim=1, keepdim=True)


def canny(images: Tensor, seen: Tensor, sigma: float = SIGMA) -> Tensor:
    """Edges of the seen part of grey images in [0, 1], both (N, 1, H, W) → 1 on an edge, else 0, of the same type.

    What is not ``seen`` has no influence, and neither it, the pixels beside it nor the image's border are edges.
    Computed in float64 on the CPU.
    """
    known = seen[:, 0].detach().cpu().numpy() > 0
    edges = _canny(images[:, 0].detach().cpu().double().numpy(), known, sigma)
    return torch.from_numpy(edges)[:, None].to(images)


def _canny(images: NDArray[np.float64], known: NDArray[np.bool_], sigma: float) -> NDArray[np.bool_]:
    """Both (N, H, W)."""
    sigmas = (0, sigma, sigma)
    weight = ndimage.gaussian_filter(known.astype(np.float64), sigmas, mode="constant") + np.finfo(np.float64).eps
    smooth = ndimage.gaussian_filter(np.where(known, images, 0), sigmas, mode="constant") / weight
    down, right = (
        ndimage.correlate1d(ndimage.correlate1d(smooth, [-1, 0, 1], axis), [1, 2, 1], 3 - axis) for axis in (1, 2)
    )
    strength = np.sqrt(down * down + right * right)
    inner = ndimage.binary_erosion(known, np.ones((1, 3, 3), bool))
    weak = inner & (strength >= WEAK) & _largest_along_gradient(strength, down, right)
    touching = np.zeros((3, 3, 3))
    touching[1] = 1  # the eight neighbours in the image, none in another image
    parts, count = ndimage.label(weak, touching)
    kept = np.zeros(count + 1, bool)
    kept[parts[weak & (strength >= STRONG)]] = True
    found: NDArray[np.bool_] = kept[parts]
    return found


def _largest_along_gradient(
    strength: NDArray[np.float64], down: NDArray[np.float64], right: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Where no strength one step up or down the gradient, interpolated between two neighbours, is larger."""
    padded = np.pad(strength, ((0, 0), (1, 1), (1, 1)))
    height, width = strength.shape[1:]

    def beside(i: int, j: int) -> NDArray[np.float64]:
        return padded[:, 1 + i : 1 + i + height, 1 + j : 1 + j + width]

    steep, falling = np.abs(down) > np.abs(right), down * right >= 0  # the gradient: nearer to a column; from the left
    shorter, longer = np.minimum(np.abs(down), np.abs(right)), np.maximum(np.abs(down), np.abs(right))
    share = shorter / np.where(longer > 0, longer, 1)  # of the diagonal neighbour
    largest = longer > 0
    for step in (-1, 1):
        straight = np.where(steep, beside(step, 0), beside(0, step))
        diagonal = np.where(falling, beside(step, step), np.where(steep, beside(step, -step), beside(-step, step)))
        largest &= diagonal * share + straight * (1 - share) <= strength
    return largest
