"""Completing a user's own pictures: cut and shrunk to what a run takes, masked, completed, and laid out in a grid.

Whatever is done to a picture on the way (turned, cut, scaled, converted) is said aloud, and so is the share of it that
is missing. What the run is to see is a preset occlusion, a training scenario drawn at random, a mask file, or boxes.
Beside the grid lies the completed picture, the user's own pixels where they are seen, of as many pixels as the run
takes: what a run fills in has no more, so it is not pasted into the large picture.
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from mdebench.data.pack import read_manifest
from mdebench.errors import UserError
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.encoders.mask_files import SAY, MaskFile, MaskIs, read_mask
from mdebench.evaluation.encoders.own_pictures import (
    ENDINGS,
    Cut,
    Picture,
    cut_as_trained,
    distinct_names,
    load_picture,
    parse_crop,
    pictures_in,
)
from mdebench.evaluation.metrics import composite
from mdebench.evaluation.subjects import load_subject
from mdebench.files import write_atomically
from mdebench.home import Home
from mdebench.methods import masks
from mdebench.pictures import Cell, Colour, draw_box, enlarge, grid
from mdebench.runs import Run
from mdebench.variants import parse
from mdebench.words import tell, words

COLUMNS = ("input", "completion", "composite", "original")
CELL = 224  # pixels at least that a cell of the grid is wide
COLOURS: tuple[Colour, ...] = ((230, 30, 30), (0, 175, 60), (50, 90, 255))  # the box of each channel
SHARED: Colour = (255, 176, 0)  # one box of all channels
BOX_SYNTAX = "x1:y1:x2:y2 within 0 and 1, one for all channels or three joined by commas (red, green, blue)"


@dataclass(frozen=True, eq=False)
class Fragments:
    """What is seen in each of k samples: `seen` (k, 3, size, size) of 1 and 0, `boxes` (k, 3, 4) relative, or None.

    `said` is how they were read, `notes` what a user may not expect of them.
    """

    seen: Tensor
    boxes: Tensor | None = None
    said: str = ""
    notes: tuple[str, ...] = ()


def complete_images(
    home: Home,
    images: Sequence[Path],
    run_name: str,
    console: Console,
    *,
    preset: str | None = None,
    mask: Path | None = None,
    mask_is: MaskIs | None = None,
    boxes: str | None = None,
    crop: str | None = None,
    count: int = 1,
    seed: int = 0,
    out: Path = Path(),
) -> list[Path]:
    """Complete pictures, and those in folders, by a finished run; returns the paths of the grids.

    Into `out` go for each picture the grid `<stem>-<run>.png` and beside it each sample's `<stem>-<run>-completed.png`
    (`-completed-2.png` where there are several). Exactly one of `preset` (an occlusion of `masks.PRESETS`, or a
    scenario such as "rec 0.1", drawn from `seed`), `mask` (an image file, see `mask_files`; `mask_is` says what its
    marked part is) and `boxes` (BOX_SYNTAX) says what is seen; `crop` (CROP_SYNTAX) takes another square than the run's
    pack does. There are `count` samples where the mask is drawn at random; elsewhere one, since a completion holds
    nothing random.

    UserError for whatever is named and cannot be read, found or completed, before anything is written. A picture of a
    folder that cannot is left out, with the reason, and the UserError comes when the others are done.
    """
    if sum(option is not None for option in (preset, mask, boxes)) != 1:
        raise UserError("say what is seen by exactly one of --preset, --mask and --boxes")
    if mask is None and mask_is is not None:
        raise UserError("--mask-is says what the marked part of a --mask is; there is none")
    if count < 1:
        raise UserError(f"-n {count}: there is no fewer than one sample")
    if not images:
        raise UserError("name at least one image to complete")
    run = home.find_run(run_name)
    size = run.info["size"]
    cut = parse_crop(crop) if crop is not None else _cut_of(run, home, console)
    paths = _gather(images, run.folder.name, mask, console)
    names = dict(zip(paths, distinct_names(paths)))
    if mask is not None:
        file = read_mask(mask, mask_is)
    elif boxes is not None:
        fixed = box_fragments(parse_boxes(boxes), size)
    else:
        assert preset is not None
        fixed = draw_fragments(preset, size, count, seed)
    pictures: list[Picture] = []
    for path in paths:
        try:
            picture = load_picture(path, size, cut)
            if mask is not None:
                file.cover(picture)
        except UserError as error:
            if path in images:
                raise
            tell(console, "left out", str(error))
        else:
            pictures.append(picture)
    if not pictures:
        raise UserError(f"none of the {len(paths)} pictures can be completed")
    fragments = [fixed if mask is None else mask_fragments(file, picture, size) for picture in pictures]
    _say(fragments, count, console)
    subject = load_subject(run)
    grids = [out / f"{names[picture.path]}-{run.folder.name}.png" for picture in pictures]
    for picture, shown, path in zip(pictures, fragments, grids):
        sheet, completed = _complete(subject, picture, shown)
        console.print(f"{picture.path}: {', '.join(picture.done)}; {_share(shown.seen)}")
        _write(path, sheet, console)
        for number, image in enumerate(completed, start=1):
            which = f"-{number}" if len(completed) > 1 else ""
            _write(path.with_name(f"{path.stem}-completed{which}.png"), image, console)
    if lost := len(paths) - len(pictures):
        raise UserError(f"{lost} of {len(paths)} pictures could not be completed, see above; the others are")
    return grids


def _gather(images: Sequence[Path], run: str, mask: Path | None, console: Console) -> list[Path]:
    """The pictures that are named and those in folders that are; what else lies in these is told.

    UserError where a folder has none.
    """
    written = re.compile(rf".*-{re.escape(run)}(-completed(-\d+)?)?\.png")

    def other(path: Path) -> str:
        if mask is not None and mask.exists() and path.samefile(mask):
            return "the mask"
        return "written by this command" if written.fullmatch(path.name) else ""

    paths: list[Path] = []
    for path in images:
        if not path.is_dir():
            paths.append(path)
            continue
        found, skipped = pictures_in(path, other)
        for why, names in skipped.items():
            tell(
                console, "left out", f"{path}: {len(names):,} {why} ({', '.join(names[:3])}{', …' * (len(names) > 3)})"
            )
        if not found:
            raise UserError(f"there is no picture to complete in {path} (endings: {', '.join(ENDINGS)})")
        paths += found
    return paths


def _cut_of(run: Run, home: Home, console: Console) -> Cut:
    """The square as of the run's pack: as run.json says, or, of a run that kept no word of it, as the pack does."""
    crop = run.info.get("crop") or _crop_of_pack(home.pack(run.info["pack"]), run.info["pack_hash"])
    if not crop:
        tell(
            console,
            "note",
            f"{run.info_path} does not say how the run's pictures were cut, and its pack is not here: the square in "
            "the middle is taken; --crop takes another",
        )
    return cut_as_trained({"crop": crop})


def _crop_of_pack(pack: Path, digest: str) -> str:
    """How a pack's pictures were cut; "" where it is gone, damaged or another one by now."""
    try:
        info = read_manifest(pack)
    except UserError:
        return ""
    return str(info["crop"]) if info["hash"] == digest else ""


def mask_fragments(mask: MaskFile, picture: Picture, size: int) -> Fragments:
    """What a mask shows of a picture: a pixel of the run is seen where at least half of its area is.

    UserError where the mask does not fit the picture or what it means cannot be told.
    """
    reading = mask.read_for(picture)
    box, _ = mask.cover(picture)
    missing = Image.fromarray(reading.missing.astype(np.float32))
    seen = np.asarray(missing.resize((size, size), Image.Resampling.BOX, box=box)) <= 0.5 + 1e-6
    notes = []
    lost = (reading.missing > 0.5).any() if seen.all() else not seen.any() and (reading.missing < 0.5).any()
    if lost:
        what = "missing" if seen.all() else "seen"
        notes.append(
            f"what the mask says is {what} lies outside the square that is taken, or is too small for {size}×{size}"
        )
    rim = not (seen[0].any() or seen[-1].any() or seen[:, 0].any() or seen[:, -1].any())
    if mask.means is None and reading.rest and reading.seen and seen.any():
        if rim:
            raise UserError(
                f"the mask {mask.path} has {reading.rest} all along its rim, as where {reading.name} marks a hole: "
                f"{SAY} what {reading.name} is"
            )
        if seen.mean() < 0.5:
            notes.append(f"more than half is missing: if {reading.name} marks the hole, add --mask-is missing")
    said = f"mask {mask.path}: {'turned upright as its EXIF says; ' if mask.turned else ''}{reading}"
    return Fragments(torch.from_numpy(seen).float().expand(1, 3, size, size), None, said, tuple(notes))


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


def _say(fragments: Sequence[Fragments], count: int, console: Console) -> None:
    """Tell how masks were read and what a user may not expect of them, each once for all pictures."""
    for said in dict.fromkeys(shown.said for shown in fragments if shown.said):
        console.print(said)
    notes: dict[str, None] = {}
    for shown in fragments:
        if len(shown.seen) < count:
            notes[
                f"one sample instead of {count}: this mask is fixed, and a run completes the same "
                "fragment always in the same way"
            ] = None
        for number, seen in enumerate(shown.seen, start=1):
            if not seen.any() or seen.all():
                notes[f"sample {number}: nothing is {'missing' if seen.all() else 'seen'}"] = None
        notes |= dict.fromkeys(shown.notes)
    for note in notes:
        tell(console, "note", note)


def _share(seen: Tensor) -> str:
    """How much of a picture is missing in each sample (k, 3, size, size), in words."""
    shares = [_percent(1 - float(sample.mean(dtype=torch.float64))) for sample in seen]
    over = "" if bool((seen == seen[:, :1]).all()) else " of its three channels"
    if len(shares) == 1:
        return f"{shares[0]} of it is missing" if not over else f"{shares[0]}{over} is missing"
    return f"missing{over} in samples 1 to {len(shares)}: {words(shares)}"


def _percent(share: float) -> str:
    """ "16.5 %"; nothing and all only where that is so."""
    if 0 < share < 0.0005:
        return "under 0.1 %"
    return "over 99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.3g} %"


def _complete(subject: Subject, picture: Picture, fragments: Fragments) -> tuple[Image.Image, list[Image.Image]]:
    """The grid of a picture, a row of input, completion, composite and original for each sample, and the composites."""
    image = torch.tensor(picture.pixels).permute(2, 0, 1).float().div(255).to(subject.device)
    seen = fragments.seen.to(image)
    images = image.expand(len(seen), -1, -1, -1)
    output = subject.complete(images, seen)
    shown = [images * seen, output, composite(images, seen, output), images]
    rows = [[_pixels(batch[i]) for batch in shown] for i in range(len(seen))]
    completed = [Image.fromarray(row[COLUMNS.index("composite")]) for row in rows]
    rows = [[enlarge(cell, math.ceil(CELL / len(cell))) for cell in row] for row in rows]
    if fragments.boxes is not None:
        for row, boxes in zip(rows, fragments.boxes):
            row[0] = _framed(row[0], boxes)
    labels = [f"sample {i}" for i in range(1, len(rows) + 1)] if len(rows) > 1 else []
    return grid(rows, labels, COLUMNS), completed


def _pixels(image: Tensor) -> Cell:
    """(3, size, size) in [0, 1] → (size, size, 3) uint8."""
    pixels: Cell = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return pixels


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
