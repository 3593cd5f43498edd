"""From bytes of strangers to (3, size, size) uint8: checking, decoding, turning, cropping and shrinking one image.

Whatever is odd about an image either converts it or leaves it out, and is told either way; want of memory does neither,
and stops the command. One way to resize, for all
sources: Pillow's bicubic filter with antialiasing, straight from the (fractional) crop box.
"""

import io
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from mdebench import files
from mdebench.data.store import BadImage
from mdebench.errors import UserError

MAX_PIXELS = 64_000_000  # a larger image is a mistake or a decompression bomb
LARGE = 4_000_000  # pixels; of larger images one at a time is decoded, however many workers there are
BAND = 4_000_000  # pixels that are converted at a time where that takes several copies
SPARE = 2**26  # bytes, beside 16 for each pixel: where there is not so much, a decoder may have failed for want of it
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_T = Image.Transpose
TURNS = {  # EXIF orientation → what makes the image upright
    2: _T.FLIP_LEFT_RIGHT,
    3: _T.ROTATE_180,
    4: _T.FLIP_TOP_BOTTOM,
    5: _T.TRANSPOSE,
    6: _T.ROTATE_270,
    7: _T.TRANSVERSE,
    8: _T.ROTATE_90,
}
RESIZE = "Pillow bicubic with antialiasing, from a fractional box"

# Held for a large image. Processes that decode share another one, see `workers`.
one_at_a_time: AbstractContextManager[object] = threading.RLock()

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the image
Crop = Callable[[int, int], Box]  # (width, height) → box; may raise BadImage


def centre_square(width: int, height: int) -> Box:
    """The largest square in the middle."""
    side = min(width, height)
    return ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)


def whole_square(width: int, height: int) -> Box:
    """All of it; BadImage('wrong_shape') unless it is a square."""
    if width != height:
        raise BadImage("wrong_shape")
    return (0, 0, width, height)


def decode(data: bytes, crop: Crop, size: int) -> tuple[NDArray[np.uint8], Box, set[str]]:
    """One image as (3, size, size) uint8, the box it was cut from, and the kinds of what had to be done to it.

    Whatever its format, it is turned as its EXIF orientation asks for first: box and crop are of the upright image.
    Raises BadImage with the kind when it must be left out.
    """
    with upright(data) as (image, kinds):
        box = crop(image.width, image.height)
        if box[2] - box[0] < size:
            kinds.add("upscaled")
        small = _to_rgb(image, kinds).resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(small).transpose(2, 0, 1), box, kinds


@contextmanager
def upright(data: bytes) -> Iterator[tuple[Image.Image, set[str]]]:
    """The image of a file in its own mode, whole and turned as its EXIF orientation asks for, and the kinds found.

    Raises BadImage with the kind when it cannot be read, UserError when the machine is to blame; what the block itself
    does to the image counts as reading.
    """
    if not data:
        raise BadImage("empty")
    width = height = 0
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image, _turn(image.width * image.height):
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadImage("too_large")
            if not width * height:
                raise BadImage("damaged")
            kinds = _oddities(image)
            if _orientation(image) != 1:
                kinds.add("exif_orientation")
            if image.format == "PNG":
                _check_png(data)
            image.load()  # Pillow turns a TIFF here, and then says that it stands upright; no other format
            turn = TURNS.get(_orientation(image))
            yield (image.transpose(turn) if turn is not None else image), kinds
    except (BadImage, UserError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage("too_large") from error
    except Exception as error:  # decoders of hostile bytes raise almost anything (struct.error, IndexError, …)
        if files.wanting(error) or _is_short_of_memory(width * height):
            why = files.said(error) if isinstance(error, OSError) and error.errno else "there is not enough memory"
            what = f"An image of {width}×{height} pixels" if width else "An image"
            raise UserError(
                f"{what} could not be decoded ({why}), which is no fault of the image: free some and try again."
            ) from error
        if isinstance(error, UnidentifiedImageError):
            raise BadImage("not_an_image") from error
        raise BadImage("truncated" if "truncated" in str(error).lower() else "damaged") from error


def _check_png(data: bytes) -> None:
    """BadImage('damaged') unless the chunks of pixels are what their checksums say, which Pillow does not look at."""
    place = 8
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, place)
        end = place + 8 + length
        if kind == b"IEND" or end + 4 > len(data):  # cut short: Pillow tells that
            return
        if kind == b"IDAT" and zlib.crc32(data[place + 4 : end]) != struct.unpack_from(">L", data, end)[0]:
            raise BadImage("damaged")
        place = end + 4


def _turn(pixels: int) -> AbstractContextManager[object]:
    return one_at_a_time if pixels > LARGE else nullcontext()


def _is_short_of_memory(pixels: int) -> bool:
    """Whether what an image may take is not to be had: decoders in C say of that no more than of damage."""
    try:
        np.empty(16 * pixels + SPARE, np.uint8)  # its pages are never touched
    except MemoryError:
        return True
    return False


def _orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF or else XMP says; 1 where neither can be read, which is no reason to leave an image out."""
    with suppress(Exception):
        value = image.getexif().get(Base.Orientation, 1)
        return value if value in TURNS else 1
    return 1


def _oddities(image: Image.Image) -> set[str]:
    kinds = set()
    if any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        kinds.add("sixteen_bit")
    if getattr(image, "n_frames", 1) > 1:
        kinds.add("several_frames")
    return kinds


def _to_rgb(image: Image.Image, kinds: set[str]) -> Image.Image:
    """`image` in mode RGB; adds to `kinds` what was done to it."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise BadImage("unsupported_mode")
    if image.mode.startswith("I"):  # grey of 16 bits; Pillow's own conversion would clip it at 255
        image = _in_bands(image, "L", _to_8_bits)
        kinds.add("sixteen_bit")
    names = {"1": "grey", "L": "grey", "LA": "grey", "La": "grey", "P": "palette", "PA": "palette", "CMYK": "cmyk"}
    if image.mode in names:
        kinds.add(names[image.mode])
    elif image.mode not in ("RGB", "RGBA", "RGBa"):
        kinds.add("colour_space")
    if image.has_transparency_data:
        kinds.add("alpha")
        return _in_bands(image, "RGB", _over_white)
    return image.convert("RGB")


def _in_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """`image` in another mode, a band of its rows after the other."""
    rows = max(1, BAND // image.width)
    if rows >= image.height:
        return convert(image)
    whole = Image.new(mode, image.size)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        whole.paste(convert(band), (0, top))
    return whole


def _to_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise BadImage("unsupported_mode")
    return Image.fromarray(np.round(values / 257).astype(np.uint8))


def _over_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
