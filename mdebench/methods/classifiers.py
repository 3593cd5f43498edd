"""Classifiers that others trained, by name or file, each read in the same way: images in, features and logits out.

``ARCH``       timm's or torchvision's network of that name with its published weights, fetched once
``ARCH:FILE``  the same with weights from a file, in whatever wrapping (`checkpoints`)
``inception``  ImageNet's Inception v3 with TensorFlow's weights, as timm has it (not the older graph of published FIDs)

A network or a file without the classifying layer gives features only. Normalisation and input size are the network's
own.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mdebench.errors import UserError
from mdebench.methods import checkpoints
from mdebench.methods.checkpoints import Rules
from mdebench.methods.timm_networks import check_name, sized, with_rules

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
    ``name`` tells the network and a hash of its weights, ``notes`` how they were found in their file.
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
        self.name, self.notes = "", list[str]()
        self.register_buffer("mean", None, persistent=False)
        self.register_buffer("std", None, persistent=False)
        self.normalise(mean, std)

    def normalise(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """From now on images are given less ``mean`` and divided by ``std``, of three channels."""
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

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


def load_classifier(spec: str) -> Classifier:
    """The classifier that ``spec`` names (see the module's text), in eval mode.

    UserError, naming a judge's ways on, when it cannot be had.
    """
    arch, _, file = spec.partition(":")
    try:
        return trained(INCEPTION if arch == "inception" else arch, file).eval()
    except UserError as error:
        raise UserError(f"{error}; {WAYS_ON}") from error


def trained(arch: str, file: str = "", side: int | None = None) -> Classifier:
    """timm's or torchvision's network of this name with its published weights, or those of a file.

    ``side``: the pixels of the images that it will be given, None: its own. UserError when it cannot be had. Nothing is
    drawn from torch's default generator.
    """
    with torch.random.fork_rng(devices=[]):  # networks are made with random weights, all replaced
        return _from_file(arch, checkpoints.path_of(file), side) if file else _published(arch, side)


def untrained(arch: str, side: int | None = None) -> Classifier:
    """timm's network of this name with random weights from torch's default generator; UserError if there is none."""
    import timm  # slow to import

    check_name(arch)
    return _of_timm(timm.create_model(arch, **sized(arch, side)), headless=True)


def shaped(arch: str, state: Mapping[str, Tensor], side: int | None = None) -> Classifier:
    """The network of this name, with random weights, that holds the tensors ``state``, or some of its own: a run's."""
    for library in _libraries(arch, side):
        network, _ = library.make(arch)
        rows = [len(state[f"{head}.weight"]) for head in _heads(network) if f"{head}.weight" in state]
        network, _ = library.make(arch, num_classes=rows[0]) if rows else (network, None)
        if state.keys() <= network.state_dict().keys():
            return library.wrap(network, headless=True)
    raise UserError(f"neither timm nor torchvision has a network {arch} with the tensors of this run")


def _named(classifier: Classifier, arch: str, unfilled: Collection[str] = ()) -> Classifier:
    """The classifier, told by name and by a hash of its weights, but for the layers that nothing filled."""
    digest = hashlib.sha256()
    for name, tensor in sorted(classifier.state_dict().items()):
        if name.removeprefix("network.").rpartition(".")[0] not in unfilled:
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    classifier.name = f"{arch}-{digest.hexdigest()[:8]}"
    return classifier


def _published(arch: str, side: int | None) -> Classifier:
    import timm  # both slow to import
    import torchvision

    try:
        if timm.is_model(arch):
            network = timm.create_model(arch, pretrained=True, **sized(arch, side))
            return _named(_of_timm(network, headless=False), arch)
        if arch in torchvision.models.list_models(torchvision.models):
            network = torchvision.models.get_model(arch)
            weights = torchvision.models.get_model_weights(arch)["DEFAULT"]
            network.load_state_dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
            return _named(_of_torchvision(network, headless=False), arch)
    except UserError:
        raise
    except Exception as error:  # whatever the two libraries' ways of fetching raise: there are many
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"the published weights of {arch} are not here and could not be fetched ({reason})") from error
    raise _unknown(arch)


def _of_timm(network: Any, headless: bool) -> Classifier:
    cfg = network.pretrained_cfg
    return Classifier(network, cfg["mean"], cfg["std"], cfg["input_size"][-1], headless or not network.num_classes)


def _of_torchvision(network: nn.Module, headless: bool) -> Classifier:
    if not (hasattr(network, "features") and hasattr(network, "classifier")):
        name = type(network).__name__
        raise UserError(f"torchvision's {name} cannot be read (no `features` and `classifier`)")
    return _Torchvision(network, side=TORCHVISION_SIZE, headless=headless)


def _unknown(arch: str) -> UserError:
    import timm

    near = timm.list_models(f"*{arch}*")[:3]
    like = f" (timm has {', '.join(near)})" if near else ""
    return UserError(f"neither timm nor torchvision has a network {arch!r}{like}")


class _Library(NamedTuple):
    """A library that has a network: who it is, how it makes one (with its rules for checkpoints), how that is read."""

    name: str
    make: Callable[..., tuple[Any, Rules | None]]
    wrap: Callable[..., Classifier]


def _libraries(arch: str, side: int | None) -> Iterator[_Library]:
    """Those that have a network of this name, timm first; UserError where none has."""
    import timm
    import torchvision

    in_timm, in_torchvision = timm.is_model(arch), arch in torchvision.models.list_models(torchvision.models)
    if in_timm:
        size = sized(arch, side)
        yield _Library("timm", lambda name, **more: with_rules(name, **size, **more), _of_timm)
    if in_torchvision:
        yield _Library(
            "torchvision", lambda name, **more: (torchvision.models.get_model(name, **more), None), _of_torchvision
        )
    if not in_timm and not in_torchvision:
        raise _unknown(arch)


def _from_file(arch: str, path: Path, side: int | None) -> Classifier:
    """The network of timm, or else of torchvision, whose weights are those of the file."""
    libraries = list(_libraries(arch, side))
    file, refused = checkpoints.read(path), []
    for library in libraries:
        network, rules = library.make(arch)
        heads = _heads(network)
        found = checkpoints.fit(file, network, rules, heads)
        if found.classes not in (None, getattr(network, "num_classes", None)):
            as_wide, rules = library.make(arch, num_classes=found.classes)
            again = checkpoints.fit(file, as_wide, rules, heads)
            network, found = (as_wide, again) if again.whole or not found.whole else (network, found)
        if not found.whole:
            refused.append((len(found.found), found.why_not(f"{library.name}'s {arch}")))
            continue
        network.load_state_dict(found.found, strict=False)
        of_heads = [name for name in network.state_dict() if name.rpartition(".")[0] in heads]
        headless = not of_heads or any(name not in found.found for name in of_heads)
        classifier = library.wrap(network, headless=headless)
        classifier.notes = found.notes(file)
        return _named(classifier, arch, heads if headless else ())
    _, reason = max(refused, key=lambda each: each[0])
    raise UserError(f"{path} does not hold the weights: {reason}")


def _heads(network: Any) -> tuple[str, ...]:
    """The names of the classifying layers (a distilled network has two), also where the network was made without them.

    timm tells them; torchvision's is the layer of the last parameter.
    """
    if hasattr(network, "pretrained_cfg"):
        told = network.pretrained_cfg["classifier"] or ()
        return (told,) if isinstance(told, str) else tuple(told)
    return ([name for name, _ in network.named_parameters()][-1].rpartition(".")[0],)
