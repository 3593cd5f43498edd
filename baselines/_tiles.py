"""What `relative_position` and `jigsaw` share: tiles are cut from an image, each is normalised by itself, and a network
that sees one tile at a time gives a code of each; what is asked about the tiles is the method's.

A tile has a quarter of the image's side: 24 pixels at 96, where the papers cut 96 of about 500 and 64 of 255. The
network is AlexNet without its first stride, 5×5 and 1 in the place of 11×11 and 4, so that a tile of 24 pixels has the
maps that Doersch's of 96 has, 12×12 and 6×6, and comes to fc6 as 3×3; or it is the Missing Data Encoder's, with as many
stages as bring a tile to 3×3 or 4×4. Batch-norm without scale and shift, Doersch's from conv3 on, is everywhere, also
in the place of AlexNet's response normalisation, which does next to nothing to values that are not pixels of 0 to 255.
Whole images go through the same weights as a convolution, as when Doersch's network is moved to detection.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from mdebench.errors import UserError
from mdebench.methods.networks import Trunk, stage_maps, stages_for

BACKBONES = {"native": "the paper's AlexNet", "mde": "the Missing Data Encoder's stages and code"}
SMALLEST = 4  # pixels a side of a tile
CELLS = 4  # a side of the grid that the last map is averaged over in the representation
PLACES = tuple((row, column) for row in range(3) for column in range(3))  # of the nine tiles, row by row


def side_of(size: int) -> int:
    """The side of a tile in pixels; UserError where it is too small to hold anything."""
    if size < CELLS * SMALLEST:
        why = f"a tile is a quarter of the image's side, {size // 4} of {size} pixels"
        raise UserError(f"{why}, and less than {SMALLEST} show nothing; make a pack of --size {4 * SMALLEST} or more")
    return size // 4


def cut(images: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Tiles out of images (N, 3, H, W): (N, T, 3, side, side), with their first row ``top`` and column ``left``.

    These are whole numbers (N, T, 1), or (N, T, 3) where each channel has a place of its own.
    """
    along = torch.arange(side, device=images.device)
    rows, columns = ((first[..., None] + along).to(images.device) for first in (top, left))
    image = torch.arange(len(images), device=images.device)[:, None, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[:, None, None]
    return images[image, channel, rows[..., :, None], columns[..., None, :]]


def normalise(tiles: Tensor) -> Tensor:
    """Each tile, or image, (…, 3, h, w) by itself: mean 0 in each channel, mean square 1 over all three.

    So that neither brightness nor contrast tells which tiles are neighbours. One without contrast becomes 0.
    """
    centred = tiles - tiles.mean(dim=(-2, -1), keepdim=True)
    strength = centred.square().mean(dim=(-3, -2, -1), keepdim=True).sqrt()
    return centred / strength.clamp_min(1e-3)  # a quarter of a level of 8 bits


def halve() -> nn.Module:
    """The pooling between AlexNet's stages: sides are halved, rounded up."""
    return nn.MaxPool2d(3, stride=2, padding=1)


def alexnet(width: int, groups: int) -> tuple[list[nn.Module], int]:
    """conv1 to conv5, the first two with the pooling after them, and the channels of the last.

    ``groups`` of channels in conv2, conv4 and conv5.
    """
    c1, c2, c3, c5 = (max(4, 2 * (c * width // 64)) for c in (48, 128, 192, 128))  # even, as groups need

    def layer(channels: int, out: int, kernel: int, groups: int = 1) -> list[nn.Module]:
        return normed(nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=False))

    stages = [
        [*layer(3, c1, 5), halve()],
        [*layer(c1, c2, 5, groups), halve()],
        layer(c2, c3, 3),
        layer(c3, c3, 3, groups),
        layer(c3, c5, 3, groups),
    ]
    return [nn.Sequential(*layers) for layers in stages], c5


def normed(layer: nn.Conv2d | nn.Linear) -> list[nn.Module]:
    """A layer without a bias, batch-norm that neither scales nor shifts, and ReLU."""
    norm = (
        nn.BatchNorm2d(layer.out_channels, affine=False)
        if isinstance(layer, nn.Conv2d)
        else nn.BatchNorm1d(layer.out_features, affine=False)
    )
    return [layer, norm, nn.ReLU(inplace=True)]


class TileNetwork(nn.Module):
    """Tiles (M, 3, side, side), normalised → codes (M, code), all at least 0. ``groups``: `alexnet`'s."""

    def __init__(self, side: int, width: int, code: int, backbone: str, groups: int = 1):
        super().__init__()
        before: list[nn.Module] = []
        if backbone == "native":
            stages, channels = alexnet(width, groups)
            self.stages, kernel, before = nn.ModuleList(stages), -(-side // 8), [halve()]
        else:
            try:
                stages_for(side)
            except UserError as error:
                raise UserError(f"backbone=mde sees tiles of a quarter of the side: {error}") from error
            trunk = Trunk(side, width, 3, lambda: nn.ReLU(inplace=True))
            self.stages, channels, kernel = trunk.stages, trunk.out_channels, trunk.out_size
        self.to_code = nn.Sequential(*before, *normed(nn.Conv2d(channels, code, kernel, bias=False)))
        self.feature_dim = channels * CELLS**2 + code

    def forward(self, tiles: Tensor) -> Tensor:
        """The codes."""
        code: Tensor = self.to_code(self._last(tiles))
        return code.flatten(1)

    def _last(self, x: Tensor) -> Tensor:
        return list(self.maps(x).values())[-1]

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The map after each stage, of tiles or of whole images: "stage1", "stage2", … → (N, C, h, w)."""
        return stage_maps(self.stages, x)

    def represent(self, x: Tensor) -> Tensor:
        """Whole images, normalised, (N, 3, H, W) → the last map over a grid, and the code's mean: (N, feature_dim)."""
        last = self._last(x)
        return torch.cat([adaptive_avg_pool2d(last, CELLS).flatten(1), self.to_code(last).mean(dim=(2, 3))], dim=1)
