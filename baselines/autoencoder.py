"""Autoencoder: an image is squeezed through a code and put together again, with nothing missing: what masking adds is
what the Missing Data Encoder has beyond it.

Paper: Hinton and Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks". Theirs are fully
connected layers, pretrained one by one; here it is the Missing Data Encoder's network without skip connections (see
`_bottleneck.py`), trained as that one's generator, so that the task alone differs: of its reconstruction loss, equation
(4), a mean over pixels is left when nothing is masked. The code has fewer numbers than the image, or the task would be
the identity: 4000 for 27,648 at the paper's scale.
Changed for small images: nothing.
Representation: the code. It cannot complete images.
Command: ``mdebench pretrain autoencoder``; beside it ``mdebench pretrain rec --S 0.1 --set losses=compl --set skips=``,
the same network and error with masks.
Expected: no published numbers for faces; behind the masked variants, or masking adds nothing.
"""

from dataclasses import dataclass

from torch.nn.functional import l1_loss, mse_loss

from mdebench.compute.machine import at_least_float32
from mdebench.methods.contract import Batch, Loss
from mdebench.settings import choose

from ._bottleneck import BottleneckMethod, BottleneckSettings

OBJECTIVES = {"l2": mse_loss, "l1": l1_loss}


@dataclass(frozen=True)
class Settings(BottleneckSettings):
    """See `BottleneckSettings`; ``objective``: the squared error of equation (4), l2, or the absolute one, l1."""

    objective: str = "l2"

    def __post_init__(self) -> None:
        choose(self.objective, OBJECTIVES, "objective")


class Method(BottleneckMethod):
    """``encode`` gives the code."""

    PAPER = "Hinton & Salakhutdinov 2006"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.losses = settings.objective

    def loss(self, player: str, batch: Batch) -> Loss:
        """The mean error of the image that comes out."""
        error = OBJECTIVES[self.settings.objective](at_least_float32(self.generator(batch.images)), batch.images)
        return Loss(error, {self.losses: error})
