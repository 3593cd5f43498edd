"""Classifiers that others trained, by name or file, each read in the same way: images in, features and logits out.

``ARCH``       timm's or torchvision's network of that name with its published weights, fetched once
``ARCH:FILE``  the same with weights from a file: .safetensors, or .pth/.pt holding tensors only (nothing is unpickled)
``inception``  ImageNet's Inception v3 with TensorFlow's weights, as timm has it (not the older graph of published FIDs)

A network or a file without the classifying layer gives features only. Normalisation and input size are the network's
own.
"""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mdebench.errors import UserError
from mdebench.methods.timm_networks import check_name

WAYS_ON = (
    "go on with a local weight file (judge ARCH:FILE), with the one that the suite trains itself (judge own), or with"
    " none (judge none)"
)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INCEPTION = "inception_v3.tf_in1k"
TORCHVISION_SIZE = 224  # pixels that torchvision's classifiers were trained on


class Look(NamedTuple):
    """What a classifier says of images: features (N, dim) and logits (N, classes), None without a classifying layer."""

    features: Tensor
    logits: Tensor | None


class Classifier(nn.Module):
    """A network with what it expects of its input: images (N, 3, H, W) in [0, 1] → ``Look``.

    ``side`` is the size in pixels that images are brought to, None: taken as they are. ``headless``: features only.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        side: int | None = None,
        headless: bool = False,
    ):
        super().__init__()
        self.network, self.side, self.headless = network, side, headless
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Look:
        """What the network says of images (N, 3, H, W) in [0, 1]."""
        if self.side and images.shape[-2:] != (self.side, self.side):
            images = interpolate(images, (self.side, self.side), mode="bicubic", antialias=True).clamp(0, 1)
        return self.read((images - self.mean) / self.std)

    def read(self, x: Tensor) -> Look:
        """Features before the classifying layer, pooled, and the logits, of normalised images; timm's way."""
        network: Any = self.network
        maps = network.forward_features(x)
        features = network.forward_head(maps, pre_logits=True)
        return Look(features, None if self.headless else network.forward_head(maps))


class _Torchvision(Classifier):
    """Torchvision's networks with ``features`` and ``classifier``; the features are averaged over the image."""

    def read(self, x: Tensor) -> Look:
        kept: list[Tensor] = []
        network: Any = self.network
        with network.features.register_forward_hook(lambda module, inputs, output: kept.append(output)):
            logits = network.features(x) if self.headless else network(x)
        return Look(kept[0].mean(dim=(2, 3)), None if self.headless else logits)


def load_classifier(spec: str) -> tuple[Classifier, str]:
    """The classifier that ``spec`` names (see the module's text), in eval mode, and its name with its weights' hash.

    UserError, naming the ways on, when it cannot be had.
    """
    arch, _, file = spec.partition(":")
    name = INCEPTION if arch == "inception" else arch
    with torch.random.fork_rng(devices=[]):  # networks are made with random weights, all replaced
        classifier = _from_file(name, Path(file)) if file else _published(name)
    return classifier.eval(), f"{name}-{_digest(classifier)}"


def untrained(arch: str) -> Classifier:
    """timm's network of this name with random weights from torch's default generator; UserError if there is none."""
    import timm  # slow to import

    check_name(arch)
    return _of_timm(timm.create_model(arch), headless=True)


def _digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:8]


def _published(arch: str) -> Classifier:
    import timm  # both slow to import
    import torchvision

    try:
        if timm.is_model(arch):
            return _of_timm(timm.create_model(arch, pretrained=True), headless=False)
        if arch in torchvision.models.list_models(torchvision.models):
            network = torchvision.models.get_model(arch)
            weights = torchvision.models.get_model_weights(arch)["DEFAULT"]
            network.load_state_dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
            return _of_torchvision(network, headless=False)
    except UserError:
        raise
    except Exception as error:  # whatever the two libraries' ways of fetching raise: there are many
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the published weights of {arch} are not here and could not be fetched ({reason}); {WAYS_ON}"
        ) from error
    raise _unknown(arch)


def _of_timm(network: Any, headless: bool) -> Classifier:
    cfg = network.pretrained_cfg
    return Classifier(network, cfg["mean"], cfg["std"], cfg["input_size"][-1], headless or not network.num_classes)


def _of_torchvision(network: nn.Module, headless: bool) -> Classifier:
    if not (hasattr(network, "features") and hasattr(network, "classifier")):
        name = type(network).__name__
        raise UserError(f"torchvision's {name} cannot be read (no `features` and `classifier`); {WAYS_ON}")
    return _Torchvision(network, side=TORCHVISION_SIZE, headless=headless)


def _unknown(arch: str) -> UserError:
    import timm

    near = timm.list_models(f"*{arch}*")[:3]
    like = f" (timm has {', '.join(near)})" if near else ""
    return UserError(f"judge {arch!r}: neither timm nor torchvision has a network of that name{like}; {WAYS_ON}")


def _from_file(arch: str, path: Path) -> Classifier:
    """The network of timm, or else of torchvision, whose weights are those of the file."""
    import timm
    import torchvision

    state, reasons = _read_state(path), []
    makers = {"timm": (timm.is_model(arch), timm.create_model, _of_timm)}
    in_torchvision = arch in torchvision.models.list_models(torchvision.models)
    makers["torchvision"] = (in_torchvision, torchvision.models.get_model, _of_torchvision)
    for library, (has, make, wrap) in makers.items():
        if not has:
            continue
        network = make(arch)
        heads = _heads(network)
        weight = next((state[f"{head}.weight"] for head in heads if f"{head}.weight" in state), None)
        if weight is not None:
            network = make(arch, num_classes=len(weight))
        if not (reason := _fill(network, state, heads if weight is None else ())):
            return wrap(network, headless=weight is None)
        reasons.append(f"{library}'s: {reason}")
    if not reasons:
        raise _unknown(arch)
    raise UserError(f"{path} does not hold the weights of {arch} ({'; '.join(reasons)}); {WAYS_ON}")


def _heads(network: Any) -> tuple[str, ...]:
    """The names of the classifying layers (a distilled network has two), also where the network was made without them.

    timm tells them; torchvision's is the layer of the last parameter.
    """
    if hasattr(network, "pretrained_cfg"):
        told = network.pretrained_cfg["classifier"] or ()
        return (told,) if isinstance(told, str) else tuple(told)
    return ([name for name, _ in network.named_parameters()][-1].rpartition(".")[0],)


def _fill(network: nn.Module, state: Mapping[str, Tensor], left_out: tuple[str, ...]) -> str:
    """Load weights, all but those of the layers ``left_out``; returns why they do not fit, or ""."""
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        return str(error).splitlines()[-1].strip()
    missing = [name for name in missing if name.rpartition(".")[0] not in left_out]
    return (
        f"{len(missing)} missing and {len(unexpected)} unknown tensors, such as {[*missing, *unexpected][0]}"
        if (missing or unexpected)
        else ""
    )


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():  # torch muses about odd pickles; the errors below say what matters
            warnings.simplefilter("ignore")
            if path.suffix == ".safetensors":
                state: Any = load_file(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds something other than tensors and plain values and was not loaded: do not trust its source;"
            f" {WAYS_ON}"
        ) from error
    except Exception as error:  # whatever the readers make of a stranger's bytes: there are many kinds
        raise UserError(f"weights {path}: not a readable .safetensors, .pth or .pt file; {WAYS_ON}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"weights {path}: no mapping of names to tensors; {WAYS_ON}")
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
