"""Biharmonic fill: the hole becomes the smoothest surface through the pixels around it, Δ²u = 0.

The classic method among the trivial completion rows (BASELINES.md); Damelin and Hoang, "On Surface Completion and Image
Inpainting by Biharmonic Functions", 2018; the numbers are scikit-image's (`methods/fills.py`). Nothing was changed for
small images.
Command: `mdebench occlusion --preset all` adds it to every table by itself.
Expected: better than the mean colour, as it carries the colours of the rim into the hole.
"""

from dataclasses import dataclass

from torch import Tensor

from mdebench.methods import fills
from mdebench.methods.contract import Method as BaseMethod


@dataclass(frozen=True)
class Settings:
    """Nothing to set."""


class Method(BaseMethod):
    """Completes by a linear solve; it has no players and no encoder."""

    REFERENCE = True

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] and `seen` (broadcastable) of 1 and 0 → the images with their holes filled."""
        return fills.biharmonic(images, seen)
