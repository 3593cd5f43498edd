"""BYOL: a network predicts, from one view of an image, what a slowly moving copy of itself says of another view; there
are no other images to be told from.

Paper: Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", 2020. 2 − 2 cos between
prediction and target, either view once on either side; the target follows by a moving average whose momentum rises from
0.996 to 1; what keeps codes from all becoming one is the predictor, which the target lacks.
Changed for small images: the encoder is the Missing Data Encoder's (``encoder=timm:resnet50`` is the paper's), AdamW
stands in LARS's place (see ``_siamese``), and the blur shrinks with the image (see ``_views``). Last layers have no
bias: batch-norm takes it away again where the predictor follows.
Representation: what stands before the head; with the MDE's encoder its code.
Command: ``mdebench pretrain byol``
Expected: on ImageNet, ResNet-50, 1000 epochs at a batch of 4096: 74.3 % with a linear probe.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from mdebench.methods.contract import Batch, Loss
from mdebench.settings import Weight

from ._siamese import Following, FollowingSettings, perceptron
from ._views import Look, view

# Table 6: views differ in how often they are blurred and solarized.
LOOKS = tuple(
    Look(scale=(0.08, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), blurred=blurred, solarized=solarized)
    for blurred, solarized in ((1.0, 0.0), (0.1, 0.2))
)


@dataclass(frozen=True)
class Settings(FollowingSettings):
    """The paper's values (section 3.2, appendix B), see `SiameseSettings`."""

    weight_decay: Weight = 1.5e-6


class Method(Following):
    """``encode`` gives the moved network's code, not the target's."""

    PAPER = "Grill et al. 2020"
    losses = "cosine"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.predictor = perceptron(4 * settings.width, 64 * settings.width, 4 * settings.width)

    def head(self) -> nn.Module:
        """One hidden layer of 64·width numbers, 4·width numbers: 4096 and 256 in the paper."""
        return perceptron(self.feature_dim, 64 * self.settings.width, 4 * self.settings.width)

    def moved(self) -> list[nn.Parameter]:
        """The network and the predictor."""
        return [*self.online.parameters(), *self.predictor.parameters()]

    def loss(self, player: str, batch: Batch) -> Loss:
        """How far predictions are from targets: from the first view to the second, and from the second to the first."""
        self.follow(batch)
        views = [view(batch, look, self.size) for look in LOOKS]
        with torch.no_grad():
            targets = [self.target(each) for each in views]
        predictions = [self.predictor(self.online(each)) for each in views]
        error = distance(predictions[0], targets[1]) + distance(predictions[1], targets[0])
        return Loss(error, {"cosine": error})


def distance(prediction: Tensor, target: Tensor) -> Tensor:
    """‖p/|p| − t/|t|‖² = 2 − 2 cos(p, t), the mean over the images; (N, d) each, computed in float32 or more."""
    return (2 - 2 * cosine_similarity(prediction.to(target), target)).mean()
