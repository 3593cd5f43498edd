"""DINO: a student looks at large and small crops of an image and is to say of each what a teacher, its own slowly
moving average, says of the large ones: how much the image is like each of many prototypes.

Paper: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", 2021. Two large crops (40 to
100 % of the area) for the teacher, these and eight small ones (5 to 40 %) for the student; the cross-entropy of each of
the student's with each of the teacher's of another crop. That all codes become one is kept off by the teacher's output
being centred (a moving mean is taken from it: no prototype wins always) and sharpened (a lower temperature: they do not
all win alike).
Changed for small images: the encoder is the Missing Data Encoder's (``encoder=timm:vit_small_patch16_224`` is the
paper's network, whose patches should be smaller here), the head's layers and prototypes shrink with ``width``, small
crops have half the image's side (in the paper 96 of 224 pixels); with the MDE's encoder their last map is enlarged to
what its fully connected layer takes. Weight decay stays at 0.04 where the paper's rises to 0.4, gradients are not
clipped, and the prototypes move from the first update on (the authors' code holds them for one epoch).
Representation: the teacher's, which is the better one in the paper, before the head; with the MDE's encoder its code.
Command: ``mdebench pretrain dino`` (``--set crops=4``: fewer small crops, quicker updates)
Expected: on ImageNet, ViT-S/16, 800 epochs: 77.0 % with a linear probe, 74.5 % by nearest neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, normalize

from mdebench.compute.machine import at_least_float32
from mdebench.methods.contract import Batch, Loss
from mdebench.settings import Count, Rate, Share, Weight

from ._siamese import Following, FollowingSettings, MDEBackbone, TimmBackbone
from ._views import Look, view

JITTER = (0.4, 0.4, 0.2, 0.1)
LARGE = tuple(Look((0.4, 1.0), JITTER, blurred, solarized) for blurred, solarized in ((1.0, 0.0), (0.1, 0.2)))
SMALL = Look((0.05, 0.4), JITTER, blurred=0.5)


@dataclass(frozen=True)
class Settings(FollowingSettings):
    """The paper's values (section 3, appendix C and its code), see `SiameseSettings`.

    ``lr`` is the paper's at a batch of 256. ``crops``: small ones. The teacher's temperature rises from
    ``first_temperature`` to ``last_temperature`` over the first ``heating`` of the run (30 of 300 epochs).
    """

    lr: Rate = 5e-4
    weight_decay: Weight = 0.04
    crops: Count = 8
    student_temperature: Rate = 0.1
    first_temperature: Rate = 0.04
    last_temperature: Rate = 0.07
    heating: Share = 0.1
    centre_momentum: Share = 0.9


class Head(nn.Module):
    """Three layers down to 4·width numbers of length 1, and their cosines to 1024·width prototypes: (N, 1024·width)."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        hidden, neck = 32 * width, 4 * width
        first, second, last = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, neck)
        self.layers = nn.Sequential(first, nn.GELU(), second, nn.GELU(), last)
        self.prototypes = nn.Parameter(torch.randn(1024 * width, neck))

    def forward(self, code: Tensor) -> Tensor:
        """The cosines, in float32 or more."""
        neck = at_least_float32(self.layers(code))
        with torch.autocast(neck.device.type, enabled=False):
            return linear(normalize(neck), normalize(self.prototypes))


class Method(Following):
    """``encode`` gives the teacher's code."""

    PAPER = "Caron et al. 2021"
    losses = "cross_entropy"
    settings: Settings
    centre: Tensor

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size, small=size // 2)
        self.register_buffer("centre", torch.zeros(1024 * settings.width))

    def head(self) -> nn.Module:
        """2048, 2048, 256 numbers and 65,536 prototypes in the paper."""
        return Head(self.feature_dim, self.settings.width)

    def measured(self) -> MDEBackbone | TimmBackbone:
        """The teacher's encoder."""
        return self.target.backbone

    def loss(self, player: str, batch: Batch) -> Loss:
        """The teacher's cross-entropy with the student, over all pairs of different views; then the centre moves."""
        self.follow(batch)
        large = torch.cat([view(batch, look, self.size) for look in LARGE])
        small = torch.cat([view(batch, SMALL, self.size // 2) for _ in range(self.settings.crops)])
        with torch.no_grad():
            taught = self.target(large)
        learned = [*self.online(large).chunk(2), *self.online(small).chunk(self.settings.crops)]
        error = self.apart(taught.chunk(2), learned, batch.progress)
        with torch.no_grad():
            self.centre.lerp_(batch.mean(taught.mean(dim=0)), 1 - self.settings.centre_momentum)
        return Loss(error, {"cross_entropy": error})

    def apart(self, taught: Sequence[Tensor], learned: Sequence[Tensor], progress: float) -> Tensor:
        """H(softmax((t − centre) / τ_t), softmax(s / τ_s)), the mean over images and over pairs of different views.

        ``taught``: t of each large view, (N, K); ``learned``: s of these views, and then of each small one.
        """
        wanted = [((each - self.centre) / self.temperature(progress)).softmax(dim=1) for each in taught]
        found = [log_softmax(each / self.settings.student_temperature, dim=1) for each in learned]
        pairs = [(t, s) for t in range(len(wanted)) for s in range(len(found)) if t != s]
        return torch.stack([-(wanted[t] * found[s]).sum(dim=1).mean() for t, s in pairs]).mean()

    def temperature(self, progress: float) -> float:
        """The teacher's: a line from the first to the last over ``heating``, then the last."""
        s = self.settings
        risen = min(1.0, progress / s.heating) if s.heating else 1.0
        return s.first_temperature + (s.last_temperature - s.first_temperature) * risen
