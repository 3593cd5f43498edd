"""Partial convolution: a U-Net whose every layer computes from seen values alone, and passes on what it has filled.

Paper: Liu et al. 2018, "Image Inpainting for Irregular Holes Using Partial Convolutions". A layer gives
W(X⊙M)·window/ΣM + b where anything under its window is seen, else 0 (equation 1), and what it could give counts as seen
in the next (equation 2), so that holes close from the rim; beyond the border of the image all is missing (section 3.2).
In the second phase of training the batch-norm of the encoder stands still: its statistics, its weights and biases.
A public port divides by ΣM without the window's size; here, as in the paper, a mean of a constant image is its colour.
Changed for small images (512 pixels and eight levels there): as many levels as bring the image to 3×3 or 4×4, five at
96 pixels; the first ones of the paper's, finest first.
Left open by our sources, and chosen: images lie in [-1, 1] for the network and in [0, 1] for the losses; irregular
masks are DeepFill v2's (one to three brush strokes and a rectangle), where the paper takes them from occlusions in
films; the fine-tuning has a quarter of the run, as the paper's has one day after three (CelebA-HQ). Masks may differ
between the colour channels: each of the image's three has its own. The output has no last activation; it is clipped in
``complete``, and never in a loss.
Representation: the last map of the encoder, flattened (4,608 numbers at 96 pixels, 8,192 at 64); with ``backbone=mde``,
which keeps the masks and losses and leaves out the layer, that network's code.
Command: ``mdebench pretrain partial_conv`` (``--set perceptual=none``: neither style nor perceptual loss).
Expected: no number for small faces is published. 16 drawn faces of 16 pixels are learned by heart at width 16: 26.3 dB
in the hole after 3,500 updates with ``lr=1e-2`` and ``fine_lr=2e-3``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods.appearance import dilate, feature_l1, style, total_variation
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.masks import draw_strokes
from mdebench.methods.networks import Generator, stages_for
from mdebench.methods.perceptual import Looking, Perceptual
from mdebench.settings import Count, Rate, Weight, check_phases, choose
from mdebench.variants import FREE_FORM, STROKES

LEVELS = ((1, 7), (2, 5), (4, 5), (8, 3), (8, 3))  # of the encoder, finest first: base widths, and the kernel's side
LOOKS = 3  # pool1, pool2 and pool3 of the perceptual network


@dataclass(frozen=True)
class Settings:
    """The paper's values (sections 3.3 and 4.1): weights 1, 6, 0.05, 120 and 0.1; 2e-4, then 5e-5.

    ``width`` 64 stands for the paper's widths. ``phases`` shares of the run: with the encoder's batch-norm, and with it
    standing still. ``perceptual`` see ``perceptual.py``. ``backbone`` the paper's network ("native") or the Missing
    Data Encoder's ("mde"); ``code`` numbers in the latter's code. ``masks`` trained on: DeepFill v2's ("free_form") or
    where VCNet's damage lies ("damage").
    """

    width: Count = 64
    code: Count = 4000
    backbone: str = "native"
    perceptual: str = "imagenet"
    hole_weight: Weight = 6.0
    perceptual_weight: Weight = 0.05
    style_weight: Weight = 120.0
    tv_weight: Weight = 0.1
    phases: tuple[int, ...] = (3, 1)
    lr: Rate = 2e-4
    fine_lr: Rate = 5e-5
    masks: str = FREE_FORM

    def __post_init__(self) -> None:
        choose(self.backbone, {"native": True, "mde": False}, "backbone")
        choose(self.masks, dict.fromkeys(STROKES), "masks")
        check_phases(self.phases, "3,1")


class PartialConv(nn.Module):
    """Convolution over what is seen (equations 1 and 2); padding is not seen.

    The channels that come in stand in ``groups``, of which each has a mask of one channel.
    """

    def __init__(self, groups: Sequence[int], outputs: int, kernel: int, stride: int = 1, bias: bool = False):
        super().__init__()
        self.groups, self.kernel, self.stride = tuple(groups), kernel, stride
        self.conv = nn.Conv2d(sum(groups), outputs, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, C, h, w), 0 where missing, and its groups' masks (N or 1, groups, h, w) of 1 and 0.

        Returns (N, outputs, h / stride, w / stride), 0 where nothing is seen, and its mask (N or 1, 1, …).
        """
        in_window = avg_pool2d(seen, self.kernel, self.stride, self.kernel // 2, divisor_override=1)  # sums, and exact
        per_group = zip(self.groups, torch.split(in_window, 1, dim=1))
        values = torch.stack([channels * each for channels, each in per_group]).sum(0)
        filled = (values > 0).to(seen)
        share = self.kernel**2 * sum(self.groups) / values.clamp(min=1)
        found: Tensor = self.conv(x)  # 0 where nothing is seen, as x is 0 there
        found = found * share.to(found)
        if self.bias is not None:
            found = found + self.bias.to(found)[:, None, None] * filled.to(found)
        return found, filled


class Level(nn.Module):
    """Partial convolution, batch-norm (or, in its place, a bias) and activation; 0 where nothing is seen."""

    def __init__(self, conv: PartialConv, activation: nn.Module):
        super().__init__()
        self.conv, self.activation = conv, activation
        self.norm = nn.BatchNorm2d(conv.conv.out_channels) if conv.bias is None else nn.Identity()

    def forward(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """As `PartialConv.forward`."""
        found, filled = self.conv(x, seen)
        return self.activation(self.norm(found)) * filled.to(found), filled


class Encoder(nn.Module):
    """Masked image (N, 3, size, size) → the map after each strided level, with its mask."""

    def __init__(self, size: int, width: int):
        super().__init__()
        levels = LEVELS[: stages_for(size)]
        self.widths = [width * widening for widening, _ in levels]
        self.levels = nn.ModuleList()
        groups: tuple[int, ...] = (1, 1, 1)
        for outputs, (_, kernel) in zip(self.widths, levels):
            conv = PartialConv(groups, outputs, kernel, stride=2, bias=not self.levels)
            self.levels.append(Level(conv, nn.ReLU(inplace=True)))
            groups = (outputs,)

    def forward(self, x: Tensor, seen: Tensor) -> list[tuple[Tensor, Tensor]]:
        """x, 0 where missing, and seen, (N, 3, h, w) both → maps (N, C, h / 2, w / 2) and masks, finest first."""
        found = []
        for level in self.levels:
            x, seen = level(x, seen)
            found.append((x, seen))
        return found


def _joined(below: Tensor, skip: Tensor) -> Tensor:
    """Enlarged to nearest neighbours, and concatenated: (N, C, h, w) and (N, S, 2h, 2w) → (N, C + S, 2h, 2w)."""
    return torch.cat([interpolate(below, scale_factor=2, mode="nearest"), skip.to(below)], dim=1)


class UNet(nn.Module):
    """Masked image and its mask, (N, 3, size, size) both → a complete image of the same shape, of any numbers."""

    def __init__(self, size: int, width: int):
        super().__init__()
        self.encoder = Encoder(size, width)
        coarse_to_fine = self.encoder.widths[::-1]
        levels = [
            Level(PartialConv((below, skip), skip, 3), nn.LeakyReLU(0.2, inplace=True))
            for below, skip in pairwise(coarse_to_fine)
        ]
        self.decoder = nn.ModuleList(levels)
        self.last = PartialConv((coarse_to_fine[-1], 1, 1, 1), 3, 3, bias=True)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Complete images, 0 where missing."""
        found: list[tuple[Tensor, Tensor]] = self.encoder(x, seen)
        *skips, below = found
        for level, skip in zip((*self.decoder, self.last), [*skips[::-1], (x, seen)]):
            below = level(_joined(below[0], skip[0]), _joined(below[1], skip[1]))
        return below[0]


class Method(Looking):
    """Completes irregular holes; ``encode`` gives the last map of the encoder, or the code of the MDE's network."""

    PAPER = "Liu et al. 2018"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        s = settings
        self.generator: UNet | Generator
        if s.backbone == "native":
            self.generator = UNet(size, s.width)
            self.feature_dim = self.generator.encoder.widths[-1] * (size >> stages_for(size)) ** 2
        else:
            self.generator = Generator(size, s.width, s.code, channels=6, last=nn.Tanh())
            self.feature_dim = s.code
        self.losses = "valid+hole+tv"
        if s.perceptual == "none":
            self.notes.append("style and perceptual loss left out: there is no perceptual network (perceptual=none)")
        else:
            self.losses += "+perceptual+style"

    def fit(self, network: Perceptual) -> None:
        """The network ends after its third block, as no layer behind it is looked at."""
        if len(network.blocks) < LOOKS:
            raise UserError(
                f"perceptual={self.settings.perceptual}: {network.name} ends before the third pooling layer"
            )
        network.blocks = network.blocks[:LOOKS]

    def players(self) -> dict[str, Player]:
        """The generator alone, with Adam, slower in the second phase."""
        s = self.settings
        slower = s.fine_lr / s.lr
        return {
            "generator": Player(
                list(self.generator.parameters()), s.lr, schedule=lambda done: slower if self._fine(done) else 1.0
            )
        }

    def _fine(self, progress: float) -> bool:
        """Whether the second phase has begun, where ``progress`` of the run is done."""
        first, second = self.settings.phases
        return progress >= first / (first + second)

    def loss(self, player: str, batch: Batch) -> Loss:
        """The sum of section 3.3; there, too, valid and hole are divided by the number of all values of an image."""
        s, images = self.settings, batch.images
        seen = self.draw_seen(batch).to(images)
        output = self._train(images, seen, self._fine(batch.progress))
        composite = seen * images + (1 - seen) * output
        error = (output - images).abs()
        parts = {"valid": (seen * error).mean(), "hole": ((1 - seen) * error).mean()}
        hole = dilate(1 - seen.amin(1, keepdim=True))
        parts["tv"] = total_variation(composite, hole)
        total = parts["valid"] + s.hole_weight * parts["hole"] + s.tv_weight * parts["tv"]
        if self.vgg:
            with torch.no_grad():
                real = self._look(images)
            pair = [self._look(each) for each in (output, composite)]
            parts["perceptual"] = torch.stack([feature_l1(maps, real) for maps in pair]).sum()
            parts["style"] = torch.stack([style(maps, real) for maps in pair]).sum()
            total = total + s.perceptual_weight * parts["perceptual"] + s.style_weight * parts["style"]
        return Loss(total, parts)

    def _look(self, images: Tensor) -> list[Tensor]:
        """What the perceptual network sees after each of its first three pooling layers."""
        assert self.vgg is not None
        return [max_pool2d(each, 2) for each in self.vgg.to(images)(images)]

    def _train(self, images: Tensor, seen: Tensor, fine: bool) -> Tensor:
        """The output in training; in the second phase the encoder's batch-norm stands still."""
        norms = {
            name: module
            for name, module in self.generator.named_modules()
            if name.startswith("encoder.") and isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        }
        for norm in norms.values():
            norm.train(self.training and not fine)
        still = {f"{n}.{key}": p.detach() for n, norm in norms.items() for key, p in norm.named_parameters()}
        inputs = self._inputs(images, seen)
        # Detached, they have no gradients, and so the optimizer leaves them: it would follow its momentum for zeros.
        output: Tensor = functional_call(self.generator, still, inputs) if fine else self.generator(*inputs)
        return (at_least_float32(output) + 1) / 2

    def _inputs(self, images: Tensor, seen: Tensor) -> tuple[Tensor, ...]:
        """What the network takes, of images (N, 3, H, W) in [0, 1] and seen (N or 1, 3, H, W)."""
        masked = (2 * images - 1) * seen
        if isinstance(self.generator, UNet):
            return masked, seen
        return (torch.cat([masked, seen.expand_as(masked)], dim=1),)

    def draw_seen(self, batch: Batch) -> Tensor:
        """Masks of the kind trained on, brush strokes with or without a rectangle: (N, 3, H, W)."""
        return batch.own(draw_strokes(self.settings.masks, batch.count, self.size, batch.generator)).expand(
            -1, 3, -1, -1
        )

    def encode(self, images: Tensor) -> Tensor:
        """Whole images (N, 3, H, W) in [0, 1] → (N, feature_dim)."""
        found = self.generator.encoder(*self._inputs(images, torch.ones_like(images[:1])))
        code: Tensor = found[-1][0].flatten(1) if isinstance(self.generator, UNet) else found[0]
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each level of the encoder, whole images (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        inputs = self._inputs(images, torch.ones_like(images[:1]))
        if isinstance(self.generator, UNet):
            return {f"stage{n}": found for n, (found, _) in enumerate(self.generator.encoder(*inputs), start=1)}
        return self.generator.encoder.maps(*inputs)

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """The network's output, clipped: images (N, 3, H, W), seen broadcastable → (N, 3, H, W) in [0, 1]."""
        output = self.generator(*self._inputs(images, seen.expand_as(images)))
        return ((at_least_float32(output) + 1) / 2).clamp(0, 1)
