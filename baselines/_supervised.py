"""What supervised rows share: tasks that are learned from a pack's labels, each through a linear head of its own.

A task is an attribute, or on request the five landmarks together, or who it is. Every task counts the same, and for a
task those images alone whose label is known. Images are neither mirrored nor cropped, as for every method here. The
papers begin with ImageNet's weights; here networks begin at random, as those that they stand beside. Attributes and
landmarks have the squared error of the MDE's own heads (section 3.2.3), without their sigmoid: so a code is learned in
which a linear readout finds them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Loss, Player, polynomial
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.networks import build_encoder
from mdebench.settings import Count, Depth, Rate

COORDINATES = 10  # x and y of five landmarks
UNIT = 0.1  # of the side: coordinates differ from face to face by about as much in it as attributes do


@dataclass(frozen=True)
class TaskSettings:
    """``width``, ``code`` and ``encoder`` ("mde" or "timm:NAME") are the MDE's; Adam's ``lr`` falls to 0.

    ``attributes``: how many there are; the pack decides.
    """

    width: Count = 64
    code: Count = 4000
    encoder: str = "mde"
    lr: Rate = 1e-3
    attributes: Count = 40


@dataclass(frozen=True)
class SharedSettings(TaskSettings):
    """``landmarks`` and ``identity`` add these tasks; ``identities``: how many people there are; the pack decides."""

    landmarks: bool = False
    identity: bool = False
    identities: Count = 8


@dataclass(frozen=True)
class OrderSettings(SharedSettings):
    """``depth`` shared layers of ``units`` each."""

    depth: Depth = 4
    units: Count = 256


class Supervised(BaseMethod):
    """One player. A subclass makes ``heads`` by `heads_for`, and gives in ``streams`` what each of them reads."""

    FAMILY = "supervised"
    TAKES = ("attributes", "landmarks", "identity")
    settings: Any
    heads: nn.ModuleList

    @classmethod
    def suited(cls, settings: Any, known: Mapping[str, int]) -> Any:
        """With as many outputs as the pack has labels; UserError where it lacks those that these settings ask for."""
        asked = ["attributes", *(name for name in ("landmarks", "identity") if getattr(settings, name, False))]
        if missing := [name for name in asked if not known[name]]:
            raise UserError(f"it learns from {' and '.join(missing)}, and the pack has no training images with any")
        of_identity = {"identities": known["identity"]} if "identity" in asked else {}
        return replace(settings, attributes=known["attributes"], **of_identity)

    def __init__(self, settings: TaskSettings, size: int):
        super().__init__(settings, size)
        self.further = {  # task beside the attributes → outputs
            name: outputs
            for name, outputs in (("landmarks", COORDINATES), ("identity", getattr(settings, "identities", 0)))
            if getattr(settings, name, False)
        }
        self.tasks = settings.attributes + len(self.further)
        self.losses = "squared error" + ", cross-entropy" * ("identity" in self.further)

    def heads_for(self, wide: int) -> nn.ModuleList:
        """A linear layer on ``wide`` numbers for each task: the attributes, then landmarks, then identity."""
        outputs = (*[1] * self.settings.attributes, *self.further.values())
        return nn.ModuleList(nn.Linear(wide, each) for each in outputs)

    def streams(self, images: Tensor) -> Sequence[Tensor]:
        """What the head of each task reads of images (N, 3, H, W): (N, wide) each."""
        raise NotImplementedError

    def answers(self, images: Tensor) -> list[Tensor]:
        """What is said for each task, (N, outputs) in at least float32: 1 for yes; tenths of the side; logits."""
        return [at_least_float32(head(stream)) for head, stream in zip(self.heads, self.streams(images))]

    def players(self) -> dict[str, Player]:
        """The network."""
        return {"network": Player(list(self.parameters()), self.settings.lr, schedule=polynomial(0.9))}

    def loss(self, player: str, batch: Batch) -> Loss:
        """The mean over the tasks, each a mean over the images whose label is known, 0 where none is.

        ``error``: the share of attributes that are answered wrongly, in %.
        """
        answers, count = self.answers(batch.images), self.settings.attributes
        said, truth = torch.cat(answers[:count], dim=1), batch.beside("attributes")
        parts = {"attributes": mean_of_known((said - truth).square(), truth >= 0, batch).mean()}
        for name, answer in zip(self.further, answers[count:]):
            measure = of_landmarks if name == "landmarks" else of_identity
            parts[name] = measure(answer, batch)
        total = (count * parts["attributes"] + sum(parts[name] for name in self.further)) / self.tasks
        wrong = 100 * ((said > 0.5) != (truth > 0.5)).to(said)
        return Loss(total, parts | {"error": mean_of_known(wrong, truth >= 0, batch).mean()})


class Shared(Supervised):
    """One encoder for all tasks."""

    def __init__(self, settings: TaskSettings, size: int):
        super().__init__(settings, size)
        self.feature_dim = settings.code
        self.encoder = build_encoder(settings.encoder, size, settings.width, settings.code, 3)

    def encode(self, images: Tensor) -> Tensor:
        """The code that all tasks share: (N, 3, H, W) in [0, 1] → (N, code)."""
        code: Tensor = self.encoder(images)[0]
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the encoder: (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return self.encoder.maps(images)


class Ordered(Shared):
    """An encoder, a projection of its code, and ``depth`` shared layers, which a subclass puts in order."""

    def __init__(self, settings: OrderSettings, size: int):
        super().__init__(settings, size)
        self.project = nn.Linear(settings.code, settings.units)
        self.layers = nn.ModuleList(_layer(settings.units) for _ in range(settings.depth))
        self.heads = self.heads_for(settings.units)


def _layer(units: int) -> nn.Linear:
    """A layer before a ReLU; with torch's own weights four of them would leave little of what comes in."""
    layer = nn.Linear(units, units)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


def mean_of_known(values: Tensor, known: Tensor, batch: Batch) -> Tensor:
    """The mean of values (N, …) over the images for which they are ``known`` (N, …): (…), 0 where there is none.

    Of the whole batch: where processes share it, the mean of what each of them gets.
    """
    count = batch.mean(known.to(values).sum(dim=0))
    return torch.where(known, values, 0.0).sum(dim=0) / torch.where(count > 0, count, 1.0)


def of_landmarks(answer: Tensor, batch: Batch) -> Tensor:
    """The mean squared error of coordinates (N, 10), which are told in tenths of the side from the image's middle."""
    truth = (batch.beside("landmarks").flatten(1) - 0.5) / UNIT
    known = truth.isfinite()
    return mean_of_known((answer - truth.where(known, 0.0)).square(), known, batch).mean()


def of_identity(logits: Tensor, batch: Batch) -> Tensor:
    """The cross-entropy of who it is, in nats, from logits (N, identities)."""
    truth = batch.beside("identity").long()
    return mean_of_known(cross_entropy(logits, truth, ignore_index=-1, reduction="none"), truth >= 0, batch)
