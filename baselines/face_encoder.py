"""A network that lies in a file of Python, with weights that lie in another: somebody's face encoder, read like those
trained here.

Paper: none; a row that says where a network of others stands, as ``timm:NAME`` does for those that timm has. The file
``source`` has a class or function ``network`` that is called with nothing and makes a `torch.nn.Module`: images
(N, 3, side, side) → codes (N, D). `Example` is the least that can be, and what stands here where no file is named.
``weights`` are taken as trainers leave them (see `mdebench/methods/checkpoints.py`). The file's code is run, as that
of any method in a file is. For small images nothing was changed: they are enlarged to ``side``.
Command: ``mdebench pretrain face_encoder --set source=arcface.py --set network=iresnet50 --set weights=arcface.pth
--set side=112 --set normalise=half``.
There is nothing to train: the run is finished at once and can be measured, without the file of weights, but not without
``source``.
Expected: with weights of a recognition network well ahead of random ones on identities.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import isfunction
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mdebench.catalog import Code, told
from mdebench.errors import UserError
from mdebench.methods import checkpoints
from mdebench.methods.classifiers import Classifier, Look
from mdebench.methods.contract import Method as BaseMethod
from mdebench.settings import Count, choose

from ._normalised import NORMALISED

RANDOM = "random"


@dataclass(frozen=True)
class Settings:
    """``source`` a file of Python, "" for this one, ``network`` what makes the network in it; ``weights`` random or a
    file; ``side`` in pixels of the images that it takes, None: as they are; ``normalise`` one of `NORMALISED`.
    """

    source: str = ""
    network: str = "Example"
    weights: str = RANDOM
    side: Count | None = None
    normalise: str = "none"

    def __post_init__(self) -> None:
        if not self.weights:
            raise UserError("weights= names nothing: it is random or a file")
        choose(self.normalise, NORMALISED, "normalise")


class Example(nn.Sequential):
    """What such a file may hold: images (N, 3, h, w) → codes (N, 64)."""

    def __init__(self) -> None:
        convolutions = (nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1))
        super().__init__(*convolutions, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Reader(Classifier):
    """Reads a network whose output is the code."""

    def read(self, x: Tensor) -> Look:
        """The codes of normalised images, and no logits."""
        return Look(self.network(x), None)


class Method(BaseMethod):
    """Encodes by a network of a file; it has no players, and it cannot complete."""

    FILES = ("source", "weights")
    settings: Settings

    def __init__(self, settings: Settings, size: int, state: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(settings, size)
        network = self._made()
        if settings.weights != RANDOM and state is None:
            self._load(network)
        mean, std = NORMALISED[settings.normalise]
        self.classifier = Reader(network, mean, std, settings.side, headless=True)
        self.feature_dim = self._width()

    @classmethod
    def family(cls, settings: Settings) -> str:
        """What others trained is published; a network of random weights stands for nobody's training."""
        return "reference" if settings.weights == RANDOM else "published"

    @classmethod
    def restored(cls, settings: Settings, size: int, state: Mapping[str, Tensor]) -> "Method":
        """The network of a run, whose weights are loaded next: their file is not asked."""
        return cls(settings, size, state)

    def _made(self) -> nn.Module:
        """The network with its first weights; UserError where the file has none of that name, or does not make it."""
        s, makers = self.settings, dict[str, Any](Example=Example)
        path = checkpoints.path_of(s.source).absolute()
        if s.source:
            if not path.is_file() or path.suffix != ".py":
                raise UserError(f"source={s.source} is no file of Python; name the one that has the network")
            self.told["source"] = f"{path.name}-{checkpoints.file_hash(path)[:8]}"
            makers = _makers(Code("file", path.stem, "", str(path)).load())
            if not makers:
                raise UserError(f"source={s.source} has neither a torch.nn.Module nor a function of its own")
        maker = choose(s.network, makers, "network")
        try:
            network = maker()
        except Exception as error:  # somebody's code
            raise UserError(f"{s.network}() of {s.source} failed: {_line(error, path)}") from error
        if not isinstance(network, nn.Module):
            raise UserError(f"{s.network}() of {s.source} is a {type(network).__name__}, not a torch.nn.Module")
        return network

    def _load(self, network: nn.Module) -> None:
        path = checkpoints.path_of(self.settings.weights)
        file = checkpoints.read(path)
        found = checkpoints.fit(file, network, None, ())
        if not found.whole:
            raise UserError(f"{path} does not hold the weights: {found.why_not(self.settings.network)}")
        network.load_state_dict(found.found, strict=False)  # batch-norm's counters may lack
        self.told["weights"] = f"{path.name}-{checkpoints.file_hash(path)[:8]}"
        self.notes += found.notes(file)

    def _width(self) -> int:
        """How wide a code is, measured; UserError where the network takes no images of this size or gives no codes."""
        name, side = self.settings.network, self.settings.side or self.size
        self.eval()
        try:
            with torch.no_grad():
                code: object = self.encode(torch.zeros(2, 3, self.size, self.size))
        except Exception as error:  # somebody's code
            raise UserError(f"{name} takes no images of {side}×{side} pixels: {_line(error)}") from error
        self.train()
        if not isinstance(code, Tensor) or code.ndim != 2 or len(code) != 2:
            gives = tuple(code.shape) if isinstance(code, Tensor) else f"a {type(code).__name__}"
            raise UserError(f"{name} gives {gives} for two images, not codes (2, D)")
        return code.shape[1]

    def encode(self, images: Tensor) -> Tensor:
        """The network's output for whole images: (N, 3, H, W) in [0, 1] → (N, feature_dim)."""
        look: Look = self.classifier(images)
        return look.features


def _line(error: Exception, path: Path | None = None) -> str:
    """What somebody's code says when it fails, in one line."""
    return " ".join(told(error, path).split())


def _makers(module: ModuleType) -> dict[str, Any]:
    """The classes of networks and the functions that a file itself has, by name."""
    own = {name: each for name, each in vars(module).items() if getattr(each, "__module__", "") == module.__name__}
    return {n: e for n, e in own.items() if isfunction(e) or (isinstance(e, type) and issubclass(e, nn.Module))}
