"""Relative position: of two patches of an image, where does the second lie as seen from the first?

Paper: Doersch, Gupta and Efros, "Unsupervised Visual Representation Learning by Context Prediction", 2015. Patches
stand in a grid with gaps between them, each is moved a little by itself, and a network that codes one at a time is told
two codes and says which of the eight places around the first the second has. As in the authors' code
(cdoersch/deepcontext), the source of what the paper leaves open, a grid is coded once and every pair of neighbours in
it is asked about, in both orders. Against ways to tell without looking: gaps and jitter (textures go on across a
border), patches normalised one by one (so does light), and a third of the patches shrunk and enlarged. And as a lens
bends green otherwise than red and blue, so that any patch shows where on the lens it was: one channel alone of each
patch (``colour=drop``; the others are noise of 1/100 of its deviation), or all without the axis of green against
magenta (``project``). ``keep`` leaves colour as it is, to see what that is worth.
Changed for small images: one grid of 3×3 fills the image, its patches of a quarter of the side with gaps of half a
patch, less what jitter takes, and a jitter of 7/96 of a patch, rounded (none below 28 pixels, 1 up to 80); the paper's
are 96, 48 and 7 pixels. The network: `_tiles`. Adam, chosen here: the authors' plain descent took 1.7 million updates.
Representation: the image, normalised as a patch is, through the same weights: conv5 averaged over a 4×4 grid, and fc6
(``code`` numbers) over the image. With ``drop`` each channel has a third of the strength it has alone in a patch, so
that conv1 says the mean of what it says of each.
Command: ``mdebench pretrain relative_position`` (``--set colour=project``, ``backbone=mde``).
Expected: the paper has no numbers for faces; on VOC 2007 its features reach 46.3 % mAP in detection with ``drop`` and
45.7 % with ``project``, random weights 39.8 %, ImageNet's labels 54.2 %.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from mdebench.compute.machine import at_least_float32
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.settings import Count, Rate, choose

from ._tiles import BACKBONES, PLACES, TileNetwork, cut, normalise, normed, side_of

AROUND = tuple((row - 1, column - 1) for row, column in PLACES if (row, column) != (1, 1))  # a label's step
# Which patch is the first, which is the second, and the number of the step between them in `AROUND`: 40 of them.
PAIRS = tuple(
    (first, second, AROUND.index((row - y, column - x)))
    for first, (y, x) in enumerate(PLACES)
    for second, (row, column) in enumerate(PLACES)
    if (row - y, column - x) in AROUND
)
PIXELATED = 1 / 3  # of all patches (the authors' code)


@dataclass(frozen=True)
class Settings:
    """``width`` 64 is AlexNet's, ``code`` counts the channels of fc6, fc7 and fc8, each 4096 in the paper."""

    colour: str = "drop"
    width: Count = 64
    code: Count = 4096
    lr: Rate = 5e-4
    backbone: str = "native"

    def __post_init__(self) -> None:
        choose(self.colour, COLOURS, "colour")
        choose(self.backbone, BACKBONES, "backbone")


def dropped(patches: Tensor, drawn: Tensor, noise: Tensor) -> Tensor:
    """One channel of each patch (N, T, 3, p, p), by ``drawn`` (N, T) in [0, 1); in the place of the others is noise.

    ``noise``, normal, of the patches' shape; it is given 1/100 of the deviation of the channel that is left.
    """
    kept = (drawn * 3).long()[..., None] == torch.arange(3, device=patches.device)
    kept = kept[..., None, None]
    one = (patches * kept).sum(dim=2, keepdim=True)
    deviation = one.std(dim=(-2, -1), keepdim=True, correction=0)
    return torch.where(kept, one, one.mean(dim=(-2, -1), keepdim=True) + deviation / 100 * noise)


def projected(patches: Tensor) -> Tensor:
    """Colours (…, 3, h, w) without what they have of green against magenta: B = I − aᵀa / (a aᵀ), a = (−1, 2, −1)."""
    a = torch.tensor([-1, 2, -1]).to(patches)[:, None, None]
    return patches - a * (a * patches).sum(dim=-3, keepdim=True) / 6  # no product of matrices: bf16 would round it


def pixelate(patches: Tensor, drawn: Tensor) -> Tensor:
    """A third of the patches (N, T, 3, p, p), shrunk to as little as 10/96 of the side and enlarged again.

    ``drawn`` (N, T, 2) in [0, 1): whether, and how many pixels are left, all counts equally likely.
    """
    side = patches.shape[-1]
    least, most = (side * 10 / 96) ** 2, (side * 95 / 96) ** 2
    left = (least + (most - least) * drawn[..., 1]).sqrt().int().clamp_min(1)
    left = left.where(drawn[..., 0] < PIXELATED, side)
    patches = patches.clone()
    for count in set(left.flatten().tolist()) - {side}:
        chosen = left == count
        small = interpolate(patches[chosen], count, mode="bilinear", antialias=True)
        patches[chosen] = interpolate(small, side, mode="bilinear")
    return patches


# What becomes of the colours of patches (N, T, 3, p, p), given numbers (N, T) in [0, 1) and normal noise like them.
COLOURS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "drop": dropped,
    "project": lambda patches, drawn, noise: projected(patches),
    "keep": lambda patches, drawn, noise: patches,
}


class Method(BaseMethod):
    """A network of patches and one of pairs, one player. It cannot complete."""

    FAMILY = "context"
    PAPER = "Doersch et al. 2015"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.losses = "position"
        self.side, code = side_of(size), settings.code
        self.jitter = round(self.side * 7 / 96)
        self.gap = (size - 3 * self.side - 2 * self.jitter) // 2
        self.network = TileNetwork(self.side, settings.width, code, settings.backbone)
        self.feature_dim = self.network.feature_dim
        self.pair = nn.Sequential(
            *normed(nn.Linear(2 * code, code, bias=False)),
            nn.Linear(code, code),
            nn.ReLU(inplace=True),
            nn.Linear(code, len(AROUND)),
        )

    def players(self) -> dict[str, Player]:
        """All of it as one player, with Adam."""
        return {"network": Player(list(self.parameters()), self.settings.lr)}

    def loss(self, player: str, batch: Batch) -> Loss:
        """The mean cross-entropy, in nats, of the eight places over 40 pairs of an image; ln 8 = 2.08 is a guess.

        (The best guess of all, that steps along an axis are more frequent, gives 2.06.)
        """
        first, second, label = torch.tensor(PAIRS, device=batch.images.device).unbind(1)
        code = self.network(self.draw_patches(batch).flatten(0, 1)).unflatten(0, (-1, len(PLACES)))
        pairs = torch.cat([code[:, first], code[:, second]], dim=2)
        logits = at_least_float32(self.pair(pairs.flatten(0, 1)))
        error = cross_entropy(logits, label.repeat(len(code)))
        return Loss(error, {"position": error})

    def draw_patches(self, batch: Batch) -> Tensor:
        """The grid's patches, row by row, as the network is given them: (N, 9, 3, p, p)."""
        count, side, generator = batch.count, self.side, batch.generator
        moved = torch.rand(count, len(PLACES), 2, 1, generator=generator, dtype=torch.float64)
        drawn = batch.own(torch.rand(count, len(PLACES), 3, generator=generator, dtype=torch.float64))
        noise = batch.own(torch.randn(count, len(PLACES), 3, side, side, generator=generator)).to(batch.images)
        corner = torch.tensor(PLACES)[None, :, :, None] * (side + self.gap) + ((2 * self.jitter + 1) * moved).long()
        top, left = batch.own(corner).unbind(2)
        patches = pixelate(cut(batch.images, top, left, side), drawn[..., :2])
        return normalise(COLOURS[self.settings.colour](patches, drawn[..., 2], noise))

    def _whole(self, images: Tensor) -> Tensor:
        """Whole images as the network is given them, (N, 3, H, W)."""
        if self.settings.colour == "project":
            images = projected(images)
        return normalise(images) / (3**0.5 if self.settings.colour == "drop" else 1)

    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] → (N, feature_dim), all at least 0."""
        return self.network.represent(self._whole(images))

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) in [0, 1] → conv1 to conv5 (or the Missing Data Encoder's stages), (N, C, h, w) each."""
        return self.network.maps(self._whole(images))
