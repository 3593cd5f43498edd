"""Single-task baseline: for every attribute, supervised, a network of its own, which learns nothing else.

Paper: the baseline of He, Wang, Fu, Feng, Jiang and Xue, "Adaptively Weighted Multi-task Deep Network for Person
Attribute Classification", 2017, as the MDE paper's Table 2 cites it. Loss and start are those of `_supervised.py`, as
for all supervised rows.
Changed for small images: the MDE's encoder in the place of a ResNet-50. Forty whole networks would cost as much as
forty rows; by default all of them together take about the operations of one, and no more weights: each is √40 times
narrower, and they share the code's numbers. `task_width=64` makes each as wide as that of another row; a network of
timm (`encoder=timm:NAME`) is as wide as it is.
Representation: the networks' codes side by side, attribute after attribute; what the division leaves is not used.

Command: ``mdebench pretrain single_task``
Expected: by Table 2 10.37 % attribute error, where one network for all attributes has 9.58 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mdebench.methods.networks import build_encoder
from mdebench.settings import Count, Rate

from ._supervised import Supervised, TaskSettings


@dataclass(frozen=True)
class Settings(TaskSettings):
    """``width`` and ``code`` are those of all networks together; ``task_width`` of each, None: width / √attributes.

    ``lr`` is higher than where a wide network serves all attributes: narrow ones bear and need it.
    """

    lr: Rate = 5e-3
    task_width: Count | None = None


class Method(Supervised):
    """A network for each attribute: nothing passes between them, so that one optimizer moves each by its own loss."""

    PAPER = "He et al. 2017"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        width = settings.task_width or max(1, round(settings.width / math.sqrt(settings.attributes)))
        code = max(1, settings.code // settings.attributes)
        self.feature_dim = settings.attributes * code
        networks = [build_encoder(settings.encoder, size, width, code, 3) for _ in range(settings.attributes)]
        self.encoders: Any = nn.ModuleList(networks)
        self.heads = self.heads_for(code)

    def streams(self, images: Tensor) -> Sequence[Tensor]:
        """The code of each attribute's network: (N, code / attributes) each."""
        return [encoder(images)[0] for encoder in self.encoders]

    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] → (N, feature_dim), at least 0."""
        return torch.cat(list(self.streams(images)), dim=1)

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The maps of all networks after each stage, channels side by side: (N, C, h, w) each."""
        maps = [encoder.maps(images) for encoder in self.encoders]
        return {name: torch.cat([each[name] for each in maps], dim=1) for name in maps[0]}
