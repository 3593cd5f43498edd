"""Mean colour: the hole is filled with the mean of the seen pixels of the same image, channel by channel.

The trivial row of every completion table (BASELINES.md). Context encoders start from the *dataset's* mean colour; this
row has no training data at hand and takes the image's own, which is the stronger of the two (`methods/fills.py`).
Nothing was changed for small images.
Command: `mdebench occlusion --preset all` adds it to every table by itself.
Expected: a composite about as good as its hole is uniform; far below any trained network inside the hole.
"""

from dataclasses import dataclass

from torch import Tensor

from mdebench.methods import fills
from mdebench.methods.contract import Method as BaseMethod


@dataclass(frozen=True)
class Settings:
    """Nothing to set."""


class Method(BaseMethod):
    """Completes with a flat colour; it has no players and no encoder."""

    REFERENCE = True

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] and `seen` (broadcastable) of 1 and 0 → the images with their holes filled."""
        return fills.mean_colour(images, seen)
