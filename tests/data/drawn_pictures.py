"""Pictures that say what they show, so that a pack's labels can be held against its own pixels.

Black and white blocks are bits, five coloured dots stand where the landmarks are, and six blocks that are always the
same tell which side is up. All of it survives JPEG and being shrunk to a pack's size.
"""

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mdebench.data.pack import LANDMARKS

Point = tuple[float, float]  # relative to the crop: x, y in [0, 1]
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels

GRID = 10  # blocks along a side; a whole block is never smaller than three pixels of a pack
SMALLEST = 3 * GRID
# Row, column → bit. Turned or mirrored in any way, one of these blocks is another.
UPRIGHT = {(0, 0): 1, (0, 1): 0, (1, 0): 1, (0, 9): 0, (9, 0): 0, (9, 9): 0}
BLOCKS = [(row, column) for row in range(6) for column in range(GRID) if (row, column) not in UPRIGHT]
DOTS_BEGIN = 0.6  # below the blocks
RADIUS = 0.05
GREY = 128
COLOURS = dict(zip(LANDMARKS, [(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 0, 255), (255, 0, 255)]))
# Where a dot may stand: its usual place, give or take JITTER, so that no two touch.
PLACES: dict[str, Point] = dict(zip(LANDMARKS, [(0.2, 0.7), (0.8, 0.72), (0.5, 0.76), (0.32, 0.9), (0.68, 0.88)]))
JITTER = 0.03
NEAR = 0.015  # of the crop's side: a dot's centre is read from a pack to within 0.009


class Unreadable(AssertionError):
    """A picture that was not drawn here, or was turned, cut elsewhere or damaged since."""


def draw(
    values: Mapping[str, int], widths: Mapping[str, int], dots: Mapping[str, Point], size: tuple[int, int], box: Box
) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: the values, each of so many bits, and the dots, within `box`; grey around it."""
    width, height = size
    bits = [bit for name, count in widths.items() for bit in _bits(values[name], count)]
    bits.append(sum(bits) % 2)
    blocks = np.full((GRID, GRID, 3), GREY, np.uint8)
    for (row, column), bit in [*UPRIGHT.items(), *zip(BLOCKS, bits, strict=False)]:
        blocks[row, column] = 255 * bit
    left, top, right, bottom = box
    x = (np.arange(width) + 0.5 - left) / (right - left)
    y = (np.arange(height) + 0.5 - top) / (bottom - top)
    column, row = (np.clip(np.floor(axis * GRID), 0, GRID - 1).astype(int) for axis in (x, y))
    pixels = blocks[row[:, None], column[None, :]]
    pixels[(y < 0) | (y >= 1)] = GREY
    pixels[:, (x < 0) | (x >= 1)] = GREY
    for name, (dot_x, dot_y) in dots.items():
        pixels[np.hypot(x[None, :] - dot_x, y[:, None] - dot_y) < RADIUS] = COLOURS[name]
    return pixels


def read(image: NDArray[np.uint8], widths: Mapping[str, int]) -> tuple[dict[str, int], dict[str, Point]]:
    """The values and dots of a pack's image (3, size, size); Unreadable unless it stands upright and whole."""
    grey, side = image.mean(axis=0), image.shape[-1]
    centres = (np.arange(side) + 0.5) / side * GRID % 1
    inner, block = np.abs(centres - 0.5) <= 0.25, np.floor((np.arange(side) + 0.5) / side * GRID).astype(int)

    def bit(place: tuple[int, int]) -> int:
        value = grey[np.ix_(inner & (block == place[0]), inner & (block == place[1]))].mean()
        if 90 < value < 165:
            raise Unreadable(f"the block at {place} is neither black nor white but {value:.0f}")
        return int(value > 127)

    turned = [place for place, expected in UPRIGHT.items() if bit(place) != expected]
    if turned:
        raise Unreadable(f"the picture is not upright: the blocks {turned} are others'")
    bits = [bit(place) for place in BLOCKS[: sum(widths.values()) + 1]]
    if sum(bits) % 2:
        raise Unreadable("the blocks do not add up")
    values, start = {}, 0
    for name, count in widths.items():
        values[name] = int("".join(map(str, bits[start : start + count])), 2)
        start += count
    return values, _read_dots(image)


def encoded(pixels: NDArray[np.uint8], kind: str, orientation: int = 1) -> bytes:
    """The picture in a format of FORMATS, stored as its EXIF orientation says (1: as it is, and nothing is said)."""
    format, mode, options = FORMATS[kind]
    image = Image.fromarray(np.ascontiguousarray(stored(pixels, orientation)))
    if mode == "P":
        image = image.quantize(64, dither=Image.Dither.NONE)
    if orientation != 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {**options, "exif": exif}
    stream = io.BytesIO()
    image.convert(mode).save(stream, format, **options)
    return stream.getvalue()


# Pillow's name, mode and options. The first is the simplest, which hypothesis shrinks to.
FORMATS: dict[str, tuple[str, str, dict[str, object]]] = {
    "png": ("PNG", "RGB", {}),
    "jpg": ("JPEG", "RGB", {"quality": 85}),
    "jpeg": ("JPEG", "RGB", {"quality": 95, "progressive": True}),
    "bmp": ("BMP", "RGB", {}),
    "webp": ("WEBP", "RGB", {"quality": 90}),
    "tif": ("TIFF", "RGB", {}),
    "tiff": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "gif": ("GIF", "P", {}),
    "palette.png": ("PNG", "P", {}),
    "alpha.png": ("PNG", "RGBA", {}),
    "lossless.webp": ("WEBP", "RGB", {"lossless": True}),
}
WITH_EXIF = ("png", "jpg", "jpeg", "webp", "tif", "tiff", "palette.png", "alpha.png", "lossless.webp")


def stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """How a camera stores the picture (height, width, 3) when its EXIF orientation (tag 0x0112) is that.

    After the standard (JEITA CP-3451, 4.6.4 A): where the stored 0th row and 0th column are on the upright picture.
    """
    turned = upright.transpose(1, 0, 2)
    return {
        0: upright,  # no orientation, but some write it
        1: upright,  # top, left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: turned,  # left, top
        6: turned[::-1],  # right, top
        7: turned[::-1, ::-1],  # right, bottom
        8: turned[:, ::-1],  # left, bottom
    }[orientation]


def _bits(value: int, count: int) -> Sequence[int]:
    if not 0 <= value < 2**count:
        raise ValueError(f"{value} has more than {count} bits")
    return [int(digit) for digit in f"{value:0{count}b}"]


def _read_dots(image: NDArray[np.uint8]) -> dict[str, Point]:
    """Name → centre of each dot; a dot is told by its hue, which mixing with grey does not change."""
    side = image.shape[-1]
    begin = math.ceil(DOTS_BEGIN * side)
    colour = image[:, begin:].astype(float) - image[:, begin:].mean(axis=0)  # (3, h, w), without its grey
    strength = np.linalg.norm(colour, axis=0)
    hues = np.array(list(COLOURS.values()), float)
    hues -= hues.mean(axis=1, keepdims=True)
    full = np.linalg.norm(hues, axis=1)
    nearest = np.argmax(np.tensordot(hues / full[:, None], colour, axes=1), axis=0)
    y, x = np.mgrid[begin:side, :side] + 0.5
    dots = {}
    for k, name in enumerate(COLOURS):
        weight = np.where((nearest == k) & (strength > 45), strength, 0)
        share = weight.sum() / (full[k] * math.pi * (RADIUS * side) ** 2)  # of a whole dot
        if share > 0.3:
            dots[name] = (float(np.average(x, weights=weight)) / side, float(np.average(y, weights=weight)) / side)
        elif share > 0.15:
            raise Unreadable(f"{share:.0%} of the dot of {name} is there")
    return dots
