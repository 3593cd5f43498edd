"""Pictures for people: cells set in a grid, landmarks and boxes drawn on them. Everything here is uint8 (H, W, 3)."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mdebench.files import read_bytes, reading
from mdebench.words import shown

Cell = NDArray[np.uint8]  # (H, W, 3)
Colour = tuple[int, int, int]

BACKGROUND: Colour = (255, 255, 255)
INK: Colour = (40, 40, 40)
PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins
GAP, TEXT = 4, 12  # pixels between cells; font size
# Eyes, nose and mouth corners of `pack.LANDMARKS`: left points warm, right points cold, so that a swap shows.
POINT_COLOURS: tuple[Colour, ...] = ((255, 60, 60), (60, 140, 255), (60, 220, 60), (255, 170, 0), (0, 220, 255))


def grid(
    cells: Sequence[Sequence[Cell | None]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    zoom: int = 1,
) -> Image.Image:
    """Rows of equally large cells (None stays empty) with labels left of the rows and above the columns.

    Each pixel of a cell becomes zoom × zoom pixels. ValueError if the cells differ in size or there is none.
    """
    row_labels, column_labels = [shown(label) for label in row_labels], [shown(label) for label in column_labels]
    shapes = {cell.shape for row in cells for cell in row if cell is not None}
    if len(shapes) != 1:
        raise ValueError(f"a grid needs cells of one size, not {sorted(shapes)}")
    height, width = (zoom * length for length in next(iter(shapes))[:2])
    columns = max(len(row) for row in cells)
    left = max((round(_font().getlength(label)) + 2 * GAP for label in row_labels), default=0)
    top = TEXT + 2 * GAP if any(column_labels) else 0
    sheet = Image.new(
        "RGB", (left + columns * (width + GAP) + GAP, top + len(cells) * (height + GAP) + GAP), BACKGROUND
    )
    draw = ImageDraw.Draw(sheet)
    for j, label in enumerate(column_labels):
        x = left + GAP + j * (width + GAP) + width / 2
        draw.text((x, GAP), _fit(label, width), INK, _font(), anchor="mt")
    for i, row in enumerate(cells):
        y = top + GAP + i * (height + GAP)
        if i < len(row_labels):
            draw.text((left - GAP, y + height / 2), row_labels[i], INK, _font(), anchor="rm")
        for j, cell in enumerate(row):
            if cell is not None:
                sheet.paste(Image.fromarray(enlarge(cell, zoom)), (left + GAP + j * (width + GAP), y))
    return sheet


def read_png(path: Path, way_on: str, pixels: bool = True) -> Image.Image:
    """A PNG of ours as RGB, or without its ``pixels`` for what it says of itself, every part held to its checksum.

    Damaged, or FileNotFoundError.
    """
    with reading(path, way_on):
        data = io.BytesIO(read_bytes(path))
        if not data.getvalue().startswith(PNG):
            raise ValueError("it is no PNG")
        with Image.open(data, formats=["PNG"]) as picture:
            picture.verify()  # and takes it apart
        picture = Image.open(data, formats=["PNG"])
        return picture.convert("RGB") if pixels else picture


def enlarge(image: Cell, zoom: int) -> Cell:
    """Every pixel as zoom × zoom pixels."""
    return image.repeat(zoom, 0).repeat(zoom, 1)


def draw_landmarks(image: Cell, landmarks: NDArray[np.floating]) -> Cell:
    """A copy with the points (n, 2), relative to the image ([0, 1] inside it), as dots; NaN points are passed over."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    radius = max(1.0, image.shape[0] / 60)
    points = np.asarray(landmarks) * [image.shape[1], image.shape[0]]
    for i, (x, y) in enumerate(points):
        if np.isfinite([x, y]).all():
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(box, fill=POINT_COLOURS[i % len(POINT_COLOURS)], outline=(0, 0, 0))
    return np.asarray(picture)


def draw_box(image: Cell, box: tuple[int, int, int, int], colour: Colour = (255, 60, 60)) -> Cell:
    """A copy with a frame around rows top:bottom, columns left:right (pixels); box = (top, bottom, left, right)."""
    top, bottom, left, right = box
    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), outline=colour)
    return np.asarray(picture)


def captioned(image: Cell, *lines: str) -> Cell:
    """A copy with lines of text beneath it, cut to the image's width."""
    strip = Image.new("RGB", (image.shape[1], len(lines) * (TEXT + 1) + 3), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for i, line in enumerate(lines):
        draw.text((0, 1 + i * (TEXT + 1)), _fit(line, image.shape[1]), INK, _font())
    return np.concatenate([image, np.asarray(strip)])


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(TEXT)


def _fit(text: str, width: float) -> str:
    """The text, or as much of it with '…' as fits in so many pixels."""
    if _font().getlength(text) <= width:
        return text
    while text and _font().getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
