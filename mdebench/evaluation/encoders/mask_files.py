"""Mask files as users bring them: which pixels of a picture are seen and which are missing, and how that was read.

White is seen and black is missing, and `--mask-is missing` turns that round. The marked part of a mask, of which
`--mask-is` speaks, is what is white; of two values the larger, of two colours the one that is not black; what is opaque
where a part is transparent; of a label map all that is not its background; of a copy of the picture what was painted
over, which is missing. What cannot be told is refused with the reason, never guessed.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mdebench.data.decode import Box, upright
from mdebench.data.report import KINDS
from mdebench.data.store import BadImage
from mdebench.errors import UserError
from mdebench.evaluation.encoders.own_pictures import Picture, read_bytes
from mdebench.words import words

MaskIs = Literal["missing", "seen"]
Values = NDArray[np.float32]  # (h, w)
Colours = NDArray[np.uint8]  # (h, w, 3)

LABELS = 40  # the values of label maps are below it, but for 255, which marks what has no label
NEAR = 16  # values of 255 that differ by less may be one value with noise
COLOURED = 40  # of 255: a pixel whose channels differ by more is coloured; so do pixels differ that were painted over
SHOWN = 6  # so many values are named in a sentence
SAY = "say by --mask-is missing or --mask-is seen"


@dataclass(frozen=True, eq=False)
class Reading:
    """How much of each pixel is marked (h, w) in [0, 1], what that part and the rest are in words, whether it is seen.

    Of a mask of one value all is marked, and `rest` is "".
    """

    marked: Values
    name: str
    rest: str
    seen: bool
    upper: str = "lighter"  # what the pixels are that count as marked, of those between

    @property
    def missing(self) -> Values:
        """How much of each pixel is missing, (h, w) in [0, 1]."""
        return 1 - self.marked if self.seen else self.marked

    def __str__(self) -> str:
        if not self.rest:
            return f"{self.name} is {'seen' if self.seen else 'missing'}"
        one, other = ("seen", "missing") if self.seen else ("missing", "seen")
        grey = int(((self.marked > 0.05) & (self.marked < 0.95)).sum())
        half = f"; {grey:,} of its {self.marked.size:,} pixels lie between: the {self.upper} half counts as {one}"
        return f"{self.name} is {one}, {self.rest} is {other}{half if grey else ''}"


@dataclass(frozen=True, eq=False)
class MaskFile:
    """A mask as it was read: `colours` as displayed, `values` if it is grey, `alpha` in [0, 1] if that varies."""

    path: Path
    colours: Colours
    values: Values | None
    full: int  # what white is, of `values`
    alpha: Values | None
    turned: bool
    lossy: bool
    means: MaskIs | None  # what --mask-is says

    @property
    def shape(self) -> tuple[int, int]:
        """Width and height once it is upright."""
        return self.colours.shape[1], self.colours.shape[0]

    def read_for(self, picture: Picture) -> Reading:
        """What the mask says of a picture; UserError where that cannot be told."""
        if self._plain is not None:
            return self._plain
        if (painted := self._painted_over(picture)) is not None:
            copy = f"this copy of {picture.path.name}"
            if not painted.any():
                whole = f"all of {copy}, in which nothing is painted over,"
                return Reading(np.ones_like(painted), whole, "", not self._seen(False))
            return Reading(painted, f"what was painted over in {copy}", "the rest", self._seen(False))
        return self._shades(self.values) if self.values is not None else self._coloured(picture.path.name)

    @cached_property
    def _plain(self) -> Reading | None:
        """What it says of any picture; None where it has to be held against one."""
        if self.alpha is not None:
            return self._transparent(self.alpha)
        return self._grey(self.values) if self.values is not None else None

    def cover(self, picture: Picture) -> tuple[Box, Box]:
        """The part of the mask over the square that is taken of a picture, and the part of the picture under the mask.

        A mask of the picture's proportions is cut as the picture is, a square one lies over the square that is taken.
        UserError for any other.
        """
        (width, height), (across, down) = self.shape, picture.shape
        if abs(width * down - height * across) <= max(across, down, width, height):
            x, y = width / across, height / down
            left, top, right, bottom = picture.box
            return (left * x, top * y, min(right * x, width), min(bottom * y, height)), (0, 0, across, down)
        if width == height:
            return (0, 0, width, height), picture.box
        sideways = abs(width * across - height * down) <= max(across, down, width, height)
        hint = (
            ": it was turned upright as its EXIF says, so turn the mask as well" if sideways and picture.turned else ""
        )
        raise UserError(
            f"the mask {self.path} is {width}×{height} and {picture.path} {across}×{down}{hint}; give the mask the "
            "picture's proportions, or make it square to lie over the square that is taken"
        )

    def _seen(self, otherwise: bool = True) -> bool:
        return otherwise if self.means is None else self.means == "seen"

    def _transparent(self, alpha: Values) -> Reading:
        """Where transparency varies it decides: what was erased is missing."""
        opaque = self.colours[alpha >= 0.5]
        black, white = (opaque <= NEAR).all(axis=1), (opaque >= 255 - NEAR).all(axis=1)
        if black.any() and white.any() and (black | white).all():
            raise UserError(
                f"the mask {self.path} has black, white and transparent parts, which say different things; "
                "save it without transparency, or all in one colour with the hole erased"
            )
        if self.means is None and black.all():
            raise UserError(
                f"the mask {self.path} is black on a transparent ground, and both mean missing; {SAY} what the part "
                "in black is"
            )
        return Reading(alpha, "what is opaque", "what is transparent", self._seen(), "more opaque")

    def _grey(self, values: Values) -> Reading | None:
        """Black and white, however they are coded, or a label map; None where many pixels are shades of grey."""
        found = np.unique(values)
        low, high = float(found[0]), float(found[-1])
        near = high - low < NEAR / 255 * self.full
        if low == high:
            return Reading(
                np.ones_like(values), f"all of it, which is of one value ({high:g}),", "", self._one(high > 0)
            )
        if low >= self.full / 2 and near:  # white with noise
            return Reading(
                np.ones_like(values), f"all of it, which is white ({low:g} to {high:g}),", "", self._one(True)
            )
        if near and self.lossy:
            raise UserError(
                f"the mask {self.path} holds the values {low:g} to {high:g} alone, which a JPEG or WebP file does not "
                "tell from noise; save it as PNG, in black and white"
            )
        if len(found) == 2 and (low == 0 or not near):
            full = (low, high) == (0, self.full)
            names = (
                ("white", "black") if full else (f"the larger of its two values ({high:g})", f"the smaller ({low:g})")
            )
            return Reading((values == high).astype(np.float32), *names, self._seen())
        if not self.lossy and self.full > 1 and all(value <= LABELS or value == self.full for value in found):
            return self._labels(values, found)
        return self._shades(values) if self._between(values).mean() < 0.05 else None

    def _one(self, white: bool) -> bool:
        """Whether a mask of one value shows all or nothing of the picture."""
        return white == self._seen()

    def _labels(self, values: Values, found: NDArray[np.float32]) -> Reading:
        listed = _listed([f"{value:g}" for value in found], "values")
        several = f"the mask {self.path} holds the {listed}, as a label map does"
        if found[0] != 0:
            raise UserError(f"{several}, and no background of 0; make it black and white")
        if self.means is None:
            raise UserError(f"{several}; {SAY} what all that is not 0 is")
        return Reading((values > 0).astype(np.float32), "all that is not 0 in this label map", "0", self._seen())

    def _shades(self, values: Values) -> Reading:
        """Black and white with shades between, of which the lighter half is marked; many only with `--mask-is`."""
        if self.means is None and self._between(values).mean() > 0.5:
            raise UserError(
                f"most of the mask {self.path} is neither black nor white, and it is no copy of a picture with "
                f"something painted over; make it black and white, or {SAY} what the lighter half is"
            )
        return Reading(np.clip(values / np.float32(self.full), 0, 1), "white", "black", self._seen())

    def _between(self, values: Values) -> NDArray[np.bool_]:
        """Which pixels are neither black nor white, (h, w)."""
        grey: NDArray[np.bool_] = (values > 0.05 * self.full) & (values < 0.95 * self.full)
        return grey

    def _coloured(self, picture: str) -> Reading:
        """Two colours, or strokes or labels in colour on a ground of black or white."""
        packed = self.colours.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        codes = np.unique(packed)
        if len(codes) == 1:
            raise UserError(f"the mask {self.path} is of one colour, {_hex(codes[0])}, all over; it marks nothing")
        black, white = self.colours.max(axis=2) <= NEAR, self.colours.min(axis=2) >= 255 - NEAR
        ground, name = (black, "black") if black.sum() >= white.sum() else (white, "white")
        few = len(codes) <= 256
        if ground.mean() < (0.01 if few else 0.5):
            what = (
                f"holds the {_listed([_hex(code) for code in codes], 'colours')}" if few else "is a picture in colour"
            )
            raise UserError(
                f"the mask {self.path} {what}, and neither is most of it black or white nor is it a copy of {picture} "
                "with something painted over; make it black and white"
            )
        if self.means is None and not (len(codes) == 2 and name == "black"):
            what = f"holds the {_listed([_hex(code) for code in codes], 'colours')}" if few else "is in colour"
            raise UserError(f"the mask {self.path} {what}; {SAY} what all that is not {name} is")
        marked = f"all that is not {name}"
        if len(codes) == 2:
            marked = f"the colour {_hex(packed[~ground][0])}"
        return Reading((~ground).astype(np.float32), marked, name, self._seen())

    def _painted_over(self, picture: Picture) -> Values | None:
        """Where the mask differs from the picture (h, w) of which it is a copy; None where it is no copy of it.

        At least half must be as in the picture, and half of what is neither black nor white there, since a mask on a
        black ground is in large parts as a dark picture is.
        """
        _, under = self.cover(picture)
        with upright(read_bytes(picture.path)) as (image, _):
            plain = _displayed(image).convert("RGB").resize(self.shape, Image.Resampling.BICUBIC, box=under)
        pixels = np.asarray(plain).astype(np.int16)
        same = np.abs(pixels - self.colours).max(axis=2) <= COLOURED
        detail = (pixels.max(axis=2) > COLOURED) & (pixels.min(axis=2) < 255 - COLOURED)
        copied = same.mean() >= 0.5 and detail.mean() > 0.01 and same[detail].mean() >= 0.5
        return (~same).astype(np.float32) if copied else None


def read_mask(path: Path, means: MaskIs | None = None) -> MaskFile:
    """The mask in an image file, upright; UserError when it cannot be read."""
    data = read_bytes(path)
    try:
        with upright(data) as (image, kinds):
            shown = np.asarray(_displayed(image))
            colours = shown[..., :3]
            values = _values(image, colours)
            alpha = shown[..., 3] if image.has_transparency_data else None
    except BadImage as verdict:
        raise UserError(f"the mask {path} cannot be read: {KINDS[str(verdict)][1]}") from verdict
    if values is not None and not np.isfinite(values).all():
        raise UserError(f"the mask {path} holds values that are no number; make it black and white")
    turned = "exif_orientation" in kinds
    lossy = data.startswith(b"\xff\xd8") or data[8:12] == b"WEBP"
    return MaskFile(path, colours, values, _white(values), _varied(alpha), turned, lossy, means)


def _displayed(image: Image.Image) -> Image.Image:
    """The image as RGBA; of more than eight bits as a grey one whose lightest pixel is white."""
    if image.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(image).astype(np.float32))
        image = Image.fromarray(np.clip(values / max(float(values.max()), 1e-9) * 255, 0, 255).astype(np.uint8))
    return image.convert("RGBA")


def _values(image: Image.Image, colours: Colours) -> Values | None:
    """The one number of each pixel (h, w) of a mask in shades of grey, as it is stored; None where there is colour."""
    if image.mode.startswith(("I", "F")):  # of 16 bits or more, which would be clipped or lost at 8
        return np.asarray(image).astype(np.float32)
    if (colours.max(axis=2).astype(int) - colours.min(axis=2)).max() > COLOURED:
        return None
    if image.mode == "P" and (colours == colours[0, 0]).all():  # displayed in one colour, whatever it holds
        return np.asarray(image).astype(np.float32)
    grey: Values = colours.mean(axis=2, dtype=np.float32).round()
    return grey


def _white(values: Values | None) -> int:
    """What white is: 255, or of more than eight bits 65,535, or of fractions 1."""
    if values is None or values.max() <= 1:
        return 1 if values is not None and (values % 1 > 0).any() else 255
    return 255 if values.max() <= 255 else 65535


def _varied(alpha: NDArray[np.uint8] | None) -> Values | None:
    """How opaque each pixel is (h, w) in [0, 1]; None where all are about equally opaque."""
    if alpha is None:
        return None
    low, high = int(alpha.min()), int(alpha.max())
    if high - low < NEAR and not (low == 0 < high):
        return None
    opaque: Values = (alpha - np.float32(low)) / np.float32(high - low)
    return opaque


def _hex(code: int) -> str:
    return f"#{code:06x}"


def _listed(items: list[str], noun: str) -> str:
    """ "values 0, 1 and 2", or where they are many "23 values 0, 1, …"."""
    if len(items) <= SHOWN:
        return f"{noun} {words(items)}"
    return f"{len(items)} {noun} {', '.join(items[:SHOWN])}, …"
