"""Face parsers for training: segmentation networks of torchvision, whose weights a user has in a file.

Which network it is, and how many kinds of parts it tells apart, is found from the tensors in the file.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mdebench.errors import UserError
from mdebench.methods import checkpoints
from mdebench.methods.classifiers import IMAGENET_MEAN, IMAGENET_STD
from mdebench.words import words

# Network → its classifying layers, the lightest first.
NETWORKS = {
    "lraspp_mobilenet_v3_large": ("classifier.low_classifier", "classifier.high_classifier"),
    "deeplabv3_mobilenet_v3_large": ("classifier.4",),
    "fcn_resnet50": ("classifier.4",),
    "deeplabv3_resnet50": ("classifier.4",),
}


class Parser(nn.Module):
    """Images (N, 3, H, W) in [0, 1] → logits of the kinds of parts (N, kinds, H, W), in float32; it does not learn."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None])
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Tell what each pixel shows."""
        with torch.autocast(images.device.type, enabled=False):
            logits: Tensor = self.network((images.float() - self.mean) / self.std)["out"]
        return logits


def load_parser(text: str) -> Parser:
    """The parser whose weights are in the file ``text``; UserError where none of the `NETWORKS` has them."""
    file = checkpoints.read(checkpoints.path_of(text))
    refused = []
    for name, heads in NETWORKS.items():
        found = checkpoints.fit(file, _network(name, 2), None, heads)
        kinds = found.classes or 0
        if found.whole and kinds > 1:
            network = _network(name, kinds)
            found = checkpoints.fit(file, network, None, ())
            if found.whole:
                network.load_state_dict(found.found, strict=False)
                return Parser(network)
        refused.append((len(found.found), found.why_not(f"torchvision's {name}")))
    _, reason = max(refused)
    raise UserError(
        f"{text} holds no face parser: {reason}; it is to be a network of torchvision that tells at least two kinds of"
        f" parts apart: {words(NETWORKS)}"
    )


def _network(name: str, kinds: int) -> nn.Module:
    """The network with random weights; nothing is drawn from torch's default generator."""
    from torchvision.models import get_model  # slow to import

    with torch.random.fork_rng(devices=[]):
        network: Any = get_model(name, weights=None, weights_backbone=None, num_classes=kinds)
    assert isinstance(network, nn.Module)
    return network
