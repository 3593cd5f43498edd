"""Figures 1, 5, 6 and 7: which of the galleries that runs keep each grid of images shows.

A grid's headings say which run it shows; of several seeds it shows the lowest.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mdebench.figures.chart import loss_order, usual
from mdebench.figures.image_grids import Build, Grid, Strip, Tile
from mdebench.files import Without
from mdebench.home import Home
from mdebench.results.displays import spoken
from mdebench.results.galleries import RESAMPLING, Gallery, list_galleries, open_gallery
from mdebench.results.lines import lines_of, with_lines
from mdebench.results.spelled import file_stem
from mdebench.variants import VARIANTS

MANY = 8  # strips of Figure 7 in all
BOXES = "boxes: what is seen of red, green and blue (orange: of all three at once; in inpainting: what is missing)"
CENTRED_HOLE = "inpainting 0.25"
FACTS = ("method", "label", "settings", "losses", "perceptual", "updates", "batch", "precision", "seed", "scale")
SHOWN = ("line", "label", "losses", "perceptual", "seed", "scenario", "usual")


@dataclass(frozen=True)
class Shown:
    """A gallery and the run it is of; `source` is its path within the home, `usual` whether the loss set is the usual
    one of its label (see `usual`)."""

    line: str
    label: str
    losses: str
    perceptual: str
    seed: int
    scenario: str
    path: Path
    source: str
    usual: bool

    @property
    def own(self) -> bool:
        """Whether the run was trained for this scenario."""
        return self.scenario == self.label

    @property
    def typical(self) -> bool:
        """Whether the scenario is the run's own or, for a method that is trained for none of them, the centred hole."""
        variant = self.label.partition(" ")[0] in VARIANTS
        return self.own if variant else self.scenario == CENTRED_HOLE

    @property
    def heading(self) -> str:
        """The line, and what it was trained with where its name does not tell."""
        told = "(" in self.line or self.losses in ("", "–")
        return spoken(self.line) if told else f"{spoken(self.line)}, {self.losses}"

    @cached_property
    def gallery(self) -> Gallery:
        """The arrays, read when first asked for."""
        return open_gallery(self.path)

    def original(self, i: int) -> Tile:
        """Test image i with the boxes of its test mask."""
        return Tile(self.gallery.originals[i], self.gallery.boxes[i, 0])

    def strip(self, label: str, tiles: Sequence[Tile | None]) -> Strip:
        """A row of a grid made from this gallery."""
        return Strip(label, tiles, self.line, self.scenario, self.seed, self.source)


def grids(home: Home, without: Without = nullcontext) -> list[Grid]:
    """Every grid that the galleries of `home` have something for, by pack and scale; `without` the damaged."""
    made = []
    for (pack, scale), shown in _galleries(home).items():
        for make in (figure1, figure5, figure6, figure7):
            with without():
                made += [grid] if (grid := make(pack, scale, shown)) else []
    return made


def _galleries(home: Home) -> dict[tuple[str, str], list[Shown]]:
    """The galleries by pack and scale, in the order of the tables' lines, each line and scenario once."""
    infos = {run.folder.name: run.info for run in home.list_runs()}
    found = [g for g in list_galleries(home) if g.run in infos]
    rows = pd.DataFrame([{name: infos[g.run][name] for name in FACTS} for g in found], columns=list(FACTS))
    rows = rows.assign(**{name: [str(getattr(g, name)) for g in found] for name in ("pack", "scenario", "path")})
    rows = rows.assign(family=[infos[g.run].get("family", "") for g in found])
    parts: dict[tuple[str, str], list[Shown]] = {}
    for (pack, scale), part in rows.groupby(["pack", "scale"]):
        named = with_lines(part).sort_values("seed", kind="stable").drop_duplicates(["line", "scenario"])
        named = named.assign(usual=named.index.isin(usual(named).index))
        order = {line.name: place for place, line in enumerate(lines_of(named))}
        parts[str(pack), str(scale)] = [
            _shown(row, home)
            for row in sorted(named.to_dict("records"), key=lambda row: (order[row["line"]], row["scenario"]))
        ]
    return parts


def _shown(row: Mapping[Any, Any], home: Home) -> Shown:
    path = Path(row["path"])
    return Shown(path=path, source=path.relative_to(home).as_posix(), **{name: row[name] for name in SHOWN})


def figure1(pack: str, scale: str, shown: Sequence[Shown]) -> Grid | None:
    """What the loss sets look like, of the variant or method that was trained with most of them."""
    runs: dict[str, dict[str, Shown]] = {}
    for g in shown:
        if g.typical:
            runs.setdefault(g.label, {}).setdefault(g.losses, g)
    label = max(runs, key=lambda name: (len(runs[name]), name == "rec 0.1"), default="")
    if len(runs.get(label, ())) < 2:
        return None
    several = [runs[label][losses] for losses in sorted(runs[label], key=loss_order)]
    first = several[0]

    def build(n: int) -> dict[str, list[Strip]]:
        rows = range(min(n, len(first.gallery.originals)))
        return {
            "": [
                first.strip(
                    "",
                    [
                        first.original(i),
                        Tile(first.gallery.inputs[i, 0]),
                        *(Tile(g.gallery.completed[i, 0]) for g in several),
                    ],
                )
                for i in rows
            ]
        }

    heads = ("original", "seen", *(g.losses.replace("+", "\n+").replace("_", "\n") for g in several))
    alt = f"Test images completed by {label} ({first.scenario}) after training with"
    alt = f"{alt} {', '.join(g.losses for g in several)}"
    return _grid("figure1", f"Figure 1, loss sets of {spoken(label)}", pack, scale, several, alt, heads, build, BOXES)


def figure5(pack: str, scale: str, shown: Sequence[Shown]) -> Grid | None:
    """Completions by each variant on its own scenario, trained with the usual loss set."""
    best: dict[str, Shown] = {}
    for g in shown:
        if g.own and g.usual:
            best.setdefault(g.label, g)
    if not best:
        return None

    def build(n: int) -> dict[str, list[Strip]]:
        groups = {}
        for g in best.values():
            rows = range(min(n, len(g.gallery.originals)))
            groups[g.heading] = [
                g.strip("original", [g.original(i) for i in rows]),
                g.strip("seen", [Tile(g.gallery.inputs[i, 0]) for i in rows]),
                g.strip("completed", [Tile(g.gallery.completed[i, 0]) for i in rows]),
            ]
        return groups

    alt = f"Test images with their boxes, what the network saw, and its completions, for {', '.join(best)}"
    title = "Figure 5, completions by variant"
    return _grid("figure5", title, pack, scale, list(best.values()), spoken(alt), (), build, BOXES)


def figure6(pack: str, scale: str, shown: Sequence[Shown]) -> Grid | None:
    """Several completions of one image, by the paper's rec 0.1 where it was trained."""
    moving = [g for g in shown if g.own and g.usual and g.gallery.completed.shape[1] > 1]
    if not moving:
        return None
    run = max(moving, key=lambda g: (g.label == "rec 0.1", g.label.startswith("rec ")))
    k = run.gallery.completed.shape[1]

    def build(n: int) -> dict[str, list[Strip]]:
        strips, gallery = [], run.gallery
        for i in range(min((n + 1) // 2, len(gallery.originals))):
            strips.append(
                run.strip("seen", [Tile(gallery.originals[i]), *map(Tile, gallery.inputs[i], gallery.boxes[i])])
            )
            strips.append(run.strip("completed", [None, *map(Tile, gallery.completed[i])]))
        return {run.heading: strips}

    alt = f"Test images, each beside {k} completions by {spoken(run.label)} from {k} different fragments of it"
    heads = ("original", *(f"mask {j}" for j in range(1, k + 1)))
    return _grid("figure6", "Figure 6, several completions of one image", pack, scale, [run], alt, heads, build, BOXES)


def figure7(pack: str, scale: str, shown: Sequence[Shown]) -> Grid | None:
    """Completions in succession, each from a fragment of the one before."""
    runs = [g for g in shown if g.usual and g.scenario == RESAMPLING]
    if not runs:
        return None

    def build(n: int) -> dict[str, list[Strip]]:
        each = max(1, min(n, MANY // len(runs)))
        return {
            g.heading: [
                g.strip("", [Tile(original), *map(Tile, completed)])
                for original, completed in zip(g.gallery.originals[:each], g.gallery.completed[:each])
            ]
            for g in runs
        }

    k = max(g.gallery.completed.shape[1] for g in runs)
    who = ", ".join(spoken(g.line) for g in runs)
    alt = f"Test images and {k} successive completions of each, always from a random fragment of the last, by {who}"
    heads = ("original", *map(str, range(1, k + 1)))
    return _grid("figure7", f"Figure 7, {k} completions in succession", pack, scale, runs, alt, heads, build, "")


def _grid(
    name: str,
    title: str,
    pack: str,
    scale: str,
    runs: Sequence[Shown],
    alt: str,
    columns: tuple[str, ...],
    build: Build,
    boxes: str,
) -> Grid:
    where = f"{pack}, scale {scale}"
    seeds = ", ".join(map(str, sorted({g.seed for g in runs})))
    networks = ", ".join(sorted({g.perceptual or "none" for g in runs}))
    facts = ("the first test images", f"seed {seeds}", f"perceptual network {networks}", boxes)
    caption = " · ".join(filter(None, facts))
    stem, files = file_stem(f"{name}-{pack}-{scale}"), tuple(g.path for g in runs)
    return Grid(name, stem, pack, f"{title}: {where}", caption, f"{alt}: {where}.", columns, files, build)
