"""A representation that says nothing: the same number for every image.

Not in the papers, and missed there: read out by the converged probe it is the majority value of each attribute and the
mean shape of the landmarks, so whatever does no better, under whatever readout, has learned nothing (PAPER.md,
Transfer). Under the paper's head it is neither, but how far a head comes in so many updates. Nothing to change for
small images.
Command: `mdebench transfer attributes` adds it to every table by itself.
Expected: by the probe about 20 % attribute error, 50 % balanced accuracy and 2.2 px on CelebA; by a head of 5,000
updates larger errors than that.
"""

from dataclasses import dataclass

from torch import Tensor

from mdebench.methods.contract import Method as BaseMethod


@dataclass(frozen=True)
class Settings:
    """Nothing to set."""


class Method(BaseMethod):
    """Encodes every image as the number 1; it has no players, and it cannot complete."""

    REFERENCE = True
    feature_dim = 1

    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, 1) of ones."""
        return images.new_ones(len(images), 1)
