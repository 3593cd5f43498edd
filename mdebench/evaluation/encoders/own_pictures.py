"""A user's own pictures as a run takes them: found, turned upright, cut as the run's were, and shrunk, each step said.

The square that is taken is that of the run's pack, of which run.json keeps a word: the largest one in the middle, or of
CelebA's aligned pictures the one on the face, where the occlusion presets lie. `--crop` takes another one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdebench.data.decode import Box, centre_square, decode, upright
from mdebench.data.faces import celeba
from mdebench.data.report import KINDS
from mdebench.data.store import MAX_BYTES, BadImage
from mdebench.errors import UserError
from mdebench.files import read_bytes as read_file

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")
CROP_SYNTAX = "centre, face, or x,y,side (left, top and side of the square, in pixels of the upright picture)"
FACE = "on the face, as of CelebA's aligned pictures"
MIDDLE = "in the middle"
OTHER_SHAPE = "which is not shaped as CelebA's aligned pictures (178×218) that the run was trained on"

Cut = Callable[[int, int], tuple[Box, str]]  # (width, height) → the square, and where it lies; may raise UserError


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as a run takes it: `pixels` (size, size, 3), cut from `box` of the upright file of `shape`."""

    path: Path
    pixels: NDArray[np.uint8]
    shape: tuple[int, int]  # width, height
    box: Box
    done: list[str]  # what was done to it, in words

    @property
    def turned(self) -> bool:
        """Whether its file holds it turned otherwise than upright."""
        return TURNED in self.done


TURNED = "turned upright as its EXIF says"


def in_the_middle(width: int, height: int) -> tuple[Box, str]:
    """The largest square in the middle."""
    return centre_square(width, height), MIDDLE


def cut_on_faces(info: Mapping[str, Any]) -> bool:
    """Whether the record of a run or pack says that its pictures were cut as CelebA's aligned ones are."""
    return str(info.get("crop", "")).startswith("square of side 0.75")


def cut_as_trained(info: Mapping[str, Any]) -> Cut:
    """The square as of the pictures that a run with that record was trained on."""
    return _on_the_face if cut_on_faces(info) else in_the_middle


def _on_the_face(width: int, height: int) -> tuple[Box, str]:
    """The square on the face; of a picture of another shape the one in the middle, which is said."""
    try:
        return celeba.crop(width, height), FACE
    except BadImage:
        return centre_square(
            width, height
        ), f"{MIDDLE}, for want of the one on the face: it is {width}×{height}, {OTHER_SHAPE}"


def parse_crop(text: str) -> Cut:
    """The square that `--crop` asks for; UserError for anything but CROP_SYNTAX.

    What is returned raises UserError for a picture that has no such square.
    """
    if text == "centre":
        return in_the_middle
    if text == "face":
        return _face_alone
    try:
        x, y, side = (float(number) for number in text.split(","))
        if not (x >= 0 and y >= 0 and side >= 1):
            raise ValueError
    except ValueError as error:
        raise UserError(f"--crop {text!r} is not {CROP_SYNTAX}: such as 20,0,150") from error

    def cut(width: int, height: int) -> tuple[Box, str]:
        if x + side > width or y + side > height:
            raise UserError(f"--crop {text} leaves the picture, which is {width}×{height} pixels once it is upright")
        return (x, y, x + side, y + side), f"at {x:g},{y:g}"

    return cut


def _face_alone(width: int, height: int) -> tuple[Box, str]:
    try:
        return celeba.crop(width, height), FACE
    except BadImage as error:
        raise UserError(
            f"--crop face is for pictures shaped as CelebA's aligned ones (178×218), and this one is {width}×{height}; "
            "give the square on its face as x,y,side"
        ) from error


def load_picture(path: Path, size: int, cut: Cut = in_the_middle) -> Picture:
    """A picture file as (size, size, 3) uint8: upright, RGB over white, cut to a square, scaled.

    UserError when it is no picture that can be read, or has no such square.
    """
    data = read_bytes(path)
    try:
        with upright(data) as (image, _):
            shape = image.size
        box, where = cut(*shape)
        pixels, _, kinds = decode(data, lambda width, height: box, size)
    except BadImage as verdict:
        raise UserError(f"{path} cannot be completed: {KINDS[str(verdict)][1]}") from verdict
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    side = round(box[2] - box[0], 1)
    done = [TURNED] if "exif_orientation" in kinds else []
    done += [KINDS[kind][1] for kind in sorted(kinds - {"exif_orientation", "upscaled"})]
    whole = shape == (side, side)
    done += [] if whole else [f"cut from {shape[0]}×{shape[1]} to the {side:g}×{side:g} {where}"]
    done += [f"{'shrunk' if side > size else 'enlarged'} from {side:g} to {size} pixels"] if side != size else []
    return Picture(path, pixels.transpose(1, 2, 0), shape, box, done or ["taken as it is"])


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file; UserError when it cannot be read or is too large."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} cannot be read: {KINDS['too_large'][1]}")
        return read_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; name an image file") from error


def pictures_in(folder: Path, other: Callable[[Path], str]) -> tuple[list[Path], dict[str, list[str]]]:
    """The pictures directly in a folder, by name, and the names of what is skipped, by why.

    `other` says of a picture what else it is than one to complete, or "". UserError when the folder cannot be read.
    """
    found: list[Path] = []
    skipped: dict[str, list[str]] = {}
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror or error}") from error
    for path in entries:
        if why := _no_picture(path) or other(path):
            skipped.setdefault(why, []).append(path.name)
        else:
            found.append(path)
    return found, skipped


def _no_picture(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    if path.is_dir():
        return "in folders of their own, which are not looked into unless they are named"
    return "" if path.suffix.lower() in ENDINGS else "not named as a picture"


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """What each picture's results are named by: its stem, with the ending where two of them would share it.

    UserError where two pictures have one file name. Upper and lower case are one, as on some disks.
    """
    stems = [path.stem.casefold() for path in paths]
    names = [path.name if stems.count(stem) > 1 else path.stem for path, stem in zip(paths, stems)]
    folded = [name.casefold() for name in names]
    if twice := next((i for i, name in enumerate(folded) if name in folded[:i]), None):
        first = paths[folded.index(folded[twice])]
        raise UserError(
            f"{first} and {paths[twice]} have one name, so one result would replace the other; complete them into "
            "different folders (--out)"
        )
    return names
