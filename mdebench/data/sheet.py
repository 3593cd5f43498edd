"""The contact sheet of a pack: some images of every split with their landmarks and labels, to be looked at."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mdebench.data.pack import PSEUDO, SPLITS, Pack
from mdebench.pictures import Cell, captioned, draw_landmarks, enlarge, grid

CELL = 112  # a cell is at least so wide, in pixels: room for a caption


def contact_sheet(pack: Pack, rows: int = 6, columns: int = 10) -> Image.Image:
    """rows × columns images, as many of each split that has any, each with its landmarks and a caption.

    The caption: split and file name ('~': the landmarks are pseudo), then its class or its two rarest attributes.
    Damaged when the pack's images are.
    """
    pack.hold_images()
    zoom = -(-CELL // pack.size)
    splits = [members for members in map(pack.indices, SPLITS) if len(members)]
    share = -(-rows * columns // len(splits))
    some = [row for members in splits for row in _spread(members, share)][: rows * columns]
    rarest = np.argsort((pack.attributes == 1).mean(axis=0))
    cells = [_cell(pack, row, zoom, rarest) for row in some]
    return grid([cells[i : i + columns] for i in range(0, len(cells), columns)])


def _spread(values: NDArray[np.int64], count: int) -> list[int]:
    """`count` of the values (or all, if fewer), evenly spread from the first to the last."""
    places = np.linspace(0, len(values) - 1, min(count, len(values)))
    return [int(value) for value in values[places.round().astype(int)]]


def _cell(pack: Pack, row: int, zoom: int, rarest: NDArray[np.int64]) -> Cell:
    image = enlarge(np.asarray(pack.images[row]).transpose(1, 2, 0), zoom)
    mark = "~" if pack.landmark_source[row] == PSEUDO else ""
    name = pack.names[row].rsplit("/", 1)[-1]
    about = [pack.attribute_names[i].replace("_", " ") for i in rarest if pack.attributes[row, i] == 1]
    if pack.label[row] >= 0:
        about = [f"class {pack.label[row]}"]
    lines = [f"{mark}{SPLITS[pack.split[row]]} {name}", *about, "", ""][:3]
    return captioned(draw_landmarks(image, pack.landmarks[row]), *lines)
