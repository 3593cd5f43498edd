"""Jigsaw: nine tiles of an image, in one of a thousand orders; which?

Paper: Noroozi and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", 2016. An image
is divided in 3×3 cells; of each cell a tile is taken at a random place; a network codes the tiles one at a time, and
layers that see the nine codes side by side name the order. Against ways to tell without looking: tiles are no
neighbours (they have 3/4 of a cell's side), each is normalised by itself, its channels are moved against each other by
a pixel, and 30 % of the images are grey.
The orders: any two of them differ in as many places as can be. The paper searches greedily for the largest mean
distance, which comes to 8.00 of 9 places, what orders drawn at random have as well, and leaves some that differ in 2.
These here are the ways in which x → (a·x + b) / (c·x + d) moves the nine points of the projective line over the field
of eight elements. One that keeps three points keeps all nine, so that two agree in 2 places at most; squaring the
field's elements first makes three orders of each, and two of all these agree in 3. So any two orders differ in at least
7 places up to 504 of them, and in at least 6 up to 1,512, at a mean distance of 8.0.
Changed for small images: tiles of a quarter of the side (24 pixels at 96; 64 of 255 in the paper), channels moved by
up to 1 pixel (2 of 64). The network: `_tiles`. Chosen here: batch-norm in the place of dropout, as the paper's AlexNet
did no better than a guess after hundreds of updates, and Adam; the authors' descent took 350,000 of 256 images.
Representation: the image, normalised as a tile is, through the same weights: conv5 averaged over a 4×4 grid, and fc6
(``code`` / 4 numbers) over the image.
Command: ``mdebench pretrain jigsaw`` (``--set permutations=100``, which is learned sooner; ``backbone=mde``).
Expected: the paper has no numbers for faces; it solves 71 % of ImageNet's puzzles of 1000 orders (88 % of 100), and its
features reach 53.2 % mAP in detection on VOC 2007 (52.6 %).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.settings import Count, Rate, Share, choose

from ._tiles import BACKBONES, PLACES, TileNetwork, cut, normalise, normed, side_of

MOST = 1512  # orders that differ from one another in at least 6 of 9 places
SHIFT = 1  # pixels by which a tile's channels may be apart


@dataclass(frozen=True)
class Settings:
    """``width`` 64 is AlexNet's; ``code`` counts the channels of fc7 (4096), of which fc6 has a quarter for each tile.

    ``grey``: the share of images without colour.
    """

    permutations: Count = 1000
    width: Count = 64
    code: Count = 4096
    grey: Share = 0.3
    lr: Rate = 5e-4
    backbone: str = "native"

    def __post_init__(self) -> None:
        choose(self.backbone, BACKBONES, "backbone")
        if not 2 <= self.permutations <= MOST:
            raise UserError(f"permutations={self.permutations}: there are from 2 to {MOST:,} orders to choose from")
        if self.code < 4:
            raise UserError(f"code={self.code}: a tile has a quarter of it, so that it is at least 4")


def orders(count: int) -> Tensor:
    """The first ``count`` orders of nine tiles, (count, 9) of 0…8: at place i stands the tile that belongs to [i].

    Any two differ in at least 7 places up to 504, and in at least 6 up to 1,512. The first is the image's own.
    """
    below = [(0, 1), *((1, d) for d in range(8))]
    moves = [(a, b, c, d) for c, d in below for a in range(8) for b in range(8) if _times(a, d) != _times(b, c)]
    found = sorted(tuple(_moved(point, move) for point in range(9)) for move in moves)
    plain = [found[61 * number % 504] for number in range(504)]  # so that a few are as even as all of them
    squared = [*(_times(x, x) for x in range(8)), 8]
    once = [tuple(squared[to] for to in order) for order in plain]
    twice = [tuple(squared[to] for to in order) for order in once]
    return torch.tensor([*plain, *once, *twice][:count])


def _times(a: int, b: int) -> int:
    """The product in the field of eight elements: polynomials over {0, 1} as bits, modulo x³ + x + 1."""
    product = a * (b & 1) ^ 2 * a * (b >> 1 & 1) ^ 4 * a * (b >> 2)
    product ^= 0b10110 * (product >> 4)
    return product ^ 0b1011 * (product >> 3)


def _moved(point: int, move: tuple[int, int, int, int]) -> int:
    """(a·x + b) / (c·x + d) of a point: 0…7 are the field's elements, 8 is infinity."""
    a, b, c, d = move
    above, below = (a, c) if point == 8 else (_times(a, point) ^ b, _times(c, point) ^ d)
    return 8 if below == 0 else next(x for x in range(8) if _times(x, below) == above)


class Method(BaseMethod):
    """A network of tiles and one of their order, one player. It cannot complete."""

    FAMILY = "context"
    PAPER = "Noroozi & Favaro 2016"
    settings: Settings
    orders: Tensor

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.losses = "order"
        self.side, self.cell, tile = side_of(size), size // 3, settings.code // 4
        self.network = TileNetwork(self.side, settings.width, tile, settings.backbone, groups=2)
        self.feature_dim = self.network.feature_dim
        self.order = nn.Sequential(
            *normed(nn.Linear(len(PLACES) * tile, settings.code, bias=False)),
            nn.Linear(settings.code, settings.permutations),
        )
        self.register_buffer("orders", orders(settings.permutations), persistent=False)

    def players(self) -> dict[str, Player]:
        """All of it as one player, with Adam."""
        return {"network": Player(list(self.parameters()), self.settings.lr)}

    def loss(self, player: str, batch: Batch) -> Loss:
        """The mean cross-entropy of the orders, in nats; a guess has ln ``permutations``."""
        drawn = torch.randint(self.settings.permutations, (batch.count,), generator=batch.generator)
        label = batch.own(drawn)
        image = torch.arange(len(label), device=label.device)[:, None]
        shuffled = self.draw_tiles(batch)[image, self.orders[label]]
        code = self.network(shuffled.flatten(0, 1)).unflatten(0, (-1, len(PLACES)))
        error = cross_entropy(at_least_float32(self.order(code.flatten(1))), label)
        return Loss(error, {"order": error})

    def draw_tiles(self, batch: Batch) -> Tensor:
        """The tiles at their own places, row by row, as the network is given them: (N, 9, 3, p, p)."""
        count, generator = batch.count, batch.generator
        grey = batch.own(torch.rand(count, generator=generator) < self.settings.grey)[:, None, None, None]
        images = torch.where(grey, batch.images.mean(dim=1, keepdim=True), batch.images)
        spare = torch.tensor([self.size - 3 * self.cell, self.cell - self.side - SHIFT, SHIFT]) + 1
        grid = torch.rand(count, 1, 2, 1, generator=generator, dtype=torch.float64)
        tile = torch.rand(count, len(PLACES), 2, 1, generator=generator, dtype=torch.float64)
        channel = torch.rand(count, len(PLACES), 2, 3, generator=generator, dtype=torch.float64)
        moved = sum((u * most).long() for u, most in zip((grid, tile, channel), spare))
        top, left = batch.own(torch.tensor(PLACES)[:, :, None] * self.cell + moved).unbind(2)
        return normalise(cut(images, top, left, self.side))

    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] → (N, feature_dim), all at least 0."""
        return self.network.represent(normalise(images))

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) in [0, 1] → conv1 to conv5 (or the Missing Data Encoder's stages), (N, C, h, w) each."""
        return self.network.maps(normalise(images))
