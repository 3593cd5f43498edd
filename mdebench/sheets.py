"""Contact sheets of completions: for a pack and an occlusion, what every run saw, made of it, and should have made.

The runs' own strips (input, completed, composite, original) are stacked under labels. They may show people, so they
go to `results/sheets/`, which git ignores.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mdebench.errors import UserError
from mdebench.pictures import GAP, grid

Strip = NDArray[np.uint8]  # (h, w, 3): one row of a run's sheet
STRIPS = 4  # input, completed, composite, original


def write_sheets(home: Path, out: Path) -> list[Path]:
    """Write `<pack>-<preset>.png` into `out` for all runs' strips; returns the paths.

    Runs that saw the same images share one input and one original row. UserError for a damaged strip.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((Path(home) / "runs").glob("*/sheets/*-occlusion-*.png")):
        found[path.stem.replace("-occlusion-", "-")].append(path)
    paths = []
    for name, strips in sorted(found.items()):
        path = out / f"{name}.png"
        try:
            out.mkdir(parents=True, exist_ok=True)
            _stack(strips).save(path)
        except OSError as error:
            raise UserError(f"could not write {path}: {error.strerror or error}") from error
        paths.append(path)
    return paths


def _stack(paths: list[Path]) -> Image.Image:
    """One labelled picture of several runs' strips."""
    infos = [_info(path) for path in paths]
    labels = [str(info["label"]) for info in infos]
    groups: dict[bytes, list[tuple[str, list[Strip]]]] = defaultdict(list)
    for info, label, path in zip(infos, labels, paths):
        strips = _cut(path)
        name = label if labels.count(label) == 1 else f"{label} {info['scale']} seed {info['seed']}"
        groups[strips[0].tobytes() + strips[-1].tobytes()].append((name, strips))
    rows, names = [], []
    for members in groups.values():
        first = members[0][1]
        rows.append(first[0])
        names.append("input")
        for name, (_, completed, composite, _) in members:
            rows += [completed, composite]
            names += [name, "with seen pixels"]
        rows.append(first[-1])
        names.append("original")
    return grid([[row] for row in rows], names)


def _info(path: Path) -> dict[str, Any]:
    """The run's record beside whose sheets `path` lies."""
    record = path.parent.parent / "run.json"
    try:
        info: dict[str, Any] = json.loads(record.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{record} is missing or damaged ({error}); delete the folder to start this run again"
        ) from error
    return info


def _cut(path: Path) -> list[Strip]:
    """The rows of a run's sheet, without the gaps above and below."""
    try:
        with Image.open(path) as picture:
            sheet = np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{path} is damaged; delete it and the run's occlusion rows, then measure again") from error
    height = (len(sheet) - GAP) // STRIPS
    return [sheet[GAP + i * height : (i + 1) * height, GAP:-GAP] for i in range(STRIPS)]
