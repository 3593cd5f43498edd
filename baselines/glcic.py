"""Globally and locally consistent completion: a dilated network fills a rectangle, two discriminators judge the result.

Paper: Iizuka, Simo-Serra and Ishikawa, SIGGRAPH 2017. The network sees the image with its hole in the mean colour, and
the mask; it learns from the squared error in the hole, and from a discriminator that looks at the whole image and at a
window around the hole. The completion trains alone, then the discriminator alone, then both.
Changed for small images (the paper's have 256 pixels): the sides of a hole keep their share of the image's, 3/8 to 1/2;
the window has 2/3 of it (64 at 96; in the paper 1/2), so that something is left after five strided layers; the judge of
the whole image has five, too (in the paper six). The dilations stay: at 64 pixels the outer taps of the last, 16, lie
just outside its 16×16 map. No blending afterwards.
Left open by our sources, and chosen: the squared error is a mean over the missing values; the generator minimises
−log D in place of log(1 − D), flat where D is sure; batch-norm stands before ReLU; Adadelta has PyTorch's decay, 0.9.
Representation: the 256-channel map after the dilated convolutions, averaged over a grid of 4×4 (4096 numbers, as the
Missing Data Encoder's code has 4000); with ``backbone=mde``, that network's code.
Command: ``mdebench pretrain glcic`` (``--set phases=1,0,0``: the squared error alone).
Expected: 16 drawn faces of 32 pixels are learned by heart at width 16: 24.7 dB in the hole after 500 of 800 updates,
27.2 dB after 900 of 900 with ``phases=90,2,8``.
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from mdebench.errors import UserError
from mdebench.methods import losses as L
from mdebench.methods.contract import Batch, Loss, Player, phase
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.masks import rasterize
from mdebench.methods.networks import Generator, stage_maps
from mdebench.settings import Count, Rate, Weight, check_phases, choose

HOLE_SIDES = (3 / 8, 1 / 2)  # of the image's: 96 to 128 of 256 pixels
WINDOW_SIDE = 2 / 3  # of the image's
GRID = 4  # the representation is averaged over GRID × GRID cells


@dataclass(frozen=True)
class Settings:
    """The paper's values (section 4): 4e-4; 90,000, 10,000 and 400,000 updates; Adadelta; a width of 64.

    ``phases`` shares of the run: completion alone, discriminator alone, both. ``backbone`` the paper's network
    ("native") or the Missing Data Encoder's ("mde"); ``code`` numbers in the latter's code.
    """

    width: Count = 64
    code: Count = 4000
    backbone: str = "native"
    adv_weight: Weight = 4e-4
    phases: tuple[int, ...] = (90, 10, 400)
    lr: Rate = 1.0  # a factor on Adadelta's own steps

    def __post_init__(self) -> None:
        check_phases(self.phases, "90,10,400")


def _block(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True))


def _same(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """(N, inputs, h, w) → (N, outputs, h / stride, w / stride), rounded up."""
    return _block(nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, bias=False))


def _up(inputs: int, outputs: int) -> nn.Sequential:
    """(N, inputs, h, w) → (N, outputs, 2 h, 2 w)."""
    return _block(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False))


class Encoder(nn.Module):
    """Image and mask (N, 4, h, w) → map (N, 4·width, h/4, w/4), each pixel of which knows 271×271 of the image."""

    def __init__(self, width: int):
        super().__init__()
        c, c2, c4 = width, 2 * width, 4 * width
        half = (_same(4, c, kernel=5), _same(c, c2, stride=2), _same(c2, c2))
        quarter = (_same(c2, c4, stride=2), _same(c4, c4), _same(c4, c4))
        dilated = (_same(c4, c4, dilation=dilation) for dilation in (2, 4, 8, 16))
        self.stages = nn.ModuleList(nn.Sequential(*layers) for layers in (half, quarter, dilated))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the representation (N, 4·width·GRID²) and the last map, which the decoder takes."""
        *_, last = self.maps(x).values()
        return adaptive_avg_pool2d(last, GRID).flatten(1), last

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The maps at half the size ("stage1"), at a quarter ("stage2"), after the dilated convolutions ("stage3")."""
        return stage_maps(self.stages, x)


class CompletionNetwork(nn.Module):
    """Image and mask (N, 4, h, w), sides multiples of 4 → a complete image (N, 3, h, w) in (0, 1)."""

    def __init__(self, width: int):
        super().__init__()
        c, c2, c4, last = width, 2 * width, 4 * width, max(4, width // 2)
        self.encoder = Encoder(width)
        convolutions = (_same(c4, c4), _same(c4, c4), _up(c4, c2), _same(c2, c2), _up(c2, c), _same(c, last))
        self.decoder = nn.Sequential(*convolutions, nn.Conv2d(last, 3, 3, padding=1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Complete an image whose hole has the mean colour."""
        image: Tensor = self.decoder(self.encoder(x)[1])
        return image


class Discriminator(nn.Module):
    """Image (N, 3, size, size) and window (N, 3, side, side) → one real/fake logit (N,), in float32."""

    def __init__(self, size: int, width: int):
        super().__init__()
        self.whole, self.window = self._trunk(size, width), self._trunk(window_side(size), width)
        self.head = nn.Linear(2 * 16 * width, 1)

    @staticmethod
    def _trunk(size: int, width: int) -> nn.Sequential:
        channels = (3, width, 2 * width, 4 * width, 8 * width, 8 * width)
        layers = [_same(inputs, outputs, kernel=5, stride=2) for inputs, outputs in pairwise(channels)]
        flat = 8 * width * math.ceil(size / 2 ** len(layers)) ** 2
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 16 * width), nn.ReLU(inplace=True))

    def forward(self, images: Tensor, windows: Tensor) -> Tensor:
        """Judge images and windows together."""
        both = torch.cat([self.whole(images), self.window(windows)], dim=1)
        with torch.autocast(images.device.type, enabled=False):
            logit: Tensor = self.head(both.to(self.head.weight))[:, 0]
        return logit


def window_side(size: int) -> int:
    """Side of the local discriminator's window, in pixels."""
    return round(WINDOW_SIDE * size)


def draw_holes(count: int, generator: torch.Generator) -> Tensor:
    """A rectangle per image, width and height drawn apart: (count, 4), (x1, y1, x2, y2) relative to the image."""
    u = torch.rand((count, 4), generator=generator, dtype=torch.float64)
    sides = HOLE_SIDES[0] + (HOLE_SIDES[1] - HOLE_SIDES[0]) * u[:, :2]
    corner = (1 - sides) * u[:, 2:]
    return torch.cat([corner, corner + sides], dim=1)


def cut_windows(images: Tensor, holes: Tensor) -> Tensor:
    """The windows centred on ``holes`` (N, 4), moved where they would leave the image: (N, 3, side, side)."""
    size, side = images.shape[-1], window_side(images.shape[-1])
    corner = (size * (holes[:, :2] + holes[:, 2:]) / 2 - side / 2).round().long().clamp(0, size - side)
    return torch.stack([image[:, y : y + side, x : x + side] for image, (x, y) in zip(images, corner.tolist())])


class Method(BaseMethod):
    """Completes rectangles; ``encode`` gives the pooled map of whole images, or the code of the MDE's network."""

    PAPER = "Iizuka et al. 2017"
    settings: Settings
    mean_colour: Tensor

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        native = choose(settings.backbone, {"native": True, "mde": False}, "backbone")
        width, code = settings.width, settings.code
        if native and size % 4:
            raise UserError(f"glcic takes a side that 4 divides, not {size} pixels; make a pack of another --size")
        self.losses = "mse+adv" if settings.phases[2] else "mse"
        self.feature_dim = 4 * width * GRID**2 if native else code
        self.generator: CompletionNetwork | Generator = (
            CompletionNetwork(width) if native else Generator(size, width, code, channels=4)
        )
        self.discriminator = Discriminator(size, width)
        # The paper's filling is the mean colour of the training set; here, of the whole images of all batches so far.
        self.register_buffer("mean_colour", torch.full((1, 3, 1, 1), 0.5))
        self._turn: tuple[Tensor, Tensor, Tensor] | None = None

    def players(self) -> dict[str, Player]:
        """Discriminator (the global and the local one, as they share an output) and generator."""
        networks = {"discriminator": self.discriminator, "generator": self.generator}
        lr, optimizer = self.settings.lr, torch.optim.Adadelta
        return {name: Player(list(each.parameters()), lr, optimizer=optimizer) for name, each in networks.items()}

    def turns(self, step: int, updates: int) -> tuple[str, ...]:
        """Phase one: the generator; two: the discriminator; three: both. They end at their shares, rounded down."""
        players = (("generator",), ("discriminator",), ("discriminator", "generator"))
        return players[phase(self.settings.phases, step, updates)]

    def loss(self, player: str, batch: Batch) -> Loss:
        """The discriminator's cross-entropy; the generator's error in the hole and, in phase three, the adversary's."""
        turns = self.turns(batch.step, batch.updates)
        if player == "discriminator":
            joint = "generator" in turns
            with nullcontext() if joint else torch.no_grad():
                turn = self._complete_batch(batch)
            # In phase three the generator's turn follows, and takes the same completions.
            self._turn = turn if joint else None
            return self._tell_apart(batch, turn[0].detach(), turn[2])
        turn, self._turn = self._turn or self._complete_batch(batch), None
        return self._fill(batch, *turn, adversarial="discriminator" in turns)

    def _complete_batch(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Images with their holes completed (N, 3, H, W), what was seen of them (N, 1, H, W), the holes (N, 4)."""
        with torch.no_grad():
            colour = batch.mean(batch.images.mean((0, 2, 3), keepdim=True))
            self.mean_colour += (colour - self.mean_colour) / (batch.step + 1)
        holes = batch.own(draw_holes(batch.count, batch.generator))
        seen = self._outside(holes).to(batch.images)
        output = self.generator(self._masked(batch.images, seen)).to(batch.images)
        return torch.where(seen > 0, batch.images, output), seen, holes

    def _tell_apart(self, batch: Batch, fake: Tensor, holes: Tensor) -> Loss:
        elsewhere = batch.own(
            draw_holes(batch.count, batch.generator)
        )  # a real image has no hole: its window is anywhere
        # Two passes, so that each kind is normalised by its own batch statistics.
        real_logit = self.discriminator(batch.images, cut_windows(batch.images, elsewhere))
        fake_logit = self.discriminator(fake, cut_windows(fake, holes))
        adversarial = L.discriminator_adversarial(real_logit, fake_logit)
        return Loss(adversarial, {"adv": adversarial})

    def _fill(self, batch: Batch, fake: Tensor, seen: Tensor, holes: Tensor, adversarial: bool) -> Loss:
        error = L.completion(fake, batch.images, seen) / (3 * batch.mean((1 - seen).mean(0).sum()))
        if not adversarial:
            return Loss(error, {"mse": error})
        adv = L.generator_adversarial(self.discriminator(fake, cut_windows(fake, holes)))
        return Loss(error + self.settings.adv_weight * adv, {"mse": error, "adv": adv})

    def _outside(self, holes: Tensor) -> Tensor:
        return 1 - rasterize(holes, self.size, self.size)[:, None]

    def _masked(self, images: Tensor, seen: Tensor) -> Tensor:
        """Missing values in the mean colour, and a channel that is 1 where a value is missing: (N, 4, H, W).

        With a mask per channel, the values that are seen at a marked pixel keep theirs.
        """
        seen = seen.expand_as(images)
        return torch.cat([seen * images + (1 - seen) * self.mean_colour, 1 - seen.amin(1, keepdim=True)], dim=1)

    def draw_seen(self, batch: Batch) -> Tensor:
        """A training mask: a rectangle is missing in all channels, (N, 3, H, W)."""
        return self._outside(batch.own(draw_holes(batch.count, batch.generator))).expand(-1, 3, -1, -1)

    def encode(self, images: Tensor) -> Tensor:
        """The representation of whole images, the mask empty: (N, 3, H, W) in [0, 1] → (N, feature_dim)."""
        code: Tensor = self.generator.encoder(self._masked(images, torch.ones_like(images)))[0]
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the encoder, whole images (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return self.generator.encoder.maps(self._masked(images, torch.ones_like(images)))

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """The generator's raw output: images (N, 3, H, W), seen broadcastable → (N, 3, H, W) in (0, 1)."""
        image: Tensor = self.generator(self._masked(images, seen))
        return image
