"""What `simclr`, `byol` and `dino` share beside their views: an encoder with a head that is thrown away after training,
a slower copy that follows it, and the optimizer.

The papers train ResNets and ViTs; here all three train the Missing Data Encoder's encoder, so that objectives are
compared and not networks, or a network of timm. LARS, the optimizer of SimCLR and BYOL, is for batches of thousands;
the suite's have 24 images, and DINO's own, AdamW with warm-up and half a cosine, serves all three.

These methods want long runs: an average of momentum 0.996 goes back over 250 updates, and on drawn faces, after 100 to
200 updates at scale tiny, attributes are read from their codes less well than from those of random weights. Colours and
places, which such codes still have, are what views are made to lose.
"""

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.networks import Encoder
from mdebench.methods.timm_networks import check_name, refusal, sized
from mdebench.settings import Count, Rate, Share, Weight

from ._patches import MatrixDecay, centred, warm_up_cosine


@dataclass(frozen=True)
class SiameseSettings:
    """``width`` 64 gives the papers' heads and the MDE's own encoder, whose code has ``code`` numbers.

    ``encoder``: mde, or timm:NAME, a network of random weights built for the size of the images. ``lr`` is the learning
    rate itself, whatever the batch, chosen here as the optimizer is; it rises over the first ``warm_up`` of the run (10
    of 100 epochs in the papers).
    """

    width: Count = 64
    code: Count = 4000
    encoder: str = "mde"
    lr: Rate = 1e-3
    weight_decay: Weight = 1e-6
    warm_up: Share = 0.1


@dataclass(frozen=True)
class FollowingSettings(SiameseSettings):
    """``momentum``: that of the moving average at the beginning of a run; it rises to 1, as half a cosine."""

    momentum: Share = 0.996


class MDEBackbone(nn.Module):
    """The Missing Data Encoder's encoder: (N, 3, side, side) in [0, 1] → its code (N, code)."""

    def __init__(self, size: int, width: int, code: int):
        super().__init__()
        self.encoder, self.feature_dim = Encoder(size, width, code), code

    def forward(self, images: Tensor) -> Tensor:
        """The code; small crops end in a smaller map, which is enlarged to what the fully connected layer takes."""
        found, _ = self.encoder.trunk(images)
        code: Tensor = self.encoder.to_code(adaptive_avg_pool2d(found, self.encoder.map_shape[1:]).flatten(1))
        return code

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage."""
        return self.encoder.maps(images)


class TimmBackbone(nn.Module):
    """A network of timm without its classifying layer: (N, 3, side, side) in [0, 1] → its pooled features.

    Built for images of ``size`` pixels, and for crops of ``small``; UserError where it takes either not.
    """

    def __init__(self, name: str, size: int, small: int):
        super().__init__()
        import timm  # slow to import

        check_name(name)
        told, known = sized(name, size), timm.get_pretrained_cfg(name)
        if small != size and known is not None and known.fixed_input_size:
            told["dynamic_img_size"] = True  # position embeddings are brought to the crop's size
        try:
            network: Any = timm.create_model(name, num_classes=0, **told)
        except TypeError as error:
            raise UserError(f"timm's {name} takes images of one size only, not small crops too") from error
        if not hasattr(network, "forward_intermediates"):
            raise UserError(f"timm's {name} does not show its maps, so it cannot be an encoder here")
        for side in (size, small):
            if why := refusal(network, side):
                raise UserError(f"timm's {name} takes no images of {side}×{side} pixels: {why}")
        depth: int = len(network.feature_info)
        quarters = sorted({math.ceil(depth * quarter / 4) - 1 for quarter in (1, 2, 3, 4)})
        self.places = list(range(depth)) if depth <= 5 else quarters  # a transformer has a map for every block
        self.network = network
        self.eval()
        with torch.no_grad():
            self.feature_dim = self(torch.zeros(1, 3, size, size)).shape[1]
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """The pooled features, (N, feature_dim)."""
        features: Tensor = self.network(centred(images))
        return features

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """The network's maps, or those after a quarter, half, three quarters and all of its blocks."""
        maps = self.network.forward_intermediates(centred(images), indices=self.places, intermediates_only=True)
        return {f"stage{number}": each for number, each in enumerate(maps, start=1)}


def build_backbone(settings: SiameseSettings, size: int, small: int) -> MDEBackbone | TimmBackbone:
    """The encoder that the settings name, for images of ``size`` pixels and crops of ``small``, or a UserError."""
    if settings.encoder == "mde":
        return MDEBackbone(size, settings.width, settings.code)
    family, _, name = settings.encoder.partition(":")
    if family != "timm" or not name:
        raise UserError(f"encoder={settings.encoder}: there is mde and timm:NAME, such as timm:resnet18")
    return TimmBackbone(name, size, small)


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, batch-norm, ReLU, linear: (N, inputs) → (N, outputs). Without biases: what follows takes a mean away."""
    first, last = nn.Linear(inputs, hidden, bias=False), nn.Linear(hidden, outputs, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), last)


class Headed(nn.Module):
    """An encoder and a head on its code: (N, 3, side, side) in [0, 1] → (N, outputs), in float32 or float64."""

    def __init__(self, backbone: MDEBackbone | TimmBackbone, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        """What the head says of the code."""
        return at_least_float32(self.head(self.backbone(images)))


def everyone(batch: Batch, x: Tensor) -> Tensor:
    """What each process has for its part of the batch, (N, …) → for the whole batch, (count, …), with its gradients."""
    lines = [x if part == batch.part else torch.zeros_like(x) for part in range(batch.parts)]
    return (batch.parts * batch.mean(torch.stack(lines))).flatten(0, 1)


class SiameseMethod(BaseMethod):
    """An encoder learns that views of one image belong together; subclasses say how. It cannot complete."""

    FAMILY = "contrast"
    settings: SiameseSettings

    def __init__(self, settings: SiameseSettings, size: int, small: int | None = None):
        """``small``: the side of the smallest views in pixels, the image's own where there are no others."""
        super().__init__(settings, size)
        backbone = build_backbone(settings, size, small or size)
        self.feature_dim = backbone.feature_dim
        self.online = Headed(backbone, self.head())

    def head(self) -> nn.Module:
        """What stands on the code while it is trained."""
        raise AssertionError(f"{type(self).__module__} has no head")

    def moved(self) -> list[nn.Parameter]:
        """What gradients move."""
        return list(self.online.parameters())

    def players(self) -> dict[str, Player]:
        """One player, with AdamW, warm-up and cosine."""
        s = self.settings
        options = {"betas": (0.9, 0.999), "weight_decay": s.weight_decay}
        return {"network": Player(self.moved(), s.lr, options, warm_up_cosine(s.warm_up), MatrixDecay)}

    def measured(self) -> MDEBackbone | TimmBackbone:
        """The encoder that is kept."""
        return self.online.backbone

    def encode(self, images: Tensor) -> Tensor:
        """Whole images (N, 3, H, W) in [0, 1] → (N, feature_dim), what stands before the head."""
        code: Tensor = self.measured()(images)
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The encoder's maps, whole images (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return self.measured().maps(images)


class Following(SiameseMethod):
    """With a target: a copy of the network whose weights follow it by a moving average, and whose gradient is none.

    What the target sees is normalised by itself, and its batch-norm has statistics of its own.
    """

    settings: FollowingSettings

    def __init__(self, settings: FollowingSettings, size: int, small: int | None = None):
        super().__init__(settings, size, small)
        self.target = deepcopy(self.online)

    @torch.no_grad()
    def follow(self, batch: Batch) -> None:
        """θ' ← m θ' + (1 − m) θ after the last update, which is done at the beginning of the next.

        The target that is left at the end of a run is one update behind; by then m is 1, or nearly.
        """
        if batch.step:
            rest = (1 - self.settings.momentum) * (1 + math.cos(math.pi * (batch.step - 1) / batch.updates)) / 2
            for slow, fast in zip(self.target.parameters(), self.online.parameters()):
                slow.lerp_(fast, rest)
