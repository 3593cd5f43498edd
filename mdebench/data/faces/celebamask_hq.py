"""CelebAMask-HQ (Lee et al., CVPR 2020): CelebA-HQ with the parts of each face drawn by hand, one mask a part.

Beside what `celeba_hq` reads, `CelebAMask-HQ-mask-anno/` holds for square 123 files such as `0/00123_hair.png`, white
where the part is. They become one map of 19 classes, as the authors' own script makes it: later parts of `PARTS` lie on
earlier ones, what no part covers is background. Of the names, `eye_g` is glasses, `ear_r` an earring and `neck_l` a
necklace; `l_` and `r_` are as the data set has them, but `u_lip` and `l_lip` are the upper and the lower lip.
"""

import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mdebench.data.decode import upright
from mdebench.data.faces.celeba_hq import EXPECTS as SQUARES
from mdebench.data.faces.celeba_hq import FOLDERS, Square, read_squares, write_squares
from mdebench.data.pack import NO_SEGMENT
from mdebench.data.report import Report
from mdebench.data.store import ARCHIVES, BadImage, Read, by_name, open_store, read_member
from mdebench.data.store.official import find, holds, tell_link
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError

MASKS, POSES = "CelebAMask-HQ-mask-anno", "CelebAMask-HQ-pose-anno.txt"
EXPECTS = f"{MASKS}/ and {SQUARES}"
# In the order in which face_parsing/Data_preprocessing/g_mask.py of switchablenorms/CelebAMask-HQ lays them over each
# other, which is that of its table of classes. Others number them otherwise (zllrunning/face-parsing.PyTorch, issue 12:
# hair is 17 there, where it is 13 here), so that maps of two readers cannot be compared by number.
_PARTS = "skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r neck_l neck cloth"
PARTS = tuple(_PARTS.split())
NAMES = ("background", *PARTS)
# Five digits where the square's own name has as few as there are, in folders of two thousand each (g_mask.py). The
# folder says nothing that the name does not.
_MASK = re.compile(r"([0-9]{1,8})_([a-z_]+)\.png", re.IGNORECASE)

Masks = Mapping[int, dict[str, Any]]  # number of a square → part → what `read_member` takes


def write(writer: PackWriter, root: Path, progress: Progress, *, attribute_coding: str | None = None) -> None:
    """Read CelebAMask-HQ below `root` into `writer`; attribute_coding: as for the source celeba."""
    report, notes = writer.report, writer.info["notes"]
    squares = read_squares(writer, root, "celebamask-hq", EXPECTS, attribute_coding)
    where = find(root, [MASKS + end for end in ("", *ARCHIVES)], FOLDERS)
    if where is None:
        raise UserError(f"{root} has no {MASKS}/ {holds(root)}; celebamask-hq needs {EXPECTS}.")
    tell_link(root, where, notes)
    read, masks = _masks(where, {square.number for square in squares.each}, report)
    writer.info |= {"segment_names": list(NAMES)}
    notes.append(f"segments: {where.name} laid over each other in the order of the authors' script, nearest pixel")
    if find(root, (POSES,), FOLDERS) is not None:
        notes.append(f"{POSES} is there, and not used: a pack has no place for poses")
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:

        def segments(some: list[Square]) -> dict[str, NDArray[np.uint8]]:
            maps = list(pool.map(partial(_map, read, masks, writer.size), some))
            for square, (_, why) in zip(some, maps):
                if why:
                    report.add("no_segments", f"{square.key} ({why})")
            return {"segments": np.stack([found for found, _ in maps])}

        write_squares(writer, squares, progress, segments)


def _masks(where: Path, wanted: set[int], report: Report) -> tuple[Read, Masks]:
    """How to read a mask, and the masks of the wanted squares."""
    store = open_store(where, report, by_name)
    places: dict[str, tuple[int, str]] = {}
    for key in sorted(store.members):
        match = _MASK.fullmatch(key)
        if match is None or match[2].lower() not in PARTS:
            report.add("odd_name", key)
        elif int(match[1]) in wanted:
            places[key] = (int(match[1]), match[2].lower())
    held = store.holding(list(places))
    masks: dict[int, dict[str, Any]] = {}
    for key, (number, part) in places.items():
        masks.setdefault(number, {})[part] = held.member(key)
    return held.read, masks


def _map(read: Read, masks: Masks, size: int, square: Square) -> tuple[NDArray[np.uint8], str]:
    """(size, size) classes, and why they are not known, if so.

    A part without a file is not in the picture: those files are left out, not black. A square without any is not
    background, but unknown; so is one of whose masks one cannot be read.
    """
    found = np.zeros((size, size), np.uint8)
    of_square = masks.get(square.number, {})
    if not of_square:
        return np.full_like(found, NO_SEGMENT), "no mask"
    for label, part in enumerate(PARTS, 1):
        if part in of_square:
            try:
                found[_mask(read_member(read, of_square[part]), size)] = label
            except BadImage as verdict:
                return np.full_like(found, NO_SEGMENT), f"{part}: {verdict.told()}"
    return found, ""


def _mask(data: bytes, size: int) -> NDArray[np.bool_]:
    """Where a part is: wherever its mask is not black, as g_mask.py has it. The masks have 512×512 pixels, half the
    side of the squares, and are read in three channels or one.
    """
    with upright(data) as (image, _):
        grey = image.resize((size, size), Image.Resampling.NEAREST).convert("L")
    return np.asarray(grey, np.uint8).astype(np.bool_)
