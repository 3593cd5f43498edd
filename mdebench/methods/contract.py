"""The contract of a method: a game. Who plays, in what order, and what each player minimises.

One loop (``training/loop.py``) serves every method: it owns precision, memory format, gradient steps, schedules,
logging, checkpoints, resuming and devices, and a method owns none of them. What a step draws at random comes from
``batch.generator`` (or torch's default one), both seeded by (seed, step), so that a resumed run draws what the unbroken
one would have. It draws for the whole batch, ``batch.own(draw(batch.count))``, as several processes may share it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mdebench.compute import devices
from mdebench.errors import UserError
from mdebench.methods.masks import draw


@dataclass(frozen=True, eq=False)
class Beside:
    """What a pack has beside its images, of that which a method ``takes``, for all ``count`` images of the pack.

    "attributes" (count, A) int8: 1, 0, -1 unknown; "landmarks" (count, 5, 2) float32: x, y relative to the crop, NaN
    unknown; "identity" and "label" (count,) int32, -1 unknown; "clip" (count,) int32: the clip that an image is a frame
    of, -1 none; "segments" (count, H, W) uint8: the class of each pixel. ``images``: see ``Batch.others``.
    """

    arrays: Mapping[str, NDArray[Any]]
    images: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's images and everything that decides what is drawn for them.

    Where several processes share a batch, ``images`` and ``index`` are this process's part of it. The loop averages
    losses and gradients over the processes; two things are the method's: it draws for all ``count`` images and keeps
    its ``own`` draws, and what it averages over images for a purpose other than the loss it hands through ``mean``.
    """

    images: Tensor  # (N, 3, H, W) float32 in [0, 1]; float64 where the recipe says fp64
    index: Tensor  # (N,) int64, place of each image in the pack
    step: int  # update, from 0
    epoch: int  # pass over the training partition, from 0
    seed: int  # of the run
    generator: torch.Generator  # CPU, seeded by (seed, step)
    updates: int  # of the whole run
    part: int = 0  # which of ``parts`` equal parts of the batch the images are
    parts: int = 1
    given: Beside | None = None  # for a method that ``takes`` what a pack has beside its images

    @property
    def count(self) -> int:
        """How many images the whole batch has."""
        return self.parts * len(self.images)

    def own(self, drawn: Tensor) -> Tensor:
        """What was drawn for the whole batch, (count, …) → that of the images here, (N, …), on their device."""
        return devices.sent(drawn.view(self.parts, -1, *drawn.shape[1:])[self.part], self.images.device)

    def mean(self, value: Tensor) -> Tensor:
        """A mean over the images here (N is the same everywhere) → over those of the whole batch; any shape."""
        return devices.mean(value) if self.parts > 1 else value

    def beside(self, name: str) -> Tensor:
        """What the pack has of that name beside the images here: (N, …), on their device; see ``Beside``.

        A KeyError where the method does not say that it ``takes`` it: what no method names, none can learn from.
        """
        if self.given is None:
            raise KeyError(name)
        return devices.sent(torch.from_numpy(self.given.arrays[name][self.index.numpy()]), self.images.device)

    def others(self, rows: Tensor) -> Tensor:
        """Other images of the pack, by their places in it (n,): (n, 3, H, W), as ``images`` are.

        For methods that take "clip": frames of one clip stand in a pack one after the other, in their order.
        """
        if self.given is None or "clip" not in self.given.arrays:
            raise KeyError("clip")
        return self.given.images(rows)

    @property
    def progress(self) -> float:
        """The share of the run that is done, in [0, 1)."""
        return self.step / self.updates


class Loss(NamedTuple):
    """What a player minimises, and its named parts for the log (before weighting)."""

    total: Tensor
    parts: dict[str, Tensor]


def polynomial(power: float) -> Callable[[float], float]:
    """Polynomial annealing: progress p in [0, 1] → factor (1 − p)^power on the learning rate."""
    return lambda progress: (1 - progress) ** power


def constant(progress: float) -> float:
    """No annealing."""
    return 1.0


def phase(shares: Sequence[int], step: int, updates: int) -> int:
    """Which phase of a run update ``step`` of ``updates`` is in, from 0; each ends at its share, rounded down."""
    return sum(step >= updates * sum(shares[: n + 1]) // sum(shares) for n in range(len(shares) - 1))


@dataclass(frozen=True)
class Player:
    """What one player moves, and how: the optimizer, its learning rate and options, a schedule over progress."""

    parameters: list[nn.Parameter]
    lr: float
    options: Mapping[str, Any] = field(default_factory=dict)  # such as betas
    schedule: Callable[[float], float] = field(default=constant)
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam


@runtime_checkable
class Encodes(Protocol):
    """A method with an encoder."""

    feature_dim: int

    def encode(self, images: Tensor) -> Tensor:
        """The representation of whole images: (N, 3, H, W) in [0, 1] → (N, feature_dim)."""


def codes_of(method: Encodes, images: Tensor) -> Tensor:
    """``method.encode(images)``, held to its promise; UserError where it gives another shape."""
    codes = method.encode(images)
    promised = (len(images), method.feature_dim)
    if method.feature_dim < 1 or shape_of(codes) != promised:
        raise UserError(
            f"encode promises (N, feature_dim) = {promised} and gives {shape_of(codes)}: set feature_dim in __init__ to"
            " the numbers of a code"
        )
    return codes


def shape_of(value: object) -> tuple[int, ...] | str:
    """A tensor's shape; of anything else what it is, in words."""
    return tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"


@runtime_checkable
class Completes(Protocol):
    """A method that fills in what is missing."""

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """Raw completions (N, 3, H, W) in [0, 1] of images (N, 3, H, W) where ``seen`` (broadcastable, 1/0) is 1."""


@runtime_checkable
class Stages(Protocol):
    """A method whose encoder can be looked into on the way to the code."""

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the encoder, first to last, for whole images (N, 3, H, W) in [0, 1].

        Returns "stage1", "stage2", … → (N, C, h, w).
        """


@runtime_checkable
class Locates(Protocol):
    """A method that finds where an image is damaged, and is not told."""

    def locate(self, images: Tensor) -> Tensor:
        """The probability that each pixel of images (N, 3, H, W) in [0, 1] is intact: (N, 1, H, W)."""


@runtime_checkable
class Restores(Protocol):
    """A method that completes images of which it is not told what is damaged."""

    def restore(self, images: Tensor) -> Tensor:
        """Raw restored images (N, 3, H, W) in [0, 1] of damaged ones (N, 3, H, W) in [0, 1]."""


@runtime_checkable
class Scores(Protocol):
    """A method that says how probable images are."""

    def likelihood(self, images: Tensor) -> Tensor:
        """ln p of each image (N, 3, H, W) in [0, 1], taken as 8-bit values: (N,), in nats, at most 0."""


class Method(nn.Module):
    """Base of every method; a method file defines ``Method`` (a subclass) and its frozen dataclass ``Settings``.

    Six capabilities, of which a method defines those that it has, and simply lacks the others: ``Encodes``,
    ``Stages``, ``Completes``, ``Locates``, ``Restores`` and ``Scores``.
    """

    PAPER: str = ""  # authors and year; empty for the rows that stand for nobody's work
    REFERENCE = False  # True: an untrained row that stands in every table for comparison
    FAMILY = "completion"  # what is learned from, one of `results.lines.FAMILIES`: tables are grouped by it
    TAKES: tuple[str, ...] = ()  # what it learns from beside images, by the names of ``Beside``; nothing else is given
    FILES: tuple[str, ...] = ()  # settings that may name a file: a run keeps its hash
    feature_dim: int = 0
    losses: str = "–"  # the loss set that is really played, for the record

    def __init__(self, settings: Any, size: int):
        super().__init__()
        self.settings = settings
        self.size = size
        self.told: dict[str, str] = {}  # settings that name a file here, as rows tell them: by name and hash
        self.notes: list[str] = []  # what a user must be told of this method at these settings

    @classmethod
    def restored(cls, settings: Any, size: int, state: Mapping[str, Tensor]) -> "Method":
        """The method of a run, of which ``state`` (or some of it) is loaded next; nothing that it holds is drawn anew.

        For methods whose settings name a file: a run is measured when that has moved, too.
        """
        return cls(settings, size)

    @classmethod
    def suited(cls, settings: Any, known: Mapping[str, int]) -> Any:
        """The settings of a run on a pack that has what it ``TAKES``: such as the number of outputs of a head.

        ``known``: how many attributes (columns), landmarks (points), identities, labels (classes: the largest number
        among the training images, plus one), clips and segments (classes) there are, 0 where a pack has none of them.
        UserError where they are too few.
        """
        if missing := [name for name in cls.TAKES if not known[name]]:
            raise UserError(f"it learns from {' and '.join(missing)}, and the pack has no training images with any")
        return settings

    @classmethod
    def family(cls, settings: Any) -> str:
        """Where it stands in tables, at these settings (or what a row keeps of them, by the same names)."""
        return "reference" if cls.REFERENCE else cls.FAMILY

    @classmethod
    def lacking(cls) -> str:
        """What it needs that is not installed here, and the way to it; "" where nothing.

        A reference that lacks something is left out of tables, and that is said.
        """
        return ""

    @property
    def perceptual(self) -> str:
        """Name of the perceptual network that is really used, for the record."""
        return "none"

    def players(self) -> Mapping[str, Player]:
        """Name → player; an empty mapping for a method that needs no training."""
        return {}

    def turns(self, step: int, updates: int) -> tuple[str, ...]:
        """Who moves at update ``step`` of ``updates``, in order; a player may move several times, or not at all."""
        return self._everybody

    @cached_property
    def _everybody(self) -> tuple[str, ...]:
        """The players in their order, once: all updates of a run are looked through before it begins."""
        return tuple(self.players())

    def loss(self, player: str, batch: Batch) -> Loss:
        """The scalar that ``player`` minimises on this batch."""
        raise AssertionError(f"{type(self).__module__} has players but no loss")

    def draw_seen(self, batch: Batch) -> Tensor:
        """A training mask for sample pictures, (N, 3, H, W) of 1 and 0; by default a centred quarter is missing."""
        return batch.own(draw("inpainting", 0.25, batch.count, self.size, batch.generator)[0])
