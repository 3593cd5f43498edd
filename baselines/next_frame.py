"""The next frame: a network that has seen the last frames of a clip draws the one that follows, as sharp as it can.

Paper: Mathieu, Couprie and LeCun, "Deep multi-scale video prediction beyond mean square error", 2016. Four networks, of
an eighth, a quarter, half and all of the image's side, each add to what the one before has drawn. To an ℓp distance
comes the gradient difference loss: neighbouring pixels are to differ as much as those of the true frame. The paper's
third means against blur, an adversary, is not built: what is compared here is what a network learns from the task.
Widths and kernels as a public port of the paper tells them (dyelax/Adversarial_Video_Generation, whose gradients also
compare the image's border with the zeros beyond; here, as in the paper, neighbours are pixels of the image).
Changed: as many networks as leave the coarsest four pixels (the paper's patches have 32, which are four networks); both
losses are means over values and networks, for which Adam serves better than the paper's gradient descent at 0.04; where
a clip has begun less than four frames ago, its first frame stands in for those before; a last frame has no next one and
teaches nothing.
Representation: of a single image, seen four times as of a clip in which nothing moves: the widest map of the finest
network averaged over a grid of 4×4 (8192 numbers at full width); with ``backbone=mde``, that network's code. There are
no ``stages``: the maps of the paper's network do not shrink.

Command: ``mdebench data prepare toyfaces --clips 8``, ``mdebench pretrain next_frame --pack toyfaces-clips64``
Expected: the paper has no numbers for faces, nor for what is learned on the way. Convolutions of up to 512 channels at
the image's own size take long: at tiny, 200 updates of 8 images take 20 seconds of a core, and end at an ℓ1 of 0.14;
the last frame once more would have 0.05.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.networks import Generator
from mdebench.settings import Count, Rate, Weight, choose

from ._clips import frames, mean_where

COARSEST = 4  # pixels a side
GRID = 4  # the representation is averaged over GRID × GRID cells
# Of each network, coarsest first: widths in units of 64 channels, and kernels.
NETWORKS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((2, 4, 2), (3, 3, 3, 3)),
    ((2, 4, 2), (5, 3, 3, 5)),
    ((2, 4, 8, 4, 2), (5, 3, 3, 3, 3, 5)),
    ((2, 4, 8, 4, 2), (7, 5, 5, 5, 5, 7)),
)


@dataclass(frozen=True)
class Settings:
    """``width`` 64, ``seen`` frames, ``power`` p of the distance and the weight of the gradients: the paper's.

    ``backbone``: the paper's four networks ("native") or the Missing Data Encoder's ("mde"), which draws at full size
    alone; ``code`` numbers in the latter's code.
    """

    width: Count = 64
    code: Count = 4000
    seen: Count = 4
    power: Count = 1
    gradient_weight: Weight = 1.0
    lr: Rate = 1e-4
    backbone: str = "native"

    def __post_init__(self) -> None:
        choose(self.backbone, {"native": 0, "mde": 0}, "backbone")
        if self.power not in (1, 2):
            raise UserError(f"power={self.power}: the distance is ℓ1 or ℓ2, so 1 or 2")


class MultiScale(nn.Module):
    """Frames (N, 3·seen, size, size) in [-1, 1] → the next one at each scale, coarsest first: (N, 3, h, h)."""

    def __init__(self, size: int, width: int, seen: int):
        super().__init__()
        count = min(len(NETWORKS), max(1, int(math.log2(size / COARSEST)) + 1))
        self.sides = [size >> scale for scale in reversed(range(count))]
        self.networks = nn.ModuleList(
            _network(3 * seen + 3 * bool(scale), width, *NETWORKS[scale - count]) for scale in range(count)
        )
        self.feature_dim = 8 * width * GRID**2

    def forward(self, x: Tensor) -> list[Tensor]:
        """Draw the next frame."""
        return self._run(x)[0]

    def represent(self, x: Tensor) -> Tensor:
        """The widest map of the finest network over a grid: (N, feature_dim)."""
        return adaptive_avg_pool2d(self._run(x)[1], GRID).flatten(1)

    def _run(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """What is drawn, and the widest map of the finest network."""
        drawn: list[Tensor] = []
        widest = x
        for side, network in zip(self.sides, self.networks):
            assert isinstance(network, nn.Sequential)
            small, before = adaptive_avg_pool2d(x, side), [interpolate(each, (side, side)) for each in drawn[-1:]]
            middle = (len(network) + 1) // 2
            widest = network[:middle](torch.cat([small, *before], dim=1))
            drawn.append(sum(before, network[middle:](widest).tanh()))
        return drawn, widest


class SingleScale(nn.Module):
    """The Missing Data Encoder's network in the place of `MultiScale`: the next frame at full size alone."""

    def __init__(self, size: int, width: int, seen: int, code: int):
        super().__init__()
        self.network, self.feature_dim = Generator(size, width, code, channels=3 * seen, last=nn.Tanh()), code

    def forward(self, x: Tensor) -> list[Tensor]:
        """Draw the next frame."""
        return [self.network(x)]

    def represent(self, x: Tensor) -> Tensor:
        """The code: (N, code)."""
        code: Tensor = self.network.encoder(x)[0]
        return code


def _network(channels: int, width: int, widths: Sequence[int], kernels: Sequence[int]) -> nn.Sequential:
    """(N, channels, h, h) → (N, 3, h, h): convolutions that keep the size, ReLU between them."""
    layers: list[nn.Module] = []
    for wide, kernel in zip(widths, kernels):
        layers += [nn.Conv2d(channels, wide * width, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
        channels = wide * width
    return nn.Sequential(*layers, nn.Conv2d(channels, 3, kernels[-1], padding=kernels[-1] // 2))


def difference_of_gradients(drawn: Tensor, true: Tensor) -> Tensor:
    """How unlike the steps between neighbouring pixels are, each without its sign, on average over both directions and
    all values: (N, 3, H, W) twice → (N,). The paper's GDL with α = 1; 0 of a single pixel.
    """
    found = drawn.new_zeros(len(drawn))
    for axis in (2, 3):
        if drawn.shape[axis] > 1:
            steps = [image.diff(dim=axis).abs() for image in (drawn, true)]
            found = found + (steps[0] - steps[1]).abs().mean(dim=(1, 2, 3))
    return found


class Method(BaseMethod):
    """Draws the next frame; ``encode`` gives the pooled map, or code, of an image that does not move."""

    PAPER = "Mathieu et al. 2016"
    FAMILY = "context"
    TAKES = ("clip",)
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        s = settings
        self.losses = f"l{s.power}" + "+gdl" * (s.gradient_weight > 0)
        self.network: MultiScale | SingleScale = (
            MultiScale(size, s.width, s.seen) if s.backbone == "native" else SingleScale(size, s.width, s.seen, s.code)
        )
        self.feature_dim = self.network.feature_dim

    def players(self) -> dict[str, Player]:
        """All networks as one player, with Adam."""
        return {"network": Player(list(self.parameters()), self.settings.lr)}

    def loss(self, player: str, batch: Batch) -> Loss:
        """Distance and difference of gradients, for colours in [-1, 1], averaged over the networks and over the images
        that a frame follows.
        """
        s = self.settings
        seen, _ = frames(batch, range(1 - s.seen, 1))
        following, follows = frames(batch, [1])
        true = 2 * following[:, 0] - 1
        drawn = [at_least_float32(each) for each in self.network(2 * seen.flatten(1, 2) - 1)]
        targets = [adaptive_avg_pool2d(true, each.shape[-1]) for each in drawn]
        distances = [(a - b).abs().pow(s.power).mean(dim=(1, 2, 3)) for a, b in zip(drawn, targets)]
        gradients = [difference_of_gradients(a, b) for a, b in zip(drawn, targets)]
        parts = {
            name: mean_where(torch.stack(each).mean(dim=0), follows[:, 0], batch)
            for name, each in ((f"l{s.power}", distances), ("gdl", gradients))
        }
        return Loss(parts[f"l{s.power}"] + s.gradient_weight * parts["gdl"], parts)

    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1], each taken for a clip in which nothing moves → (N, feature_dim)."""
        code: Tensor = self.network.represent((2 * images - 1).repeat(1, self.settings.seen, 1, 1))
        return code
