"""Labelled grids of images as PNG: tiles in strips under headings, boxes drawn in their colours, file size bounded.

The grid is as wide as a chart and its text as large, so that a phone shows both legibly. Where the file would be too
large it is written in 256 colours, and then with fewer images.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from mdebench.pictures import BACKGROUND, GAP, INK, Colour, enlarge
from mdebench.words import shown

STAMP = "Data"  # the text of a PNG that says from what it was drawn
LIMIT = 400_000  # bytes of a file
TARGET = 1_080  # pixels of width aimed at
MOST_PIXELS = 2_400_000  # of all tiles together: where there are many strips they are not enlarged as much
SMALLEST = 14  # pixels of the text
IMAGES = 8  # shown where they fit
FAINT: Colour = (90, 90, 90)
CHANNELS: tuple[Colour, ...] = ((230, 30, 30), (0, 175, 60), (50, 90, 255))
TOGETHER: Colour = (255, 176, 0)  # the one box of all three channels


@dataclass(frozen=True, eq=False)
class Tile:
    """An image (H, W, 3) uint8, and the boxes (3, 4), relative, to draw on it."""

    image: NDArray[np.uint8]
    boxes: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class Strip:
    """One row of a grid: a short label, its tiles (None leaves a gap), and which run, scenario and file they are of."""

    label: str
    tiles: Sequence[Tile | None]
    line: str
    scenario: str
    seed: int
    source: str


Build = Callable[[int], Mapping[str, Sequence[Strip]]]


@dataclass(frozen=True)
class Grid:
    """A figure of images, from the galleries `files`: `build(n)` gives its strips by heading, with n test images."""

    name: str
    stem: str
    dataset: str
    title: str
    caption: str
    alt: str
    columns: tuple[str, ...]
    files: tuple[Path, ...]
    build: Build


def png(grid: Grid, stamp: str) -> tuple[bytes, Mapping[str, Sequence[Strip]]]:
    """The grid as a PNG of at most LIMIT bytes, title and alternative text inside, and the strips that it shows."""
    count = IMAGES
    while True:
        groups = grid.build(count)
        picture = render(grid, groups)
        data = encode(picture, grid.title, grid.alt, stamp)
        if LIMIT < len(data) <= 3 * LIMIT:
            data = encode(picture.quantize(256, dither=Image.Dither.FLOYDSTEINBERG), grid.title, grid.alt, stamp)
        if len(data) <= LIMIT or count == 1:
            return data, groups
        count = max(1, min(count - 1, round(count * 2 * LIMIT / len(data))))


def encode(image: Image.Image, title: str, alt: str, stamp: str) -> bytes:
    """A PNG that tells its title, alternative text and stamp; the same image gives the same bytes."""
    about = PngInfo()
    about.add_itxt("Title", shown(title))
    about.add_itxt("Description", shown(alt))
    about.add_text(STAMP, stamp)
    data = io.BytesIO()
    image.save(data, "PNG", pnginfo=about)
    return data.getvalue()


def render(grid: Grid, groups: Mapping[str, Sequence[Strip]]) -> Image.Image:
    """Draw the strips under their headings, every tile as large as TARGET allows."""
    strips = [strip for group in groups.values() for strip in group]
    columns = max(len(strip.tiles) for strip in strips)
    side = next(tile.image.shape[0] for tile in strips[0].tiles if tile)
    zoom = max(1, round(TARGET / columns / (side + GAP)))
    while zoom > 1 and len(strips) * columns * (side * zoom + GAP) ** 2 > MOST_PIXELS:
        zoom -= 1
    cell = side * zoom
    text = font(max(SMALLEST, columns * (cell + GAP) // 40))
    line = round(text.size * 1.3)
    left = max((round(text.getlength(shown(strip.label))) for strip in strips), default=0) + 2 * GAP
    width = left + columns * (cell + GAP)
    title, caption = wrapped(grid.title, font(text.size, bold=True), width), wrapped(grid.caption, text, width)
    heads = max((head.count("\n") + 1 for head in grid.columns), default=0)
    named = sum(bool(heading) for heading in groups)
    height = line * (len(title) + len(caption) + heads + 1) + round(1.5 * line) * named + len(strips) * (cell + GAP)
    sheet = Image.new("RGB", (width + GAP, height + 4 * GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    y = GAP
    for words in title:
        draw.text((GAP, y), words, INK, font(text.size, bold=True))
        y += line
    y += GAP
    for j, head in enumerate(grid.columns):
        x = left + j * (cell + GAP) + cell / 2
        draw.multiline_text((x, y), head, INK, text, anchor="ma", align="center", spacing=2)
    y += heads * line
    for heading, group in groups.items():
        if heading:
            draw.text((GAP, y + round(0.2 * line)), shown(heading), INK, text)
            y += round(1.5 * line)
        for strip in group:
            draw.text((left - GAP, y + cell / 2), shown(strip.label), FAINT, text, anchor="rm")
            for j, tile in enumerate(strip.tiles):
                if tile:
                    sheet.paste(paint(tile, zoom), (left + j * (cell + GAP), y))
            y += cell + GAP
    y += GAP
    for words in caption:
        draw.text((GAP, y), words, FAINT, text)
        y += line
    return sheet


def paint(tile: Tile, zoom: int) -> Image.Image:
    """The tile enlarged, its boxes drawn: one where all channels share it, else red, green and blue.

    A box is drawn inside one that has the same place already, so that both show; an empty one is not drawn.
    """
    picture = Image.fromarray(enlarge(tile.image, zoom))
    if tile.boxes is None:
        return picture
    draw = ImageDraw.Draw(picture)
    thick = max(1, round(picture.width / 50))
    together = bool((tile.boxes == tile.boxes[0]).all())
    drawn: list[bytes] = []
    for box, colour in [(tile.boxes[0], TOGETHER)] if together else list(zip(tile.boxes, CHANNELS)):
        inset = thick * drawn.count(box.tobytes())
        x1, y1, x2, y2 = (round(float(edge) * picture.width) for edge in box)
        if x2 > x1 and y2 > y1:
            draw.rectangle((x1 + inset, y1 + inset, x2 - 1 - inset, y2 - 1 - inset), outline=colour, width=thick)
            drawn.append(box.tobytes())
    return picture


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text in lines no wider than `width` pixels."""
    lines = [""]
    for word in shown(text, "\n").split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


@cache
def font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The face that the charts have; it comes with matplotlib, so that every machine draws the same."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), round(size))
