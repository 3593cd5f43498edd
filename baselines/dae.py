"""Denoising autoencoder: single values of an image are destroyed at random, and the whole image is to be recovered.

Paper: Vincent, Larochelle, Bengio and Manzagol 2008, "Extracting and composing robust features with denoising
autoencoders": a share of the input's values, each by itself, is set to 0. The journal version (2010) adds Gaussian
noise (``noise=gaussian``), and has squared errors where images are no bits, as here.
Theirs are fully connected layers, trained one upon the other; here it is the Missing Data Encoder's network without
skip connections (see `_bottleneck.py`), trained at once: noise of single values instead of boxes is what differs from
that encoder.
Changed for small images: nothing. What is destroyed is not told, and its errors weigh as those of all other values.
Representation: the code of the image without noise. It completes no images: holes are another task than lost values.
Command: ``mdebench pretrain dae`` (``--set noise=gaussian``).
Expected: no published numbers for faces. Neighbours tell a lost value nearly, so that less is to be learned than from
boxes: the argument of Pathak et al. 2016 for their context encoder.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from mdebench.compute.machine import at_least_float32
from mdebench.methods.contract import Batch, Loss
from mdebench.settings import Share, Weight, choose

from ._bottleneck import BottleneckMethod, BottleneckSettings

NOISES = {"masking": torch.rand, "gaussian": torch.randn}  # what is drawn for each value


@dataclass(frozen=True)
class Settings(BottleneckSettings):
    """See `BottleneckSettings`. ``destroyed``: the share of values that masking sets to 0 (the paper tries 10, 25 and
    40 %); ``deviation`` of Gaussian noise, in units of the image's range.
    """

    noise: str = "masking"
    destroyed: Share = 0.25
    deviation: Weight = 0.3

    def __post_init__(self) -> None:
        choose(self.noise, NOISES, "noise")


class Method(BottleneckMethod):
    """``encode`` gives the code."""

    PAPER = "Vincent et al. 2008"
    losses = "l2"
    settings: Settings

    def loss(self, player: str, batch: Batch) -> Loss:
        """The mean squared error of what comes out of the damaged image, against the image."""
        error = mse_loss(at_least_float32(self.generator(self.damaged(batch))), batch.images)
        return Loss(error, {self.losses: error})

    def damaged(self, batch: Batch) -> Tensor:
        """The images with noise: (N, 3, H, W), of Gaussian noise also beyond [0, 1]."""
        s, shape = self.settings, (batch.count, *batch.images.shape[1:])
        drawn = batch.own(NOISES[s.noise](shape, generator=batch.generator)).to(batch.images)
        return batch.images * (drawn >= s.destroyed) if s.noise == "masking" else batch.images + s.deviation * drawn
