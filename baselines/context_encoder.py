"""Context encoder: a network predicts what is missing from what surrounds it, under squared error and an adversary.

Pathak et al., "Context Encoders: Feature Learning by Inpainting", 2016. There are its three objectives (squared error,
adversarial, joint) and two of its masks. `mask=random` hides blocks that cover about a quarter, each image its own, and
predicts the whole image; `mask=centre` predicts the centred square of half the side, its rim of `overlap` pixels seen.
Holes are filled with the mean colour of all training images met so far, a buffer that stands still after training.
The discriminator judges all that is predicted and nothing else: the square, or the whole image.

For small images: as many stride-2 layers as bring the image to 3×3 or 4×4, the last ones of 64, 64, 128, 256, 512 (all
five at the paper's 128), and a code layer with a kernel of the map's own size, where the original's fixed 4×4 breaks at
96 pixels. The band is 4 pixels as in the public code (7 in the paper); the suite sets the batch (the paper: 64). Chosen
here: five rectangles with sides of 1/8 to 3/8 of the image; for the whole-image decoder, weight 1 outside the band.
`backbone=mde` plays the same game on the Missing Data Encoder's network, initialised in that network's own way.

Representation: the code as the decoder reads it, after batch-norm and leaky ReLU.
Command: `mdebench pretrain context_encoder --set objective=l2` (or adv, joint; mask=centre; backbone=mde).
Expected: by the MDE paper's Table 3, 18.4 dB with the left half of the face covered, 3.4 dB behind the MDE; l2 aligned
but blurred, adv sharp but incoherent, joint between the two.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from mdebench.compute import machine
from mdebench.errors import UserError
from mdebench.methods import losses as L
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.masks import rasterize
from mdebench.methods.networks import Generator, stage_maps, stages_for
from mdebench.settings import Count, Rate, Share, Weight, choose

OBJECTIVES = {"joint": ("l2", "adv"), "l2": ("l2",), "adv": ("adv",)}
WINDOWS = {"random": 1, "centre": 2}  # mask → the image's side in sides of the predicted window
BACKBONES = {"native": "the paper's network", "mde": "the Missing Data Encoder's"}
BLOCKS, SHORTEST, LONGEST = 5, 1 / 8, 3 / 8  # random blocks and their sides: 26 % of the image on average


@dataclass(frozen=True)
class Settings:
    """The public code's values: weights 0.999 and 0.001 (section 3.2), the generator ten times as fast.

    ``overlap`` is the width in pixels of the band of seen pixels that are predicted too, at ``overlap_weight``.
    """

    objective: str = "joint"
    mask: str = "random"
    width: Count = 64
    code: Count = 4000
    overlap: int = 4
    overlap_weight: Weight = 10.0
    l2_weight: Weight = 0.999
    adv_weight: Weight = 0.001
    generator_lr: Rate = 2e-3
    discriminator_lr: Rate = 2e-4
    beta1: Share = 0.5
    backbone: str = "native"

    def __post_init__(self) -> None:
        choose(self.objective, OBJECTIVES, "objective")
        choose(self.mask, WINDOWS, "mask")
        choose(self.backbone, BACKBONES, "backbone")
        if self.overlap < 0:
            raise UserError(f"overlap={self.overlap}: the band is 0 pixels wide or more")


def widths(size: int, width: int) -> list[int]:
    """Channels of the stride-2 layers between ``size`` pixels and a map of 3×3 or 4×4, finest first."""
    return [width * widening for widening in (1, 1, 2, 4, 8)[-stages_for(size) :]]


def strided(size: int, width: int) -> list[nn.Module]:
    """Convolutions k4 s2, (N, 3, size, size) → (N, 8·width, s, s) with s = 3 or 4; the first has no batch-norm.

    No convolution in this file has a bias: the public code sets them to zero before every step.
    """
    blocks: list[nn.Module] = []
    for before, after in pairwise([3, *widths(size, width)]):
        norm = [nn.BatchNorm2d(after)] if blocks else []
        conv = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
        blocks.append(nn.Sequential(conv, *norm, nn.LeakyReLU(0.2, inplace=True)))
    return blocks


class Encoder(nn.Module):
    """Image (N, 3, size, size) in [-1, 1] → code (N, code)."""

    def __init__(self, size: int, width: int, code: int):
        super().__init__()
        self.stages = nn.ModuleList(strided(size, width))
        conv = nn.Conv2d(8 * width, code, size >> len(self.stages), bias=False)
        self.to_code = nn.Sequential(conv, nn.BatchNorm2d(code), nn.LeakyReLU(0.2, inplace=True), nn.Flatten())

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the code and the maps on the way to it."""
        maps = self.maps(x)
        return self.to_code(maps[f"stage{len(maps)}"]), maps

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The map after each stage: "stage1", "stage2", … → (N, channels of the stage, size / 2, 4, …)."""
        return stage_maps(self.stages, x)


def decoder(side: int, width: int, code: int) -> nn.Sequential:
    """Code (N, code) → window (N, 3, side, side) in (-1, 1): transposed convolutions that mirror `strided`."""
    channels = widths(side, width)[::-1]
    first = nn.ConvTranspose2d(code, channels[0], side >> len(channels), bias=False)
    layers: list[nn.Module] = [nn.Unflatten(1, (code, 1, 1)), first]
    for before, after in pairwise([*channels, 3]):
        up = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
        layers += [nn.BatchNorm2d(before), nn.ReLU(inplace=True), up]
    return nn.Sequential(*layers, nn.Tanh())


class ContextEncoder(nn.Module):
    """Filled image (N, 3, size, size) → predicted window (N, 3, side, side), both in [-1, 1]."""

    def __init__(self, size: int, side: int, width: int, code: int):
        super().__init__()
        self.encoder = Encoder(size, width, code)
        self.decoder = decoder(side, width, code)
        self.apply(initialise)

    def forward(self, filled: Tensor) -> Tensor:
        """Predict the window."""
        window: Tensor = self.decoder(self.encoder(filled)[0])
        return window


def discriminator(side: int, width: int) -> nn.Sequential:
    """Window (N, 3, side, side) in [-1, 1] → real/fake logit (N,)."""
    blocks = strided(side, width)
    to_logit = nn.Conv2d(8 * width, 1, side >> len(blocks), bias=False)
    return nn.Sequential(*blocks, to_logit, nn.Flatten(0)).apply(initialise)


def initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02); those of batch-norm from N(1, 0.02), as in the public code."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
        nn.init.normal_(module.weight, float(isinstance(module, nn.BatchNorm2d)), 0.02)


def draw_blocks(count: int, size: int, generator: torch.Generator) -> Tensor:
    """What five blocks at random places, overlapping or not, leave to see: (count, 1, size, size) of 1 and 0."""
    u = torch.rand((count, BLOCKS, 4), generator=generator, dtype=torch.float64)
    sides = SHORTEST + (LONGEST - SHORTEST) * u[..., :2]
    corners = (1 - sides) * u[..., 2:] + 0.5 / size  # to pixel centres: the last row is hidden as often as the first
    blocks = rasterize(torch.cat([corners, corners + sides], dim=-1), size, size)
    return 1 - blocks.amax(dim=1, keepdim=True)


def pixel_weights(seen: Tensor, overlap: int, overlap_weight: float) -> Tensor:
    """``overlap_weight`` on seen pixels at most ``overlap`` rows and columns from the hole, else 1: (N, 1, H, W)."""
    missing = 1 - seen
    near = max_pool2d(missing, 2 * overlap + 1, stride=1, padding=overlap)
    return 1 + (overlap_weight - 1) * (near - missing)


class Method(BaseMethod):
    """Predicts the window that the mask sets; ``encode`` gives the code, ``complete`` the image with it pasted in."""

    PAPER = "Pathak et al. 2016"
    settings: Settings
    colour: Tensor

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        s, side = settings, size // WINDOWS[settings.mask]
        self.terms = OBJECTIVES[s.objective]
        self.losses = "+".join(self.terms)
        self.feature_dim = s.code
        self.inside = slice((size - side) // 2, (size + side) // 2)  # rows, and columns, of the window
        if s.mask == "centre":
            self.notes.append(
                "mask=centre predicts the centred square only: a hole elsewhere stays the mean colour, and one that"
                f" fills the square hides the {s.overlap} pixels at its rim that are seen in training"
            )
            if 2 * s.overlap >= side:
                raise UserError(f"overlap={s.overlap} leaves no hole in a square of {side} pixels: choose less")
        self.generator = (
            ContextEncoder(size, side, s.width, s.code)
            if s.backbone == "native"
            else Generator(size, s.width, s.code, last=nn.Tanh())
        )
        self.discriminator = discriminator(side, s.width) if "adv" in self.terms else None
        self.register_buffer("colour", torch.full((3, 1, 1), 0.5))
        self._turn: tuple[Tensor, Tensor] | None = None

    def players(self) -> dict[str, Player]:
        """Discriminator (where there is one) and generator, with Adam."""
        s, options = self.settings, {"betas": (self.settings.beta1, 0.999)}
        players = {}
        if self.discriminator is not None:
            players["discriminator"] = Player(list(self.discriminator.parameters()), s.discriminator_lr, options)
        players["generator"] = Player(list(self.generator.parameters()), s.generator_lr, options)
        return players

    def loss(self, player: str, batch: Batch) -> Loss:
        """The discriminator's cross-entropy; the generator's weighted squared and adversarial errors."""
        s, real = self.settings, self._crop(2 * batch.images - 1)
        if player == "discriminator":
            assert self.discriminator is not None
            self._turn = fake, _ = self._predict_batch(batch)
            judged = [machine.at_least_float32(self.discriminator(images)) for images in (real, fake.detach())]
            adversarial = L.discriminator_adversarial(*judged)
            return Loss(adversarial, {"adv": adversarial})
        # The generator has not moved since the discriminator's turn: the same predictions serve, once.
        (fake, weight), self._turn = self._turn or self._predict_batch(batch), None
        total, parts = fake.new_zeros(()), {}
        if "l2" in self.terms:
            parts["l2"] = (weight * (fake - real).square()).mean()
            total = total + s.l2_weight * parts["l2"]
        if self.discriminator is not None:
            parts["adv"] = L.generator_adversarial(machine.at_least_float32(self.discriminator(fake)))
            total = total + s.adv_weight * parts["adv"]
        return Loss(total, parts)

    def _predict_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Masks drawn and windows predicted: (N, 3, side, side) in [-1, 1], and the weights of their pixels."""
        seen = self._draw(batch)
        if self.training:  # the mean over all updates up to this one
            self.colour.lerp_(batch.mean(batch.images.mean((0, 2, 3)))[:, None, None], 1 / (batch.step + 1))
        weights = pixel_weights(seen, self.settings.overlap, self.settings.overlap_weight)
        return self._predict(self._fill(batch.images, seen)), self._crop(weights)

    def _draw(self, batch: Batch) -> Tensor:
        """What is seen in training, (N, 1, H, W) of 1 and 0."""
        if self.settings.mask == "random":
            return batch.own(draw_blocks(batch.count, self.size, batch.generator)).to(batch.images)
        seen = batch.images.new_ones(len(batch.images), 1, self.size, self.size)
        hole = slice(self.inside.start + self.settings.overlap, self.inside.stop - self.settings.overlap)
        seen[..., hole, hole] = 0
        return seen

    def _fill(self, images: Tensor, seen: Tensor) -> Tensor:
        return images * seen + self.colour * (1 - seen)

    def _predict(self, filled: Tensor) -> Tensor:
        predicted = machine.at_least_float32(self.generator(2 * filled - 1))
        return predicted if self.settings.backbone == "native" else self._crop(predicted)

    def _crop(self, images: Tensor) -> Tensor:
        return images[..., self.inside, self.inside]

    def draw_seen(self, batch: Batch) -> Tensor:
        """A mask of the kind trained on: (N, 3, H, W)."""
        return self._draw(batch).expand(-1, 3, -1, -1)

    def encode(self, images: Tensor) -> Tensor:
        """The code of whole images (nothing masked): (N, 3, H, W) in [0, 1] → (N, code)."""
        code: Tensor = self.generator.encoder(2 * images - 1)[0]
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the encoder, whole images (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return self.generator.encoder.maps(2 * images - 1)

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """The filled image with the predicted window pasted in: images (N, 3, H, W), seen broadcastable → (N, 3, H, W).

        With ``mask=random`` the window is the whole image. With ``mask=centre`` the rest is the input itself, and what
        is missing there stays the mean colour; a hole of the whole square also hides the band seen in training.
        """
        completed = self._fill(images, seen.expand_as(images))
        window = self._predict(completed)
        completed[..., self.inside, self.inside] = (window + 1) / 2
        return completed
