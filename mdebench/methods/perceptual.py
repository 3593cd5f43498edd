"""The perceptual network φ of equation (5), chosen by name and never swapped silently.

``imagenet``     torchvision's VGG-16 (the paper's); needs its weights in torch's cache or a network to fetch them
``FILE``         a local file (see `checkpoints`) with the first layers of torchvision's VGG-16 or VGG-19, features.N.*
``random:SEED``  VGG-16 with seeded random weights (``random`` alone is seed 0)
``none``         no perceptual network; the loss sets with ``vgg`` cannot be used
"""

from functools import cached_property
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from mdebench.errors import UserError
from mdebench.methods.checkpoints import file_hash, path_of, read
from mdebench.methods.contract import Method

LAYER_WEIGHTS = [1.0, 0.5, 0.25, 0.125, 0.0625]  # λ_l of equation (5)
# Convolutions per block of width 64, 128, 256, 512, 512.
_BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WAYS_ON = (
    "go on with a local weight file (--set perceptual=FILE.safetensors), with seeded random weights"
    " (--set perceptual=random:0), or without it (of the MDE with --set losses=compl+adv+hns_coord, of other methods"
    " with --set perceptual=none)"
)


class Perceptual(nn.Module):
    """The last activations of each VGG block (relu1_2, relu2_2, …), inputs (N, 3, H, W) in [0, 1].

    ``name`` says what the run used and stands in its record: ``vgg16-imagenet``, ``vgg19-relu3:1a2b3c4d`` (a file, by
    depth and hash), ``vgg16-random:0``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: str, blocks: int, name: str):
        super().__init__()
        self.name = name
        self.blocks = nn.ModuleList()
        channels = 3
        for block, (count, width) in enumerate(zip(_BLOCKS[architecture], (64, 128, 256, 512, 512))):
            if block == blocks:
                break
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if block else []
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            self.blocks.append(nn.Sequential(*layers))
        self.weights = LAYER_WEIGHTS[: len(self.blocks)]
        # What the published weights expect: ImageNet's mean and deviation.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def convolutions(self) -> list[nn.Conv2d]:
        """Every convolution in order, as torchvision numbers them."""
        return [m for m in self.modules() if isinstance(m, nn.Conv2d)]

    def forward(self, images: Tensor) -> list[Tensor]:
        """One (N, C, H, W) activation per block, finest first."""
        x = (images - self.mean) / self.std
        activations = []
        for block in self.blocks:
            x = block(x)
            activations.append(x)
        return activations


def _torchvision_names(architecture: str) -> list[str]:
    """``features.N`` of each convolution in torchvision's numbering (convolution, ReLU, …, pool)."""
    names, index = [], 0
    for count in _BLOCKS[architecture]:
        for _ in range(count):
            names.append(f"features.{index}")
            index += 2
        index += 1
    return names


def _load(network: Perceptual, architecture: str, state: dict[str, Tensor], where: str) -> None:
    for conv, name in zip(network.convolutions(), _torchvision_names(architecture)):
        try:
            conv.load_state_dict({"weight": state[f"{name}.weight"].float(), "bias": state[f"{name}.bias"].float()})
        except (KeyError, RuntimeError) as error:
            raise UserError(f"{where}: layer {name} is missing or has another shape than {architecture}'s") from error


def _from_file(path: Path) -> Perceptual:
    try:
        file = read(path)
    except UserError as error:
        raise UserError(f"perceptual weights: {error}; {WAYS_ON}") from error
    parts = [(part, [n for n in part.names if n.startswith("features.")]) for part in file.parts(least=2)]
    for architecture, counts in _BLOCKS.items():
        names = _torchvision_names(architecture)
        for part, present in parts:
            layers = {name.removesuffix(".weight") for name in present if name.endswith(".weight")}
            for blocks in range(1, 6):
                if layers == set(names[: sum(counts[:blocks])]):
                    network = Perceptual(architecture, blocks, f"{architecture}-relu{blocks}:{file_hash(path)[:8]}")
                    state = {name: file.mappings[part.where][part.names[name]] for name in present}
                    _load(network, architecture, state, str(path))
                    return network
    most = max((present for _, present in parts), key=len)
    why = f"the layers {sorted(most)} are no whole blocks" if most else "there are no layers features.N.weight"
    raise UserError(f"perceptual weights {path}: {why} of VGG-16 or VGG-19; {WAYS_ON}")


def _imagenet() -> Perceptual:
    from torchvision.models import VGG16_Weights  # slow to import, and needed here only

    network = Perceptual("vgg16", 5, "vgg16-imagenet")
    try:
        state = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError) as error:
        raise UserError(
            f"torchvision's VGG-16 weights are not here and could not be fetched ({error}); {WAYS_ON}"
        ) from error
    _load(network, "vgg16", dict(state), "torchvision's VGG-16")
    return network


def load_perceptual(spec: str) -> Perceptual | None:
    """The frozen perceptual network that ``spec`` names (see the module's text), or None for ``none``.

    UserError when the weights cannot be had; it names the three ways on.
    """
    if spec == "none":
        return None
    if spec == "imagenet":
        network = _imagenet()
    elif spec.partition(":")[0] == "random":
        seed = spec.partition(":")[2] or "0"
        if not (seed.isascii() and seed.isdigit()):
            raise UserError(f"perceptual={spec}: the seed after 'random:' must be a whole number")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            network = Perceptual("vgg16", 5, f"vgg16-random:{seed}")
            for conv in network.convolutions():  # He initialisation keeps the activations' scale through the layers
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
    elif path_of(spec).is_file():
        network = _from_file(path_of(spec))
    else:
        raise UserError(
            f"perceptual={spec}: neither imagenet, random[:SEED] or none, nor a file that exists; {WAYS_ON}"
        )
    network.eval().requires_grad_(False)  # it judges, it does not learn
    return network


class Looking(Method):
    """Base of methods whose losses look at images through the network that the setting ``perceptual`` names.

    It is loaded when training asks for it: an encoder is measured without it, and where it no longer is.
    """

    FILES = ("perceptual",)

    def looks(self) -> bool:
        """Whether any term of the loss has a use for the network."""
        return True

    def fit(self, network: Perceptual) -> None:
        """Look at a network that was just loaded: what it lacks is a UserError or a note, what is too much goes."""

    @cached_property
    def vgg(self) -> Perceptual | None:
        """The network, on the CPU until moved; None without use for one, or for ``perceptual=none``."""
        network = load_perceptual(self.settings.perceptual) if self.looks() else None
        if network is not None:
            self.fit(network)
        return network

    @property
    def perceptual(self) -> str:
        """Name of the network, ``none`` without one."""
        return self.vgg.name if self.vgg else "none"
