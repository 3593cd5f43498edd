"""Parallel order: all attributes, supervised, through an encoder and shared layers that stand in the same order for
every task.

Paper: the baseline of Meyerson and Miikkulainen, "Beyond Shared Hierarchies: Deep Multitask Learning through Soft Layer
Ordering", 2018: a projection of what the encoder gives, then dense layers with ReLU, then a linear head for each task.
`landmarks=true` is its "+ landmarks". Four layers of 256 units are its CelebA network as we remember it: its authors
published no code. Loss and start are those of `_supervised.py`, as for all supervised rows.
Changed for small images: the MDE's encoder in the place of a ResNet-50 (`encoder=timm:resnet50` is that, untrained).
Representation: the encoder's code, before the projection, as in all supervised rows with one encoder.

Command: ``mdebench pretrain parallel_order`` (``--set landmarks=true``, ``--set identity=true``).
Expected: by the MDE paper's Table 2 10.21 % attribute error, with landmarks 10.29 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ._supervised import Ordered, OrderSettings


@dataclass(frozen=True)
class Settings(OrderSettings):
    """See `OrderSettings`."""


class Method(Ordered):
    """One layer after the other, the same for all tasks."""

    PAPER = "Meyerson & Miikkulainen 2018"
    settings: Settings

    def streams(self, images: Tensor) -> Sequence[Tensor]:
        """What the last layer gives, for every task."""
        x = self.project(self.encode(images))
        for layer in self.layers:
            x = layer(x).relu()
        return [x] * self.tasks
