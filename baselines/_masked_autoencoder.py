"""What `mae` and `pixio` share: a ViT encodes the visible patches alone, a narrower one decodes all of them from these
codes and mask tokens, and pixels are told by their squared error, as they are or normalised patch by patch.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from mdebench.errors import UserError
from mdebench.settings import Depth

from ._patches import PatchMethod, PatchSettings, PatchTransformer, build_vit


@dataclass(frozen=True)
class MaskedSettings(PatchSettings):
    """`PatchSettings`, and how deep the decoder is, whose tokens have 8·width numbers.

    ``norm_pixels``: whether targets are normalised within each patch.
    """

    decoder_depth: Depth = 8
    norm_pixels: bool = False

    def __post_init__(self) -> None:
        if self.norm_pixels and self.backbone == "mde":
            raise UserError("norm_pixels=true goes beyond [0, 1], where the outputs of backbone=mde lie; leave one out")


class Autoencoder(PatchTransformer):
    """The ViT over visible patches, and a decoder over all: a second ViT that is fed codes in the place of pixels."""

    def __init__(self, size: int, patch: int, settings: MaskedSettings):
        super().__init__(size, patch, settings.width, settings.depth)
        dim = 8 * settings.width
        self.decoder = build_vit(size, patch, dim, settings.decoder_depth, head=32)
        self.decoder.patch_embed = nn.Linear(self.feature_dim, dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))
        self.head = nn.Linear(dim, 3 * patch**2)

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        """Predict all patches: (N, 3, H, W) in [0, 1] and (N, L) → (N, L, 3·p²).

        Images with equally many visible patches go together, so that none is padded or sees its neighbours.
        """
        counts = visible.sum(dim=1)
        patches = images.new_empty(*visible.shape, self.head.out_features)
        for count in set(counts.tolist()):
            same = counts == count
            codes = self.encode_visible(images[same], visible[same], count)
            patches[same] = self.decode(codes, visible[same]).to(patches)
        return patches

    def decode(self, codes: Tensor, visible: Tensor) -> Tensor:
        """Codes into their places, mask tokens into the others, and from these the patches."""
        codes = self.decoder.patch_embed(codes)
        places = self.mask_token.to(codes).expand(*visible.shape, -1).masked_scatter(visible[..., None], codes)
        patches: Tensor = self.head(self.decoder.norm(self.decoder.blocks(places + self.decoder.pos_embed)))
        return patches


class MaskedAutoencoder(PatchMethod):
    """The game of `PatchMethod` with squared errors, and completions of the pixels that are not seen."""

    settings: MaskedSettings

    def __init__(self, settings: MaskedSettings, size: int):
        super().__init__(settings, size)
        self.losses = "mse_normalised" if settings.norm_pixels else "mse"
        if settings.norm_pixels:
            self.notes.append(
                "norm_pixels predicts no brightness and contrast: completions take those of the average visible patch"
            )

    def native(self, size: int, patch: int, settings: Any) -> PatchTransformer:
        """Encoder and decoder."""
        return Autoencoder(size, patch, settings)

    def penalty(self, difference: Tensor) -> Tensor:
        """Squared error."""
        return difference.square()

    def target(self, patches: Tensor) -> Tensor:
        """The pixels, with ``norm_pixels`` less their mean and over their standard deviation within the patch."""
        return layer_norm(patches, patches.shape[2:], eps=1e-6) if self.settings.norm_pixels else patches

    def paint(self, prediction: Tensor, patches: Tensor, visible: Tensor) -> Tensor:
        """The prediction; with ``norm_pixels`` at the mean and deviation of the image's average visible patch."""
        if not self.settings.norm_pixels:
            return prediction
        share = (visible / visible.sum(dim=1, keepdim=True).clamp(min=1))[..., None]  # of each patch in the average
        mean, deviation = patches.mean(dim=2, keepdim=True), patches.std(dim=2, keepdim=True, correction=0)
        return prediction * (share * deviation).sum(dim=1, keepdim=True) + (share * mean).sum(dim=1, keepdim=True)
