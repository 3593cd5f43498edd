"""CIE Lab, in which lightness and colour are apart, and the bins of colour that a network can tell apart as classes."""

from functools import cache

import torch
from torch import Tensor

# Linear sRGB (ITU-R BT.709 primaries) to XYZ, row by row, and XYZ of the white point D65 for the 2° observer.
SRGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
D65 = (0.95047, 1.0, 1.08883)

GRID = 10  # side of a bin of colours in the ab plane (Zhang et al. 2016, section 2.2)
AB_BINS = 261  # of those in gamut, see `ab_bins`
REACH = 11  # bins from −110 to 110 hold all of sRGB, whose a is in [−86.2, 98.3] and b in [−107.9, 94.5]


def rgb_to_lab(images: Tensor) -> Tensor:
    """sRGB (N, 3, H, W) in [0, 1] → CIE Lab under D65, (N, 3, H, W): L in [0, 100], a and b as said at ``REACH``.

    The transfer function of IEC 61966-2-1, then the definition of CIE 15.
    """
    # Powers are taken of clamped values, as the branch that ``where`` leaves out would have an infinite slope at 0.
    linear = torch.where(images > 0.04045, ((images.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, images / 12.92)
    # Multiplied out by hand: a matrix product would be rounded to bfloat16 under autocast, and Lab with it.
    to_xyz = images.new_tensor(SRGB_TO_XYZ) / images.new_tensor(D65)[:, None]
    xyz = (to_xyz[:, :, None, None] * linear[:, None]).sum(dim=2)
    knee = 6 / 29
    x, y, z = torch.where(xyz > knee**3, xyz.clamp(min=knee**3) ** (1 / 3), xyz / (3 * knee**2) + 4 / 29).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


@cache
def ab_bins() -> tuple[Tensor, Tensor]:
    """Centres (AB_BINS, 2) of the bins in gamut, and the number of the bin nearest to each point of the grid, (23, 23).

    A bin is in gamut when an 8-bit sRGB colour lies in its 10×10 cell. Zhang et al. keep 313 bins by a rule they do not
    state; these are all that an image can fall into.
    """
    # In the ab plane a solid covers what its surface covers, so the faces of the RGB cube are enough.
    level, ends = torch.linspace(0, 1, 256, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    faces = [torch.cartesian_prod(*(ends if i == axis else level for i in range(3))) for axis in range(3)]
    a, b = _cell(rgb_to_lab(torch.cat(faces)[:, :, None, None])[:, 1:])
    in_gamut = torch.zeros(2 * REACH + 1, 2 * REACH + 1, dtype=torch.bool)
    in_gamut[a, b] = True
    bins = in_gamut.nonzero().double()
    nearest = torch.cdist(torch.ones_like(in_gamut).nonzero().double(), bins).argmin(dim=1)
    return (bins - REACH) * GRID, nearest.view_as(in_gamut)


def ab_bin(ab: Tensor, nearest: Tensor) -> Tensor:
    """The number of the bin nearest to each colour: (N, 2, H, W) → (N, H, W) int64; ``nearest`` from `ab_bins`."""
    return nearest[_cell(ab)]


def _cell(ab: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column, in the (23, 23) grid, of the cell that each colour lies in: (N, 2, H, W) → (N, H, W) each."""
    a, b = (ab / GRID).round().long().add(REACH).unbind(1)
    return a, b
