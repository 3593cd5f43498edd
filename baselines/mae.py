"""Masked autoencoder: a ViT encodes the quarter of an image's patches that it is shown, a narrow decoder the rest.

Paper: He et al. 2022, "Masked autoencoders are scalable vision learners". The encoder is given the visible patches
only; mask tokens stand for the others in the decoder. Mean squared error on masked patches.
Changed for small images: the image is 8×8 patches (of 8 pixels at 64, 12 at 96) where the paper has 14×14 of 16. At
``small`` an update then takes 27 GFLOP, where the MDE's takes 40 and patches of half the side would take 108. The
decoder keeps the paper's 8 blocks: over 64 patches they cost about what the encoder does over 16, and frozen features
gain by them (the paper's Table 1: 73.5 %, with one block 65.5 %). No class token (the paper: works similarly well
without), no augmentation.
``norm_pixels`` (targets normalised patch by patch, the paper's better setting) is off, so that predictions are images.
Representation: the mean of all tokens after the encoder's last norm, whole image, nothing masked: 12·width numbers.
Completion: masks are rounded to patches, so that a patch with a missing pixel or channel is wholly missing.
Colorization, and rectangles per channel as in ``rec``, leave it little or nothing to see.
Command: ``mdebench pretrain mae``.
Expected: on ImageNet, ViT-B, 1600 epochs: 83.6 % when fine-tuned, 68.0 % with a linear probe (the paper's Table 3
and its appendix); it is known for good fine-tuning rather than good frozen features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from mdebench.errors import UserError
from mdebench.settings import Depth

from ._patches import PatchMethod, PatchSettings, PatchTransformer, build_vit, centred


@dataclass(frozen=True)
class Settings(PatchSettings):
    """The paper's values (Table 8), see `PatchSettings`; the decoder has 8·width numbers a token.

    ``lr`` is the learning rate itself. The paper's 1.5e-4 · batch / 256 is 2.4e-3 at its batch of 4096; by the square
    root of the batch, the rule that suits Adam, that is 1.8e-4 at 24 images; narrow networks bear and short runs need
    more.
    """

    decoder_depth: Depth = 8
    norm_pixels: bool = False

    def __post_init__(self) -> None:
        if self.norm_pixels and self.backbone == "mde":
            raise UserError("norm_pixels=true goes beyond [0, 1], where the outputs of backbone=mde lie; leave one out")


class Autoencoder(PatchTransformer):
    """The ViT over visible patches, and a decoder over all: a second ViT that is fed codes in the place of pixels."""

    def __init__(self, size: int, patch: int, settings: Settings):
        super().__init__(size, patch, settings)
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
            patches[same] = self._decode(self._encode(images[same], visible[same], count), visible[same]).to(patches)
        return patches

    def _encode(self, images: Tensor, visible: Tensor, count: int) -> Tensor:
        """Codes (N, count, 12·width) of the visible patches, ``count`` in each image."""
        tokens = self.vit.patch_embed(centred(images)) + self.vit.pos_embed
        codes: Tensor = self.vit.norm(self.vit.blocks(tokens[visible].unflatten(0, (len(images), count))))
        return codes

    def _decode(self, codes: Tensor, visible: Tensor) -> Tensor:
        """Codes into their places, mask tokens into the others, and from these the patches."""
        codes = self.decoder.patch_embed(codes)
        places = self.mask_token.to(codes).expand(*visible.shape, -1).masked_scatter(visible[..., None], codes)
        patches: Tensor = self.head(self.decoder.norm(self.decoder.blocks(places + self.decoder.pos_embed)))
        return patches


class Method(PatchMethod):
    """``encode`` gives the mean token, ``complete`` the decoder's patches where the image's own are not whole."""

    PAPER = "He et al. 2022"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.losses = "mse_normalised" if settings.norm_pixels else "mse"
        if settings.norm_pixels:
            self.notes.append(
                "norm_pixels predicts no brightness and contrast: completions take those of the average visible patch"
            )

    def native(self, size: int, patch: int, settings: Settings) -> PatchTransformer:
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
