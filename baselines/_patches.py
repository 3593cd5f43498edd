"""The game that `mae`, `pixio` and `simmim` share: an image is cut into a grid of patches, most of them are masked at
random, and a network predicts their pixels. Here are the cutting, the masks, the ViT, the optimizer and the game
itself; `ijepa` has all but the game.

`visible` is everywhere a mask over patches, (N, L) of True and False, L patches row by row from the top left; patches
of pixels are (N, L, 3·p²), p pixels a side. Networks see and predict pixels in [-1, 1], images are in [0, 1].
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import fold, unfold

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.networks import Generator
from mdebench.settings import Count, Depth, Rate, Share, Weight, choose


@dataclass(frozen=True)
class PatchSettings:
    """What each of the three can be set to.

    ``width`` 64 is ViT-B: 12·width numbers a token and ``depth`` blocks. ``patches`` a side of the grid; ``mask_ratio``
    the share of them that is masked, rounded up to whole patches. ``lr`` the learning rate itself, whatever the batch;
    it rises over the first ``warm_up`` of the run. ``backbone`` native (the ViT) or mde (the MDE's generator; only
    there ``code`` is used).
    """

    width: Count = 64
    code: Count = 4000
    depth: Depth = 12
    patches: Count = 8
    mask_ratio: float = 0.75
    lr: Rate = 5e-4
    beta2: Share = 0.95
    weight_decay: Weight = 0.05
    warm_up: Share = 0.05
    backbone: str = "native"


def patch_side(size: int, patches: int) -> int:
    """The side in pixels of a patch, ``patches`` of which are a side of ``size``; UserError unless it is whole."""
    if patches < 1 or size % patches:
        fitting = ", ".join(str(n) for n in range(2, 17) if size % n == 0) or "none up to 16 does"
        why = f"{size}×{size} pixels cannot be cut into {patches}×{patches} equal patches"
        raise UserError(f"patches={patches}: {why}; --set patches=N where N divides {size} ({fitting}) can")
    return size // patches


def centred(images: Tensor) -> Tensor:
    """[0, 1] → [-1, 1]."""
    return 2 * images - 1


def patchify(images: Tensor, patch: int) -> Tensor:
    """Images (N, 3, H, W) → patches (N, L, 3·patch²)."""
    return unfold(images, patch, stride=patch).mT


def unpatchify(patches: Tensor, size: int) -> Tensor:
    """Patches (N, L, 3·p²) → images (N, 3, size, size), the inverse of `patchify`."""
    patch = math.isqrt(patches.shape[2] // 3)
    return fold(patches.mT, (size, size), patch, stride=patch)


def seen_patches(seen: Tensor, patch: int) -> Tensor:
    """Which patches are seen as a whole, in every pixel and channel: (N, 3, H, W) of 1 and 0 → `visible`."""
    return patchify(seen, patch).amin(dim=2) > 0


def seen_pixels(visible: Tensor, size: int) -> Tensor:
    """The same mask over pixels: (N, L) → (N, 3, size, size) float of 1 and 0."""
    patch = size // math.isqrt(visible.shape[1])
    return unpatchify(visible[..., None].float().expand(-1, -1, 3 * patch**2), size)


def heads(dim: int, wide: int) -> int:
    """Attention heads for tokens of ``dim`` numbers: as many as divide it and are ``wide`` or wider, at least one."""
    low = [count for count in range(1, math.isqrt(dim) + 1) if dim % count == 0]
    return max(count for count in (*low, *(dim // each for each in low)) if count <= max(1, dim // wide))


def build_vit(size: int, patch: int, dim: int, depth: int, head: int = 64) -> Any:
    """A timm ViT without class token and classifier, with the fixed sin-cos positions of MAE and its Xavier weights.

    Of a token's position four quarters of ``dim`` hold the sines of row and column and the cosines of row and column.
    """
    vit = VisionTransformer(
        img_size=size,
        patch_size=patch,
        embed_dim=dim,
        depth=depth,
        num_heads=heads(dim, head),
        num_classes=0,
        global_pool="",
        class_token=False,
        weight_init="jax",
    )
    del vit.pos_embed  # learned; a buffer of the same name takes its place
    vit.register_buffer("pos_embed", build_sincos2d_pos_embed([size // patch] * 2, dim)[None], persistent=False)
    return vit


class PatchTransformer(nn.Module):
    """A ViT of 12·width numbers a token as encoder; a subclass's ``forward`` says what becomes of masked patches.

    ``forward(images, visible)`` → patches (N, L, 3·p²) in [-1, 1], or wherever the targets lie.
    """

    def __init__(self, size: int, patch: int, width: int, depth: int):
        super().__init__()
        self.feature_dim = 12 * width
        self.vit = build_vit(size, patch, self.feature_dim, depth)
        self.quarters = sorted({math.ceil(depth * quarter / 4) - 1 for quarter in (1, 2, 3, 4)})

    def encode_visible(self, images: Tensor, visible: Tensor, count: int) -> Tensor:
        """Codes (N, count, 12·width) of the visible patches alone, ``count`` in each image."""
        tokens = self.vit.patch_embed(centred(images)) + self.vit.pos_embed
        codes: Tensor = self.vit.norm(self.vit.blocks(tokens[visible].unflatten(0, (len(images), count))))
        return codes

    def encode(self, images: Tensor) -> Tensor:
        """Whole images (N, 3, H, W) → (N, 12·width), the mean of all tokens after the last norm."""
        tokens: Tensor = self.vit.forward_features(centred(images))
        return tokens.mean(dim=1)

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """The tokens after a quarter, half, three quarters and all of the blocks, (N, 12·width, side, side) each."""
        maps = self.vit.forward_intermediates(centred(images), indices=self.quarters, intermediates_only=True)
        return {f"stage{number}": each for number, each in enumerate(maps, start=1)}


class Borrowed(nn.Module):
    """The MDE's generator in the transformer's place: it sees the image, and 0 where patches are masked."""

    def __init__(self, size: int, patch: int, settings: PatchSettings):
        super().__init__()
        self.size, self.patch, self.feature_dim = size, patch, settings.code
        self.generator = Generator(size, settings.width, settings.code)

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        """Predict all patches: (N, 3, H, W) and (N, L) → (N, L, 3·p²) in (-1, 1)."""
        output = self.generator(images * seen_pixels(visible, self.size).to(images))
        return patchify(centred(at_least_float32(output)), self.patch)

    def encode(self, images: Tensor) -> Tensor:
        """The code of whole images, (N, code)."""
        code: Tensor = self.generator.encoder(images)[0]
        return code

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the generator's encoder."""
        return self.generator.encoder.maps(images)


class MatrixDecay(torch.optim.AdamW):
    """AdamW that decays matrices and kernels, and leaves biases, norms and tokens (one axis) alone, as both codes do.

    From a flat list of parameters, which is what a player has.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        fused: bool | None = None,
    ):
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        super().__init__(groups, lr=lr, betas=betas, fused=fused)


def warm_up_cosine(warm_up: float, first: float = 0) -> Callable[[float], float]:
    """Progress in [0, 1] → factor on the learning rate: a line from ``first`` to 1 at ``warm_up``, a cosine to 0."""

    def factor(progress: float) -> float:
        if progress < warm_up:
            return first + (1 - first) * progress / warm_up
        return (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up))) / 2

    return factor


def vit_player(
    parameters: Iterable[nn.Parameter],
    lr: float,
    beta2: float,
    weight_decay: float,
    warm_up: float,
    first: float = 0,
) -> Player:
    """What moves a ViT: AdamW, and the schedule of `warm_up_cosine`."""
    options = {"betas": (0.9, beta2), "weight_decay": weight_decay}
    return Player(list(parameters), lr, options, warm_up_cosine(warm_up, first), MatrixDecay)


class PatchMethod(BaseMethod):
    """Masked patches are predicted from visible ones; subclasses give the network and the ``penalty`` of an error."""

    settings: PatchSettings
    network: PatchTransformer | Borrowed
    unit = "patches"  # what is masked together

    def __init__(self, settings: PatchSettings, size: int):
        super().__init__(settings, size)
        self.patch, self.total = patch_side(size, settings.patches), (settings.patches // self.block) ** 2
        self.masked = math.ceil(settings.mask_ratio * self.total - 1e-6)  # rounded up, but not for a float's last bit
        if not 0 < self.masked < self.total:
            raise UserError(
                f"mask_ratio={settings.mask_ratio} masks {self.masked} of {self.total} {self.unit};"
                " at least one has to be masked and one visible"
            )
        networks: dict[str, Callable[[int, int, Any], PatchTransformer | Borrowed]]
        networks = {"native": self.native, "mde": Borrowed}
        self.network = choose(settings.backbone, networks, "backbone")(size, self.patch, settings)
        self.feature_dim = self.network.feature_dim

    @property
    def block(self) -> int:
        """The side in patches of the squares that are masked together."""
        return 1

    def native(self, size: int, patch: int, settings: Any) -> PatchTransformer:
        """The method's own network."""
        raise AssertionError(f"{type(self).__module__} has no network")

    def penalty(self, difference: Tensor) -> Tensor:
        """What an error in one value costs, element by element."""
        raise AssertionError(f"{type(self).__module__} has no penalty")

    def target(self, patches: Tensor) -> Tensor:
        """What is to be predicted, from patches in [-1, 1]: the pixels themselves."""
        return patches

    def paint(self, prediction: Tensor, patches: Tensor, visible: Tensor) -> Tensor:
        """A prediction as patches in about [-1, 1], given those of the image of which only visible ones may be used."""
        return prediction

    def players(self) -> dict[str, Player]:
        """The network alone, with AdamW, warm-up and cosine."""
        s = self.settings
        return {"network": vit_player(self.network.parameters(), s.lr, s.beta2, s.weight_decay, s.warm_up)}

    def draw_visible(self, batch: Batch) -> Tensor:
        """Exactly ``masked`` units of each image are masked, each set as likely as any other: `visible` (N, L)."""
        noise = batch.own(torch.rand(batch.count, self.total, generator=batch.generator))
        visible = (noise.argsort(dim=1) >= self.masked).to(batch.images.device)
        side = math.isqrt(self.total)
        units = visible.view(-1, side, side)
        return units.repeat_interleave(self.block, dim=1).repeat_interleave(self.block, dim=2).flatten(1)

    def draw_seen(self, batch: Batch) -> Tensor:
        """A training mask over pixels, (N, 3, H, W)."""
        return seen_pixels(self.draw_visible(batch), self.size)

    def loss(self, player: str, batch: Batch) -> Loss:
        """The mean penalty over all values of masked patches; visible ones cost nothing."""
        visible = self.draw_visible(batch)
        target = self.target(patchify(centred(batch.images), self.patch))
        difference = at_least_float32(self.network(batch.images, visible)) - target
        error = self.penalty(difference[~visible]).mean()
        return Loss(error, {self.losses: error})

    def encode(self, images: Tensor) -> Tensor:
        """Whole images (nothing masked), (N, 3, H, W) in [0, 1] → (N, feature_dim)."""
        return self.network.encode(images)

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """Maps on the way to the representation, whole images (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return self.network.maps(images)

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """Images (N, 3, H, W) and ``seen`` (broadcastable) → the prediction in every patch not seen as a whole.

        Other patches are kept as they are. What is seen of a patch with a hole in it is lost.
        """
        visible = seen_patches(seen.expand_as(images), self.patch)
        patches = patchify(images, self.patch)
        painted = self.paint(at_least_float32(self.network(images, visible)), centred(patches), visible)
        return unpatchify(patches.where(visible[..., None], (painted.clamp(-1, 1) + 1) / 2), self.size)
