"""Segments from motion: what moves in a clip is found without labels, and a network learns to tell it from one frame.

Paper: Pathak, Girshick, Dollár, Darrell and Hariharan, "Learning Features by Watching Objects Move", 2017. AlexNet with
batch-norm ends in a linear layer that tells for each place whether it belongs to what moves, under cross-entropy. As
segments found from motion are noisy, they are a trimap: places with a confidence between 0.4 and 0.7 teach nothing.
The paper's segments come from uNLC, which lets superpixels of a whole video vote along its optical flow. Here, by what
a clip of few small frames has: how much each pixel differs from the frames around (less what the whole picture changes,
as by light; any change above 0.05 counts alike, or edges would outdo what they bound), averaged over a window, and
parted in two classes by Otsu's threshold; a place's confidence is 0 at the mean of the still ones, 1 at that of the
moving ones. On toyfaces that move, of 64 pixels, 92 % of what it calls moving is no background; it calls 85 % of all.
Changed for small images: a stem of 5×5 with stride 2, as `split_brain` has it; the segment at a quarter of the image's
side (56 of 227 pixels in the paper); a face fills its frame, so that nothing is cropped around what moves.
Representation: fc7, from which the segment is read (``backbone=mde``: the code, as everywhere).

Command: ``mdebench data prepare toyfaces --clips 8``, ``mdebench pretrain motion --pack toyfaces-clips64``
Expected: the paper has no numbers for faces. At tiny, 200 updates on 160 clips, it parts faces of other people from
their background: intersection over union 0.83, balanced accuracy 86 %, from one frame and without a label.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, binary_cross_entropy_with_logits

from mdebench.compute.machine import at_least_float32
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.networks import Generator, stage_maps
from mdebench.settings import Count, Rate, Weight, choose

from ._clips import frames, mean_where

STILL, MOVING = 0.4, 0.7  # confidences below and above which a place teaches: the paper's
CHANGE = 0.05  # of a colour in [0, 1]: all above counts alike
LEVELS = 64


@dataclass(frozen=True)
class Settings:
    """``width`` 64 and ``code`` 4096 are AlexNet's. The optimizer is chosen here, as our sources do not tell it.

    ``reach``: how many frames before, and as many after, a frame is compared with. ``backbone``: AlexNet ("native") or
    the Missing Data Encoder's network ("mde"), which tells every pixel.
    """

    width: Count = 64
    code: Count = 4096
    reach: Count = 4
    lr: Rate = 1e-4
    weight_decay: Weight = 5e-4
    backbone: str = "native"


class AlexNet(nn.Module):
    """Image (N, 3, size, size) in [-1, 1] → logits of what moves (N, 1, side, side), a quarter of the image's side."""

    def __init__(self, size: int, width: int, code: int):
        super().__init__()
        c1, c2, c3, c4, c5 = (max(4, c * width // 64) for c in (96, 256, 384, 384, 256))
        self.side, last = max(1, size // 4), -(-size // 16)
        self.stages = nn.ModuleList(
            [
                _layer(3, c1, 5, stride=2),
                nn.Sequential(_shrink(), _layer(c1, c2, 5)),
                nn.Sequential(_shrink(), _layer(c2, c3, 3)),
                _layer(c3, c4, 3),
                nn.Sequential(_layer(c4, c5, 3), _shrink()),
            ]
        )
        full = [_full(inputs, code) for inputs in (c5 * last**2, code)]
        self.to_code = nn.Sequential(nn.Flatten(), *full)
        self.head = nn.Linear(code, self.side**2)

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The maps of conv1 to conv5, H/2 to H/16."""
        return stage_maps(self.stages, x)

    def represent(self, x: Tensor) -> Tensor:
        """fc7: (N, code)."""
        code: Tensor = self.to_code(self.maps(x)["stage5"])
        return code

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.head(self.represent(x)).unflatten(1, (1, self.side, self.side))
        return logits


class MDE(nn.Module):
    """The Missing Data Encoder's network in the place of `AlexNet`: logits (N, 1, size, size)."""

    def __init__(self, size: int, width: int, code: int):
        super().__init__()
        self.side = size
        self.network = Generator(size, width, code, outputs=1, last=nn.Identity())

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the encoder."""
        return self.network.encoder.maps(x)

    def represent(self, x: Tensor) -> Tensor:
        """The code: (N, code)."""
        code: Tensor = self.network.encoder(x)[0]
        return code

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.network(x)
        return logits


BACKBONES: dict[str, type[AlexNet] | type[MDE]] = {"native": AlexNet, "mde": MDE}


def _layer(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Module:
    conv = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _full(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True))


def _shrink() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, padding=1)


def confidence(images: Tensor, others: Tensor, there: Tensor, side: int) -> Tensor:
    """How sure it is that each place moves: (N, side, side), 0 as the still ones of its frame, 1 as the moving ones.

    images (N, 3, H, W) in [0, 1]; others (N, K, 3, H, W), the frames around each, of which ``there`` (N, K) counts with
    1. NaN where a frame tells no two classes apart, as nothing moves, or there is no other frame.
    """
    change = others - images[:, None]
    change = change - change.mean(dim=(3, 4), keepdim=True)
    change = change.abs().mean(dim=2).clamp(max=CHANGE)
    moved = (change * there[..., None, None]).sum(dim=1) / there.sum(dim=1).clamp(min=1)[:, None, None]
    reach = images.shape[-1] // 16
    moved = avg_pool2d(moved[:, None], 2 * reach + 1, 1, reach, count_include_pad=False)
    moved = adaptive_avg_pool2d(moved, side)[:, 0]
    still, moving = (mean[:, None, None] for mean in two_classes(moved.flatten(1)))
    return torch.where(moving > still, (moved - still) / (moving - still), torch.nan)


def two_classes(values: Tensor) -> tuple[Tensor, Tensor]:
    """The means of the lower and the upper class of each row (N, n), parted as Otsu (1979) does: (N,) each.

    That is where the variance between the two is largest, of `LEVELS` places from the row's smallest value to its
    largest. Both are the same where all its values are.
    """
    least, most = values.aminmax(dim=1, keepdim=True)
    levels = least + (most - least) * torch.arange(1, LEVELS, device=values.device) / LEVELS
    low = (values[:, None] < levels[:, :, None]).to(values)
    share = low.mean(dim=2)
    mean, below = values.mean(dim=1, keepdim=True), (low * values[:, None]).mean(dim=2)
    tiny = torch.finfo(values.dtype).tiny
    still, moving = below / share.clamp(min=tiny), (mean - below) / (1 - share).clamp(min=tiny)
    best = (share * (1 - share) * (moving - still).square()).argmax(dim=1, keepdim=True)
    parted = most > least
    low_mean, high_mean = (torch.where(parted, each.gather(1, best), mean)[:, 0] for each in (still, moving))
    return low_mean, high_mean


class Method(BaseMethod):
    """One network and one player; ``encode`` gives fc7. It cannot complete."""

    PAPER = "Pathak et al. 2017"
    FAMILY = "context"
    TAKES = ("clip",)
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.losses = "segments"
        self.feature_dim = settings.code
        self.network = choose(settings.backbone, BACKBONES, "backbone")(size, settings.width, settings.code)

    def players(self) -> dict[str, Player]:
        """The network, with AdamW."""
        options = {"weight_decay": self.settings.weight_decay}
        return {"network": Player(list(self.parameters()), self.settings.lr, options, optimizer=torch.optim.AdamW)}

    def loss(self, player: str, batch: Batch) -> Loss:
        """Cross-entropy in nats over the places that are surely moving or still; "moving" is the share of those."""
        with torch.no_grad():
            reach = self.settings.reach
            around, there = frames(batch, [*range(-reach, 0), *range(1, reach + 1)])
            sure = confidence(batch.images, around, there, self.network.side)
            moving, teaches = (sure > MOVING).to(sure), ((sure > MOVING) | (sure < STILL)).to(sure)
        logits = at_least_float32(self.network(2 * batch.images - 1))[:, 0]
        error = mean_where(binary_cross_entropy_with_logits(logits, moving, reduction="none"), teaches, batch)
        return Loss(error, {"segments": error, "moving": mean_where(moving, teaches, batch)})

    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] → (N, code), all at least 0."""
        return self.network.represent(2 * images - 1)

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the network, (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return self.network.maps(2 * images - 1)
