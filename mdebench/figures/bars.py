"""Charts of one row per line: bars from zero, dots with intervals, and ranks. Every row is named and has its number."""

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Transform

from mdebench.figures.chart import Chart, Panel
from mdebench.figures.page import (
    EDGE,
    FAINT,
    INK,
    LEADING,
    PUBLISHED,
    RULE,
    SMALL,
    TEXT,
    WIDTH,
    Page,
    Style,
    fold,
    inches,
    short,
    styles,
    tint,
)
from mdebench.results.cells import Cell
from mdebench.results.displays import spoken

ROW = 0.19  # inches
NUMBER = 0.36  # inches for a number at the end of a row
Place = tuple[str, str]  # (line, setting)


def bars(chart: Chart) -> Figure:
    """For each setting a group of bars from zero, one per line; panels side by side. Published numbers are open."""
    return _groups(chart, filled=True)


def dots(chart: Chart) -> Figure:
    """For each setting a group of dots, one per line; panels side by side. An upright tick is the line's origin."""
    return _groups(chart, filled=False)


def _groups(chart: Chart, filled: bool) -> Figure:
    places, headings, rows = _places(chart)
    left = EDGE + max(
        [inches(short(name), SMALL) for name, _ in places]
        + [min(inches(spoken(setting), TEXT, bold=True), 2.2) for setting in headings]
    )
    each = (WIDTH - left - EDGE) / len(chart.panels)
    titles = [_titled(panel, each - EDGE) for panel in chart.panels]
    head = max(title.count("\n") + 1 for title in titles) * TEXT * LEADING + (EDGE if filled else 0.25)
    page = Page(chart, head + ROW * rows + EDGE)
    looks = styles(chart.lines)
    for k, (panel, title) in enumerate(zip(chart.panels, titles)):
        axes = page.axes(left + k * each + EDGE, head, each - EDGE - NUMBER, ROW * rows, title)
        _panel(axes, panel, places, looks, filled)
        axes.set_ylim(rows - 0.4, -0.6)
        if k == 0:
            _names(axes, {y: short(name) for (name, _), y in places.items()})
            _headings(axes, {y: spoken(setting) for setting, y in headings.items()}, left)
    return page.figure


def _places(chart: Chart) -> tuple[dict[Place, float], dict[str, float], float]:
    """The row of every line in its setting's group, that of every group's heading, and how many rows there are."""
    places: dict[Place, float] = {}
    headings: dict[str, float] = {}
    y = 0.0
    for setting in chart.settings:
        if len(chart.settings) > 1:
            headings[setting] = y
            y += 1.1
        for line in chart.lines:
            if any((line.name, setting) in {**panel.cells, **panel.published} for panel in chart.panels):
                places[line.name, setting] = y
                y += 1
        y += 0.5
    return places, headings, y


def ranks(chart: Chart) -> Figure:
    """Panels one below the other, each with its lines from best to worst; trivial lines drawn through the others."""
    left = EDGE + max(inches(short(line.name), SMALL) for line in chart.lines)
    width = WIDTH - left - 2 * EDGE - NUMBER
    titles = [fold(panel.title, TEXT, width + NUMBER) for panel in chart.panels]
    head, row = 0.3 + max(title.count("\n") + 1 for title in titles) * TEXT * LEADING, 0.23
    sizes = [len(panel.cells) * row for panel in chart.panels]
    page = Page(chart, sum(sizes) + (head + EDGE) * len(sizes))
    looks, top = styles(chart.lines), 0.0
    for panel, title, size in zip(chart.panels, titles, sizes):
        axes = page.axes(left + EDGE, top + head, width, size, title)
        order = sorted(panel.cells, key=lambda place: panel.cells[place].value, reverse=panel.higher_is_better)
        _panel(axes, panel, {place: float(y) for y, place in enumerate(order)}, looks, False)
        _names(axes, {float(y): short(name) for y, (name, _) in enumerate(order)})
        top += head + size + EDGE
    return page.figure


def _titled(panel: Panel, width: float) -> str:
    """The panel's title, and what its dotted lines are where no row is named so."""
    named = {name for name, _ in panel.cells}
    marks = [f"{name} {panel.text(value)}" for name, value in panel.references.items() if name not in named]
    return fold(f"{panel.title}; dotted: {', '.join(marks)}" if marks else panel.title, TEXT, width)


def _names(axes: Axes, texts: Mapping[float, str]) -> None:
    """Texts left of the axes, by row."""
    look: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": SMALL, "color": INK}
    for y, text in texts.items():
        axes.annotate(text, (0, y), (-4, 0), axes.get_yaxis_transform(), textcoords="offset points", **look)


def _headings(axes: Axes, texts: Mapping[float, str], room: float) -> None:
    """Headings left of the axes, by row; one that has no room there begins at the page's edge and has the row's."""
    look: dict[str, Any] = {"va": "center", "fontsize": TEXT, "weight": "bold", "color": INK}
    for y, text in texts.items():
        if inches(text, TEXT, bold=True) <= room - EDGE:
            right = axes.get_yaxis_transform()
            axes.annotate(text, (0, y), (-4, 0), right, textcoords="offset points", ha="right", **look)
        else:
            ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # over the lines across
            axes.annotate(text, (EDGE / WIDTH, y), xycoords=("figure fraction", "data"), bbox=ground, zorder=9, **look)


def _panel(axes: Axes, panel: Panel, places: Mapping[Place, float], looks: Mapping[str, Style], filled: bool) -> None:
    """Every row of a panel, with the reference lines across and the published numbers."""
    right = _limits(axes, panel, filled)
    axes.set_ylim(max(places.values()) + 0.6, min(places.values()) - 0.6)
    axes.set_yticks([])
    axes.xaxis.set_ticks_position("top")
    if filled:  # every bar has its number
        axes.set_xticks([])
    else:
        axes.locator_params(axis="x", nbins=max(3, round(axes.get_position().width * WIDTH / 0.5)))
        axes.grid(axis="x", color=RULE, linewidth=0.6)
    for value in panel.references.values():
        axes.axvline(value, color=FAINT, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    for place, y in places.items():
        paper, cell = panel.published.get(place), panel.cells.get(place)
        if paper and paper.value <= right:
            axes.plot([paper.value], [y], "D", color="white", markeredgecolor=PUBLISHED, markersize=5, zorder=2)
        elif paper:
            _beside(axes, right, y, f"◇ {paper.text} ▸", PUBLISHED, 0, axes.transData)
        if cell and not math.isnan(cell.value):
            _row(axes, cell, y, looks[place[0]], filled)
            _beside(axes, 1, y, panel.text(cell.value), INK, NUMBER, axes.get_yaxis_transform())
        elif paper:
            _beside(axes, 1, y, panel.text(paper.value), PUBLISHED, NUMBER, axes.get_yaxis_transform())
        if place in panel.origins:
            axes.plot([panel.origins[place]], [y], "|", color=FAINT, markersize=8, markeredgewidth=1.2, zorder=2)


def _row(axes: Axes, cell: Cell, y: float, style: Style, filled: bool) -> None:
    """Bar or dot, and the interval."""
    if filled:
        axes.barh([y], [cell.value], height=0.8, color=tint(style.colour, 0.3))
    else:
        axes.plot([cell.value], [y], style.mark, color=style.colour, markersize=5, zorder=3)
    if not math.isnan(cell.low):
        axes.plot([cell.low, cell.high], [y, y], "-", color=INK if filled else style.colour, linewidth=1.4, zorder=3)


def _limits(axes: Axes, panel: Panel, filled: bool) -> float:
    """Set an axis that holds every interval, from zero for bars; a published number far off does not squeeze ours."""
    known = [x for cell in panel.cells.values() for x in (cell.value, cell.low, cell.high) if not math.isnan(x)]
    known += [*panel.references.values(), *panel.origins.values()]
    published = [cell.value for cell in panel.published.values()]
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    near = [x for x in published if x <= high + span]
    low, high = min([0.0 if filled else low, low, *near]), max([high, *near])
    margin = 0.04 * (high - low)
    axes.set_xlim(low if filled else low - margin, high + margin)
    return high + margin


def _beside(axes: Axes, x: float, y: float, text: str, colour: str, shift: float, where: Transform) -> None:
    """A text that ends `shift` inches right of a place."""
    axes.annotate(
        text,
        (x, y),
        (72 * shift, 0),
        xycoords=where,
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=SMALL,
        color=colour,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )
