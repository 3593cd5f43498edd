"""SimCLR: of all views in a batch, a view is to find the other one of its image; the encoder's code is kept, and the
head in which views are compared is thrown away.

Paper: Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
2020. NT-Xent, a cross-entropy over cosines divided by a temperature, in which each of the 2N views of N images is asked
once; a head of two layers, batch-norm in the first (the paper's code). Several processes compare their views with those
of all.
Changed for small images: the encoder is the Missing Data Encoder's (``encoder=timm:resnet50`` is the paper's), AdamW
stands in LARS's place (see ``_siamese``), and the blur shrinks with the image (see ``_views``). The paper's batches
have 4096 images, ours 24: a view has 46 others to be told from, not 8190, and this method wants many.
Representation: what stands before the head; with the MDE's encoder its code.
Command: ``mdebench pretrain simclr``
Expected: on ImageNet, ResNet-50, 1000 epochs at a batch of 4096: 69.3 % with a linear probe.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Loss
from mdebench.settings import Rate, Weight

from ._siamese import SiameseMethod, SiameseSettings, everyone, perceptron
from ._views import Look, view


@dataclass(frozen=True)
class Settings(SiameseSettings):
    """The paper's values for ImageNet (sections 2 and 3, appendix A), see `SiameseSettings`.

    ``strength`` of the colour jitter: 1 for ImageNet, ½ for the paper's CIFAR-10, where the temperature is ½, too.
    """

    temperature: Rate = 0.1
    strength: Weight = 1.0

    def __post_init__(self) -> None:
        if self.strength > 1.25:
            raise UserError(f"strength={self.strength}: beyond 1.25, colours would be changed to negative ones")


class Method(SiameseMethod):
    """``encode`` gives the code before the head."""

    PAPER = "Chen et al. 2020"
    losses = "nt_xent"
    settings: Settings

    def head(self) -> nn.Module:
        """One hidden layer as wide as the code, 2·width numbers."""
        return perceptron(self.feature_dim, self.feature_dim, 2 * self.settings.width)

    def loss(self, player: str, batch: Batch) -> Loss:
        """NT-Xent of two views of each image; UserError for a batch of one, which has no others."""
        if batch.count < 2:
            raise UserError("a view is told from other images, and a batch of 1 has none; give --set batch=2 or more")
        s = self.settings.strength
        look = Look(scale=(0.08, 1.0), jitter=(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s), blurred=0.5)
        views = torch.cat([view(batch, look, self.size) for _ in range(2)])
        first, second = normalize(self.online(views)).chunk(2)
        error = nt_xent(first, second, batch, self.settings.temperature)
        return Loss(error, {"nt_xent": error})


def nt_xent(first: Tensor, second: Tensor, batch: Batch, temperature: float) -> Tensor:
    """−log of exp(cos(i, j) / τ) / Σ_{k ≠ i} exp(cos(i, k) / τ), the mean over all views i, each with its partner j.

    ``first`` and ``second``: two views of each image here, (N, d) each, of length 1; k are the views of all processes.
    """
    n, count, device = len(first), batch.count, first.device
    everything = torch.cat([everyone(batch, first), everyone(batch, second)])
    with torch.autocast(device.type, enabled=False):
        alike = torch.cat([first, second]) @ everything.T / temperature
    place = batch.part * n + torch.arange(n, device=device)
    itself, partner = torch.cat([place, count + place]), torch.cat([count + place, place])
    return cross_entropy(alike.scatter(1, itself[:, None], -torch.inf), partner)
