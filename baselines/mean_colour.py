"""Mean colour: the hole is filled with the mean of the seen pixels of the same image, channel by channel.

The trivial row of every completion table (BASELINES.md). Context encoders start from the *dataset's* mean colour; this
row has no training data at hand and takes the image's own, which is the stronger of the two. A channel of which nothing
is seen gets the mean of all the image's seen values, and an image of which nothing is seen gets 0.5. Nothing was
changed for small images.
Command: `mdebench occlusion --preset all` adds it to every table by itself.
Expected: a composite about as good as its hole is uniform; far below any trained network inside the hole.
"""

from dataclasses import dataclass

from torch import Tensor

from mdebench.methods.contract import Method as BaseMethod


@dataclass(frozen=True)
class Settings:
    """Nothing to set."""


class Method(BaseMethod):
    """Completes with a flat colour; it has no players and no encoder."""

    REFERENCE = True

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] and `seen` (broadcastable) of 1 and 0 → the images with their holes filled."""
        seen = seen.expand_as(images)
        return seen * images + (1 - seen) * mean_colour(images, seen)


def mean_colour(images: Tensor, seen: Tensor) -> Tensor:
    """(N, 3, 1, 1): the mean of each channel's seen pixels; for images and `seen` (N, 3, H, W)."""

    def mean(dims: tuple[int, ...], otherwise: Tensor) -> Tensor:
        count = seen.sum(dims, keepdim=True)
        total = (seen * images).sum(dims, keepdim=True)
        return (total / count.clamp(min=1)).where(count > 0, otherwise)

    return mean((2, 3), otherwise=mean((1, 2, 3), otherwise=images.new_tensor(0.5)))
