"""Fills: holes filled without any network, by the mean colour or the smoothest surface. Images in [0, 1], 1 is seen.

What lies in a hole is never looked at. A channel of which nothing is seen gets the mean of all the image's seen values,
and an image of which nothing is seen gets 0.5.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

Array = npt.NDArray[np.float64]


def mean_colour(images: Tensor, seen: Tensor) -> Tensor:
    """Images (N, 3, H, W) and `seen` (broadcastable) of 1 and 0 → the images, each channel's hole its seen mean."""
    seen = seen.expand_as(images)

    def mean(dims: tuple[int, ...], otherwise: Tensor) -> Tensor:
        count = seen.sum(dims, keepdim=True)
        total = (seen * images).sum(dims, keepdim=True)
        return (total / count.clamp(min=1)).where(count > 0, otherwise)

    colour = mean((2, 3), otherwise=mean((1, 2, 3), otherwise=images.new_tensor(0.5)))
    return seen * images + (1 - seen) * colour


def biharmonic(images: Tensor, seen: Tensor) -> Tensor:
    """Images (N, 3, H, W) and `seen` (broadcastable) of 1 and 0 → the images, Δ²u = 0 in every hole.

    The numbers of scikit-image's `inpaint_biharmonic` (Damelin and Hoang 2018): the Laplacian is mirrored at the
    image's edges, and the fill is clipped to the range of the channel's seen values. It is linear in the seen pixels,
    so a mask is factorised once and serves all images that share it.
    """
    seen = seen.expand_as(images) > 0
    count = seen.sum((1, 2, 3), keepdim=True)
    mean = torch.where(count > 0, (seen * images).sum((1, 2, 3), keepdim=True) / count, 0.5)
    planes = torch.where(seen, images, mean).flatten(0, 1).double().cpu().numpy()
    masks = seen.flatten(0, 1).cpu().numpy()
    sharing = defaultdict(list)  # mask → the planes that have it
    for plane, mask in enumerate(masks):
        sharing[mask.tobytes()].append(plane)
    for same in sharing.values():
        mask = masks[same[0]]
        if mask.any() and not mask.all():
            planes[same] = _smooth(planes[same], mask)
    return torch.from_numpy(planes).to(images).reshape(images.shape)


def _smooth(planes: Array, seen: npt.NDArray[np.bool_]) -> Array:
    """Planes (n, H, W) with the pixels outside `seen` (H, W) replaced; some pixels are seen, some are not."""
    known = planes[:, seen]
    values = _solver(seen.tobytes(), seen.shape)(known.T).T
    filled = planes.copy()
    filled[:, ~seen] = np.clip(values, known.min(axis=1, keepdims=True), known.max(axis=1, keepdims=True))
    return filled


@lru_cache(maxsize=16)
def _solver(seen_bytes: bytes, shape: tuple[int, int]) -> Callable[[Array], Array]:
    """Seen values (k, n) → missing values (m, n) with zero bi-Laplacian at every missing pixel."""
    seen = np.frombuffer(seen_bytes, dtype=bool)
    height, width = shape
    laplacian = sparse.kron(_laplacian(height), sparse.eye(width)) + sparse.kron(sparse.eye(height), _laplacian(width))
    rows = (laplacian @ laplacian).tocsr()[~seen]
    inside, rim = rows[:, ~seen].tocsc(), rows[:, seen]
    factors = splu(inside)
    return lambda known: factors.solve(-(rim @ known))


def _laplacian(size: int) -> sparse.csr_matrix:
    """(size, size): second differences along a line, mirrored at its ends."""
    differences = sparse.eye(size - 1, size, k=1) - sparse.eye(size - 1, size)
    return -(differences.T @ differences).tocsr()
