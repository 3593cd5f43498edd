"""DeepFill v2: complete what lies under brush strokes and a rectangle, in two stages of gated convolutions, against a
critic that judges patches.

Paper: Yu et al. 2019, "Free-Form Image Inpainting with Gated Convolution". A gate decides, place by place and channel
by channel, what goes on; the refinement borrows from the seen parts of the image (contextual attention, Yu et al.
2018), in the formulas of the papers where the authors' code differs.
Changed for small images (256 pixels there): below 64 pixels the attention has rate 1, as at rate 2 most masks leave no
patch to borrow from. All layers are the paper's; at 64 pixels the dilated convolutions meet a map of 16×16, where a
dilation of 16 acts on the centre only, and the critic's last map is one patch that sees the whole image. Weights start
so that gated convolutions keep the variance (a small training cannot wait for the signal to grow through 17 layers).
Where channels are missing one by one, the hole that the networks are told of is wherever any is missing; the channels
that are seen there keep their values.
Representation: the maps from which the two stages paint (after the coarse dilated convolutions; both branches of the
refinement), averaged over 4×4 cells. Together they are all that a completion is made from, the cells keep where things
are, and the 4,608 numbers are close to the 4,000 of other codes. With ``backbone=mde`` it is that network's code.
Command: ``mdebench pretrain deepfill_v2`` (``--set backbone=mde``: the same task on the network of the MDE).
Expected: no number for small faces is published; the paper reports 9.1 % mean L1 error for free-form holes on Places2.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu
from torch.nn.utils.parametrizations import spectral_norm

from mdebench.compute.machine import at_least_float32
from mdebench.methods.adversaries import hinge_discriminator, hinge_generator
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.masks import draw_strokes
from mdebench.settings import Rate, Share, Weight, choose
from mdebench.variants import FREE_FORM, STROKES

from ._two_stage import TwoStage, TwoStageMethod, TwoStageSettings, composite, hole_of


@dataclass(frozen=True)
class Settings(TwoStageSettings):
    """The paper's values (L1 and adversarial loss weigh 1 : 1; optimizer from the authors' code).

    ``width`` 64 stands for the paper's widths: 24 channels through the gates of the first layer (half of 48), and 64
    in the critic's. ``rate`` of the attention. ``code``, numbers of the representation, is for ``backbone`` mde only.
    ``masks`` trained on: its own ("free_form") or where VCNet's damage lies ("damage").
    """

    adv_weight: Weight = 1.0
    lr: Rate = 1e-4
    beta1: Share = 0.5
    beta2: Share = 0.999
    masks: str = FREE_FORM

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(self.masks, dict.fromkeys(STROKES), "masks")


class Critic(nn.Module):
    """SN-PatchGAN: image and hole (N, 4, H, W) → scores (N, 4·width, H / 64, W / 64), rounded up.

    A score per patch and channel. Six spectrally normalised k5 s2 convolutions, all with leaky ReLU, the last one too
    (the author's answer on his code, issue 232).
    """

    def __init__(self, width: int):
        super().__init__()
        widths = [4, *(width * widening for widening in (1, 2, 4, 4, 4, 4))]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 5, stride=2, padding=2)) for before, after in pairwise(widths)
        )

    def forward(self, image: Tensor, hole: Tensor) -> Tensor:
        """Judge images in [-1, 1] whose part under ``hole`` (N, 1, H, W) may be made up."""
        x = torch.cat([image, hole], dim=1)
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d)
            with torch.autocast(x.device.type, enabled=False):  # singular values in full precision
                weight = layer.weight
            # Of a single pixel, torch 2.14's bf16 convolution on the CPU leaves parts of the gradient unset.
            bf16 = torch.is_autocast_enabled(x.device.type)
            lone = bf16 and x.shape[2:] == (1, 1)
            with torch.autocast(x.device.type, enabled=bf16 and not lone):
                x = leaky_relu(conv2d(x.float() if lone else x, weight, layer.bias, stride=2, padding=2), 0.2)
        return x


class Method(TwoStageMethod):
    """A generator that completes and a critic; ``complete`` gives the fine stage's image."""

    PAPER = "Yu et al. 2019"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size, 24, TwoStage)
        self.losses = "l1+hinge" if settings.backbone == "mde" else "l1_coarse+l1_fine+hinge"
        self.critic = Critic(settings.width)
        self._turn: tuple[list[Tensor], Tensor] | None = None

    def players(self) -> dict[str, Player]:
        """Critic and generator, one turn each; Adam without annealing."""
        s = self.settings
        options = {"betas": (s.beta1, s.beta2)}
        return {
            "critic": Player(list(self.critic.parameters()), s.lr, options),
            "generator": Player(list(self.generator.parameters()), s.lr, options),
        }

    def loss(self, player: str, batch: Batch) -> Loss:
        """The hinge game over composites (seen parts as they were), and L1 of each stage's whole image in [-1, 1]."""
        real = 2 * batch.images - 1
        if player == "critic":
            self._turn = self._complete_batch(batch)
            outputs, seen = self._turn
            pair = torch.cat([real, composite(real, outputs, seen).detach()])
            scores = at_least_float32(self.critic(pair, hole_of(seen).repeat(2, 1, 1, 1)))
            hinge = hinge_discriminator(*scores.chunk(2))
            return Loss(hinge, {"hinge": hinge})
        # The generator has not moved since the critic's turn: the same completions serve, once.
        turn, self._turn = self._turn or self._complete_batch(batch), None
        outputs, seen = turn
        names = ("coarse", "fine")[-len(outputs) :]
        parts = {name: (at_least_float32(output) - real).abs().mean() for name, output in zip(names, outputs)}
        l1 = torch.stack(list(parts.values())).sum()
        scores = self.critic(composite(real, outputs, seen), hole_of(seen))
        parts["adv"] = hinge_generator(at_least_float32(scores))
        return Loss(l1 + self.settings.adv_weight * parts["adv"], parts)

    def _complete_batch(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        seen = self.draw_seen(batch).to(batch.images)
        return self.outputs(batch.images, seen), seen

    def draw_seen(self, batch: Batch) -> Tensor:
        """Masks of the kind trained on, brush strokes with or without a rectangle: (N, 3, H, W)."""
        return batch.own(draw_strokes(self.settings.masks, batch.count, self.size, batch.generator)).expand(
            -1, 3, -1, -1
        )
