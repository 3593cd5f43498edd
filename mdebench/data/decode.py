"""From bytes of strangers to (3, size, size) uint8: checking, decoding, cropping and shrinking one image.

Whatever is odd about an image either converts it or leaves it out, and is told either way. One way to resize, for all
sources: Pillow's bicubic filter with antialiasing, straight from the (fractional) crop box.
"""

import io
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mdebench.data.store import BadImage

MAX_PIXELS = 64_000_000  # a larger image is a mistake or a decompression bomb
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
RESIZE = "Pillow bicubic with antialiasing, from a fractional box"

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the image
Crop = Callable[[int, int], Box]  # (width, height) → box; may raise BadImage


def centre_square(width: int, height: int) -> Box:
    """The largest square in the middle."""
    side = min(width, height)
    return ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)


def decode(data: bytes, crop: Crop, size: int) -> tuple[NDArray[np.uint8], Box, set[str]]:
    """One image as (3, size, size) uint8, the box it was cut from, and the kinds of what had to be converted.

    Raises BadImage with the kind when it must be left out.
    """
    if not data:
        raise BadImage("empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImage("too_large")
            box = crop(image.width, image.height)
            kinds = _oddities(image)
            if box[2] - box[0] < size:
                kinds.add("upscaled")
            rgb = _to_rgb(image, kinds)
            small = rgb.resize((size, size), Image.Resampling.BICUBIC, box=box)
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage("not_an_image") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage("too_large") from error
    except Exception as error:  # decoders of hostile bytes raise almost anything (struct.error, IndexError, …)
        raise BadImage("truncated" if "truncated" in str(error).lower() else "damaged") from error
    return np.asarray(small).transpose(2, 0, 1), box, kinds


def _oddities(image: Image.Image) -> set[str]:
    kinds = set()
    if any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        kinds.add("sixteen_bit")
    if getattr(image, "n_frames", 1) > 1:
        kinds.add("several_frames")
    with suppress(Exception):  # broken EXIF is no reason to leave a good image out
        if "exif" in image.info and image.getexif().get(0x0112, 1) != 1:
            kinds.add("exif_orientation")
    return kinds


def _to_rgb(image: Image.Image, kinds: set[str]) -> Image.Image:
    """`image` in mode RGB; adds to `kinds` what was done to it."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise BadImage("unsupported_mode")
    if image.mode.startswith("I"):  # grey of 16 bits; Pillow's own conversion would clip it at 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BadImage("unsupported_mode")
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
        kinds.add("sixteen_bit")
    names = {"1": "grey", "L": "grey", "LA": "grey", "La": "grey", "P": "palette", "PA": "palette", "CMYK": "cmyk"}
    if image.mode in names:
        kinds.add(names[image.mode])
    elif image.mode not in ("RGB", "RGBA", "RGBa"):
        kinds.add("colour_space")
    if image.has_transparency_data:
        kinds.add("alpha")
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
