"""Completing a user's own pictures: squared and shrunk to what a run takes, masked, completed, laid out in a grid.

Whatever is done to a picture on the way (turned, cropped, scaled, converted) is said aloud. What the run is to see is a
preset occlusion, a training scenario drawn at random, a mask file, or boxes.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.ExifTags import Base
from rich.console import Console
from torch import Tensor

from mdebench.data.decode import centre_square, decode
from mdebench.data.report import KINDS
from mdebench.data.store import MAX_BYTES, BadImage
from mdebench.errors import UserError
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.metrics import composite
from mdebench.evaluation.subjects import load_subject
from mdebench.files import write_atomically
from mdebench.home import Home
from mdebench.methods import masks
from mdebench.pictures import Cell, Colour, draw_box, enlarge, grid
from mdebench.variants import parse
from mdebench.words import tell

COLUMNS = ("input", "completion", "composite", "original")
CELL = 224  # pixels at least that a cell of the grid is wide
COLOURS: tuple[Colour, ...] = ((230, 30, 30), (0, 175, 60), (50, 90, 255))  # the box of each channel
SHARED: Colour = (255, 176, 0)  # one box of all channels
BOX_SYNTAX = "x1:y1:x2:y2 within 0 and 1, one for all channels or three joined by commas (red, green, blue)"


@dataclass(frozen=True, eq=False)
class Fragments:
    """What is seen in each of k samples: `seen` (k, 3, size, size) of 1 and 0, `boxes` (k, 3, 4) relative, or None."""

    seen: Tensor
    boxes: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as a run takes it: `pixels` (size, size, 3); `shape` (width, height) of the upright file."""

    path: Path
    pixels: NDArray[np.uint8]
    shape: tuple[int, int]
    done: list[str]  # what was done to it, in words


def complete_images(
    home: Home,
    images: Sequence[Path],
    run_name: str,
    console: Console,
    *,
    preset: str | None = None,
    mask: Path | None = None,
    boxes: str | None = None,
    count: int = 1,
    seed: int = 0,
    out: Path = Path(),
) -> list[Path]:
    """Complete pictures by a finished run; writes `<stem>-<run>.png` into `out` for each and returns the paths.

    Exactly one of `preset` (an occlusion of `masks.PRESETS`, or a scenario such as "rec 0.1", drawn from `seed`),
    `mask` (an image file: white is seen, black is missing) and `boxes` (BOX_SYNTAX) says what is seen. There are
    `count` samples where the mask is drawn at random; elsewhere one, since a completion holds nothing random. UserError
    for whatever cannot be read, found or completed, before anything is written.
    """
    if sum(option is not None for option in (preset, mask, boxes)) != 1:
        raise UserError("say what is seen by exactly one of --preset, --mask and --boxes")
    if count < 1:
        raise UserError(f"-n {count}: there is no fewer than one sample")
    if not images:
        raise UserError("name at least one image to complete")
    run = home.find_run(run_name)
    paths = [out / f"{path.stem}-{run.folder.name}.png" for path in images]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise UserError(f"two of the images would be written to {twice}; complete them into different folders")
    size = run.info["size"]
    pictures = [load_picture(path, size) for path in images]
    if mask is not None:
        fragments = read_mask(mask, size, pictures, console)
    elif boxes is not None:
        fragments = box_fragments(parse_boxes(boxes), size)
    else:
        assert preset is not None
        fragments = draw_fragments(preset, size, count, seed)
    _say(fragments, count, console)
    subject = load_subject(run)
    sheets = [_complete(subject, picture, fragments) for picture in pictures]
    for picture, sheet, path in zip(pictures, sheets, paths):
        console.print(f"{picture.path}: {', '.join(picture.done)}")
        _write(path, sheet, console)
    return paths


def load_picture(path: Path, size: int, *, opaque: bool = False) -> Picture:
    """A picture file as (size, size, 3) uint8: upright, RGB, the square in its middle, scaled.

    Transparency is laid over white, or ignored where `opaque`. UserError when it is no picture that can be read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadImage("too_large")
        data = path.read_bytes()
        shape, turned = _shape(data)
        pixels, box, kinds = decode(data, centre_square, size)
        if opaque and "alpha" in kinds:
            pixels, _, _ = decode(_without_alpha(data), centre_square, size)
            kinds.remove("alpha")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; name an image file") from error
    except BadImage as verdict:
        raise UserError(f"{path} cannot be completed: {KINDS[str(verdict)][1]}") from verdict
    square = round(box[2] - box[0])
    done = ["turned upright as its EXIF says"] if turned != 1 else []
    done += [KINDS[kind][1] for kind in sorted(kinds - {"exif_orientation", "upscaled"})]
    done += [f"cut from {shape[0]}×{shape[1]} to the {square}×{square} in the middle"] if len(set(shape)) > 1 else []
    done += [f"{'shrunk' if square > size else 'enlarged'} from {square} to {size} pixels"] if square != size else []
    return Picture(path, _upright(pixels, turned), shape, done or ["taken as it is"])


def _shape(data: bytes) -> tuple[tuple[int, int], int]:
    """Width and height of a file's picture once it is upright, and its EXIF orientation (1 where it has none)."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            turned = int(image.getexif().get(Base.Orientation, 1)) if "exif" in image.info else 1
    except Exception:  # `decode` says what is wrong with the file
        return (0, 0), 1
    return ((height, width) if turned in (5, 6, 7, 8) else (width, height)), turned


def _upright(pixels: NDArray[np.uint8], turned: int) -> NDArray[np.uint8]:
    """(3, size, size) → (size, size, 3), turned as the EXIF orientation says: a square in the middle may turn last."""
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.getexif()[Base.Orientation] = turned
    return np.asarray(ImageOps.exif_transpose(image))


def _without_alpha(data: bytes) -> bytes:
    opaque = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGBA").convert("RGB").save(opaque, "PNG")
    return opaque.getvalue()


def read_mask(path: Path, size: int, pictures: Sequence[Picture], console: Console) -> Fragments:
    """The mask in an image file, cut as the pictures are, or square already; UserError for other proportions."""
    mask = load_picture(path, size, opaque=True)
    width, height = mask.shape
    for picture in pictures:
        across, down = picture.shape
        if width != height and abs(width * down - height * across) > max(across, down, width, height):
            raise UserError(
                f"the mask {path} is {width}×{height} and {picture.path} {across}×{down}: give it the picture's "
                "proportions, or make it square to lie over the square in the picture's middle"
            )
    grey = mask.pixels.mean(axis=2)
    seen = grey >= 127.5
    between = int(((grey > 12) & (grey < 243)).sum())
    cuts = f"; {between} of its {grey.size} pixels are grey: the lighter half counts as seen" if between else ""
    console.print(f"mask {path}: {', '.join(mask.done)}{cuts}")
    return Fragments(torch.from_numpy(seen).float().expand(1, 3, size, size))


def parse_boxes(text: str) -> Tensor:
    """Boxes (3, 4) as (x1, y1, x2, y2) of the red, green and blue channel; UserError for anything but BOX_SYNTAX."""
    try:
        boxes = [tuple(float(edge) for edge in part.split(":")) for part in text.split(",")]
        whole = all(len(box) == 4 for box in boxes) and len(boxes) in (1, 3)
        if not whole or not all(0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1 for x1, y1, x2, y2 in boxes):
            raise ValueError
    except ValueError as error:
        raise UserError(f"--boxes {text!r} is not {BOX_SYNTAX}: such as 0.2:0.3:0.6:0.7") from error
    return torch.tensor(boxes, dtype=torch.float64).expand(3, 4)


def box_fragments(boxes: Tensor, size: int) -> Fragments:
    """What lies in boxes (3, 4) is seen."""
    return Fragments(masks.rasterize(boxes, size, size)[None], boxes[None])


def draw_fragments(name: str, size: int, count: int, seed: int) -> Fragments:
    """A preset occlusion, or `count` draws of a training scenario; one draw where it has nothing random."""
    if name in masks.PRESETS:
        box = torch.tensor(masks.preset_box(name), dtype=torch.float64)
        return Fragments(masks.preset(name, size).expand(1, 3, size, size), box.expand(1, 3, 4))
    try:
        scenario = parse(name)
    except UserError as error:
        raise UserError(f"{error} Or an occlusion: {', '.join(masks.PRESETS)}.") from error
    fixed = scenario.variant in ("inpainting", "reverse_inpainting")
    generator = torch.Generator().manual_seed(seed)
    return Fragments(*masks.draw(*scenario, 1 if fixed else count, size, generator))


def _say(fragments: Fragments, count: int, console: Console) -> None:
    """Tell what a user may not expect of the masks."""
    if len(fragments.seen) < count:
        tell(
            console,
            "note",
            f"one sample instead of {count}: this mask is fixed, and a run completes the same "
            "fragment always in the same way",
        )
    for number, seen in enumerate(fragments.seen, start=1):
        if not seen.any() or seen.all():
            what = "nothing is missing" if seen.all() else "nothing is seen"
            tell(console, "note", f"sample {number}: {what}")


def _complete(subject: Subject, picture: Picture, fragments: Fragments) -> Image.Image:
    """The grid of a picture: a row of input, completion, composite and original for each sample."""
    image = torch.tensor(picture.pixels).permute(2, 0, 1).float().div(255).to(subject.device)
    seen = fragments.seen.to(image)
    images = image.expand(len(seen), -1, -1, -1)
    output = subject.complete(images, seen)
    shown = [images * seen, output, composite(images, seen, output), images]
    rows = [[_cell(batch[i]) for batch in shown] for i in range(len(seen))]
    if fragments.boxes is not None:
        for row, boxes in zip(rows, fragments.boxes):
            row[0] = _framed(row[0], boxes)
    labels = [f"sample {i}" for i in range(1, len(rows) + 1)] if len(rows) > 1 else []
    return grid(rows, labels, COLUMNS)


def _cell(image: Tensor) -> Cell:
    """(3, size, size) in [0, 1] → uint8 of at least CELL pixels."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return enlarge(pixels, math.ceil(CELL / pixels.shape[0]))


def _framed(cell: Cell, boxes: Tensor) -> Cell:
    """The cell with boxes (3, 4) drawn: one where all channels share it; empty ones are left out."""
    shared = bool((boxes == boxes[0]).all())
    for box, colour in [(boxes[0], SHARED)] if shared else list(zip(boxes, COLOURS)):
        left, top, right, bottom = (round(edge * len(cell)) for edge in box.tolist())
        if left < right and top < bottom:
            cell = draw_box(cell, (top, bottom, left, right), colour)
    return cell


def _write(path: Path, sheet: Image.Image, console: Console) -> None:
    data = io.BytesIO()
    sheet.save(data, "PNG")
    replaced = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent} cannot be made: {error.strerror}; choose another folder") from error
    write_atomically(path, data.getvalue())
    console.print(f"{path}{' (replaces what was there)' if replaced else ''}")
