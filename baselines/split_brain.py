"""Split-brain autoencoder: in Lab, one half of the network predicts colour from lightness, the other lightness from
colour, so that together the two halves' features describe the whole image.

Paper: Zhang, Isola and Efros, "Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel Prediction", 2017.
AlexNet is cut in two halves of half its channels each, which never meet. Padding, batch-norm (without scale and shift)
before each ReLU, optimizer and single-pixel targets are those of the AlexNet that the same authors trained for
colorization, as this paper's own training files are not public. Each half is told a pixel's class, one-hot: one of 100
bins of L, or of the 261 bins of ab in gamut at a grid of 10 (313 in the paper; see ``ab_bins``). The soft encoding and
the rebalancing of classes of the colorization paper serve its pictures, and are left out.
Changed for small images: the stem is 5×5 with stride 2 instead of 11×11 with stride 4, so that 96 pixels end in the
12×12 map that the paper's 180 pixels end in; images are neither mirrored nor cropped, as for every method here.
Representation: per half the conv5 map averaged over a 4×4 grid, and fc7 averaged over the image; 256·16 + 4096 numbers
at full width. (``backbone=mde``: the codes of two MDEs of half the width, which predict at full resolution.)

Command: ``mdebench pretrain split_brain``
Expected: the paper has no numbers for faces; a linear classifier on its frozen features gets 35.4 % of ImageNet right.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.networks import Generator
from mdebench.settings import Count, Rate, Weight, choose

from ._colour import AB_BINS, ab_bin, ab_bins, rgb_to_lab

L_BINS = 100  # of width 1
OUTPUTS = {"classification": (AB_BINS, L_BINS), "regression": (2, 1)}  # numbers that tell ab, and L


@dataclass(frozen=True)
class Settings:
    """``width`` 64 is AlexNet's, ``code`` counts fc6's and fc7's channels; both are shared by the two halves.

    ``objective``: classification, or the paper's alternative, regression. Adam and its values: the authors'
    colorization AlexNet (richzhang/colorization, train_alexnet), whose 450,000 updates took 80 images each.
    ``pool``: side of the grid that conv5 is averaged over in the representation.
    """

    objective: str = "classification"
    width: Count = 64
    code: Count = 4096
    lr: Rate = 3e-5
    weight_decay: Weight = 1e-3
    pool: Count = 4
    backbone: str = "native"

    def __post_init__(self) -> None:
        choose(self.objective, OUTPUTS, "objective")
        choose(self.backbone, BACKBONES, "backbone")
        if self.code < 2 or self.code % 2:
            raise UserError(f"code={self.code}: the two halves share it, so it must be an even number.")
        if self.pool < 1:
            raise UserError(f"pool={self.pool}: the grid needs at least 1 cell a side.")


class Half(nn.Module):
    """Half an AlexNet: (N, channels, H, W) of scaled Lab → (N, outputs, H/8, W/8), rounded up."""

    stride = 8  # between the pixels that neighbouring outputs are centred on

    def __init__(self, size: int, channels: int, outputs: int, settings: Settings):
        super().__init__()
        c1, c2, c3, c4, c5 = (max(4, c * settings.width // 64) for c in (48, 128, 192, 192, 128))
        code = settings.code // 2
        self.stages = nn.ModuleList(
            [
                _layer(channels, c1, 5, stride=2, padding=2),
                nn.Sequential(_shrink(), _layer(c1, c2, 5, padding=2)),
                nn.Sequential(_shrink(), _layer(c2, c3, 3, padding=1)),
                _layer(c3, c4, 3, padding=1),
                _layer(c4, c5, 3, padding=1),
            ]
        )
        # As convolutions; fc6's dilation spans the map with AlexNet's 6×6 weights, and keeps its size.
        fc6, fc7 = _layer(c5, code, 6, padding=5, dilation=2), _layer(code, code, 1)
        self.fc = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), fc6, fc7)
        self.head = nn.Conv2d(code, outputs, 1)
        self.pool = settings.pool
        self.feature_dim = c5 * self.pool**2 + code

    def forward(self, x: Tensor) -> Tensor:
        """The prediction at every eighth pixel."""
        prediction: Tensor = self.head(self.fc(self.maps(x)[-1]))
        return prediction

    def maps(self, x: Tensor) -> list[Tensor]:
        """The maps of conv1 to conv5, H/2 to H/8."""
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def represent(self, x: Tensor) -> Tensor:
        """conv5 over a grid, and fc7 over the image: (N, feature_dim)."""
        conv5 = self.maps(x)[-1]
        return torch.cat([adaptive_avg_pool2d(conv5, self.pool).flatten(1), self.fc(conv5).mean(dim=(2, 3))], dim=1)


class MDEHalf(nn.Module):
    """A Missing Data Encoder in the place of `Half`: (N, channels, size, size) → (N, outputs, size, size)."""

    stride = 1

    def __init__(self, size: int, channels: int, outputs: int, settings: Settings):
        super().__init__()
        width, self.feature_dim = max(4, settings.width // 2), settings.code // 2
        self.mde = Generator(size, width, self.feature_dim, channels=channels, outputs=outputs, last=nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """The prediction at every pixel."""
        prediction: Tensor = self.mde(x)
        return prediction

    def maps(self, x: Tensor) -> list[Tensor]:
        """The map after each stage of the encoder."""
        return list(self.mde.encoder.maps(x).values())

    def represent(self, x: Tensor) -> Tensor:
        """The code: (N, feature_dim)."""
        code: Tensor = self.mde.encoder(x)[0]
        return code


BACKBONES: dict[str, type[Half] | type[MDEHalf]] = {"native": Half, "mde": MDEHalf}


def _layer(channels: int, width: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> nn.Module:
    # The batch-norm takes the mean away, so that a bias before it would do nothing.
    conv = nn.Conv2d(channels, width, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width, affine=False), nn.ReLU(inplace=True))


def _shrink() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, padding=1)


class Method(BaseMethod):
    """Two halves and one player; ``encode`` gives L→ab's features, then ab→L's. It cannot complete."""

    FAMILY = "colour"
    PAPER = "Zhang et al. 2017"
    settings: Settings
    nearest: Tensor

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.losses = settings.objective
        half, (ab, light) = BACKBONES[settings.backbone], OUTPUTS[settings.objective]
        self.to_ab = half(size, 1, ab, settings)
        self.to_light = half(size, 2, light, settings)
        self.feature_dim = self.to_ab.feature_dim + self.to_light.feature_dim
        self.register_buffer("nearest", ab_bins()[1], persistent=False)

    def players(self) -> dict[str, Player]:
        """Both halves as one player: nothing passes between them, so that each moves by its own loss alone."""
        # The authors' decay spares biases; here it reaches the two heads' too, as a player has one set of options.
        options = {"weight_decay": self.settings.weight_decay}
        return {"network": Player(list(self.parameters()), self.settings.lr, options, annealing)}

    def loss(self, player: str, batch: Batch) -> Loss:
        """The sum of how badly L is predicted from ab and ab from L, each a mean over the map's positions.

        The target of a position is the one pixel that it is centred on, as in the authors' colorization.
        """
        lab = rgb_to_lab(batch.images)
        light, ab = split(lab)
        measure = self._classification if self.settings.objective == "classification" else self._regression
        pixels = lab[:, :, :: self.to_ab.stride, :: self.to_ab.stride]
        guesses = at_least_float32(self.to_light(ab)), at_least_float32(self.to_ab(light))
        parts = measure(*guesses, pixels)
        return Loss(parts["L"] + parts["ab"], parts)

    def _classification(self, light: Tensor, ab: Tensor, lab: Tensor) -> dict[str, Tensor]:
        """Cross-entropy in nats, from logits (N, 100, h, w) and (N, 261, h, w), and Lab (N, 3, h, w)."""
        bins = lab[:, 0].long().clamp(max=L_BINS - 1)  # white, L = 100, belongs to the last bin
        return {"L": cross_entropy(light, bins), "ab": cross_entropy(ab, ab_bin(lab[:, 1:], self.nearest))}

    def _regression(self, light: Tensor, ab: Tensor, lab: Tensor) -> dict[str, Tensor]:
        """½ ‖error‖² (the paper's equation 1) of (N, 1, h, w) and (N, 2, h, w), in units of 50 Lab units."""
        true_light, true_ab = split(lab)
        errors = {"L": light - true_light, "ab": ab - true_ab}
        return {name: error.square().sum(dim=1).mean() / 2 for name, error in errors.items()}

    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] → (N, feature_dim), all at least 0: the first half is L→ab's, the second ab→L's."""
        light, ab = split(rgb_to_lab(images))
        return torch.cat([self.to_ab.represent(light), self.to_light.represent(ab)], dim=1)

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) in [0, 1] → conv1 to conv5, (N, C, h, w) each: the maps of L→ab's, then ab→L's channels."""
        light, ab = split(rgb_to_lab(images))
        pairs = zip(self.to_ab.maps(light), self.to_light.maps(ab))
        return {f"stage{number}": torch.cat(pair, dim=1) for number, pair in enumerate(pairs, start=1)}


def split(lab: Tensor) -> tuple[Tensor, Tensor]:
    """Lab (N, 3, H, W) → L (N, 1, H, W) in [−1, 1] and ab (N, 2, H, W) in the same unit, 50."""
    return (lab[:, :1] - 50) / 50, lab[:, 1:] / 50


def annealing(progress: float) -> float:
    """The authors' steps: 3e-5, then 1e-5, 3e-6 and 1e-6 from 240, 300 and 400 of 450 thousand updates on."""
    passed = sum(progress >= step / 450 for step in (240, 300, 400))
    return (1, 1 / 3, 1 / 10, 1 / 30)[passed]
