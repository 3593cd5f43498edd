"""I-JEPA: from one block of an image the representations of other blocks are predicted, not their pixels; a slowly
following copy of the encoder, which sees the whole image, says what they are.

Paper: Assran et al. 2023, "Self-supervised learning from images with a joint-embedding predictive architecture", and
its code, facebookresearch/ijepa. Four target blocks of 15 to 20 % of the image, sides as 3:4 to 3:2; the context is a
square of 85 to 100 % less the targets. The encoder sees the context's patches alone; a narrow ViT predicts a target's
tokens from their codes and a mask token in each of its places. Targets are the copy's tokens, normalised each; the loss
is the smooth L1 of the code (the paper: squared errors). The copy follows at a momentum that rises from 0.996 to 1.
Changed for small images: the image is 8×8 patches as for ``mae``, with its ViT, its first weights and its optimizer
(here the paper's betas and first weight decay, 0.04, which there rises to 0.4), so that the two differ in the game
alone. No crops. As in the code the blocks of a batch share their sizes, and contexts are cut to the smallest one: here
by chance, there at the lower right, from which the last patches are dropped.
Representation: the mean of all tokens of the copy, as in the paper's evaluations, whole image: 12·width numbers. It
has followed the encoder up to the update before the last.
It cannot complete images: it knows of no pixels.
Command: ``mdebench pretrain ijepa``.
Expected: on ImageNet, ViT-B, 600 epochs: 72.9 % with a linear probe (MAE after 1600: 68.0 %), by the paper's Table 1.
"""

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, smooth_l1_loss

from mdebench.compute.machine import at_least_float32
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.settings import Count, Depth, Rate, Share, Weight

from ._patches import PatchTransformer, build_vit, patch_side, vit_player

TARGETS, TARGET_AREA, TARGET_ASPECT = 4, (0.15, 0.2), (0.75, 1.5)  # blocks, shares of the image, height over width
CONTEXT_AREA = (0.85, 1.0)
FIRST_LR = 1 / 5  # of ``lr``: where it rises from
LEAST = 1 / 16  # of all patches: as many are in a context at least (in the code 10 of 256)


@dataclass(frozen=True)
class Settings:
    """The paper's values (appendix A), where the module's text does not say otherwise.

    ``width`` 64 is ViT-B, 12·width numbers a token and ``depth`` blocks; the predictor has half as many numbers and
    ``predictor_depth`` blocks. ``patches`` a side of the grid; ``momentum`` of the copy at the beginning. ``lr`` that
    of ``mae``: the learning rate itself, whatever the batch, to which a fifth of it rises in the first ``warm_up`` of
    the run.
    """

    width: Count = 64
    depth: Depth = 12
    predictor_depth: Depth = 6
    patches: Count = 8
    momentum: Share = 0.996
    lr: Rate = 5e-4
    beta2: Share = 0.999
    weight_decay: Weight = 0.04
    warm_up: Share = 0.05


def block_sides(area: tuple[float, float], aspect: tuple[float, float], side: int, u: Tensor) -> Tensor:
    """Height and width (2,), in patches of a grid of ``side``², of a block; ``u`` (2,) in [0, 1): area and aspect."""
    share, ratio = (low + (high - low) * at for (low, high), at in zip((area, aspect), u.tolist()))
    sides = [round(math.sqrt(share * each) * side) for each in (ratio, 1 / ratio)]
    return torch.tensor(sides).clamp(1, side)


def draw_block(sides: Tensor, side: int, u: Tensor) -> Tensor:
    """A block of that height and width in a grid of ``side``², at a place that ``u`` (…, 2) in [0, 1) says: (…, L)."""
    at, first = torch.arange(side), ((side + 1 - sides) * u).long()[..., None]
    rows, columns = ((at >= first) & (at < first + sides[:, None])).unbind(dim=-2)
    return (rows[..., :, None] & columns[..., None, :]).flatten(-2)


def draw_blocks(count: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Context (count, L) and targets (count, TARGETS, L) of ``count`` images, True in their patches.

    All contexts have equally many patches, all targets too. A context lacks the patches of all targets or, where too
    little would be left of it, of the first ones only.
    """
    u = torch.rand(2, 2, generator=generator, dtype=torch.float64)
    places = torch.rand(count, TARGETS + 1, 2, generator=generator, dtype=torch.float64)
    targets = draw_block(block_sides(TARGET_AREA, TARGET_ASPECT, side, u[0]), side, places[:, 1:])
    square = draw_block(block_sides(CONTEXT_AREA, (1, 1), side, u[1]), side, places[:, 0])
    taken = torch.cat([torch.zeros_like(targets[:, :1]), targets], dim=1).cumsum(dim=1) > 0  # by the first 0, 1, …
    left = square[:, None] & ~taken
    enough = left.sum(dim=2) >= max(1, math.floor(LEAST * side**2))
    most = enough.sum(dim=1) - 1  # it shrinks with every target
    context = left[torch.arange(count), most]
    noise = torch.rand(count, side**2, generator=generator, dtype=torch.float64)
    order = noise.masked_fill(~context, 2.0).argsort(dim=1).argsort(dim=1)  # 0, 1, … among the context's own
    return order < context.sum(dim=1).min(), targets


class Predictor(nn.Module):
    """A narrow ViT: codes of the context and mask tokens in a target's places → that target's tokens."""

    def __init__(self, size: int, patch: int, settings: Settings):
        super().__init__()
        dim, tokens = 4 * math.ceil(6 * settings.width / 4), 12 * settings.width  # four quarters hold a position
        self.vit = build_vit(size, patch, dim, settings.predictor_depth, head=32)
        self.vit.patch_embed = nn.Linear(tokens, dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))
        self.head = nn.Linear(dim, tokens)

    def forward(self, codes: Tensor, context: Tensor, targets: Tensor) -> Tensor:
        """(N, K, 12·width), (N, L) with K True each, (N, B, L) with T True each → (N, B, T, 12·width)."""
        n, blocks, _ = targets.shape
        positions = self.vit.pos_embed.expand(n, -1, -1)
        given = self.vit.patch_embed(codes) + positions[context].unflatten(0, (n, -1))
        places = positions[:, None].expand(-1, blocks, -1, -1)[targets].unflatten(0, (n, blocks, -1)) + self.mask_token
        tokens = torch.cat([given[:, None].expand(-1, blocks, -1, -1), places.to(given)], dim=2)
        predicted = self.vit.norm(self.vit.blocks(tokens.flatten(0, 1)))[:, given.shape[1] :]
        found: Tensor = self.head(predicted).unflatten(0, (n, blocks))
        return found


class Method(BaseMethod):
    """``encode`` gives the mean token of the encoder's copy."""

    PAPER = "Assran et al. 2023"
    losses = "smooth_l1"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        patch = patch_side(size, settings.patches)
        self.encoder = PatchTransformer(size, patch, settings.width, settings.depth)
        self.predictor = Predictor(size, patch, settings)
        self.target = deepcopy(self.encoder)  # no player's: it follows
        self.feature_dim = self.encoder.feature_dim

    def players(self) -> dict[str, Player]:
        """Encoder and predictor, as one."""
        s, moved = self.settings, [*self.encoder.parameters(), *self.predictor.parameters()]
        return {"network": vit_player(moved, s.lr, s.beta2, s.weight_decay, s.warm_up, FIRST_LR)}

    def loss(self, player: str, batch: Batch) -> Loss:
        """The smooth L1 of predicted tokens, a mean over their numbers, over targets and images."""
        if self.training:
            self.follow(batch.progress)
        drawn = draw_blocks(batch.count, self.settings.patches, batch.generator)
        count, (context, targets) = int(drawn[0][0].sum()), (batch.own(each) for each in drawn)
        with torch.no_grad():
            tokens = at_least_float32(self.target.vit.forward_features(2 * batch.images - 1))
            tokens = layer_norm(tokens, tokens.shape[2:])
            wanted = tokens[:, None].expand(-1, TARGETS, -1, -1)[targets]
        codes = self.encoder.encode_visible(batch.images, context, count)
        error = smooth_l1_loss(at_least_float32(self.predictor(codes, context, targets)).flatten(0, 2), wanted)
        return Loss(error, {self.losses: error})

    @torch.no_grad()
    def follow(self, progress: float) -> None:
        """The copy moves towards the encoder as the last update left it, at the momentum of this share of the run."""
        momentum = self.settings.momentum + (1 - self.settings.momentum) * progress
        for slow, fast in zip(self.target.parameters(), self.encoder.parameters()):
            slow.lerp_(fast, 1 - momentum)

    def encode(self, images: Tensor) -> Tensor:
        """Whole images (nothing masked), (N, 3, H, W) in [0, 1] → (N, feature_dim)."""
        return self.target.encode(images)

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The copy's tokens on the way to the representation, images (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return self.target.maps(images)
