"""The contact sheet of a pack: some images of every split with their landmarks and labels, to be looked at."""

import numpy as np
from PIL import Image

from mdebench.data.pack import PSEUDO, SPLITS, Pack
from mdebench.pictures import captioned, draw_landmarks, enlarge, grid

CELL = 112  # a cell is at least so wide, in pixels: room for a caption


def contact_sheet(pack: Pack, rows: int = 6, columns: int = 10) -> Image.Image:
    """rows × columns images spread evenly over the pack, one split after the other, each with its landmarks and a caption.

    The caption says split and file name, and the class or the first known attributes; '~' marks pseudo landmarks.
    """
    zoom = -(-CELL // pack.size)
    order = np.argsort(pack.split, kind="stable")
    some = order[np.linspace(0, len(order) - 1, min(rows * columns, len(order))).round().astype(int)]
    cells = [_cell(pack, int(row), zoom) for row in some]
    return grid([cells[i : i + columns] for i in range(0, len(cells), columns)])


def _cell(pack: Pack, row: int, zoom: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    image = enlarge(np.asarray(pack.images[row]).transpose(1, 2, 0), zoom)
    mark = "~" if pack.landmark_source[row] == PSEUDO else ""
    name = pack.names[row].rsplit("/", 1)[-1]
    present = [word for word, value in zip(pack.attribute_names, pack.attributes[row]) if value == 1]
    about = f"class {pack.label[row]}" if pack.label[row] >= 0 else ", ".join(present)
    return captioned(draw_landmarks(image, pack.landmarks[row]), f"{mark}{SPLITS[pack.split[row]]} {name}", about)
