"""The networks of the Missing Data Encoder (section 2.5, Figure 4): a VGG-like encoder with one fully connected layer,
a decoder that mirrors it with skip connections, and a discriminator that is the encoder with global average pooling.

A *stage* is two or three 3×3 convolutions of one width, the last with stride 2; the encoder has as many stages as bring
the image to a 3×3 or 4×4 map (96 → five, 64 → four), so that the flattened map is wider than the code.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from mdebench.errors import UserError
from mdebench.methods.timm_networks import timm_maps

CONVOLUTIONS = (2, 2, 3, 3, 3)
WIDENING = (1, 2, 4, 8, 8)  # times the base width: 64, 128, 256, 512, 512 in the paper


def stages_for(size: int) -> int:
    """Number of stages for a square image of ``size`` pixels; UserError unless that is 3 or 4 times 2, …, 32."""
    for stages in range(1, len(CONVOLUTIONS) + 1):
        if size in (3 << stages, 4 << stages):
            return stages
    sizes = sorted({base << s for base in (3, 4) for s in range(1, len(CONVOLUTIONS) + 1)})
    raise UserError(f"an image of {size}×{size} pixels does not end in a 3×3 or 4×4 map; choose a size among {sizes}")


def _block(conv: nn.Module, width: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(width), activation())


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


def _leaky_relu() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)


class Trunk(nn.Module):
    """The stages that encoder and discriminator share: (N, channels, size, size) → (N, out_channels, s, s)."""

    def __init__(self, size: int, width: int, channels: int, activation: Callable[[], nn.Module]):
        super().__init__()
        self.stages = nn.ModuleList()
        for count, widening in zip(CONVOLUTIONS[: stages_for(size)], WIDENING):
            blocks = []
            for i in range(count):
                stride = 2 if i == count - 1 else 1
                conv = nn.Conv2d(channels, width * widening, 3, stride=stride, padding=1, bias=False)
                blocks.append(_block(conv, width * widening, activation))
                channels = width * widening
            self.stages.append(nn.Sequential(*blocks))
        self.out_channels = channels
        self.out_size = size >> len(self.stages)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last map and, per stage, the activation before its strided convolution (what a skip carries)."""
        before_stride = []
        for stage in self.stages:
            *same, strided = stage.children()
            for block in same:
                x = block(x)
            before_stride.append(x)
            x = strided(x)
        return x, before_stride

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The map after each stage: "stage1", "stage2", … → (N, channels of the stage, size / 2, 4, …)."""
        return stage_maps(self.stages, x)


def stage_maps(stages: Iterable[nn.Module], x: Tensor) -> dict[str, Tensor]:
    """What comes out of each of several stages in a row: "stage1", "stage2", …, as `method.Stages` wants it."""
    found = {}
    for number, stage in enumerate(stages, start=1):
        x = found[f"stage{number}"] = stage(x)
    return found


class Encoder(nn.Module):
    """Image (N, 3, size, size) → code (N, code), with the maps that skip connections carry.

    The code is what stands after the fully connected layer with its batch-norm and ReLU: the representation.
    ``map_shape`` is that of the last map, (C, s, s); ``skip_channels`` those of each stage's skip, finest first.
    """

    def __init__(self, size: int, width: int, code: int, channels: int = 3):
        super().__init__()
        self.trunk = Trunk(size, width, channels, _relu)
        self.map_shape = (self.trunk.out_channels, self.trunk.out_size, self.trunk.out_size)
        self.skip_channels = tuple(width * widening for _, widening in zip(self.trunk.stages, WIDENING))
        self.to_code = to_code(math.prod(self.map_shape), code)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the code and, per stage, the map that a skip carries."""
        x, skips = self.trunk(x)
        return self.to_code(x.flatten(1)), skips

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The map after each stage (see `Trunk.maps`)."""
        return self.trunk.maps(x)


def to_code(flat: int, code: int) -> nn.Sequential:
    """The fully connected layer after which an encoder is cut, with its batch-norm and ReLU."""
    return nn.Sequential(nn.Linear(flat, code, bias=False), nn.BatchNorm1d(code), _relu())


class TimmEncoder(nn.Module):
    """A timm network in the place of `Encoder`: its maps down to 3×3 or 4×4 pixels, then the fully connected layer.

    A stage's skip is the network's map of that resolution; the finest stage, the image itself, has none.
    """

    def __init__(self, name: str, size: int, code: int, channels: int = 3):
        super().__init__()
        stages = stages_for(size)
        self.trunk, strides, widths = timm_maps(name, channels, size, 1 << stages)
        width_at = dict(zip(strides, widths))
        self.skip_channels = tuple(width_at.get(1 << stage, 0) if stage else 0 for stage in range(stages))
        self.places = [strides.index(1 << stage) if self.skip_channels[stage] else -1 for stage in range(stages)]
        self.map_shape = (widths[-1], size >> stages, size >> stages)
        self.to_code = to_code(math.prod(self.map_shape), code)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the code and, per stage, the map that a skip carries (the image itself where a stage has none)."""
        maps = self.trunk(x)
        return self.to_code(maps[-1].flatten(1)), [maps[place] if place >= 0 else x for place in self.places]

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """Each of the network's maps, finest first: "stage1", "stage2", … → (N, C, h, w)."""
        return {f"stage{number}": each for number, each in enumerate(self.trunk(x), start=1)}


def build_encoder(name: str, size: int, width: int, code: int, channels: int) -> Encoder | TimmEncoder:
    """The MDE's own encoder ("mde") or a timm network's ("timm:resnet18"); UserError for anything else."""
    if name == "mde":
        return Encoder(size, width, code, channels)
    family, _, network = name.partition(":")
    if family != "timm" or not network:
        raise UserError(f"encoder={name}: there is mde and timm:NAME, such as timm:resnet18")
    return TimmEncoder(network, size, code, channels)


class Decoder(nn.Module):
    """Code (N, code) and skips → image (N, outputs, size, size), by default in (0, 1).

    Mirrors the encoder: per stage a transposed convolution (×2), the skip of that resolution concatenated, and the
    stage's remaining convolutions; the last one gives ``outputs`` channels through ``last``, a sigmoid by default.
    ``skips`` gives the channels of each stage's skip, finest first, 0 where a stage has none.
    """

    def __init__(
        self,
        map_shape: tuple[int, int, int],
        width: int,
        code: int,
        skips: Sequence[int],
        outputs: int = 3,
        last: nn.Module | None = None,
    ):
        super().__init__()
        self.map_shape, flat = map_shape, math.prod(map_shape)
        self.from_code = nn.Sequential(nn.Linear(code, flat, bias=False), nn.BatchNorm1d(flat), _relu())
        self.skips = tuple(skips)
        self.up = nn.ModuleList()
        self.convolutions = nn.ModuleList()
        channels = map_shape[0]
        for stage in reversed(range(len(self.skips))):
            wide = width * WIDENING[stage]
            up = nn.ConvTranspose2d(channels, wide, 4, stride=2, padding=1, bias=False)
            self.up.append(_block(up, wide, _relu))
            channels = wide + self.skips[stage]
            blocks: list[nn.Module] = []
            for i in range(CONVOLUTIONS[stage] - 1):
                if stage == 0 and i == CONVOLUTIONS[0] - 2:
                    blocks += [nn.Conv2d(channels, outputs, 3, padding=1), last or nn.Sigmoid()]
                else:
                    blocks.append(_block(nn.Conv2d(channels, wide, 3, padding=1, bias=False), wide, _relu))
                    channels = wide
            self.convolutions.append(nn.Sequential(*blocks))

    def forward(self, code: Tensor, skips: list[Tensor]) -> Tensor:
        """Decode, with one map per stage of the encoder in ``skips`` (finest first; not looked at where unused)."""
        x = self.from_code(code).unflatten(1, self.map_shape)
        for i, (up, convolutions) in enumerate(zip(self.up, self.convolutions)):
            stage = len(self.up) - 1 - i
            x = up(x)
            if self.skips[stage]:
                x = torch.cat([x, skips[stage]], dim=1)
            x = convolutions(x)
        image: Tensor = x
        return image


class Generator(nn.Module):
    """The missing data encoder itself: M⊙Z (N, 3, size, size) → a complete image of the same shape in (0, 1).

    ``skips`` names the stages (1 = finest) with a skip connection; all when None. Methods that borrow the network for
    a game of their own may choose the ``channels`` it sees, those it gives, and the ``last`` activation.
    """

    def __init__(
        self,
        size: int,
        width: int = 64,
        code: int = 4000,
        skips: tuple[int, ...] | None = None,
        encoder: str = "mde",
        channels: int = 3,
        outputs: int = 3,
        last: nn.Module | None = None,
    ):
        super().__init__()
        every = tuple(range(1, stages_for(size) + 1))
        chosen = every if skips is None else skips
        if wrong := sorted(set(chosen) - set(every)):
            raise UserError(f"skips names the stages {wrong}, but at {size} pixels the stages are {list(every)}")
        self.encoder = build_encoder(encoder, size, width, code, channels)
        carried = [c if stage in chosen else 0 for stage, c in enumerate(self.encoder.skip_channels, start=1)]
        self.decoder = Decoder(self.encoder.map_shape, width, code, carried, outputs, last)

    def forward(self, masked: Tensor) -> Tensor:
        """Complete a masked image."""
        code, skips = self.encoder(masked)
        image: Tensor = self.decoder(code, skips)
        return image


class Discriminator(nn.Module):
    """Image (N, 3, size, size) → real/fake logit (N,) and the box each channel was completed from (N, 3, 4).

    Boxes are sigmoid outputs (x1, y1, x2, y2) relative to the image, one per channel (section 2.4). With ``coord``
    two channels holding each pixel's x and y in [0, 1] are concatenated to the input.
    """

    coordinates: Tensor

    def __init__(self, size: int, width: int = 64, coord: bool = True):
        super().__init__()
        self.coord = coord
        self.trunk = Trunk(size, width, 5 if coord else 3, _leaky_relu)
        self.head = nn.Linear(self.trunk.out_channels, 1 + 3 * 4)
        axis = (torch.arange(size) + 0.5) / size
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.register_buffer("coordinates", torch.stack([x, y])[None], persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Judge images: logits and boxes, in float32 also under autocast."""
        if self.coord:
            xy = self.coordinates.to(image.dtype).expand(len(image), -1, -1, -1)
            image = torch.cat([image, xy], dim=1)
        features, _ = self.trunk(image)
        # The head is a handful of numbers: in full precision, so that the losses above it are too.
        with torch.autocast(image.device.type, enabled=False):
            out = self.head(features.to(self.head.weight).mean(dim=(2, 3)))
        return out[:, 0], out[:, 1:].sigmoid().unflatten(1, (3, 4))
