"""The block that says from which level of a difficulty on each line is better than the reference."""

import math
from collections.abc import Sequence
from itertools import product

from mdebench.results.cells import Block, Cell, Column, Line, column
from mdebench.results.crossings import DRAWS, Overtaking, overtaking
from mdebench.results.displays import Metric, TableOf
from mdebench.results.lines import lines_of
from mdebench.tables.view import View

AT_ONCE, NEVER = "at once", "never"


def overtaking_block(view: View, protocol: str, table: TableOf) -> Block | None:
    """A column for each of the table's crossings and judged metrics that there are rows of; None without any."""
    rows = view.of(protocol)
    rows = rows[rows["metric"].isin(table.metrics)]
    lines = lines_of(rows)
    base = next((line for line in lines if line.method == table.reference.method), None)
    others = [line for line in lines if line != base]
    if base is None:
        return None
    columns, found = list[Column](), list[list[Cell]]()
    for metric, each in product(map(view.display(protocol).metric, table.metrics), table.crossings):
        for split in sorted(set(rows.loc[rows["metric"] == metric.name, "split"])):
            places = [column(metric, "", protocol, setting, split) for setting, _ in each.levels]
            levels = [level for _, level in each.levels]
            cells = [_cell(view, metric, line, base, places, levels) for line in others]
            if any(cell.source for cell in cells):
                title = f"{metric.title}, {each.title}" + ("" if split == "test" else f" ({split})")
                columns.append(Column(title, protocol, each.title, metric.name, each.unit, split))
                found.append(cells)
    title = f"From which level on a line is better than {table.reference.called}"
    return Block(title, tuple(columns), tuple(others), tuple(zip(*found))) if columns else None


def meaning(table: TableOf) -> list[str]:
    """What the block's answers mean."""
    return [
        f"From which level on a line is better than {table.reference.called}: up to the highest, linear between the "
        f"levels measured; “{AT_ONCE}”: at all of them, “{NEVER}”: not at the highest. [low, high]: where it lies in "
        f"95 % of {DRAWS:,} draws of the people on the test images (of images, where nobody is known), both lines and "
        "all levels drawn together; of these runs, without the spread over seeds."
    ]


def _cell(
    view: View, metric: Metric, line: Line, base: Line, places: Sequence[Column], levels: Sequence[float]
) -> Cell:
    """Where a line overtakes `base`, given the columns of the levels; it has the rows of the highest one."""
    ours, theirs = ([view.cell(each, place) for place in places] for each in (line, base))
    found = overtaking(view.home, ours, theirs, levels, metric.better == "higher")
    return Cell(_text(found, levels), *found, n=ours[-1].n, rows=ours[-1].rows, source="rows") if found else Cell()


def _text(found: Overtaking, levels: Sequence[float]) -> str:
    """E.g. "8.3 [5.1, never]"; without an interval where that is one point, or not known."""

    def spoken(level: float) -> str:
        return NEVER if math.isinf(level) else AT_ONCE if level == levels[0] else f"{level:.1f}"

    value, low, high = map(spoken, found)
    return value if math.isnan(found.low) or value == low == high else f"{value} [{low}, {high}]"
