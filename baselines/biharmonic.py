"""Biharmonic fill: the hole becomes the smoothest surface through the pixels around it, Δ²u = 0.

The classic method among the trivial completion rows (BASELINES.md); Damelin and Hoang, "On Surface Completion and Image
Inpainting by Biharmonic Functions", 2018. The same numbers as scikit-image's `inpaint_biharmonic`: the Laplacian is
mirrored at the image's edges, and the fill is clipped to the range of the channel's seen values. It is linear in the
seen pixels, so a mask is factorised once and serves all images that share it. A channel of which nothing is seen gets
the mean of the image's seen values (0.5 without any). Nothing was changed for small images.
Command: `mdebench occlusion --preset all` adds it to every table by itself.
Expected: better than the mean colour, as it carries the colours of the rim into the hole.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from mdebench.methods.contract import Method as BaseMethod

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """Nothing to set."""


class Method(BaseMethod):
    """Completes by a linear solve; it has no players and no encoder."""

    REFERENCE = True

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] and `seen` (broadcastable) of 1 and 0 → the images with their holes filled."""
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
                planes[same] = fill(planes[same], mask)
        return torch.from_numpy(planes).to(images).reshape(images.shape)


def fill(planes: Array, seen: npt.NDArray[np.bool_]) -> Array:
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
