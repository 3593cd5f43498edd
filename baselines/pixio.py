"""Pixio: a masked autoencoder with a harder task and more to solve it with: squares of several patches are masked, the
decoder is as deep as the encoder, and several class tokens gather what no single patch holds.

Paper: Yang et al. 2025, "In pursuit of pixel supervision for visual pre-training" (arXiv 2512.15715), and its code,
facebookresearch/pixio. Beside ``mae``: masks in squares of 4×4 patches at the same share, 75 %; as many blocks in the
decoder as in the encoder (32 and 32 for ViT-H); 8 class tokens in both.
Changed for small images: the image is 8×8 patches, as for ``mae``, where the paper has 16×16; a masked square is 2×2 of
them, so that it keeps its share of the image, a quarter of the side. Positions are fixed sines, as for ``mae``, and
class tokens have none (in the paper all are learned); no stochastic depth, no augmentation. The paper's fourth change,
two billion pictures of the web, is nobody's here.
``norm_pixels`` (on in the paper) is off, so that predictions are images.
Representation: the mean of the class tokens after the encoder's last norm, as the authors' nearest neighbours have it;
whole image, nothing masked: 12·width numbers. With ``backbone=mde`` that network's code; it has no class tokens.
Completion: as ``mae``: masks are rounded to patches, so that a patch with a missing pixel or channel is wholly missing.
Command: ``mdebench pretrain pixio``.
Expected: the paper has no numbers for faces. By its README a frozen ViT-H with a linear head segments 82.2 % of VOC
(mean IoU), MAE's 70.8 %, from other data.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mdebench.errors import UserError
from mdebench.settings import Count, Depth

from ._masked_autoencoder import Autoencoder, MaskedAutoencoder, MaskedSettings
from ._patches import PatchTransformer, centred


@dataclass(frozen=True)
class Settings(MaskedSettings):
    """The authors' values, see `MaskedSettings`; ``lr`` is that of ``mae``.

    ``block``: the side in patches of the squares that are masked together; ``class_tokens``: how many.
    """

    decoder_depth: Depth = 12
    block: Count = 2
    class_tokens: Count = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patches % self.block:
            fitting = ", ".join(str(n) for n in range(1, 9) if self.patches % n == 0)
            raise UserError(f"block={self.block} does not divide the {self.patches} patches of a side ({fitting} do)")


class ClassAutoencoder(Autoencoder):
    """`Autoencoder` with class tokens before the patches' tokens, in the encoder and, as codes, in the decoder."""

    def __init__(self, size: int, patch: int, settings: Settings):
        super().__init__(size, patch, settings)
        self.classes = settings.class_tokens
        self.class_tokens = nn.Parameter(0.02 * torch.randn(self.classes, self.feature_dim))

    def encode_visible(self, images: Tensor, visible: Tensor, count: int) -> Tensor:
        """Codes (N, classes + count, 12·width) of the class tokens, then of the visible patches."""
        tokens = self._tokens(images)[visible].view(len(images), count, self.feature_dim)
        codes: Tensor = self.vit.norm(self.vit.blocks(self._with_classes(tokens)))
        return codes

    def decode(self, codes: Tensor, visible: Tensor) -> Tensor:
        """Codes and mask tokens in their places, the class tokens' codes before them: the patches of all places."""
        codes = self.decoder.patch_embed(codes)
        places = self.mask_token.to(codes).expand(*visible.shape, -1)
        places = places.masked_scatter(visible[..., None], codes[:, self.classes :]) + self.decoder.pos_embed
        decoded = self.decoder.blocks(torch.cat([codes[:, : self.classes].to(places), places], dim=1))
        patches: Tensor = self.head(self.decoder.norm(decoded[:, self.classes :]))
        return patches

    def encode(self, images: Tensor) -> Tensor:
        """Whole images (N, 3, H, W) → (N, 12·width), the mean of the class tokens after the last norm."""
        codes: Tensor = self.vit.norm(self.vit.blocks(self._with_classes(self._tokens(images))))
        return codes[:, : self.classes].mean(dim=1)

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """The patches' tokens after a quarter, half, three quarters and all of the blocks, as maps."""
        x, found = self._with_classes(self._tokens(images)), list[Tensor]()
        height, width = self.vit.patch_embed.grid_size
        for number, block in enumerate(self.vit.blocks):
            x = block(x)
            if number in self.quarters:
                found.append(x[:, self.classes :].mT.unflatten(2, (height, width)))
        return {f"stage{number}": each for number, each in enumerate(found, start=1)}

    def _tokens(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.vit.patch_embed(centred(images)) + self.vit.pos_embed
        return tokens

    def _with_classes(self, tokens: Tensor) -> Tensor:
        return torch.cat([self.class_tokens.to(tokens).expand(len(tokens), -1, -1), tokens], dim=1)


class Method(MaskedAutoencoder):
    """``encode`` gives the mean class token, ``complete`` the decoder's patches where the image's own are not whole."""

    PAPER = "Yang et al. 2025"
    settings: Settings
    unit = "squares of patches"

    @property
    def block(self) -> int:
        """The side in patches of the squares that are masked together."""
        return self.settings.block

    def native(self, size: int, patch: int, settings: Any) -> PatchTransformer:
        """Encoder and decoder, with class tokens."""
        return ClassAutoencoder(size, patch, settings)
