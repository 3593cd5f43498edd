"""Contact sheets of completions: for a pack and an occlusion, what every run saw, made of it, and should have made.

The runs' own strips (input, completed, composite, original) are stacked under labels. They may show people, so they
go to `results/sheets/`, which git ignores.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mdebench.files import Damaged, Rest, reading, writing
from mdebench.home import Home
from mdebench.pictures import GAP, grid, read_png
from mdebench.results.lines import line_of, rank
from mdebench.runs import Run

Strip = NDArray[np.uint8]  # (h, w, 3): one row of a run's sheet
STRIPS = 4  # input, completed, composite, original


def write_sheets(home: Home, out: Path) -> list[Path]:
    """Write `<pack>-<preset>.png` into `out` for all runs' strips; returns the paths.

    Runs that saw the same images share one input and one original row. Damaged for strips that are, once all sheets
    that have none are written.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(home.runs.glob("*/sheets/*-occlusion-*.png")):
        found[path.stem.replace("-occlusion-", "-")].append(path)
    paths, rest = [], Rest()
    for name, strips in sorted(found.items()):
        path = out / f"{name}.png"
        with rest.without():
            sheet = _stack(strips)
            with writing(path) as file:
                sheet.save(file, "PNG")
            paths.append(path)
    rest.end("the sheets without these are written")
    return paths


def _stack(paths: list[Path]) -> Image.Image:
    """One labelled picture of several runs' strips, in the order of the tables."""
    runs = sorted(((_info(path), path) for path in paths), key=lambda run: (rank(line_of(run[0])), str(run[1])))
    names = [line_of(info).name for info, _ in runs]
    groups: dict[bytes, list[tuple[str, list[Strip]]]] = defaultdict(list)
    for (info, path), name in zip(runs, names):
        strips = _cut(path)
        label = name if names.count(name) == 1 else f"{name}, {info['scale']}, seed {info['seed']}"
        groups[strips[0].tobytes() + strips[-1].tobytes()].append((label, strips))
    rows: list[tuple[str, Strip]] = []
    for members in groups.values():
        _, (seen, *_, original) = members[0]
        rows.append(("input", seen))
        for label, (_, completed, composite, _) in members:
            rows.append((label, completed))
            if not np.array_equal(completed, composite):
                rows.append(("with seen pixels", composite))
        rows.append(("original", original))
    return grid([[strip] for _, strip in rows], [label for label, _ in rows])


def _info(path: Path) -> dict[str, Any]:
    """The record of the run whose sheet `path` is."""
    info = Run(path.parent.parent).info
    if not info:
        raise Damaged(f"{path} lies in a folder without run.json; delete {path.parent.parent}, or train its run again")
    return info


def _cut(path: Path) -> list[Strip]:
    """The rows of a run's sheet, without the gaps above and below."""
    way_on = "delete it and the run's occlusion rows, then measure again"
    sheet = np.asarray(read_png(path, way_on))
    height = (len(sheet) - GAP) // STRIPS
    with reading(path, way_on):
        if height <= 0:
            raise ValueError("it is too small for its strips")
    return [sheet[GAP + i * height : (i + 1) * height, GAP:-GAP] for i in range(STRIPS)]
