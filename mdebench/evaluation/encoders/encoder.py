"""Encoders as users take them: a run's, an exported file's, or any network with its preprocessing, frozen.

An `Encoder` is made of a method, so that the protocols measure all three alike.
"""

import copy
import hashlib
import inspect
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mdebench.catalog import own_methods
from mdebench.errors import UserError
from mdebench.evaluation.passes import CHUNK, frozen, placed
from mdebench.evaluation.passes import encode as encode_chunk
from mdebench.methods.contract import Completes, Method, Stages
from mdebench.settings import suggest
from mdebench.training.trainer import weights_hash


class Encoder(nn.Module):
    """A frozen encoder of images (N, 3, size, size) in [0, 1]; calling it encodes.

    ``info`` is its record: of a run, what run.json says; ``folder`` is that run's. It never trains: weights and
    batch-norm statistics stay.
    """

    def __init__(self, name: str, method: Method, info: Mapping[str, Any], folder: Path | None = None) -> None:
        super().__init__()
        self.name, self.method, self.info, self.folder = name, method, dict(info), folder
        self.eval()

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return int(self.method.size)

    @property
    def feature_dim(self) -> int:
        """How many numbers a code has."""
        return int(self.method.feature_dim)

    def train(self, mode: bool = True) -> "Encoder":
        """An encoder is frozen: it stays in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """The codes of images (N, 3, size, size), float in [0, 1], on any device → (N, feature_dim) float32 there.

        UserError for images of another shape or kind, and without an encoder.
        """
        return torch.cat([encode_chunk(self.method, piece).to(images.device) for piece in self._pieces(images)])

    forward = encode

    @torch.no_grad()
    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the encoder, by name → (N, C, h, w); UserError where it cannot be looked into."""
        if not isinstance(self.method, Stages):
            raise UserError(f"{self.name} does not show its stages")
        found: dict[str, list[Tensor]] = {}
        for piece in self._pieces(images):
            for stage, maps in self.method.stages(piece).items():
                found.setdefault(stage, []).append(maps.to(images.device))
        return {stage: torch.cat(maps) for stage, maps in found.items()}

    @torch.no_grad()
    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """Raw completions of images of which ``seen`` (1/0, broadcastable) is shown: (N, 3, size, size) in [0, 1].

        UserError where it cannot complete, as an exported encoder cannot.
        """
        if not isinstance(self.method, Completes):
            raise UserError(f"{self.name} cannot complete images")
        if self.info.get("exported"):
            raise UserError(f"{self.name} is an exported encoder, which cannot complete images: load its run")
        pieces = self._pieces(images)
        try:
            seen = seen.to(images).expand_as(images)
        except (AttributeError, RuntimeError) as error:
            raise UserError(f"seen is a tensor of 1 and 0 that fits images {tuple(images.shape)} ({error})") from error
        masked = zip(pieces, torch.split(seen, CHUNK))
        shown = ((piece, mask.to(piece)) for piece, mask in masked)
        return torch.cat([self.method.complete(p * mask, mask).float().to(images.device) for p, mask in shown])

    def trunk(self) -> nn.Module:
        """Its maps in the shape of timm's networks (see `Trunk`); of a method that is a network of timm, that network.

        UserError where there is neither.
        """
        if isinstance(self.method, Stages):
            return Trunk(self.method, self.size)
        if (network := timm_network(self.method)) is not None:
            return network
        raise UserError(f"{self.name} has no trunk: {self.info['method']} shows no maps before its code (no `stages`)")

    def _pieces(self, images: Tensor) -> list[Tensor]:
        """At most CHUNK images at a time on the network's device, channels last as when it is measured."""
        expected = (3, self.size, self.size)
        if not isinstance(images, Tensor):
            raise UserError(f"{self.name} takes a torch.Tensor of images, not a {type(images).__name__}")
        if images.ndim != 4 or tuple(images.shape[1:]) != expected or not images.is_floating_point():
            raise UserError(
                f"{self.name} takes float images (N, {', '.join(map(str, expected))}) in [0, 1], not"
                f" {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            )
        tensors = (*self.method.parameters(), *self.method.buffers())
        device = tensors[0].device if tensors else images.device
        pieces = torch.split(images.detach().float(), CHUNK)
        return [piece.to(device).contiguous(memory_format=torch.channels_last) for piece in pieces]


class Trunk(nn.Module):
    """An encoder without its fully connected layer, shaped as timm's networks are: `forward_features` gives the last
    map, `forward_head` its mean over places, calling it both; `num_features`, `feature_info` and `pretrained_cfg` say
    the rest. It can be trained on. ``network`` is timm's own network where the encoder is one, else None: its
    state_dict has timm's names.
    """

    def __init__(self, method: Method, size: int) -> None:
        super().__init__()
        assert isinstance(method, Stages)
        self.method, self.num_classes = method, 0
        self.network = timm_network(method)
        with frozen(method), torch.no_grad():
            maps = method.stages(torch.zeros(2, 3, size, size, device=_device(method)))
        self.feature_info = [
            {"num_chs": each.shape[1], "reduction": round(size / each.shape[-1]), "module": stage}
            for stage, each in maps.items()
        ]
        self.num_features = self.feature_info[-1]["num_chs"]
        shape = {"input_size": (3, size, size), "mean": (0.0,) * 3, "std": (1.0,) * 3, "num_classes": 0}
        self.pretrained_cfg = self.default_cfg = shape  # images in [0, 1], as they are

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (N, 3, size, size) in [0, 1] → the last map (N, num_features, h, w)."""
        maps: Mapping[str, Tensor] = self.method.stages(x)
        return list(maps.values())[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The last map → its mean over places (N, num_features); with or without ``pre_logits`` there is no class."""
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Images → (N, num_features)."""
        return self.forward_head(self.forward_features(x))


def timm_network(method: Method) -> nn.Module | None:
    """The outermost network of timm in a method, None where there is none."""
    return next((module for module in method.modules() if type(module).__module__.startswith("timm.models")), None)


def _device(method: nn.Module) -> torch.device:
    return next((tensor.device for tensor in method.parameters()), torch.device("cpu"))


# --- any network with its preprocessing


@dataclass(frozen=True)
class Preprocessing:
    """What a network wants of images in [0, 1]: a ``size`` in pixels a side, and each channel less ``mean`` over
    ``std``; ``stages`` are names of its modules whose maps are its stages."""

    size: int
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    stages: tuple[str, ...] = ()


class Wrapped(Method):
    """A network of others as a method: images are scaled to its size and normalised; a map is averaged over places."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, settings: Preprocessing, size: int) -> None:
        super().__init__(settings, size)
        self.network = network
        self.register_buffer("mean", torch.tensor(settings.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings.std).view(1, -1, 1, 1), persistent=False)

    def encode(self, images: Tensor) -> Tensor:
        """The network's answer for whole images (N, 3, H, W) in [0, 1]: (N, feature_dim)."""
        answer = self.network(self._prepared(images))
        if isinstance(answer, Tensor) and answer.ndim == 4:
            answer = answer.mean(dim=(2, 3))
        if not isinstance(answer, Tensor) or answer.ndim != 2 or len(answer) != len(images):
            got = f"a tensor {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
            raise UserError(
                f"{type(self.network).__name__} gives {got} for {len(images)} images, not (N, features) or a map"
                " (N, C, h, w): wrap it in a module that gives its code"
            )
        return answer

    def _prepared(self, images: Tensor) -> Tensor:
        side = self.settings.size
        if images.shape[-1] != side:
            images = interpolate(images, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        prepared: Tensor = (images - self.mean) / self.std
        return prepared


class WrappedStages(Wrapped):
    """The same, looked into at the modules whose names are asked for."""

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The maps (N, C, h, w) that the named modules give for whole images (N, 3, H, W) in [0, 1], in that order."""
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[nn.Module, object, Any], None]:
            return lambda module, given, maps: found.__setitem__(name, maps)

        hooks = [self.network.get_submodule(name).register_forward_hook(keep(name)) for name in self.settings.stages]
        try:
            self.network(self._prepared(images))
        finally:
            for hook in hooks:
                hook.remove()
        for name in self.settings.stages:
            if not isinstance(found.get(name), Tensor) or found[name].ndim != 4:
                owner = type(self.network).__name__
                raise UserError(f"{name} of {owner} gives no map (N, C, h, w); choose another stage")
        return {name: found[name] for name in self.settings.stages}


def _identity(method: Wrapped) -> str:
    """A hash of the network's weights, of its make and of the code of its classes: what else decides its codes."""
    told = [weights_hash(method), repr(method.network)]
    for cls in sorted({type(module) for module in method.network.modules()}, key=lambda cls: cls.__qualname__):
        told.append(f"{cls.__module__}.{cls.__qualname__}")
        if not cls.__module__.startswith("torch."):
            with suppress(OSError, TypeError):  # of a class that was typed, there is no file
                told.append(inspect.getsource(cls))
            told.append(repr(getattr(cls.forward, "__code__", None) and cls.forward.__code__.co_code))
    return hashlib.sha256(repr(told).encode()).hexdigest()


def wrap(
    network: nn.Module,
    *,
    images: int,
    size: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    stages: Sequence[str],
    name: str | None,
    scale: str,
) -> Encoder:
    """Any network as an encoder of images of ``images`` pixels a side; a copy is measured, the network stays as it is.

    UserError for what it cannot take, for stages that it does not have, and for codes that are no numbers.
    """
    if size is None or mean is None or std is None:
        raise UserError("say how the network wants its images: size=… pixels a side, mean=… and std=… of each channel")
    try:
        means, stds = (tuple(float(number) for number in each) for each in (mean, std))
        preprocessing = Preprocessing(operator.index(size), means, stds, tuple(stages))
    except (TypeError, ValueError) as error:
        asked = "size is a whole number, mean and std are three numbers each, stages are names"
        raise UserError(f"{asked} ({error})") from error
    if len(preprocessing.mean) != 3 or len(preprocessing.std) != 3 or min(preprocessing.std) <= 0 or size < 1:
        raise UserError("mean and std have a number for each of red, green and blue, std above 0; size is at least 1")
    known = {module for module, _ in network.named_modules()}
    for stage in preprocessing.stages:
        if stage not in known:
            raise UserError(f"{type(network).__name__} has no module {stage!r}.{suggest(stage, known)}")
    name = name or type(network).__name__
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+ -]*", name) or not isinstance(scale, str):
        raise UserError(f"name={name!r}: a name is made of letters, digits, _, ., +, - and spaces")
    if name in own_methods():
        raise UserError(f"{name} is the name of a method of the suite; give your network another name")
    cls = WrappedStages if stages else Wrapped
    try:
        method = cls(copy.deepcopy(network), preprocessing, images)
        placed(method)
    except Exception as error:
        raise UserError(f"{name} cannot be copied to be measured: {type(error).__name__}: {error}") from error
    with frozen(method):
        try:
            code = method.encode(torch.zeros(2, 3, images, images, device=_device(method)))
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{name} cannot take images of {size}×{size}: {type(error).__name__}: {error}") from error
    method.feature_dim = code.shape[1]
    digest = _identity(method)
    settings = {"size": size, "mean": list(preprocessing.mean), "std": list(preprocessing.std), "stages": list(stages)}
    info = {
        "method": name,
        "label": name,
        "settings": settings,
        "scale": scale,
        "size": images,
        "pack": "",
        "pack_hash": "",
        "seed": 0,
        "updates": 0,
        "batch": 0,
        "precision": "fp32",
        "perceptual": "none",
        "losses": "–",
        "family": "published",
        "weights_hash": digest,
        "feature_dim": method.feature_dim,
        "source": f"a network of the user's ({type(network).__module__}.{type(network).__qualname__})",
    }
    return Encoder(f"{name}-{digest[:8]}", method, info)
