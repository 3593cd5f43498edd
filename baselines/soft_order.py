"""Soft order: all attributes, supervised, through an encoder and shared layers that every task mixes in its own way at
every depth.

Paper: Meyerson and Miikkulainen, "Beyond Shared Hierarchies: Deep Multitask Learning through Soft Layer Ordering",
2018, equation (7): y_ik = Σ_j s_ijk φ(W_j y_i,k−1 + b_j) for task i at depth k, with as many depths as layers j, φ the
ReLU; the s sum to one over j (a softmax of what is learned), and are equal to begin with. `identity=true` is its
"+ identity". Four layers of 256 units are its CelebA network as we remember it: its authors published no code. Loss and
start are those of `_supervised.py`, as for all supervised rows.
Changed for small images: the MDE's encoder in the place of a ResNet-50 (`encoder=timm:resnet50` is that, untrained).
Representation: the encoder's code, before the projection, as in all supervised rows with one encoder: above it every
task has numbers of its own.

Command: ``mdebench pretrain soft_order --set identity=true`` (``--set landmarks=true``).
Expected: by the MDE paper's Table 2 8.64 % attribute error with identity, where parallel order has 10.21 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ._supervised import Ordered, OrderSettings


@dataclass(frozen=True)
class Settings(OrderSettings):
    """See `OrderSettings`."""


class Method(Ordered):
    """``scales`` (tasks, depths, layers) hold the logarithms of the mixtures, up to a constant."""

    PAPER = "Meyerson & Miikkulainen 2018"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.scales = nn.Parameter(torch.zeros(self.tasks, settings.depth, settings.depth))

    def streams(self, images: Tensor) -> Sequence[Tensor]:
        """What is left for each task at the last depth."""
        shares = self.scales.softmax(dim=2)
        x = self.project(self.encode(images)).expand(self.tasks, -1, -1)
        for depth in range(self.settings.depth):
            through = torch.stack([layer(x).relu() for layer in self.layers])
            x = torch.einsum("ij,jinu->inu", shares[:, depth].to(through), through)
        return list(x)
