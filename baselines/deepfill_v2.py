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
from torch.nn.functional import adaptive_avg_pool2d, conv2d, leaky_relu
from torch.nn.utils.parametrizations import spectral_norm

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods.adversaries import hinge_discriminator, hinge_generator
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.masks import draw_free_form
from mdebench.methods.networks import Generator
from mdebench.settings import Count, Rate, Share, Weight, choose

from ._two_stage import TwoStage, hole_of, network_input

BACKBONES = {"native": "the paper's two stages", "mde": "the generator of the Missing Data Encoder, in one stage"}
CELLS = 4  # per side, of the representation


@dataclass(frozen=True)
class Settings:
    """The paper's values (L1 and adversarial loss weigh 1 : 1; optimizer from the authors' code).

    ``width`` 64 stands for the paper's widths: 24 channels through the gates of the first layer (half of 48), and 64
    in the critic's. ``rate`` of the attention. ``code``, numbers of the representation, is for ``backbone`` mde only.
    """

    width: Count = 64
    code: Count = 4000
    backbone: str = "native"
    rate: Count = 2
    adv_weight: Weight = 1.0
    lr: Rate = 1e-4
    beta1: Share = 0.5
    beta2: Share = 0.999

    def __post_init__(self) -> None:
        choose(self.backbone, BACKBONES, "backbone")


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


class Method(BaseMethod):
    """A generator that completes and a critic; ``complete`` gives the fine stage's image."""

    PAPER = "Yu et al. 2019"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.generator: TwoStage | Generator
        if settings.backbone == "mde":
            self.generator = Generator(size, settings.width, settings.code, channels=5, last=nn.Tanh())
            self.feature_dim = settings.code
            self.losses = "l1+hinge"
        else:
            rate = settings.rate if size >= 64 else 1
            if rate != settings.rate:
                self.notes.append(f"contextual attention at rate 1, not {settings.rate}: {size} pixels are too few")
            if size % 4 or rate < 1 or size // 4 % rate:
                way = "make a pack of a --size that 4 divides" if size % 4 else "give another --set rate=N, such as 1"
                why = "a quarter of the size has to be a multiple of rate"
                raise UserError(f"rate={rate} at {size} pixels: {why}; {way}")
            n = max(4, 24 * settings.width // 64)
            self.generator = TwoStage(n, rate)
            self.feature_dim = (4 + 8) * n * CELLS**2
            self.losses = "l1_coarse+l1_fine+hinge"
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
            pair = torch.cat([real, self._composite(real, outputs, seen).detach()])
            scores = at_least_float32(self.critic(pair, hole_of(seen).repeat(2, 1, 1, 1)))
            hinge = hinge_discriminator(*scores.chunk(2))
            return Loss(hinge, {"hinge": hinge})
        # The generator has not moved since the critic's turn: the same completions serve, once.
        turn, self._turn = self._turn or self._complete_batch(batch), None
        outputs, seen = turn
        names = ("coarse", "fine")[-len(outputs) :]
        parts = {name: (at_least_float32(output) - real).abs().mean() for name, output in zip(names, outputs)}
        l1 = torch.stack(list(parts.values())).sum()
        scores = self.critic(self._composite(real, outputs, seen), hole_of(seen))
        parts["adv"] = hinge_generator(at_least_float32(scores))
        return Loss(l1 + self.settings.adv_weight * parts["adv"], parts)

    def _complete_batch(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        seen = self.draw_seen(batch).to(batch.images)
        return self._outputs(batch.images, seen), seen

    def _outputs(self, images: Tensor, seen: Tensor) -> list[Tensor]:
        """Each stage's image in (-1, 1) for images in [0, 1] and seen, all (N, 3, H, W); the finest last."""
        masked = (2 * images - 1) * seen
        if isinstance(self.generator, TwoStage):
            return list(self.generator(masked, seen))
        return [self.generator(network_input(masked, hole_of(seen)))]

    def _composite(self, real: Tensor, outputs: list[Tensor], seen: Tensor) -> Tensor:
        return seen * real + (1 - seen) * at_least_float32(outputs[-1])

    def draw_seen(self, batch: Batch) -> Tensor:
        """One to three brush strokes and a rectangle are missing: (N, 3, H, W)."""
        return batch.own(draw_free_form(batch.count, self.size, batch.generator)).expand(-1, 3, -1, -1)

    def encode(self, images: Tensor) -> Tensor:
        """Whole images (N, 3, H, W) in [0, 1] → (N, feature_dim)."""
        if isinstance(self.generator, TwoStage):
            maps = list(self.stages(images).values())[-2:]
            return torch.cat([adaptive_avg_pool2d(each, CELLS).flatten(1) for each in maps], dim=1)
        code: Tensor = self.generator.encoder(self._whole(images))[0]
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The maps of `TwoStage.maps` (or of the MDE's encoder) for whole images (N, 3, H, W) in [0, 1]."""
        if isinstance(self.generator, TwoStage):
            return self.generator.maps(2 * images - 1)
        return self.generator.encoder.maps(self._whole(images))

    def _whole(self, images: Tensor) -> Tensor:
        return network_input(2 * images - 1, torch.zeros_like(images[:, :1]))

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """The fine stage's image: images (N, 3, H, W) in [0, 1], seen broadcastable → (N, 3, H, W) in [0, 1]."""
        return (at_least_float32(self._outputs(images, seen.expand_as(images))[-1]) + 1) / 2
