"""Variational autoencoder: an image is coded as a distribution of codes, close to a standard normal one, from any of
which it can be put together again.

Paper: Kingma and Welling 2014, "Auto-encoding variational Bayes": the evidence lower bound (equation 10, one sample of
the code an image), with Gaussian codes of independent numbers and Gaussian pixels whose means end in a sigmoid.
Theirs are two fully connected layers; here it is the Missing Data Encoder's network without skip connections (see
`_bottleneck.py`), whose last encoding layer gives mean and logarithm of the variance instead of a rectified code. The
pixels' deviation is one number, ``deviation``: a variance for each pixel, which the paper's decoder predicts, makes the
bound endless wherever images are flat.
Changed for small images: nothing.
Representation: the mean of the code's distribution. It cannot complete images.
Command: ``mdebench pretrain vae``.
Expected: no published numbers for faces; blurred images, and a code of which many numbers say nothing.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mdebench.compute.machine import at_least_float32
from mdebench.methods.contract import Batch, Loss
from mdebench.settings import Rate

from ._bottleneck import BottleneckMethod, BottleneckSettings


@dataclass(frozen=True)
class Settings(BottleneckSettings):
    """See `BottleneckSettings`; ``deviation`` of the pixels from their means, in units of the image's range."""

    deviation: Rate = 0.1


class Method(BottleneckMethod):
    """``encode`` gives the mean of the code's distribution."""

    PAPER = "Kingma & Welling 2014"
    losses = "elbo"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        encoder = self.generator.encoder
        encoder.to_code = nn.Sequential(nn.Linear(math.prod(encoder.map_shape), 2 * settings.code))

    def loss(self, player: str, batch: Batch) -> Loss:
        """The negative bound: nats that pixels and code cost an image, a mean over images; less a constant, ½ ln 2πσ²
        a value. Its gradient is in nats a value, so that a learning rate serves all sizes.
        """
        mean, log_variance = self.posterior(batch.images)
        drawn = batch.own(torch.randn(batch.count, self.feature_dim, generator=batch.generator)).to(mean)
        means = at_least_float32(self.generator.decoder(mean + (log_variance / 2).exp() * drawn, []))
        pixels = ((means - batch.images) / self.settings.deviation).square().sum(dim=(1, 2, 3)).mean() / 2
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean() / 2
        return Loss((pixels + divergence) / batch.images[0].numel(), {"pixels": pixels, "code": divergence})

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the codes of images (N, 3, H, W) in [0, 1]: (N, code) each."""
        mean, log_variance = at_least_float32(self.generator.encoder(images)[0]).chunk(2, dim=1)
        return mean, log_variance

    def encode(self, images: Tensor) -> Tensor:
        """The mean of the code of whole images: (N, 3, H, W) in [0, 1] → (N, code)."""
        return self.posterior(images)[0]
