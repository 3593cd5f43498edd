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

from ._masked_autoencoder import MaskedAutoencoder, MaskedSettings


@dataclass(frozen=True)
class Settings(MaskedSettings):
    """The paper's values (Table 8), see `MaskedSettings`.

    ``lr`` is the learning rate itself. The paper's 1.5e-4 · batch / 256 is 2.4e-3 at its batch of 4096; by the square
    root of the batch, the rule that suits Adam, that is 1.8e-4 at 24 images; narrow networks bear and short runs need
    more.
    """


class Method(MaskedAutoencoder):
    """``encode`` gives the mean token, ``complete`` the decoder's patches where the image's own are not whole."""

    PAPER = "He et al. 2022"
