"""A figure's data as CSV: a line per number of a chart, a line per strip of a grid of images."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence

from mdebench.figures.chart import Chart
from mdebench.figures.image_grids import Grid, Strip
from mdebench.results.cells import Cell
from mdebench.results.spelled import csv_cell

CSV_COLUMNS = ("panel", "line", "setting", "value", "low", "high", "n", "seeds", "runs", "keys", "source")


def chart_csv(chart: Chart) -> str:
    """A line per cell, then the published numbers and reference lines; seeds, runs and keys separated by spaces."""
    lines: list[tuple[object, ...]] = []
    for panel in chart.panels:
        for cells in (panel.cells, panel.published):
            lines += [(panel.title, *place, *_cell(cell)) for place, cell in cells.items()]
        lines += [(panel.title, name, "", value, *[""] * 6, "reference") for name, value in panel.references.items()]
    return _csv(lines)


def _cell(cell: Cell) -> tuple[object, ...]:
    numbers = ("" if math.isnan(x) else repr(x) for x in (cell.value, cell.low, cell.high))
    lists = (" ".join(map(str, items)) for items in (cell.seeds, cell.runs, cell.keys))
    return *numbers, cell.n or "", *lists, cell.source


def grid_csv(grid: Grid, groups: Mapping[str, Sequence[Strip]]) -> str:
    """A line per strip: what it shows of which run, and from which file."""
    return _csv(
        (
            heading or grid.title,
            strip.line,
            strip.scenario,
            *[""] * 3,
            len(strip.tiles),
            strip.seed,
            "",
            "",
            strip.source,
        )
        for heading, strips in groups.items()
        for strip in strips
    )


def _csv(lines: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows([csv_cell(cell) if isinstance(cell, str) else cell for cell in line] for line in lines)
    return out.getvalue()
