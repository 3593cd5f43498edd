"""A chart for every protocol, as its own file says: which metrics, in which form, with which lines across."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from mdebench.figures.chart import Chart, Panel, Part
from mdebench.results.cells import Cell
from mdebench.results.displays import ChartOf, Displays
from mdebench.results.lines import with_settings


class Share(NamedTuple):
    """What one protocol puts into a chart."""

    protocol: str
    chart: ChartOf


def asked_for(displays: Displays) -> dict[str, list[Share]]:
    """Chart's name → what each protocol puts into it, for displays with their defaults filled in."""
    asked: dict[str, list[Share]] = defaultdict(list)
    for protocol in sorted(displays):
        for chart in displays[protocol].charts or ():
            asked[chart.name].append(Share(protocol, chart))
    return asked


def protocol_chart(part: Part, shares: Sequence[Share]) -> Chart | None:
    """The chart of these shares; None where the part has no rows for it."""
    used, panels = [], list[Panel]()
    for protocol, asked in shares:
        rows = part.of(protocol, *asked.metrics)
        rows = rows[rows["setting"].isin(asked.settings)] if asked.settings else rows
        rows = with_settings(rows, asked.lines_with) if asked.lines_with else rows
        used.append(rows)
        panels += [_panel(part, protocol, asked, found) for found in part.panels(protocol, rows, *asked.metrics)]
    if not panels:
        return None
    first = shares[0].chart
    chart = part.chart(first.name, first.title, pd.concat(used), panels, first.note, first.order)
    start = (first.start[0],) if first.start else ()
    return replace(chart, settings=(*start, *chart.settings))


def _panel(part: Part, protocol: str, asked: ChartOf, found: Panel) -> Panel:
    lines = dict(asked.levels)
    if found.shown.home:
        home, setting = found.shown.home
        for method in asked.across:
            lines |= part.reference(home, found.metric, method, setting)
    for mark in asked.marks:
        rows = part.of(protocol, f"{found.metric}/{mark}")
        values = rows.loc[(rows["judge"] == found.judge) | (found.judge == ""), "value"]
        lines |= {mark: float(values.mean())} if len(values) else {}
    cells = dict(found.cells)
    if asked.start and found.metric in asked.started:
        cells = _start(found, *asked.start) | cells
    return replace(found, cells=cells, references=lines, origins=_origins(found, asked.origin))


def _start(found: Panel, setting: str, value: float) -> dict[tuple[str, str], Cell]:
    """Where every line begins."""
    start = Cell(value=value, low=value, high=value, source="by definition")
    return {(line, setting): start for line, _ in found.cells}


def _origins(found: Panel, origin: str) -> dict[tuple[str, str], float]:
    """Where each line stood in the setting that the others come from."""
    stood = {line: cell.value for (line, setting), cell in found.cells.items() if setting == origin}
    return {place: stood[place[0]] for place in found.cells if place[0] in stood and place[1] != origin}
