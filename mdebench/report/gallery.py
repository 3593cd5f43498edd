"""The gallery of the report: what each run made of the same test images, as sprites that hold many pictures in one.

A sprite is a grid of tiles: a column for each image, a row for each thing shown of it. Runs that completed the same
fragments share the sprite of originals and inputs.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mdebench.files import Without
from mdebench.home import Home
from mdebench.report.embedded import Original, Picture, fit
from mdebench.results.displays import setting_order, spoken
from mdebench.results.galleries import RESAMPLING, Gallery, list_galleries, open_gallery
from mdebench.results.lines import line_of, rank

BUDGET = 4_000_000  # bytes of data URIs
ZOOM = 2  # of the inputs, so that the frames drawn on them are thin
FRAMES = ("#ff4040", "#30e050", "#5090ff")  # one for each channel's box
ONE_BOX = "#ffffff"  # where the channels share it

Tiles = NDArray[np.uint8]  # (rows, columns, H, W, 3)


@dataclass(frozen=True)
class Exhibit:
    """What several runs made of the same images in one scenario. Rows of `shared`: originals, then what was seen;
    rows of each run's picture as in `rows`."""

    pack: str
    scenario: str
    columns: int
    rows: tuple[str, ...]
    shared: Picture
    runs: tuple[Picture, ...]  # their captions name the runs

    @property
    def title(self) -> str:
        """ "celeba64: rec 0.1"."""
        return f"{self.pack}: {spoken(self.scenario)}"


def exhibits(home: Home, infos: Sequence[Mapping[str, Any]], without: Without) -> tuple[list[Exhibit], str]:
    """Every gallery of the runs with these run.json, and a sentence on what did not fit or is damaged ("" where all
    are there)."""
    known = {info["name"]: info for info in infos}
    names = run_names(infos)
    found: dict[tuple[str, str, bytes], list[tuple[str, Gallery]]] = defaultdict(list)
    lost = []
    for run, where, scenario, path in list_galleries(home):
        if run not in known:
            continue
        lost.append(f"{names[run]}, {where}, {spoken(scenario)}")
        with without():
            gallery = open_gallery(path)
            lost.pop()
            same = gallery.originals.tobytes() + (b"" if scenario == RESAMPLING else gallery.boxes[:, 0].tobytes())
            found[where, scenario, same].append((run, gallery))
    originals: list[Original] = []
    plans: list[tuple[str, str, Gallery, list[str]]] = []
    for key in sorted(found, key=lambda key: (key[0], key[1] == RESAMPLING, setting_order(key[1]))):
        where, scenario, _ = key
        members = sorted(found[key], key=lambda member: (rank(line_of(known[member[0]])), member[0]))
        plans.append((where, scenario, members[0][1], [names[run] for run, _ in members]))
        originals += [_shared(where, scenario, members[0][1]), *(_made(names[run], g) for run, g in members)]
    pictures, note = fit(originals, BUDGET, "the pictures of the gallery", without)
    note += f" Left out, as the file is damaged: {'; '.join(lost)}." if lost else ""
    made = []
    left = iter(pictures)
    for where, scenario, gallery, runs in plans:
        shared, own = next(left, None), [picture for _, picture in zip(runs, left)]
        if shared and own:
            made.append(Exhibit(where, scenario, len(gallery.originals), _rows(gallery), shared, tuple(own)))
    return made, note


def run_names(infos: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Run folder → its line's name, with scale, seed and pack where several share that, or as a last resort itself."""
    names = {info["name"]: line_of(info).name for info in infos}
    for also in ("{name}, scale {scale}, seed {seed}", "{name}, trained on {pack}", "{folder}"):
        taken = list(names.values())
        for info in infos:
            name = names[info["name"]]
            if taken.count(name) > 1:
                names[info["name"]] = also.format(
                    name=name, scale=info["scale"], seed=info["seed"], pack=info["pack"], folder=info["name"]
                )
    return names


def _rows(gallery: Gallery) -> tuple[str, ...]:
    if gallery.scenario == RESAMPLING:
        return tuple(f"step {step}" for step in range(1, gallery.completed.shape[1] + 1))
    return "completion", "with the seen pixels"


def _shared(where: str, scenario: str, gallery: Gallery) -> Original:
    """Originals, and under them what was seen with the boxes drawn in (of resampling, the originals alone)."""
    rows = [gallery.originals.repeat(ZOOM, 1).repeat(ZOOM, 2)]
    if scenario != RESAMPLING:
        seen = gallery.inputs[:, 0].repeat(ZOOM, 1).repeat(ZOOM, 2)
        rows.append(np.stack([_framed(image, boxes) for image, boxes in zip(seen, gallery.boxes[:, 0])]))
    shown = "originals" if len(rows) == 1 else "originals; below, what was seen of them, with the boxes drawn in"
    alt = f"{len(gallery.originals)} test images of {where}, {spoken(scenario)}: {shown}."
    return Original(_sprite(np.stack(rows)), shown.capitalize(), alt)


def _made(name: str, gallery: Gallery) -> Original:
    """What one run made of them: its completions, and under them the composites (of resampling, one row a step)."""
    count = len(gallery.originals)
    if gallery.scenario == RESAMPLING:
        tiles, shown = np.swapaxes(gallery.completed, 0, 1), "each row completes the row above, from step 1 on"
    else:
        tiles = np.stack([gallery.completed[:, 0], gallery.composites[:, 0]])
        shown = "completions; below, with the seen pixels pasted back"
    return Original(_sprite(tiles), name, f"{count} test images as completed by {name}, {gallery.scenario}: {shown}.")


def _sprite(tiles: Tiles) -> Image.Image:
    rows, columns, height, width = tiles.shape[:4]
    return Image.fromarray(tiles.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3))


def _framed(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image with each channel's box (3, 4) as a thin frame; boxes that are the whole image or nothing are not."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    size = np.array([image.shape[1], image.shape[0]] * 2)
    shared = bool((boxes == boxes[0]).all())
    for box, colour in zip(boxes, (ONE_BOX,) if shared else FRAMES):
        area = float((box[2] - box[0]) * (box[3] - box[1]))
        if 0 < area < 0.999:
            left, top, right, bottom = np.clip(np.round(box * size), 0, size - 1)
            draw.rectangle((left, top, right, bottom), outline=colour)
    return np.asarray(picture)
