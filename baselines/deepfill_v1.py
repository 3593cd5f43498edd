"""DeepFill v1: complete a rectangle in two stages, the second of which borrows from what is seen, against two critics.

Paper: Yu et al. 2018, "Generative Image Inpainting with Contextual Attention". Convolutions with ELU and no
normalisation; the L1 in the hole counts the less the farther a pixel is from the seen ones; one critic judges the
image, the other a window around the hole, both as Wasserstein GANs with a gradient penalty. Five turns of the critics,
on holes drawn anew, go with one of the generator.
As in the paper, where public code differs: the discount is 0.99 per pixel (there 0.9), the gradient penalty counts the
gradient in the hole alone, and a masked place of the attention gets nothing (`_two_stage.py`). The critic of the window
ends in as many channels as that of the image, as in the public PyTorch code. A pixel in the hole weighs what one
outside does: either L1 is a mean over its own pixels.
Changed for small images (256 pixels there): the window has half of the image's side, the hole 3/8 to 1/2, as there;
distances are in pixels of the small image; below 64 pixels the attention has rate 1. Weights start so that convolutions
keep the variance.
Representation: the maps from which the two stages paint (after the coarse dilated convolutions; both branches of the
refinement), averaged over 4×4 cells: 6,144 numbers. With ``backbone=mde`` it is that network's code.
Command: ``mdebench pretrain deepfill_v1`` (``--set backbone=mde``: the same task on the network of the MDE).
Expected: no number for small faces is published; the paper reports 8.6 % mean L1 error for rectangles on Places2.
16 drawn faces of 16 pixels are learned by heart at width 16 with ``lr=2e-3`` and ``adv_weight=1e-4``: 27.4 dB in the
hole after 600 updates.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from mdebench.compute.machine import at_least_float32
from mdebench.methods.adversaries import gradient_penalty, wasserstein_critic, wasserstein_generator
from mdebench.methods.appearance import spatial_discount
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.settings import Rate, Share, Weight

from ._two_stage import Smooth, TwoStage, TwoStageMethod, TwoStageSettings, composite, hole_of

CRITIC_TURNS = 5  # to one of the generator


@dataclass(frozen=True)
class Settings(TwoStageSettings):
    """The paper's values; weights and optimizer from the authors' code.

    ``width`` 64 stands for the paper's widths: 32 channels in the first layer, and 64 in the critics'. ``discount`` per
    pixel of distance from the seen ones.
    """

    hole_weight: Weight = 1.2
    seen_weight: Weight = 1.2
    adv_weight: Weight = 1e-3
    penalty_weight: Weight = 10.0
    discount: Share = 0.99
    lr: Rate = 1e-4
    beta1: Share = 0.5
    beta2: Share = 0.9


class Critic(nn.Module):
    """Images (N, 3, side, side) in [-1, 1] → scores (N,), in float32 or wider: four convolutions k5 s2, one layer."""

    def __init__(self, side: int, width: int):
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise([3, *(width * widening for widening in (1, 2, 4, 4))]):
            layers += [nn.Conv2d(before, after, 5, stride=2, padding=2), nn.LeakyReLU(0.2)]
            side = (side + 1) // 2
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(4 * width * side**2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Judge."""
        x = self.layers(images)
        with torch.autocast(x.device.type, enabled=False):
            score: Tensor = self.head(at_least_float32(x))[:, 0]
        return score


def draw_holes(count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Windows of half the side anywhere, and in the middle of each a hole that is up to a quarter narrower and lower.

    Returns the windows' upper left corners (count, 2) as (x, y) in pixels, and what is seen, (count, 1, size, size).
    """
    side = size // 2
    corner = torch.randint(size - side + 1, (count, 2), generator=generator)
    margin = torch.randint(size // 16 + 1, (count, 2), generator=generator)
    axis = torch.arange(size)
    first, end = (corner + margin)[..., None], (corner + side - margin)[..., None]
    x, y = ((axis >= first) & (axis < end)).unbind(1)
    return corner, 1 - (y[:, :, None] & x[:, None, :]).float()[:, None]


def cut(images: Tensor, corner: Tensor) -> Tensor:
    """The windows at ``corner`` (N, 2): (N, C, size, size) → (N, C, size // 2, size // 2)."""
    side = images.shape[-1] // 2
    return torch.stack([image[:, y : y + side, x : x + side] for image, (x, y) in zip(images, corner.tolist())])


class Method(TwoStageMethod):
    """A generator that completes and two critics; ``complete`` gives the fine stage's image."""

    PAPER = "Yu et al. 2018"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size, 32, lambda n, rate: TwoStage(n, rate, Smooth, nn.Hardtanh, told=True))
        self.losses = "l1_hole+l1_seen+wgan"
        self.whole, self.window = Critic(size, settings.width), Critic(size // 2, settings.width)

    def players(self) -> dict[str, Player]:
        """The two critics, as one player, and the generator; Adam without annealing."""
        s = self.settings
        options = {"betas": (s.beta1, s.beta2)}
        return {
            "critics": Player([*self.whole.parameters(), *self.window.parameters()], s.lr, options),
            "generator": Player(list(self.generator.parameters()), s.lr, options),
        }

    def turns(self, step: int, updates: int) -> tuple[str, ...]:
        """Five turns of the critics, one of the generator."""
        return (*CRITIC_TURNS * ("critics",), "generator")

    def loss(self, player: str, batch: Batch) -> Loss:
        """The Wasserstein game over composites (seen parts as they were), and L1 of either stage's image in [-1, 1]."""
        real = 2 * batch.images - 1
        corner, seen = (batch.own(each) for each in draw_holes(batch.count, self.size, batch.generator))
        seen = seen.to(real).expand_as(real)
        with torch.set_grad_enabled(player == "generator"):
            outputs = self.outputs(batch.images, seen)
            fake = composite(real, outputs, seen)
        if player == "critics":
            return self._tell_apart(batch, real, fake, hole_of(seen), corner)
        return self._fill(batch, real, fake, outputs, seen, corner)

    def _tell_apart(self, batch: Batch, real: Tensor, fake: Tensor, hole: Tensor, corner: Tensor) -> Loss:
        """Equations (3) and (5) of either critic."""
        scores, penalties = [], []
        windows = [cut(each, corner) for each in (real, fake, hole)]
        for critic, (truth, made, where) in ((self.whole, (real, fake, hole)), (self.window, windows)):
            mix = batch.own(torch.rand(batch.count, 1, 1, 1, generator=batch.generator)).to(real)
            scores.append(wasserstein_critic(critic(truth), critic(made)))
            penalties.append(gradient_penalty(critic, truth, made, mix, where))
        parts = {"wgan": torch.stack(scores).sum(), "penalty": torch.stack(penalties).sum()}
        return Loss(parts["wgan"] + self.settings.penalty_weight * parts["penalty"], parts)

    def _fill(
        self, batch: Batch, real: Tensor, fake: Tensor, outputs: list[Tensor], seen: Tensor, corner: Tensor
    ) -> Loss:
        s = self.settings
        error = torch.stack([(at_least_float32(output) - real).abs() for output in outputs]).sum(0)
        near = spatial_discount(hole_of(seen), s.discount)
        parts = {
            "hole": (error * near * (1 - seen)).mean() / batch.mean((1 - seen).mean()),
            "seen": (error * seen).mean() / batch.mean(seen.mean()),
            "adv": wasserstein_generator(self.whole(fake)) + wasserstein_generator(self.window(cut(fake, corner))),
        }
        return Loss(s.hole_weight * parts["hole"] + s.seen_weight * parts["seen"] + s.adv_weight * parts["adv"], parts)

    def draw_seen(self, batch: Batch) -> Tensor:
        """A rectangle is missing: (N, 3, H, W)."""
        return batch.own(draw_holes(batch.count, self.size, batch.generator)[1]).expand(-1, 3, -1, -1)
