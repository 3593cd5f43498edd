"""Recognition: a network that learned to tell people apart, whose features are taken off the shelf for everything else.

Paper: the row "supervised pre-training" of the MDE paper's Table 2: Zhong, Sullivan and Li, "Face Attribute Prediction
Using Off-the-Shelf CNN Features", 2016, who read attributes from a public network for face recognition. Ours is the
suite's own judge, trained as that is: a residual network (timm's resnet10t) ends in a softmax over the people of the
training images, which are shifted, zoomed and mirrored at random. Images of nobody known teach nothing.
Changed for small images: theirs saw hundreds of thousands of aligned faces, ours sees those of the pack.
Representation: the last map averaged, before the softmax layer: 8·width numbers. (``backbone=mde``: an MDE encoder and
its code.)

Command: ``mdebench pretrain recognition``
Expected: by Table 2 13.4 % attribute error. What changes between two pictures of a
person, such as a smile, is learned least.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from mdebench.compute.machine import at_least_float32
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.networks import Encoder
from mdebench.settings import Count, Rate, Share, choose

from ._supervised import mean_of_known, of_identity


@dataclass(frozen=True)
class Settings:
    """The judge's values; ``width`` channels in the first stage (the judge has 32), ``code`` only with backbone=mde.

    ``shift`` and ``zoom`` bound the random changes of an image: shares of its side, in either direction.
    ``identities``: how many outputs there are; the pack decides.
    """

    width: Count = 64
    code: Count = 4000
    lr: Rate = 2e-3
    shift: Share = 0.06
    zoom: Share = 0.1
    identities: Count = 8
    backbone: str = "native"

    def __post_init__(self) -> None:
        choose(self.backbone, BACKBONES, "backbone")


class Residual(nn.Module):
    """The judge's network without its head: images (N, 3, H, W) in [0, 1] → features (N, 8·width)."""

    def __init__(self, size: int, settings: Settings):
        import timm  # slow to import

        super().__init__()
        widths = tuple(settings.width << stage for stage in range(4))
        stem = max(4, settings.width // 2)
        self.network: Any = timm.create_model("resnet10t", num_classes=0, channels=widths, stem_width=stem)
        self.feature_dim = widths[-1]

    def forward(self, images: Tensor) -> Tensor:
        """The last map, averaged over the image."""
        features: Tensor = self.network(2 * images - 1)
        return features

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """The maps of the four stages, (N, C, h, w) each."""
        maps = self.network.forward_intermediates(2 * images - 1, indices=[1, 2, 3, 4], intermediates_only=True)
        return {f"stage{number}": each for number, each in enumerate(maps, start=1)}


class MDEEncoder(Encoder):
    """The MDE's encoder, without what its skips would carry."""

    def __init__(self, size: int, settings: Settings):
        super().__init__(size, settings.width, settings.code)
        self.feature_dim = settings.code

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """The code: (N, feature_dim)."""
        return super().forward(x)[0]


BACKBONES: dict[str, type[Residual] | type[MDEEncoder]] = {"native": Residual, "mde": MDEEncoder}


class Method(BaseMethod):
    """A classifier of people; it cannot complete."""

    FAMILY = "supervised"
    TAKES = ("identity",)
    PAPER = "Zhong et al. 2016"
    losses = "cross-entropy"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.encoder = BACKBONES[settings.backbone](size, settings)
        self.feature_dim = self.encoder.feature_dim
        self.head = nn.Linear(self.feature_dim, settings.identities)

    @classmethod
    def suited(cls, settings: Settings, known: Mapping[str, int]) -> Settings:
        """An output for each of the pack's people; UserError where it tells of none."""
        super().suited(settings, known)
        return replace(settings, identities=known["identity"])

    def players(self) -> dict[str, Player]:
        """Encoder and head."""
        return {"network": Player(list(self.parameters()), self.settings.lr, schedule=rise_and_fall)}

    def loss(self, player: str, batch: Batch) -> Loss:
        """The cross-entropy of who it is, in nats; ``accuracy``: how many of those known are recognised, in %."""
        logits, truth = at_least_float32(self.head(self.encoder(self.moved(batch)))), batch.beside("identity")
        total = of_identity(logits, batch)
        right = 100 * (logits.argmax(dim=1) == truth).to(logits)
        return Loss(total, {"identity": total, "accuracy": mean_of_known(right, truth >= 0, batch)})

    def moved(self, batch: Batch) -> Tensor:
        """Each image shifted, zoomed and, one in two, mirrored; what comes in at a border repeats it."""
        draws = batch.own(torch.rand(batch.count, 4, generator=batch.generator)) * 2 - 1
        scale = 1 + self.settings.zoom * draws[:, 0]
        across, down = (2 * self.settings.shift * draws[:, 2:]).T  # the grid's side is 2
        mirrored, zero = torch.where(draws[:, 1] < 0, -1, 1), torch.zeros_like(scale)
        theta = torch.stack([mirrored * scale, zero, across, zero, scale, down], dim=1).reshape(-1, 2, 3)
        with torch.autocast(batch.images.device.type, enabled=False):  # bf16 has 8 bits for a place
            grid = affine_grid(theta.to(batch.images), list(batch.images.shape), align_corners=False)
            return grid_sample(batch.images, grid, padding_mode="border", align_corners=False)

    def encode(self, images: Tensor) -> Tensor:
        """What the head reads of images as they are: (N, 3, H, W) in [0, 1] → (N, feature_dim)."""
        code: Tensor = self.encoder(images)
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the encoder: (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return self.encoder.maps(images)


def rise_and_fall(progress: float) -> float:
    """The judge's rate: it rises over the first tenth of a run, and falls along a cosine."""
    return min(1.0, progress / 0.1 + 0.01) * (1 + math.cos(math.pi * progress)) / 2
