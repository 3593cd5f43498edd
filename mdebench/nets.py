"""The networks of the Missing Data Encoder (section 2.5, Figure 4): a VGG-like encoder with one fully connected layer,
a decoder that mirrors it with skip connections, and a discriminator that is the encoder with global average pooling.

A *stage* is two or three 3×3 convolutions of one width, the last with stride 2; the encoder has as many stages as bring
the image to a 3×3 or 4×4 map (96 → five, 64 → four), so that the flattened map is wider than the code.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mdebench.errors import UserError

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
        found = {}
        for number, stage in enumerate(self.stages, start=1):
            x = stage(x)
            found[f"stage{number}"] = x
        return found


class Encoder(nn.Module):
    """Image (N, 3, size, size) → code (N, code), with the maps that skip connections carry.

    The code is what stands after the fully connected layer with its batch-norm and ReLU: the representation.
    """

    def __init__(self, size: int, width: int, code: int):
        super().__init__()
        self.trunk = Trunk(size, width, 3, _relu)
        self.flat = self.trunk.out_channels * self.trunk.out_size**2
        self.to_code = nn.Sequential(nn.Linear(self.flat, code, bias=False), nn.BatchNorm1d(code), _relu())

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the code and, per stage, the map that a skip carries."""
        x, skips = self.trunk(x)
        return self.to_code(x.flatten(1)), skips


class Decoder(nn.Module):
    """Code (N, code) and skips → image (N, 3, size, size) in (0, 1).

    Mirrors the encoder: per stage a transposed convolution (×2), the skip of that resolution concatenated, and the
    stage's remaining convolutions; the last one gives RGB through a sigmoid. ``skips`` names the stages (1 = finest)
    that have a skip connection.
    """

    def __init__(self, encoder: Encoder, width: int, code: int, skips: tuple[int, ...]):
        super().__init__()
        trunk = encoder.trunk
        self.map_shape = (trunk.out_channels, trunk.out_size, trunk.out_size)
        self.from_code = nn.Sequential(nn.Linear(code, encoder.flat, bias=False), nn.BatchNorm1d(encoder.flat), _relu())
        self.skips = skips
        self.up = nn.ModuleList()
        self.convolutions = nn.ModuleList()
        channels = trunk.out_channels
        for stage in reversed(range(len(trunk.stages))):
            wide = width * WIDENING[stage]
            up = nn.ConvTranspose2d(channels, wide, 4, stride=2, padding=1, bias=False)
            self.up.append(_block(up, wide, _relu))
            channels = 2 * wide if stage + 1 in skips else wide
            blocks: list[nn.Module] = []
            for i in range(CONVOLUTIONS[stage] - 1):
                if stage == 0 and i == CONVOLUTIONS[0] - 2:
                    blocks += [nn.Conv2d(channels, 3, 3, padding=1), nn.Sigmoid()]
                else:
                    blocks.append(_block(nn.Conv2d(channels, wide, 3, padding=1, bias=False), wide, _relu))
                    channels = wide
            self.convolutions.append(nn.Sequential(*blocks))

    def forward(self, code: Tensor, skips: list[Tensor]) -> Tensor:
        """Decode, with one map per stage of the encoder in ``skips`` (finest first)."""
        x = self.from_code(code).unflatten(1, self.map_shape)
        for i, (up, convolutions) in enumerate(zip(self.up, self.convolutions)):
            stage = len(self.up) - 1 - i
            x = up(x)
            if stage + 1 in self.skips:
                x = torch.cat([x, skips[stage]], dim=1)
            x = convolutions(x)
        image: Tensor = x
        return image


class Generator(nn.Module):
    """The missing data encoder itself: M⊙Z (N, 3, size, size) → a complete image of the same shape in (0, 1)."""

    def __init__(self, size: int, width: int = 64, code: int = 4000, skips: tuple[int, ...] | None = None):
        super().__init__()
        every = tuple(range(1, stages_for(size) + 1))
        chosen = every if skips is None else skips
        if wrong := sorted(set(chosen) - set(every)):
            raise UserError(f"skips names the stages {wrong}, but at {size} pixels the stages are {list(every)}")
        self.encoder = Encoder(size, width, code)
        self.decoder = Decoder(self.encoder, width, code, chosen)

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
