"""Every kind of mask with its share of missing values, measured, and generated faces under it; run to write
`results/masks.md` and `results/masks.png` anew."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate
from torch import Tensor

from mdebench import catalog
from mdebench.data import toyfaces
from mdebench.methods import masks
from mdebench.methods.contract import Batch, Method
from mdebench.pictures import grid
from mdebench.results.galleries import to_pixels
from mdebench.suite.inventory.listing import recipe_of
from mdebench.training.trainer import build_method
from mdebench.variants import DAMAGE, FIGURE8, STROKES, VARIANTS, Scenario

RESULTS = Path(__file__).resolve().parent.parent / "results"
SIZE, COUNT, PIECE, SHOWN = 64, 2000, 100, 4  # pixels, masks measured, at a time, faces in a row


class Kind(NamedTuple):
    """A kind of mask: how ``seen`` (count, 3, SIZE, SIZE) is drawn, and what share ``by_hand`` must be missing, where
    that is known without drawing."""

    group: str
    name: str
    draw: Callable[[int, torch.Generator], Tensor]
    by_hand: float | None = None


def kinds() -> Iterator[Kind]:
    """The paper's variants, strokes, the presets of the occlusion protocol, and what methods draw for themselves."""
    for scenario in map(Scenario._make, FIGURE8):
        missing = {"colorization1": 1 / 3, "colorization2": 2 / 3, "inpainting": scenario.S}
        share = missing[scenario.variant] if scenario.variant in missing else 1 - scenario.S
        yield Kind("variant of the MDE", scenario.name, _scenario(scenario), share)
    for name in STROKES:
        yield Kind("strokes", name, _scenario(Scenario(name, None)))
    for name in masks.PRESETS:
        left, top, right, bottom = masks.preset_box(name)
        area = (min(right, 1) - max(left, 0)) * (min(bottom, 1) - max(top, 0))
        seen = masks.preset(name, SIZE).expand(-1, 3, -1, -1)
        yield Kind("occlusion preset", name, lambda count, _, seen=seen: seen.expand(count, -1, -1, -1), area)
    for name, entry in catalog.own_methods().items():
        if name not in VARIANTS and entry.load().Method.draw_seen is not Method.draw_seen:
            yield Kind("drawn in training", name, _of_method(name))


def _scenario(scenario: Scenario) -> Callable[[int, torch.Generator], Tensor]:
    return lambda count, generator: masks.draw(*scenario, count, SIZE, generator)[0]


def _of_method(name: str) -> Callable[[int, torch.Generator], Tensor]:
    entry = catalog.own_methods()[name]
    method = build_method(entry, recipe_of(entry, "tiny").settings, SIZE, 0)

    def draw(count: int, generator: torch.Generator) -> Tensor:
        images = torch.zeros(count, 3, SIZE, SIZE)
        return method.draw_seen(Batch(images, torch.arange(count), 0, 0, 0, generator, 1))

    return draw


def shares(kind: Kind, count: int, seed: int) -> np.ndarray:
    """The share of values (pixels of a channel) that are missing under each of ``count`` masks, in %: (count,)."""
    generator = torch.Generator().manual_seed(seed)
    pieces = [kind.draw(PIECE, generator) for _ in range(0, count, PIECE)]
    return 100 * torch.cat([1 - seen.double().mean(dim=(1, 2, 3)) for seen in pieces])[:count].numpy()


def table() -> str:
    """The page: for each kind the mean share, its spread over masks, and what it must be."""
    lines = []
    for kind in kinds():
        found = shares(kind, COUNT, seed=0)
        known = "" if kind.by_hand is None else f"{100 * kind.by_hand:.1f}"
        spread = f"{found.std():.1f}", f"{found.min():.1f} to {found.max():.1f}"
        lines.append((kind.name, kind.group, f"{found.mean():.1f}", *spread, known))
    headers = ("mask", "what it is", "missing (%)", "± (over masks)", "least to most", "by its formula")
    body = tabulate(lines, headers=headers, tablefmt="pipe", disable_numparse=True)
    return (
        "# What every mask hides\n\n"
        f"Made by `make masks`: {COUNT:,} masks of each kind at {SIZE}×{SIZE} pixels. Missing is the share of values, "
        "a third of them in each colour channel; under `damage` those of which less than half is left.\n\n"
        f"{body}\n\n![generated faces under every kind of mask](masks.png)\n"
    )


def sheet() -> bytes:
    """A row of generated faces under each kind of mask, black where missing, as a PNG of 128 colours."""
    pictures = np.concatenate([chunk.images for chunk in toyfaces.generate(4 * SHOWN, SIZE)])[::4]
    faces = torch.from_numpy(pictures).float() / 255
    rows = {}
    for kind in kinds():
        generator = torch.Generator().manual_seed(1)
        shown = faces * kind.draw(SHOWN, generator)
        if kind.name == DAMAGE:
            generator = torch.Generator().manual_seed(1)
            alpha, drawn = masks.draw_damage(SHOWN, SIZE, generator), torch.rand(SHOWN, 3, generator=generator)
            shown = masks.damage(faces, alpha, masks.strange(faces, drawn))
        rows[kind.name] = list(to_pixels(shown.numpy()))
    found = io.BytesIO()
    picture = grid(list(rows.values()), list(rows)).quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    picture.save(found, "PNG", optimize=True)
    return found.getvalue()


if __name__ == "__main__":
    (RESULTS / "masks.md").write_text(table())
    (RESULTS / "masks.png").write_bytes(sheet())
