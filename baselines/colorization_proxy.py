"""Colorization as a proxy task: from a grey image, hypercolumns (all that a network's maps hold at a pixel) at sampled
positions tell the histograms of hue and of chroma around each of them.

Paper: Larsson, Maire and Shakhnarovich, "Colorization as a Proxy Task for Visual Understanding", 2017, which trains the
colorizer of their "Learning Representations for Automatic Colorization", 2016, for its features. We had the authors'
training files (gustavla/autocolorize, the VGG-16 of 2016; gustavla/self-supervision, 2017), not the text of 2017. From
the former are: grey as the mean of red, green and blue; VGG-16 with batch-norm, its fc layers as convolutions; 128
positions an image; a hidden layer of 1024; 32 bins of hue and 32 of chroma (HSV's, max − min) counted in windows of
7×7 pixels; the Kullback-Leibler divergence from these, of hue times five times the pixel's chroma, as grey has no hue,
and of chroma times min(1, 3L, 3(1 − L)), as black and white can have none; SGD whose rate falls tenfold after 1/2, 3/4
and 7/8 of the run. (A variant in the files of 2017 has 8 bins, and no weights.)
Changed for small images: as many of VGG's five stages as end in a map of 3×3 or 4×4, on which fc6 is 3×3 instead of
7×7; positions are everywhere, as a border of an eleventh and more would be the hair and the chin. No dropout, which
runs of a few thousand updates do not need. Maps are read where a pixel's centre lies in them: the authors' extractor
divides its place by the map's stride, and so is off by half of that. Batch-norm has no scale and shift, as in theirs.
Representation: as for ``split_brain``, the last map, of 3×3 or 4×4, and fc7 averaged over the image: 8·``width``·9 or
16, and ``code`` numbers. (``backbone=mde``: the code of the MDE's encoder, whose hypercolumns have its maps and code.)

Command: ``mdebench pretrain colorization_proxy``
Expected: no numbers for faces; VGG-16 pretrained so reaches 77.2 % mAP on VOC 2007 classification when fine-tuned.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, grid_sample, one_hot, relu

from mdebench.compute.machine import at_least_float32
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.networks import CONVOLUTIONS, WIDENING, Encoder, stages_for
from mdebench.settings import Count, Rate, Share, Weight, choose

BINS = 32  # of hue, and of chroma
WINDOW = 7  # pixels a side, in which they are counted
HIDDEN = 16  # times the width: 1024 in the original
MEAN = 0.4488  # of grey, which the network's input lacks


@dataclass(frozen=True)
class Settings:
    """The authors' values (train_vgg16.prototxt, solver_vgg16.prototxt), but for ``lr``.

    ``width`` 64 is VGG-16's, ``code`` counts fc6's and fc7's channels (4096 in the original), ``positions`` those of an
    image at which colours are predicted, ``hue_weight`` is the weight of hue beside chroma. ``lr``: theirs is 1e-3, for
    two million updates; runs of thousands need more.
    """

    width: Count = 64
    code: Count = 4096
    positions: Count = 128
    hue_weight: Weight = 5.0
    lr: Rate = 1e-2
    momentum: Share = 0.9
    weight_decay: Weight = 5e-4
    backbone: str = "native"

    def __post_init__(self) -> None:
        choose(self.backbone, BACKBONES, "backbone")


class VGG(nn.Module):
    """VGG-16 of a grey image, cut to the size: every convolution's map belongs to the hypercolumn."""

    def __init__(self, size: int, settings: Settings):
        super().__init__()
        self.stages = nn.ModuleList()
        channels, self.channels = 1, 1
        for count, widening in zip(CONVOLUTIONS[: stages_for(size)], WIDENING):
            layers = nn.ModuleList()
            for _ in range(count):
                layers.append(_layer(channels, settings.width * widening, 3))
                channels = settings.width * widening
                self.channels += channels
            self.stages.append(layers)
        self.fc6, self.fc7 = _layer(channels, settings.code, 3), _layer(settings.code, settings.code, 1)
        self.channels += 2 * settings.code
        self.feature_dim = channels * (size >> len(self.stages)) ** 2 + settings.code
        self.shrink = nn.MaxPool2d(2)

    def forward(self, grey: Tensor) -> list[Tensor]:
        """Grey images (N, 1, H, W) → the maps that hypercolumns go through, (N, C, h, w) each."""
        return [grey, *self._maps(grey)[0]]

    def _maps(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """What every layer gives, and the map after each stage, then fc7's."""
        every, shrunk = [], []
        for stage in self.stages:
            for layer in cast(nn.ModuleList, stage):
                x = layer(x)
                every.append(x)
            x = self.shrink(x)
            shrunk.append(x)
        every.append(self.fc6(x))
        every.append(self.fc7(every[-1]))
        return every, [*shrunk, every[-1]]

    def stages_of(self, grey: Tensor) -> list[Tensor]:
        """The map after each stage, then fc7's."""
        return self._maps(grey)[1]

    def represent(self, grey: Tensor) -> Tensor:
        """The last map and fc7 averaged over the image: (N, feature_dim)."""
        *_, last, fc7 = self._maps(grey)[1]
        return torch.cat([last.flatten(1), fc7.mean(dim=(2, 3))], dim=1)


class MDE(nn.Module):
    """The Missing Data Encoder's encoder of a grey image in the place of `VGG`."""

    def __init__(self, size: int, settings: Settings):
        super().__init__()
        self.encoder, self.feature_dim = Encoder(size, settings.width, settings.code, channels=1), settings.code
        self.channels = 1 + sum(self.encoder.skip_channels) + settings.code

    def forward(self, grey: Tensor) -> list[Tensor]:
        """The image, the last map of each stage before its stride, and the code, which is the same everywhere."""
        code, maps = self.encoder(grey)
        return [grey, *maps, code[..., None, None]]

    def stages_of(self, grey: Tensor) -> list[Tensor]:
        """The map after each stage."""
        return list(self.encoder.maps(grey).values())

    def represent(self, grey: Tensor) -> Tensor:
        """The code: (N, feature_dim)."""
        code: Tensor = self.encoder(grey)[0]
        return code


BACKBONES: dict[str, type[VGG] | type[MDE]] = {"native": VGG, "mde": MDE}


def _layer(channels: int, width: int, kernel: int) -> nn.Module:
    # The batch-norm takes the mean away, so that a bias before it would do nothing.
    conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width, affine=False), nn.ReLU(inplace=True))


class Method(BaseMethod):
    """A network of grey images, and a head that tells colours from its hypercolumns. It cannot complete."""

    FAMILY = "colour"
    PAPER = "Larsson et al. 2017"
    settings: Settings
    losses = "histograms"

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.network = BACKBONES[settings.backbone](size, settings)
        self.hidden = nn.Linear(self.network.channels, HIDDEN * settings.width)
        self.to_bins = nn.Linear(HIDDEN * settings.width, 2 * BINS)
        self.feature_dim = self.network.feature_dim

    def players(self) -> dict[str, Player]:
        """Network and head as one player, with SGD."""
        options = {"momentum": self.settings.momentum, "weight_decay": self.settings.weight_decay}
        return {"network": Player(list(self.parameters()), self.settings.lr, options, annealing, torch.optim.SGD)}

    def loss(self, player: str, batch: Batch) -> Loss:
        """How far the predicted histograms of hue and chroma are from those around the sampled pixels.

        Each is a mean over positions of the divergence in nats times the weight of the pixel itself.
        """
        s, images = self.settings, batch.images
        drawn = torch.randint(self.size, (batch.count, s.positions, 2), generator=batch.generator)
        places = batch.own(drawn)  # (N, P, 2): row and column
        hue, chroma = hue_chroma(images)
        logits = at_least_float32(self.to_bins(relu(self.hidden(self.columns(images, places)))))
        at_hue, at_chroma = torch.split(logits, BINS, dim=2)
        lightness = pick(grey(images), places)[..., 0]
        weights = {
            "hue": pick(chroma[:, None], places)[..., 0],
            "chroma": (3 * torch.minimum(lightness, 1 - lightness)).clamp(0, 1),
        }
        distances = {
            "hue": divergence(pick(histograms(hue), places), at_hue),
            "chroma": divergence(pick(histograms(chroma), places), at_chroma),
        }
        parts = {name: (weights[name] * distances[name]).mean() for name in weights}
        return Loss(s.hue_weight * parts["hue"] + parts["chroma"], parts)

    def columns(self, images: Tensor, places: Tensor) -> Tensor:
        """Hypercolumns: images (N, 3, H, W), places (N, P, 2) → (N, P, channels), read bilinearly in each map."""
        centres = (2 * places.flip(2) + 1).to(torch.float32) / self.size - 1  # x and y, where ±1 are the image's edges
        read = []
        for each in self.network(self.seen(images)):
            each = at_least_float32(each)
            at = grid_sample(each, centres[:, :, None].to(each), padding_mode="border", align_corners=False)
            read.append(at[..., 0])
        return torch.cat(read, dim=1).mT

    def seen(self, images: Tensor) -> Tensor:
        """What the network sees of images (N, 3, H, W): (N, 1, H, W)."""
        return grey(images) - MEAN

    def encode(self, images: Tensor) -> Tensor:
        """Whole images (N, 3, H, W) in [0, 1], of which it sees grey → (N, feature_dim), all at least 0."""
        return self.network.represent(self.seen(images))

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage, and fc7's (natively), whole images (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return {f"stage{n}": each for n, each in enumerate(self.network.stages_of(self.seen(images)), start=1)}


def grey(images: Tensor) -> Tensor:
    """The mean of red, green and blue: (N, 3, H, W) → (N, 1, H, W)."""
    return images.mean(dim=1, keepdim=True)


def hue_chroma(images: Tensor) -> tuple[Tensor, Tensor]:
    """RGB (N, 3, H, W) in [0, 1] → HSV's hue in [0, 1), 0 of grey, and chroma, max − min, in [0, 1]: (N, H, W) each."""
    red, green, blue = images.unbind(1)
    most, least = images.amax(dim=1), images.amin(dim=1)
    chroma = most - least
    span = chroma.clamp(min=torch.finfo(chroma.dtype).tiny)
    sixths = torch.where(
        most == red,
        (green - blue) / span,
        torch.where(most == green, 2 + (blue - red) / span, 4 + (red - green) / span),
    )
    return (sixths / 6).remainder(1), chroma


def histograms(values: Tensor) -> Tensor:
    """Values (N, H, W) in [0, 1] → the shares of 32 equal bins in the window around each pixel, (N, 32, H, W).

    A window ends where the image does; 1 is of the last bin.
    """
    bins = one_hot((values * BINS).long().clamp(max=BINS - 1), BINS).movedim(3, 1).to(values.dtype)
    return avg_pool2d(bins, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)


def pick(maps: Tensor, places: Tensor) -> Tensor:
    """Maps (N, C, H, W) at places (N, P, 2) of row and column → (N, P, C)."""
    row, column = places.unbind(2)
    return maps.permute(0, 2, 3, 1)[torch.arange(len(maps), device=maps.device)[:, None], row, column]


def divergence(target: Tensor, logits: Tensor) -> Tensor:
    """Kullback-Leibler divergence, in nats, of softmax(logits) from the target, both (N, P, C): (N, P), at least 0."""
    return (torch.xlogy(target, target) - target * logits.log_softmax(dim=2)).sum(dim=2)


def annealing(progress: float) -> float:
    """The authors' steps: a tenth each from 1,000, 1,500 and 1,750 of 2,000 thousand updates on."""
    passed: float = 0.1 ** sum(progress >= share for share in (1 / 2, 3 / 4, 7 / 8))
    return passed
