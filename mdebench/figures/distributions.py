"""Cumulative distributions: which share of the test images has at most so much of a metric, from the values that are
kept image by image beside the rows."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mdebench.figures.chart import Chart, Panel, Part
from mdebench.figures.page import FAINT, INK, LEADING, RULE, SMALL, WIDTH, Page, Style, fold, inches, short, styles
from mdebench.figures.protocol_charts import Share
from mdebench.results.cells import Cell
from mdebench.results.displays import Metric
from mdebench.results.paired import stored_values
from mdebench.words import words

STEPS = 50  # of a curve, at most
REACH = 99  # % of the images of each line lie within the axis
AT_MOST = "at most "  # how a setting of such a chart begins
HEAD, FOOT = 0.32, 0.5  # inches for a panel's title and for what stands below its axis


class Kept(NamedTuple):
    """The rows of one line, a row for each seed, and the values (n,) kept with each."""

    rows: list[Mapping[Any, Any]]
    values: list[NDArray[np.float64]]

    def share(self, bound: float) -> float:
        """The share of the images with at most so much, in %, mean over the seeds."""
        return 100 * float(np.mean([(numbers <= bound).mean() for numbers in self.values]))

    def quantile(self, percent: float) -> float:
        """What so many images have at most, mean over the seeds."""
        return float(np.mean([np.percentile(numbers, percent) for numbers in self.values]))


def distribution(part: Part, shares: Sequence[Share]) -> Chart | None:
    """The chart of these shares; None where no values are kept. Lines without any are named in the caption."""
    panels, used, without, told = list[Panel](), list[pd.DataFrame](), set[str](), list[str]()
    for protocol, asked in shares:
        for metric in map(part.display(protocol).metric, asked.metrics):
            rows = part.of(protocol, metric.name)
            rows = rows[rows["setting"].isin(asked.settings)] if asked.settings else rows
            lines, bare = _kept(part, rows)
            without |= bare
            if lines:
                panels.append(_panel(metric, lines))
                told.append(_medians(metric, lines))
                used.append(rows[rows["line"].isin(lines)])
    if not panels:
        return None
    first = shares[0].chart
    note = f"left out, no values kept: {words(sorted(without))}" if without else ""
    note = " · ".join(filter(None, (first.note, note)))
    chart = part.chart(first.name, first.title, pd.concat(used), panels, note)
    bounds = {setting: None for panel in panels for _, setting in panel.cells}
    return replace(chart, settings=tuple(bounds), told=" ".join(told))


def _kept(part: Part, rows: pd.DataFrame) -> tuple[dict[str, Kept], set[str]]:
    """Line → what is kept of it, and the lines of which a row has no values."""
    lines, without = defaultdict[str, Kept](lambda: Kept([], [])), set[str]()
    for row in rows.to_dict("records"):
        kept = stored_values(part.home, row)
        if kept is None:
            without.add(row["line"])
        else:
            lines[row["line"]].rows.append(row)
            lines[row["line"]].values.append(kept[0])
    return {name: kept for name, kept in lines.items() if name not in without}, without


def _panel(metric: Metric, lines: Mapping[str, Kept]) -> Panel:
    reach = max(kept.quantile(REACH) for kept in lines.values())
    step = _round(reach / STEPS)
    bounds = [step * k for k in range(max(1, math.ceil(reach / step)) + 1)]
    cells = {
        (name, f"{AT_MOST}{bound:.6g}"): Cell(
            value=kept.share(bound), n=len(kept.values[0]), rows=tuple(kept.rows), source="rows"
        )
        for name, kept in lines.items()
        for bound in bounds
    }
    return Panel(metric, cells)


def _round(step: float) -> float:
    """The next of 1, 2, 2.5, 5, 10, … at or above a step."""
    scale = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next(scale * part for part in (1, 2, 2.5, 5, 10) if scale * part >= step * (1 - 1e-9))


def _medians(metric: Metric, lines: Mapping[str, Kept]) -> str:
    ranked = sorted((kept.quantile(50), name) for name, kept in lines.items())
    (low, first), (high, last) = ranked[0], ranked[-1]
    return f"{metric.axis_title}: half of the images have at most {low:.2f} for {first}, {high:.2f} for {last}."


def curves(chart: Chart) -> Figure:
    """A panel per metric, a curve per line, their names beside it, that of the largest area first."""
    names = [short(line.name, 1.7) for line in chart.lines]
    right = max(inches(name, SMALL) for name in names) + 0.5
    height = max(2.4, (len(names) + 1) * SMALL * LEADING)
    page, looks = Page(chart, (HEAD + height + FOOT) * len(chart.panels)), styles(chart.lines)
    for k, panel in enumerate(chart.panels):
        top = k * (HEAD + height + FOOT) + HEAD
        axes = page.axes(0.5, top, WIDTH - 0.5 - right, height, "Share of the test images with at most so much, in %")
        _curves(axes, panel, looks, SMALL * LEADING / height)
        title = fold(panel.title, SMALL, WIDTH - 0.5)
        axes.set_xlabel(title, fontsize=SMALL, color=INK, loc="left")
        axes.grid(color=RULE, linewidth=0.6)
        axes.spines["bottom"].set_visible(True)
        axes.spines["bottom"].set_color(FAINT)
    return page.figure


def _curves(axes: Axes, panel: Panel, looks: Mapping[str, Style], room: float) -> None:
    """Draw a panel's curves; a sample of each stands beside its name, at most `room` of the height below the last."""
    found = defaultdict[str, list[tuple[float, float]]](list)
    for (name, setting), cell in panel.cells.items():
        found[name].append((float(setting.removeprefix(AT_MOST)), cell.value))
    order = sorted(found, key=lambda name: -sum(share for _, share in found[name]))
    for k, name in enumerate(order):
        x, y = zip(*found[name])
        colour, mark, dash = looks[name]
        look = {"color": colour, "linestyle": dash, "marker": mark, "markersize": 3.5, "linewidth": 1.4}
        axes.plot(x, y, markevery=(k % 5, 5), zorder=3, **look)
        place = 1 - room * (k + 0.5)
        axes.plot([1.03, 1.06, 1.09], [place] * 3, markevery=[1], clip_on=False, transform=axes.transAxes, **look)
        axes.text(1.11, place, short(name, 1.7), va="center", fontsize=SMALL, color=INK, transform=axes.transAxes)
    axes.set_xlim(0, max(at for points in found.values() for at, _ in points))
    axes.set_ylim(0, 100)
