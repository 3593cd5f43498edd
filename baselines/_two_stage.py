"""The completing network of DeepFill (Yu et al. 2018, 2019): a coarse stage, then a refinement with a branch that
borrows what it lacks from the seen parts of the image; and what methods that train it have in common.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, fold, interpolate, max_pool2d, normalize, pad, unfold

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods.contract import Method
from mdebench.methods.networks import Generator
from mdebench.settings import Count, choose

from ._elu import elu

BACKBONES = {"native": "the paper's two stages", "mde": "the generator of the Missing Data Encoder, in one stage"}
CELLS = 4  # per side, of the representation


class Gated(nn.Conv2d):
    """Gated convolution, ELU(half)·σ(half): (N, channels, h, w) → (N, out, h / stride, w / stride).

    ``out`` is what comes through the gates; the convolution itself gives twice as many (Yu et al. 2019, section 3).
    """

    def __init__(self, channels: int, out: int, kernel: int = 3, stride: int = 1, dilation: int = 1):
        super().__init__(channels, 2 * out, kernel, stride, dilation * (kernel // 2), dilation)
        # For a, b ~ N(0, 5) E[ELU(a)²]·E[σ(b)²] ≈ 1: what goes in with variance 1 comes out with it.
        nn.init.normal_(self.weight, std=math.sqrt(5 / (channels * kernel**2)))

    def forward(self, x: Tensor) -> Tensor:
        """Let each number through as far as its gate is open."""
        value, gate = super().forward(x).chunk(2, dim=1)
        return elu(value) * gate.sigmoid()


class Smooth(nn.Conv2d):
    """Convolution and ELU: (N, channels, h, w) → (N, out, h / stride, w / stride) (Yu et al. 2018, section 3.1)."""

    def __init__(self, channels: int, out: int, kernel: int = 3, stride: int = 1, dilation: int = 1):
        super().__init__(channels, out, kernel, stride, dilation * (kernel // 2), dilation)
        # For a ~ N(0, 1.63) E[ELU(a)²] ≈ 1: what goes in with variance 1 comes out with it.
        nn.init.normal_(self.weight, std=math.sqrt(1.63 / (channels * kernel**2)))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return elu(super().forward(x))


Layer = type[Gated] | type[Smooth]


class Up(nn.Module):
    """Nearest-neighbour upsampling: (N, C, h, w) → (N, C, 2h, 2w)."""

    def forward(self, x: Tensor) -> Tensor:
        """Double both sides."""
        return interpolate(x, scale_factor=2, mode="nearest")


def _descend(
    layer: Layer, channels: int, half: tuple[int, int], quarter: tuple[int, int, int], first: int
) -> nn.Sequential:
    """k5, then two strides of 2: an image → (N, quarter[-1], h / 4, w / 4)."""
    return nn.Sequential(
        layer(channels, first, kernel=5),
        layer(first, half[0], stride=2),
        layer(half[0], half[1]),
        layer(half[1], quarter[0], stride=2),
        layer(quarter[0], quarter[1]),
        layer(quarter[1], quarter[2]),
    )


def _dilated(layer: Layer, channels: int) -> nn.Sequential:
    return nn.Sequential(*(layer(channels, channels, dilation=dilation) for dilation in (2, 4, 8, 16)))


def _ascend(layer: Layer, channels: int, n: int, last: nn.Module) -> nn.Sequential:
    """(N, channels, h, w) → image (N, 3, 4h, 4w) in the range of ``last``."""
    return nn.Sequential(
        layer(channels, 4 * n),
        layer(4 * n, 4 * n),
        Up(),
        layer(4 * n, 2 * n),
        layer(2 * n, 2 * n),
        Up(),
        layer(2 * n, n),
        layer(n, n // 2),
        nn.Conv2d(n // 2, 3, 3, padding=1),
        last,
    )


def hole_of(seen: Tensor) -> Tensor:
    """Seen (N, 3, H, W) → (N, 1, H, W), 1 where any channel is missing."""
    return 1 - seen.amin(dim=1, keepdim=True)


def network_input(masked: Tensor, hole: Tensor) -> Tensor:
    """Masked RGB, ones (their border is felt through the zero padding) and the hole: (N, 5, H, W)."""
    return torch.cat([masked, torch.ones_like(hole), hole], dim=1)


class TwoStage(nn.Module):
    """Masked image → a coarse and a fine one, with ``n`` channels out of the first layer (v2: 24; v1: 32).

    ``rate`` is that of the attention, ``layer`` the kind of convolution, ``last`` what keeps images in [-1, 1]. With
    ``told`` the refinement is told of the hole, too. It starts at half the coarse stage's widths, as in v1 and v2.
    """

    def __init__(self, n: int, rate: int, layer: Layer = Gated, last: type[nn.Module] = nn.Tanh, told: bool = False):
        super().__init__()
        self.rate, self.told = rate, told
        self.coarse_encoder = _descend(layer, 5, (2 * n, 2 * n), (4 * n, 4 * n, 4 * n), first=n)
        self.coarse_dilated = _dilated(layer, 4 * n)
        self.coarse_decoder = _ascend(layer, 4 * n, n, last())
        channels = 5 if told else 3
        descent = _descend(layer, channels, (n, 2 * n), (2 * n, 4 * n, 4 * n), first=n)
        self.fine_dilated = nn.Sequential(descent, _dilated(layer, 4 * n))
        self.attention_encoder = _descend(layer, channels, (n, 2 * n), (4 * n, 4 * n, 4 * n), first=n)
        self.attention_after = nn.Sequential(layer(4 * n, 4 * n), layer(4 * n, 4 * n))
        self.fine_decoder = _ascend(layer, 8 * n, n, last())

    def forward(self, masked: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Complete images in [-1, 1], 0 where not ``seen``, both (N, 3, H, W): (coarse, fine), each (N, 3, H, W)."""
        hole = hole_of(seen)
        coarse = self.coarse_decoder(self.coarse_dilated(self.coarse_encoder(network_input(masked, hole))))
        return coarse, self.fine_decoder(self.refine(masked + (1 - seen) * coarse, hole))

    def refine(self, composite: Tensor, hole: Tensor) -> Tensor:
        """The map that the fine image is made from, both branches: (N, 8n, H / 4, W / 4)."""
        x = network_input(composite, hole) if self.told else composite
        borrowed = contextual_attention(self.attention_encoder(x), max_pool2d(hole, 4), self.rate)
        return torch.cat([self.fine_dilated(x), self.attention_after(borrowed)], dim=1)

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """What whole images (N, 3, H, W) in [-1, 1] look like on the way.

        "stage1" is the coarse stage at half the side, (N, 2n, H / 2, W / 2); "stage2" at a quarter, "stage3" after the
        dilated convolutions, (N, 4n, H / 4, W / 4) both; "stage4" the refinement's two branches, (N, 8n, H / 4, W / 4).
        """
        hole = torch.zeros_like(images[:, :1])
        half = self.coarse_encoder[:3](network_input(images, hole))
        quarter = self.coarse_encoder[3:](half)
        # Of a whole image the coarse stage has nothing to complete: the refinement sees the image itself.
        last = self.refine(images, hole)
        return {"stage1": half, "stage2": quarter, "stage3": self.coarse_dilated(quarter), "stage4": last}


def contextual_attention(x: Tensor, hole: Tensor, rate: int = 2, scale: float = 10.0) -> Tensor:
    """Every part of a map made anew from the seen parts that resemble it (Yu et al. 2018, section 4).

    Map (N, C, h, w) and hole (N, 1, h, w) of 1 and 0, h and w multiples of ``rate`` → (N, C, h, w). What is pasted are
    the blocks of ``rate``² places with a rim of one; where they overlap their mean is taken. An image of which no
    3×3 patch is wholly seen gets zeros.
    """
    attention = attend(x, hole, rate, scale)
    cut = {"kernel_size": rate + 2, "stride": rate, "padding": 1}
    pasted = fold(unfold(x, **cut) @ attention.to(x), x.shape[-2:], **cut)
    times = fold(unfold(torch.ones_like(x[:1, :1]), **cut), x.shape[-2:], **cut)
    return pasted / times


def attend(x: Tensor, hole: Tensor, rate: int, scale: float) -> Tensor:
    """How much each place takes from each: (N, L there, L here) float32, L = h·w / rate²; columns sum to 1 or are 0.

    The softmax over there of ``scale`` times the cosine of the 3×3 patches, on the map shrunk by ``rate`` and fused.
    A patch that touches the hole is nothing to take from.
    """
    height, width = x.shape[-2] // rate, x.shape[-1] // rate
    patches = normalize(unfold(x[..., ::rate, ::rate], 3, padding=1), dim=1, eps=1e-4)
    cosine = patches.transpose(1, 2) @ patches
    cosine = cosine.to(torch.promote_types(cosine.dtype, torch.float32))  # the softmax wants more than bf16 has
    fused = fuse(cosine.reshape(-1, height, width, height, width)).flatten(3).flatten(1, 2)
    touched = max_pool2d(max_pool2d(hole, rate), 3, stride=1, padding=1).flatten(1)[..., None] > 0
    # The lowest number rather than -inf: where every patch is touched, a softmax that is wiped out, and not NaN.
    attention = (scale * fused).masked_fill(touched, torch.finfo(fused.dtype).min).softmax(dim=1)
    return attention.masked_fill(touched, 0)


def fuse(scores: Tensor) -> Tensor:
    """Neighbours like to borrow from neighbours: (N, y', x', y, x) scores of there (y', x') for here (y, x) → the same.

    To each score are added those of the pairs one step to the left and to the right, then (of these sums) one step up
    and down; outside of the map they are 0.
    """
    for there, here in ((2, 4), (1, 3)):
        lines = scores.movedim((there, here), (-2, -1))
        padded = pad(lines, (1, 1, 1, 1))
        scores = (padded[..., :-2, :-2] + lines + padded[..., 2:, 2:]).movedim((-2, -1), (there, here))
    return scores


@dataclass(frozen=True)
class TwoStageSettings:
    """What every method has that trains the two stages.

    ``rate`` of the attention. ``code``, numbers of the representation, is for ``backbone`` mde only.
    """

    width: Count = 64
    code: Count = 4000
    backbone: str = "native"
    rate: Count = 2

    def __post_init__(self) -> None:
        choose(self.backbone, BACKBONES, "backbone")


class TwoStageMethod(Method):
    """Completes with the two stages, of which both are the encoder, or with the network of the MDE.

    ``build`` makes the two stages from the channels of their first layer, ``first`` at width 64, and the rate. Critics,
    losses and masks are each method's own.
    """

    settings: TwoStageSettings

    def __init__(self, settings: TwoStageSettings, size: int, first: int, build: Callable[[int, int], TwoStage]):
        super().__init__(settings, size)
        self.generator: TwoStage | Generator
        if settings.backbone == "mde":
            self.generator = Generator(size, settings.width, settings.code, channels=5, last=nn.Tanh())
            self.feature_dim = settings.code
            return
        rate = settings.rate if size >= 64 else 1
        if rate != settings.rate:
            self.notes.append(f"contextual attention at rate 1, not {settings.rate}: {size} pixels are too few")
        if size % 4 or rate < 1 or size // 4 % rate:
            way = "make a pack of a --size that 4 divides" if size % 4 else "give another --set rate=N, such as 1"
            why = "a quarter of the size has to be a multiple of rate"
            raise UserError(f"rate={rate} at {size} pixels: {why}; {way}")
        n = max(4, first * settings.width // 64)
        self.generator = build(n, rate)
        self.feature_dim = (4 + 8) * n * CELLS**2

    def outputs(self, images: Tensor, seen: Tensor) -> list[Tensor]:
        """Each stage's image in [-1, 1] for images in [0, 1] and seen, all (N, 3, H, W); the finest last."""
        masked = (2 * images - 1) * seen
        if isinstance(self.generator, TwoStage):
            return list(self.generator(masked, seen))
        return [self.generator(network_input(masked, hole_of(seen)))]

    def encode(self, images: Tensor) -> Tensor:
        """Whole images (N, 3, H, W) in [0, 1] → (N, feature_dim)."""
        if isinstance(self.generator, TwoStage):
            maps = list(self.stages(images).values())[-2:]
            return torch.cat([adaptive_avg_pool2d(each, CELLS).flatten(1) for each in maps], dim=1)
        code: Tensor = self.generator.encoder(self._whole(images))[0]
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The maps of `TwoStage.maps` (or of the MDE's encoder) for whole images (N, 3, H, W) in [0, 1]."""
        if isinstance(self.generator, TwoStage):
            return self.generator.maps(2 * images - 1)
        return self.generator.encoder.maps(self._whole(images))

    def _whole(self, images: Tensor) -> Tensor:
        return network_input(2 * images - 1, torch.zeros_like(images[:, :1]))

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """The fine stage's image: images (N, 3, H, W) in [0, 1], seen broadcastable → (N, 3, H, W) in [0, 1]."""
        return (at_least_float32(self.outputs(images, seen.expand_as(images))[-1]) + 1) / 2


def composite(real: Tensor, outputs: list[Tensor], seen: Tensor) -> Tensor:
    """The seen part as it was, in the hole the finest output, all (N, 3, H, W); in float32 or wider."""
    return seen * real + (1 - seen) * at_least_float32(outputs[-1])
