"""Views: an image seen anew, through a random crop, mirrored, in other colours, grey, blurred, solarized.

What `simclr`, `byol` and `dino` share: to know that two views are of one image is what these methods learn. Crops are
drawn and colours changed as torchvision's transforms do it, but for a whole batch at once, each image by its own draws,
which are the generator's and so the same when a run is resumed or shared by several processes.
Changed for small images: deviations of the blur are in pixels of an image of 224 and shrink with ours; crops are read
bilinearly (the papers' bicubically) and without a filter, as views have about as many pixels as their crop, or more.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from mdebench.methods.contract import Batch

FLIPPED, JITTERED, GREY = 0.5, 0.8, 0.2  # how often, in all three papers
RATIOS = (3 / 4, 4 / 3)  # of a crop's width to its height
TRIES = 10  # to draw a crop that fits, before the whole image is taken
DEVIATIONS, PUBLISHED_SIDE = (0.1, 2.0), 224  # of the blur, in pixels of images of that side


@dataclass(frozen=True)
class Look:
    """How views differ from their images. ``scale``: the least and the most of the image's area that a crop has.

    ``jitter``: by how much brightness, contrast and saturation change at most, as factors 1 ± jitter, and the hue in
    turns; ``blurred`` and ``solarized``: how often.
    """

    scale: tuple[float, float]
    jitter: tuple[float, float, float, float]
    blurred: float
    solarized: float = 0.0


@torch.no_grad()
def view(batch: Batch, look: Look, side: int) -> Tensor:
    """A view of each image, (N, 3, side, side) in [0, 1]: crop, mirroring, jitter, grey, blur, solarization."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(batch.count, *shape, generator=batch.generator)

    def chosen(often: float) -> Tensor:
        return batch.own(rand() < often)

    images, shrunk = batch.images, batch.images.shape[-1] / PUBLISHED_SIDE
    with torch.autocast(images.device.type, enabled=False):
        boxes = batch.own(draw_boxes(batch.count, look.scale, batch.generator)).to(images)
        images = crop(images, boxes, chosen(FLIPPED), side)
        changes = batch.own((2 * rand(4) - 1) * torch.tensor(look.jitter)).to(images)
        images = jitter(images, changes, batch.own(rand(4).argsort(dim=1)), chosen(JITTERED))
        images = torch.where(chosen(GREY)[:, None, None, None], grey(images), images)
        low, high = (shrunk * each for each in DEVIATIONS)
        deviations, blurred = batch.own(low + (high - low) * rand()).to(images), chosen(look.blurred)
        images[blurred] = blur(images[blurred], deviations[blurred], math.ceil(3 * high))
        images = torch.where(chosen(look.solarized)[:, None, None, None], solarize(images), images)
    return images.contiguous(memory_format=torch.channels_last)


def draw_boxes(count: int, scale: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Crops of square images: corners x1, y1, x2, y2 (count, 4) in [0, 1], as torchvision's RandomResizedCrop has them.

    The area is uniform in ``scale``, the logarithm of width / height uniform in that of `RATIOS`; a crop that does not
    fit is drawn again, and after `TRIES` times it is the whole image.
    """
    area, ratio = torch.rand(2, count, TRIES, generator=generator)
    area = scale[0] + (scale[1] - scale[0]) * area
    ratio = RATIOS[0] * (RATIOS[1] / RATIOS[0]) ** ratio
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=2)
    fits = sides.amax(dim=2) <= 1
    first = sides[torch.arange(count), fits.int().argmax(dim=1)]
    sides = torch.where(fits.any(dim=1, keepdim=True), first, 1.0)
    corner = (1 - sides) * torch.rand(count, 2, generator=generator)
    return torch.cat([corner, corner + sides], dim=1)


def crop(images: Tensor, boxes: Tensor, mirrored: Tensor, side: int) -> Tensor:
    """What lies in boxes (N, 4) in [0, 1] of images (N, 3, H, W), ``mirrored`` (N,) or not: (N, 3, side, side).

    Nothing outside a box is looked at: beyond the middle of its outermost pixels it goes on as there.
    """
    steps = (torch.arange(side, device=images.device, dtype=images.dtype) + 0.5) / side
    low, high = boxes[:, :2, None], boxes[:, 2:, None]
    rim = 0.5 / images.new_tensor([images.shape[3], images.shape[2]])[:, None]
    x, y = (low + (high - low) * steps).clamp(low + rim, high - rim).unbind(1)
    x = torch.where(mirrored[:, None], x.flip(1), x)
    grid = torch.stack([x[:, None].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], dim=3)
    return grid_sample(images, 2 * grid - 1, padding_mode="border", align_corners=False)


def jitter(images: Tensor, changes: Tensor, order: Tensor, chosen: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue of the ``chosen`` (N,) images changed, each in its own ``order`` (N, 4).

    ``changes`` (N, 4): the first three plus 1 are factors, the last is a part of a turn.
    """
    images = images.clone()
    for place in range(len(CHANGES)):
        for number, change in enumerate(CHANGES):
            rows = chosen & (order[:, place] == number)
            images[rows] = change(images[rows], changes[rows, number, None, None, None])
    return images


def _brighter(images: Tensor, change: Tensor) -> Tensor:
    return ((1 + change) * images).clamp(0, 1)


def _contrasted(images: Tensor, change: Tensor) -> Tensor:
    return images.lerp(grey(images).mean(dim=(1, 2, 3), keepdim=True), -change).clamp(0, 1)


def _saturated(images: Tensor, change: Tensor) -> Tensor:
    return images.lerp(grey(images), -change).clamp(0, 1)


def _turned(images: Tensor, turns: Tensor) -> Tensor:
    """The hue of HSV turned; value and saturation stay."""
    red, green, blue = images.chunk(3, dim=1)
    value = images.amax(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    some = torch.where(chroma > 0, chroma, 1.0)  # what is grey has no hue, and needs none
    from_blue = 4 + (red - green) / some
    from_green = 2 + (blue - red) / some
    from_red = (green - blue) / some
    sixths = torch.where(red == value, from_red, torch.where(green == value, from_green, from_blue)) + 6 * turns
    away = (sixths + sixths.new_tensor([5.0, 3.0, 1.0])[:, None, None]) % 6  # HSV → RGB, in one formula
    return value - chroma * torch.minimum(away, 4 - away).clamp(0, 1)


CHANGES = (_brighter, _contrasted, _saturated, _turned)


def grey(images: Tensor) -> Tensor:
    """The luma of images (N, 3, H, W) in all three channels."""
    weights = images.new_tensor([0.2989, 0.587, 0.114])[:, None, None]
    return (weights * images).sum(dim=1, keepdim=True).expand_as(images)


def blur(images: Tensor, deviations: Tensor, radius: int) -> Tensor:
    """Images (N, 3, H, W) under Gaussians of ``deviations`` (N,) pixels, cut at ``radius``; borders are reflected."""
    taps = torch.arange(-radius, radius + 1, device=images.device)
    weights = (-(taps**2) / (2 * deviations[:, None] ** 2)).softmax(dim=1)[:, :, None, None, None]
    height, width = images.shape[2:]
    rows = pad(images, (0, 0, radius, radius), mode="reflect")
    images = sum((weights[:, t] * rows[:, :, t : t + height] for t in range(len(taps))), torch.zeros_like(images))
    columns = pad(images, (radius, radius, 0, 0), mode="reflect")
    return sum((weights[:, t] * columns[..., t : t + width] for t in range(len(taps))), torch.zeros_like(images))


def solarize(images: Tensor) -> Tensor:
    """What is brighter than half is turned into its negative."""
    return torch.where(images >= 0.5, 1 - images, images)
