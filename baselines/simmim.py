"""SimMIM: a ViT is given all patches, with a learned mask token in the place of masked ones, and one linear layer
predicts their pixels.

Paper: Xie et al. 2022, "SimMIM: a simple framework for masked image modeling". L1 on the masked pixels, 60 % masked.
Changed for small images: the image is 8×8 patches (of 8 pixels at 64, 12 at 96), and a patch is what is masked: the
paper masks squares of 32 pixels, a sixth or seventh of its images' side, in units of several patches. The ViT is that
of ``mae``, with fixed positions (the paper's ViT has relative ones, which timm's lacks) and without stochastic depth,
so that the two differ in the game alone. No augmentation.
Representation: the mean of all tokens after the last norm, whole image, nothing masked: 12·width numbers.
Completion: masks are rounded to patches, so that a patch with a missing pixel or channel is wholly missing.
Colorization, and rectangles per channel as in ``rec``, leave it little or nothing to see.
Command: ``mdebench pretrain simmim``.
Expected: on ImageNet, ViT-B, 800 epochs: 83.8 % when fine-tuned; frozen, its features are weaker than MAE's
(56.7 % with a linear probe, by the paper's comparison of systems).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mdebench.settings import Share

from ._patches import PatchMethod, PatchSettings, PatchTransformer, centred


@dataclass(frozen=True)
class Settings(PatchSettings):
    """The paper's values (section 4.1), see `PatchSettings`.

    ``lr`` is the learning rate itself, and that of ``mae``: the paper's 8e-4 at a batch of 2048 is, by the square root
    of the batch, 9e-5 at 24 images; narrow networks bear and short runs need more. Cosine as in the paper's ablations.
    """

    mask_ratio: float = 0.6
    beta2: Share = 0.999


class MaskedTransformer(PatchTransformer):
    """The ViT with a mask token at its input and a linear head at its output."""

    def __init__(self, size: int, patch: int, settings: PatchSettings):
        super().__init__(size, patch, settings.width, settings.depth)
        self.mask_token = nn.Parameter(0.02 * torch.randn(self.feature_dim))
        self.head = nn.Linear(self.feature_dim, 3 * patch**2)

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        """Predict all patches: (N, 3, H, W) in [0, 1] and (N, L) → (N, L, 3·p²)."""
        tokens = self.vit.patch_embed(centred(images))
        tokens = tokens.where(visible[..., None], self.mask_token.to(tokens))
        patches: Tensor = self.head(self.vit.norm(self.vit.blocks(tokens + self.vit.pos_embed)))
        return patches


class Method(PatchMethod):
    """``encode`` gives the mean token, ``complete`` the predicted patches where the image's own are not whole."""

    PAPER = "Xie et al. 2022"
    losses = "l1"

    def native(self, size: int, patch: int, settings: PatchSettings) -> PatchTransformer:
        """The ViT with mask token and head."""
        return MaskedTransformer(size, patch, settings)

    def penalty(self, difference: Tensor) -> Tensor:
        """Absolute error."""
        return difference.abs()
