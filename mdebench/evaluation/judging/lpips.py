"""LPIPS, the learned perceptual distance of Zhang et al. 2018, on SqueezeNet 1.1 (version 0.1 of the linear heads).

Seven activations of the network, each normalised to unit length over its channels; their squared differences are
weighted per channel by a learned head, averaged over the image and summed over the seven. The weights are files that
the user has: ``squeezenet1_1_imagenet.safetensors`` (torchvision's names) and ``lpips_v0.1_lin_squeeze.safetensors``.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mdebench.errors import UserError
from mdebench.methods.checkpoints import file_hash, read

BACKBONE, HEADS = "squeezenet1_1_imagenet.safetensors", "lpips_v0.1_lin_squeeze.safetensors"
TAPS = (1, 4, 7, 9, 10, 11, 12)  # places in torchvision's `features` whose output is compared
WIDTHS = (64, 128, 256, 384, 384, 512, 512)
WAYS_ON = f"give a folder with {BACKBONE} and {HEADS} (--set lpips=FOLDER), or leave it out (--set lpips=none)"


class Lpips(nn.Module):
    """The distance, from weights of the backbone and of the heads; its ``name`` tells both by hash.

    UserError when a weight is missing or has another shape.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Mapping[str, Tensor], heads: Mapping[str, Tensor], name: str):
        from torchvision.models import squeezenet1_1  # slow to import, and needed here only

        super().__init__()
        self.name = name
        self.features = squeezenet1_1().features
        self.heads = nn.ParameterList(torch.empty(width) for width in WIDTHS)
        # Zhang's constants for inputs in [-1, 1], moved to [0, 1]: they are not exactly ImageNet's mean and deviation.
        self.register_buffer("shift", (torch.tensor([-0.030, -0.088, -0.188])[:, None, None] + 1) / 2)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None] / 2)
        own = {key: value for key, value in backbone.items() if key.startswith("features.")}
        try:
            self.load_state_dict(own, strict=False)
            for number, head in enumerate(self.heads):
                head.data = heads[f"lin{number}.model.1.weight"].float().reshape(WIDTHS[number])
        except (RuntimeError, KeyError) as error:
            raise UserError(
                f"LPIPS weights do not fit SqueezeNet 1.1 ({str(error).splitlines()[0]}); {WAYS_ON}"
            ) from error
        if missing := {f"features.{key}" for key in self.features.state_dict()} - own.keys():
            raise UserError(f"LPIPS: the weights of SqueezeNet 1.1 lack {min(missing)}; {WAYS_ON}")
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of each pair (N, 3, H, W) in [0, 1] → (N,) ≥ 0; 0 for equal images, about 1 for unlike ones."""
        total = torch.zeros(len(x), device=x.device)
        a, b = (x - self.shift) / self.scale, (y - self.shift) / self.scale
        taps = iter(self.heads)
        for place, layer in enumerate(self.features):
            a, b = layer(a), layer(b)
            if place in TAPS:
                weights = next(taps)[:, None, None]
                total += (weights * (_unit(a) - _unit(b)) ** 2).sum(dim=1).mean(dim=(1, 2))
        return total


def _unit(maps: Tensor) -> Tensor:
    return maps / (maps.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()


def load_lpips(folder: Path) -> Lpips:
    """The distance from the two weight files in a folder; UserError when they are missing, damaged or others."""
    states, hashes = [], []
    for file in (folder / BACKBONE, folder / HEADS):
        try:
            states.append(read(file).mappings.get("", {}))
            hashes.append(file_hash(file)[:8])
        except UserError as error:
            raise UserError(f"LPIPS weights: {error}; {WAYS_ON}") from error
    return Lpips(states[0], states[1], f"LPIPS 0.1 on squeezenet1_1 (weights {hashes[0]}, heads {hashes[1]})")
