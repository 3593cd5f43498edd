"""PixelCNN: an image is a sequence of values, row by row and in each pixel red, green, blue; a network of gated causal
convolutions gives the probability of each value after those before it, and completes by drawing what is missing.

Paper: van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016 (unconditional), after "Pixel
Recurrent Neural Networks" of the same year. Of its Figure 2 is the layer: a vertical stack that sees all rows above and
a horizontal one that sees what is left of a pixel, so that there is no blind spot; tanh times sigmoid in the place of a
ReLU; the channels of the horizontal stack in thirds, of which green's see red's, blue's both; 256-way softmax.
Changed: 20 layers of 384 channels (the paper's for ImageNet, as we remember it: its text was not at hand) take hundreds
of times the operations of the other methods' networks, as every layer has the image's full resolution. Here ``depth``
is 8 and there are 3/2·``width`` channels; --set depth=20 --set width=256 is the paper's. Adam, whose rate is ours.
Representation: the horizontal stack's map after half of the layers, averaged over the grid, of all, with which it has
about ``code`` numbers. A place knows what is above and left of it alone. Half: deep layers are about the next value
(as image GPT, Chen et al. 2020, measured for such models).
Completion: values are drawn in the same order, each given all that is seen or drawn before it and nothing after: the
model has no other way. What is seen stays. One value at a time is slow (see ``notes``), and every image is drawn with
the same random numbers, one for each place: the same completion each time, whatever else is in the batch.
Command: ``mdebench pretrain pixel_cnn``; ``mdebench measure likelihood`` for its bits per dimension.
Expected: the paper has 3.03 bits per dimension on CIFAR-10, and no faces; 8 are those of all values alike. Of sixteen
pictures of 16×16 pixels 1,200 updates at width 16 leave 1.1 bits, while drawn centres have 21 dB only: what is drawn is
never quite what was there in training, and errors add up (at 0.6 bits, after 2,200 updates at width 24: 18 dB).
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, conv2d, linear, pad, relu

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Loss, Player, polynomial
from mdebench.methods.contract import Method as BaseMethod
from mdebench.settings import Count, Depth, Rate

LEVELS = 256  # of a value
COLOURS = 3
PIECE = 8  # images whose probabilities are in memory at once: 50 MB each at 128×128 pixels
SEED = 0  # of the numbers that completions are drawn with
NATS = 0.6931471805599453  # of a bit


@dataclass(frozen=True)
class Settings:
    """``width`` 64 makes 96 channels (32 for each colour); ``kernel``: side of the receptive field of one layer.

    ``code``: about how many numbers the representation has. ``lr``: Adam's, chosen here, for narrow networks and runs
    of hundreds of updates.
    """

    width: Count = 64
    code: Count = 4000
    depth: Depth = 8
    kernel: Count = 5
    lr: Rate = 5e-3

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0 or self.kernel < 3:
            raise UserError(f"kernel={self.kernel}: a pixel has as much to its left as to its right: 3, 5, 7, …")


class ColourConv(nn.Conv2d):
    """A convolution along the row, whose kernel ends in the pixel itself: (N, C, H, W + reach) → (N, out, H, W).

    Channels are thirds: red, green, blue (``halves`` times, one after the other). In the pixel itself a colour's
    channels see those of the colours before it, and its own unless ``strict``.
    """

    mask: Tensor

    def __init__(self, channels: int, outputs: int, reach: int, strict: bool = False, halves: int = 1):
        super().__init__(channels, outputs, (1, reach + 1))
        mask = torch.ones_like(self.weight)
        source = torch.arange(COLOURS).repeat_interleave(channels // COLOURS)
        target = torch.arange(COLOURS).repeat_interleave(outputs // halves // COLOURS).repeat(halves)[:, None]
        mask[..., -1] = ((target > source) if strict else (target >= source)).to(mask)[..., None]
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve without padding."""
        weight = self.weight * self.mask
        if x.shape[2] > 1:
            return conv2d(x, weight, self.bias)
        # A row, as when values are drawn: a product takes a fraction of what setting up a convolution does.
        places = x.unfold(3, self.kernel_size[1], 1).movedim(3, 1).flatten(2)
        return linear(places, weight.flatten(1), self.bias).mT[:, :, None]


class Layer(nn.Module):
    """One gated layer of both stacks (Figure 2); the ``first`` one sees values, and of a pixel's own none too early.

    ``rows``: how many rows of the vertical stack's input it needs for one of its output, the last being the row itself,
    or in the first layer the one above it.
    """

    def __init__(self, channels: int, features: int, kernel: int, first: bool):
        super().__init__()
        self.reach, self.first = kernel // 2, first
        self.rows = self.reach if first else self.reach + 1
        self.vertical = nn.Conv2d(channels, 2 * features, (self.rows, kernel), padding=(0, self.reach))
        self.across = nn.Conv2d(2 * features, 2 * features, 1)
        self.horizontal = ColourConv(channels, 2 * features, self.reach, strict=first, halves=2)
        self.out = ColourConv(features, features, 0)

    def down(self, above: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (N, C, H + rows − 1, W) → the vertical stack (N, F, H, W), and what the horizontal one has of it."""
        x = self.vertical(above)
        return gate(x), self.across(x)

    def along(self, left: Tensor, below: Tensor) -> Tensor:
        """Places (N, C, H, reach + W) and what is from above (N, 2F, H, W) → the horizontal stack (N, F, H, W)."""
        x: Tensor = self.out(gate(self.horizontal(left) + below))
        return x if self.first else x + left[..., self.reach :]


def gate(x: Tensor) -> Tensor:
    """Equation 2: tanh of the first half of the channels times sigmoid of the second."""
    signal, gates = x.chunk(2, dim=1)
    return signal.tanh() * gates.sigmoid()


class PixelCNN(nn.Module):
    """Values (N, 3, H, W) in 0, …, ``levels`` − 1 → logits of each, (N, H, W, 3, levels), by those before it."""

    def __init__(self, width: int, depth: int, kernel: int, levels: int = LEVELS):
        super().__init__()
        self.levels = levels
        self.features, self.reach = COLOURS * -(-width // 2), kernel // 2
        channels = [COLOURS, *[self.features] * (depth - 1)]
        self.layers = nn.ModuleList(Layer(c, self.features, kernel, n == 0) for n, c in enumerate(channels))
        self.hidden = ColourConv(self.features, self.features, 0)
        self.to_logits = ColourConv(self.features, COLOURS * levels, 0)

    @property
    def stack(self) -> list[Layer]:
        """The layers."""
        return cast(list[Layer], list(self.layers))

    def forward(self, values: Tensor) -> Tensor:
        """The logits of all values at once, in float32 or more."""
        return self.head(self.maps(values)[-1])

    def maps(self, values: Tensor) -> list[Tensor]:
        """The horizontal stack after each layer, (N, features, H, W) each."""
        down = along = self.scaled(values)
        found = []
        for layer in self.stack:
            height = down.shape[2]
            rows = pad(down, (0, 0, self.reach, 0))[:, :, : height + layer.rows - 1]
            down, below = layer.down(rows)
            along = layer.along(pad(along, (self.reach, 0)), below)
            found.append(along)
        return found

    def scaled(self, values: Tensor) -> Tensor:
        """What the network sees of values: [-1, 1]."""
        return (2 / (self.levels - 1) * values - 1).to(self.hidden.weight)

    def head(self, along: Tensor) -> Tensor:
        """The last map (N, features, H, W) → logits (N, H, W, 3, levels)."""
        logits: Tensor = self.to_logits(relu(self.hidden(relu(along))))
        shape = len(logits), *logits.shape[2:]
        # Channels last, as the network's maps are in memory, so that nothing is copied.
        return at_least_float32(logits).permute(0, 2, 3, 1).reshape(*shape, COLOURS, self.levels)

    def log_likelihood(self, values: Tensor) -> Tensor:
        """ln p of each image of values (N, 3, H, W) int64: (N,), in nats, at most 0."""
        each = self.forward(values).log_softmax(dim=4).gather(4, values.movedim(1, 3)[..., None])
        return each.sum(dim=(1, 2, 3, 4))

    def draw(self, values: Tensor, missing: Tensor, uniform: Tensor) -> Tensor:
        """``values`` (N, 3, H, W) int64 with those that are ``missing`` (bool, the same shape) drawn in their order.

        Each is the first level whose cumulated probability exceeds the ``uniform`` number of its place, (3, H, W) in
        [0, 1). Of the network only what a row, and then a pixel, adds is computed; rows after the last hole are not.
        """
        values, wanted = values.clone(), missing.any(dim=0).any(dim=0)
        rows = wanted.any(dim=1).nonzero()
        if not len(rows):
            return values
        count, _, _, width = values.shape
        scaled = self.scaled(values)
        # Of each layer's input to the vertical stack the last rows, at first those above the image.
        above = [scaled.new_zeros(count, each.vertical.in_channels, each.rows, width) for each in self.stack]
        for y in range(int(rows[-1]) + 1):
            below = []
            for n, layer in enumerate(self.stack):
                down, own = layer.down(above[n])
                below.append(own)
                if n + 1 < len(above):
                    above[n + 1] = torch.cat([above[n + 1][:, :, 1:], down], dim=2)
            if wanted[y].any():
                self._draw_row(values, missing, uniform, y, wanted[y].nonzero().flatten().tolist(), below)
            above[0] = torch.cat([above[0][:, :, 1:], self.scaled(values[:, :, y : y + 1])], dim=2)
        return values

    def _draw_row(
        self, values: Tensor, missing: Tensor, uniform: Tensor, y: int, places: list[int], below: list[Tensor]
    ) -> None:
        """The same for the ``places`` of row ``y`` where an image misses something, given what each layer has of it
        from above; ``values`` are changed."""
        row = self.scaled(values[:, :, y : y + 1])
        # Of each layer's input to the horizontal stack the row, after as many zeros as the kernel reaches.
        first = pad(row, (self.reach, 0))
        inputs = [first, *(first.new_zeros(len(row), self.features, 1, first.shape[3]) for _ in below[1:])]
        known = 0  # every layer has the places before this one, which have all their values
        for x in places:
            for colour in missing[:, :, y, x].any(dim=0).nonzero().flatten().tolist():
                logits = self._advance(inputs, below, known, x + 1)[:, colour]
                known = x
                cumulated = logits.double().softmax(dim=1).cumsum(dim=1)
                drawn = (cumulated <= uniform[colour, y, x]).sum(dim=1).clamp(max=self.levels - 1)
                values[:, colour, y, x] = drawn.where(missing[:, colour, y, x], values[:, colour, y, x])
                first[:, colour, 0, self.reach + x] = self.scaled(values[:, colour, y, x])

    def _advance(self, inputs: list[Tensor], below: list[Tensor], start: int, stop: int) -> Tensor:
        """The horizontal stack for places ``start`` to ``stop`` of a row, written into the layers' ``inputs``, and the
        logits (N, 3, levels) of the last of them."""
        x, reach = inputs[0], self.reach
        for n, layer in enumerate(self.stack):
            x = layer.along(inputs[n][..., start : reach + stop], below[n][..., start:stop])
            if n + 1 < len(inputs):
                inputs[n + 1][..., reach + start : reach + stop] = x
        return self.head(x[..., -1:])[:, 0, 0]


class Method(BaseMethod):
    """One network; ``encode`` pools a map, ``complete`` draws, ``likelihood`` tells how likely images are."""

    PAPER = "van den Oord et al. 2016"
    settings: Settings
    losses = "likelihood"

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.network = PixelCNN(settings.width, settings.depth, settings.kernel)
        features = self.network.features
        self.grid = min(range(1, size + 1), key=lambda side: abs(features * side**2 - settings.code))
        self.feature_dim = features * self.grid**2
        self.shown = sorted({-(-settings.depth * quarter // 4) - 1 for quarter in (1, 2, 3, 4)})
        passes = COLOURS * size**2 // 2
        self.notes.append(
            f"it completes value by value: half of an image takes {passes:,} passes through {settings.depth} layers,"
            f" one after the other, for as many images as are completed at once; the run tries it before it begins"
        )

    def players(self) -> dict[str, Player]:
        """The network alone, with Adam; the rate falls to 0 along a line."""
        return {"network": Player(list(self.network.parameters()), self.settings.lr, schedule=polynomial(1))}

    def loss(self, player: str, batch: Batch) -> Loss:
        """Bits per dimension: −log₂ p of an image, divided by its 3·H·W values; the mean over images."""
        bits = -self.network.log_likelihood(levels(batch.images)).mean() / (NATS * batch.images[0].numel())
        return Loss(bits, {"bits": bits})

    def encode(self, images: Tensor) -> Tensor:
        """Whole images (N, 3, H, W) in [0, 1] → (N, feature_dim)."""
        middle = self.network.maps(levels(images))[(self.settings.depth - 1) // 2]
        return adaptive_avg_pool2d(middle, self.grid).flatten(1)

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The maps after a quarter, half, three quarters and all of the layers, over squares of 2×2 pixels: whole
        images (N, 3, H, W) in [0, 1] → (N, C, H/2, W/2) each."""
        maps = self.network.maps(levels(images))
        return {f"stage{n}": avg_pool2d(maps[layer], 2) for n, layer in enumerate(self.shown, start=1)}

    @torch.no_grad()
    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """Images (N, 3, H, W) with what is not ``seen`` (broadcastable, 1/0) drawn value by value; the rest stays."""
        missing = (seen == 0).expand_as(images)
        generator = torch.Generator().manual_seed(SEED)
        uniform = torch.rand(images.shape[1:], generator=generator, dtype=torch.float64).to(images.device)
        with torch.autocast(images.device.type, enabled=False):  # by probabilities in full, and without casting weights
            drawn = self.network.draw(levels(images), missing, uniform)
        return images.where(~missing, (drawn / (LEVELS - 1)).to(images))

    @torch.no_grad()
    def likelihood(self, images: Tensor) -> Tensor:
        """ln p of each image (N, 3, H, W) in [0, 1], of its 8-bit values: (N,), in nats, at most 0."""
        return torch.cat([self.network.log_likelihood(levels(piece)) for piece in torch.split(images, PIECE)])


def levels(images: Tensor) -> Tensor:
    """[0, 1] → the nearest of 0, …, 255 (int64)."""
    return (images * (LEVELS - 1)).round().long().clamp(0, LEVELS - 1)
