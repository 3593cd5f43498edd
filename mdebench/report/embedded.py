"""Pictures that live inside a page: each becomes a WebP data URI, and a set of them stays within so many bytes.

Where they do not fit they are stored in less quality, then smaller, then some are left out; what was done is told.
"""

import base64
import io
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mdebench.files import Without, read_bytes, reading
from mdebench.pictures import read_png

LADDER = ((88, 1), (70, 1), (50, 1), (50, 2), (50, 4))  # (quality, size divided by), tried one after the other
LONGEST = 16_383  # pixels a side that WebP can have
WAY_ON = "delete it, and measure or train again"
URI = "data:image/webp;base64,"


@dataclass(frozen=True)
class Picture:
    """A picture within the page: `source` is a data URI, width and height are in pixels; `table`, a data URI too, is
    what it shows as CSV."""

    source: str
    caption: str
    alt: str
    width: int
    height: int
    table: str = ""


@dataclass(frozen=True)
class Original:
    """A picture to be put into the page, from a file or from memory; what is `drawn` (lines, letters, flat areas) is
    smaller stored without loss."""

    image: Path | Image.Image
    caption: str
    alt: str
    table: str = ""
    drawn: bool = False


def fit(
    originals: Sequence[Original], budget: int, what: str, without: Without = nullcontext
) -> tuple[list[Picture], str]:
    """The pictures, together at most `budget` bytes of data URI, and a sentence where that had a cost ("" where not).

    `what` names them in that sentence. Goes `without` files that are Damaged, and says so.
    """
    originals, lost = _whole(originals, without)
    pictures: list[Picture] = []
    quality, shrink = LADDER[0]
    for quality, shrink in LADDER:
        pictures = [_encode(original, quality, shrink) for original in originals]
        if sum(len(picture.source) for picture in pictures) <= budget:
            break
    kept, total = 0, 0
    for picture in pictures:
        total += len(picture.source)
        kept += total <= budget
    told = []
    if (quality, shrink) != LADDER[0]:
        told.append(f"stored at quality {quality}" + (f" and at 1/{shrink} of their size" if shrink > 1 else ""))
    if long := sum(max(picture.width, picture.height) > LONGEST for picture in pictures):
        told.append(f"made smaller where longer than {LONGEST:,} pixels ({long} of {len(pictures)})")
    if kept < len(pictures):
        told.append(f"{len(pictures) - kept} of {len(pictures)} left out")
    small = f"To keep this page small, {what} are {'; '.join(told)}." if told else ""
    return pictures[:kept], " ".join(filter(None, (small, lost)))


def _whole(originals: Sequence[Original], without: Without) -> tuple[list[Original], str]:
    """The pictures whose files are whole, and a sentence on the others."""
    whole, lost = list[Original](), list[str]()
    for original in originals:
        lost.append(original.caption)
        with without():
            if isinstance(original.image, Path):
                read_png(original.image, WAY_ON, pixels=False)
            whole.append(original)
            lost.pop()
    return whole, f"Left out, as the file is damaged: {'; '.join(lost)}." if lost else ""


def csv_uri(path: Path) -> str:
    """A CSV file as a data URI."""
    with reading(path, "write the figures again"):
        return f"data:text/csv;base64,{base64.b64encode(read_bytes(path)).decode()}"


def _encode(original: Original, quality: int, shrink: int) -> Picture:
    data = io.BytesIO()
    image = original.image if isinstance(original.image, Image.Image) else read_png(original.image, WAY_ON)
    width, height = image.size
    shrink = max(shrink, math.ceil(max(width, height) / LONGEST))
    if shrink > 1:
        image = image.resize((max(1, width // shrink), max(1, height // shrink)), Image.Resampling.LANCZOS)
    image.save(data, "WEBP", quality=quality, method=2, lossless=original.drawn)  # slower methods save a tenth
    source = URI + base64.b64encode(data.getvalue()).decode()
    return Picture(source, original.caption, original.alt, width, height, original.table)
