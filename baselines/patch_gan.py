"""PGGAN, reconstructed: a dilated residual network fills a square; from the early layers of its judge one path goes on
to the whole image, and another one to patches.

Paper: Demir and Unal 2018, "Patch-Based Image Inpainting with Generative Adversarial Networks" (arXiv 1803.07422), the
"PGGAN" of inpainting; it is no progressive GAN. Nobody published its code, so this is a **reconstruction**. Of the
paper are the idea and the terms: a residual generator with dilated convolutions, enlarged by interpolation and
convolution; a judge that shares its early layers and splits (G-GAN and PatchGAN); 0.995 of the absolute error and
0.0025 of either adversary.
Chosen here, as our sources leave it open: the widths (7×3 layers at 64, 128 and 256 channels as in residual generators
of that year, six residual blocks with dilations 2, 2, 4, 4, 8, 8; in the judge three shared layers of 64, 128 and 256
channels, then 512 for the patches, and 512, 512 and a fully connected layer for the whole), batch-norm, cross-entropy
as the adversaries' game, the error over the whole image in [-1, 1], Adam as in pix2pix, and a square of half the side
as the hole, grey, with its mask as a fourth channel.
Changed for small images: the judge has as many strided layers as leave a map of at least 3×3 (at 96 pixels all five),
the shared ones first.
Representation: the 256-channel map after the residual blocks, averaged over a grid of 4×4 (4096 numbers); with
``backbone=mde``, that network's code.
Command: ``mdebench pretrain patch_gan`` (``--set global_weight=0`` or ``--set patch_weight=0``: one path of the judge).
Expected: no number for small faces is published; the paper reports gains over GLCIC in texture, on other data.
Here 16 drawn faces of 32 pixels are learned by heart at width 16: 26.6 dB in the hole after 350 updates at 2e-3.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods import losses as L
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.networks import Generator, stage_maps
from mdebench.settings import Count, Rate, Share, Weight, choose

from ._squares import draw_corners, outside

BACKBONES = {"native": "the reconstructed network", "mde": "the Missing Data Encoder's"}
DILATIONS = (2, 2, 4, 4, 8, 8)  # of the residual blocks
GRID = 4  # the representation is averaged over GRID × GRID cells
SHARED, APART = 3, 2  # strided layers of the judge: of both paths, and of that to the whole image alone
LEAST_MAP = 3  # pixels per side of what is judged as a whole


@dataclass(frozen=True)
class Settings:
    """The paper's weights, 0.995, 0.0025 and 0.0025; the rest is chosen (see the file's text).

    ``width`` channels of the first layer, 64 at the paper's scale; ``backbone`` native or mde, ``code`` for the latter.
    """

    width: Count = 64
    code: Count = 4000
    backbone: str = "native"
    l1_weight: Weight = 0.995
    global_weight: Weight = 0.0025
    patch_weight: Weight = 0.0025
    lr: Rate = 2e-4
    beta1: Share = 0.5

    def __post_init__(self) -> None:
        choose(self.backbone, BACKBONES, "backbone")


def _block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch-norm, ReLU: (N, inputs, h, w) → (N, outputs, h / stride, w / stride)."""
    padding = dilation * ((kernel - 1) // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """A dilated convolution and a plain one, added to what goes in: (N, channels, h, w) → the same."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.layers = nn.Sequential(_block(channels, channels, dilation=dilation), last, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Add what the two layers find."""
        changed: Tensor = x + self.layers(x)
        return changed


class Encoder(nn.Module):
    """Image and mask (N, 4, h, w), sides multiples of 4 → map (N, 4·width, h / 4, w / 4)."""

    def __init__(self, width: int):
        super().__init__()
        half = nn.Sequential(_block(4, width, kernel=7), _block(width, 2 * width, kernel=4, stride=2))
        quarter = _block(2 * width, 4 * width, kernel=4, stride=2)
        residual = nn.Sequential(*(Residual(4 * width, dilation) for dilation in DILATIONS))
        self.stages = nn.ModuleList([half, quarter, residual])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the representation (N, 4·width·GRID²) and the last map, which the decoder takes."""
        *_, last = self.maps(x).values()
        return adaptive_avg_pool2d(last, GRID).flatten(1), last

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The maps at half the size ("stage1"), at a quarter ("stage2"), after the residual blocks ("stage3")."""
        return stage_maps(self.stages, x)


class CompletionNetwork(nn.Module):
    """Image and mask (N, 4, h, w), sides multiples of 4 → a complete image (N, 3, h, w) in (-1, 1)."""

    def __init__(self, width: int):
        super().__init__()
        self.encoder = Encoder(width)
        layers: list[nn.Module] = []
        for inputs, outputs in ((4 * width, 2 * width), (2 * width, width)):
            layers += [nn.Upsample(scale_factor=2), _block(inputs, outputs)]
        self.decoder = nn.Sequential(*layers, nn.Conv2d(width, 3, 7, padding=3), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """Complete an image that is grey where its mask says so."""
        image: Tensor = self.decoder(self.encoder(x)[1])
        return image


class Discriminator(nn.Module):
    """Image (N, 3, size, size) in [-1, 1] → real/fake logits: of the whole (N,), of patches (N, 1, s, s); float32.

    s = size / 8. Either path may be left out, and its logits with it.
    """

    def __init__(self, size: int, width: int, paths: tuple[str, ...]):
        super().__init__()
        strided = max(1, min(SHARED + APART, int(math.log2(size / LEAST_MAP))))
        shared = min(SHARED, strided)
        channels = (3, *(width * widening for widening in (1, 2, 4, 8, 8)))[: strided + 1]
        layers = [self._layer(*each, normed=number > 0) for number, each in enumerate(pairwise(channels))]
        self.shared = nn.Sequential(*layers[:shared])
        self.heads = nn.ModuleDict()
        if "global" in paths:
            whole = nn.Linear(channels[-1] * (size >> strided) ** 2, 1)
            self.heads["global"] = nn.Sequential(*layers[shared:], nn.Flatten(), whole)
        if "patch" in paths:
            patches = self._layer(channels[shared], 8 * width, kernel=3, stride=1)
            self.heads["patch"] = nn.Sequential(patches, nn.Conv2d(8 * width, 1, 3, padding=1))

    @staticmethod
    def _layer(inputs: int, outputs: int, kernel: int = 4, stride: int = 2, normed: bool = True) -> nn.Sequential:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=not normed)
        norm = [nn.BatchNorm2d(outputs)] if normed else []
        return nn.Sequential(conv, *norm, nn.LeakyReLU(0.2, inplace=True))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Judge images: path → logits."""
        shared = self.shared(images)
        logits = {path: at_least_float32(head(shared)) for path, head in self.heads.items()}
        return {path: each.flatten() if path == "global" else each for path, each in logits.items()}


class Method(BaseMethod):
    """Completes squares; ``encode`` gives the pooled map of whole images, or the code of the MDE's network."""

    PAPER = "Demir & Unal 2018"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        s = settings
        native = s.backbone == "native"
        if native and size % 4:
            raise UserError(f"patch_gan takes a side that 4 divides, not {size} pixels; make a pack of another --size")
        self.notes.append("a reconstruction: no code of the paper's authors is public")
        self.weights = {path: w for path, w in (("global", s.global_weight), ("patch", s.patch_weight)) if w > 0}
        self.losses = "+".join(["l1", *self.weights])
        self.feature_dim = 4 * s.width * GRID**2 if native else s.code
        self.generator: CompletionNetwork | Generator = (
            CompletionNetwork(s.width) if native else Generator(size, s.width, s.code, channels=4, last=nn.Tanh())
        )
        self.discriminator = Discriminator(size, s.width, tuple(self.weights)) if self.weights else None
        self._turn: tuple[Tensor, Tensor] | None = None

    def players(self) -> dict[str, Player]:
        """Discriminator (where a path of it counts) and generator, with Adam."""
        options = {"betas": (self.settings.beta1, 0.999)}
        networks = {"discriminator": self.discriminator, "generator": self.generator}
        lr = self.settings.lr
        return {name: Player(list(each.parameters()), lr, options) for name, each in networks.items() if each}

    def loss(self, player: str, batch: Batch) -> Loss:
        """The cross-entropy of each path; the generator's absolute error and what it is told by each path."""
        real = 2 * batch.images - 1
        if player == "discriminator":
            self._turn = output, seen = self._complete_batch(batch)
            # Two passes, so that each kind is normalised by its own batch statistics.
            real_logits, fake_logits = self._judged(real), self._judged(real.where(seen > 0, output.detach()))
            parts = {path: L.discriminator_adversarial(real_logits[path], fake_logits[path]) for path in self.weights}
            return Loss(torch.stack(list(parts.values())).sum(), parts)
        # The generator has not moved since the discriminator's turn: the same completions serve, once.
        (output, seen), self._turn = self._turn or self._complete_batch(batch), None
        parts = {"l1": (output - real).abs().mean()}
        total = self.settings.l1_weight * parts["l1"]
        for path, logits in self._judged(real.where(seen > 0, output)).items():
            parts[path] = L.generator_adversarial(logits)
            total = total + self.weights[path] * parts[path]
        return Loss(total, parts)

    def _complete_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The generator's raw output (N, 3, H, W) in (-1, 1), and what was seen (N, 1, H, W)."""
        seen = self._draw(batch)
        return at_least_float32(self.generator(self._masked(batch.images, seen))), seen

    def _judged(self, images: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.discriminator(images) if self.discriminator is not None else {}
        return found

    def _masked(self, images: Tensor, seen: Tensor) -> Tensor:
        """Missing values grey, and a channel that is 1 where any value is missing: (N, 4, H, W) in [-1, 1]."""
        seen = seen.expand_as(images).to(images)
        return torch.cat([(2 * images - 1) * seen, 1 - seen.amin(1, keepdim=True)], dim=1)

    def _draw(self, batch: Batch) -> Tensor:
        return outside(batch.own(draw_corners(batch.count, self.size, batch.generator)), self.size)

    def draw_seen(self, batch: Batch) -> Tensor:
        """A training mask: a square is missing in all channels, (N, 3, H, W)."""
        return self._draw(batch).expand(-1, 3, -1, -1)

    def encode(self, images: Tensor) -> Tensor:
        """The representation of whole images, the mask empty: (N, 3, H, W) in [0, 1] → (N, feature_dim)."""
        code: Tensor = self.generator.encoder(self._masked(images, torch.ones_like(images)))[0]
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the encoder, whole images (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return self.generator.encoder.maps(self._masked(images, torch.ones_like(images)))

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """The generator's raw output: images (N, 3, H, W), seen broadcastable → (N, 3, H, W) in (0, 1)."""
        return (at_least_float32(self.generator(self._masked(images, seen))) + 1) / 2
