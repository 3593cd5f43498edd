"""Heat maps, curves with intervals, and learning curves. What has one row per line is in `bars`."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from mdebench.figures.chart import Chart, Panel
from mdebench.figures.page import (
    COLOURS,
    EDGE,
    FAINT,
    INK,
    LEADING,
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
)
from mdebench.results.cells import Cell, Line
from mdebench.results.displays import spoken

Numbers = NDArray[np.float64]
SHORT = {
    "inpainting": "I",
    "reverse_inpainting": "RI",
    "colorization1": "Col 1",
    "colorization2": "Col 2",
    "re": "RE",
    "rec": "REC",
}
LEGEND = (
    "I inpainting, RI reverse inpainting, Col 1-2 colorization (channels missing), RE random extrapolation, REC random "
    "extrapolation and colorization; the number is S"
)
READING = "Row: trained for; column: tested on; framed: the same; bold: best of the column; intervals: see the bars"
WIDE = 5  # from this ratio of largest to smallest on, a learning curve has a log axis
HEAD = 0.32  # inches for a panel's title


def heat(chart: Chart) -> Figure:
    """Lines × settings as shaded cells with their numbers; best of a column bold, the training scenario framed."""
    left = EDGE + max(inches(short(line.name, 1.9), SMALL) for line in chart.lines)
    known = [[line for line in chart.lines if line.name in {name for name, _ in panel.cells}] for panel in chart.panels]
    sizes, foot, top = [0.3 * len(lines) for lines in known], 0.55, 0.0
    page = Page(chart, sum(sizes) + len(sizes) * (HEAD + foot), READING, LEGEND)
    for panel, lines, size in zip(chart.panels, known, sizes):
        axes = page.axes(left + EDGE, top + HEAD, WIDTH - left - 2 * EDGE, size, panel.title)
        _heat(axes, panel, lines, chart.settings)
        top += HEAD + size + foot
    return page.figure


def _heat(axes: Axes, panel: Panel, lines: Sequence[Line], settings: Sequence[str]) -> None:
    nothing = Cell()
    cells = [[panel.cells.get((line.name, setting), nothing) for setting in settings] for line in lines]
    values = np.array([[cell.value for cell in row] for row in cells])
    axes.imshow(values, cmap="cividis", aspect="auto")
    low, high = np.nanmin(values), np.nanmax(values)
    best = np.where(np.isnan(values), -np.inf, values).max(axis=0)
    for (i, j), value in np.ndenumerate(values):
        missing = math.isnan(value)
        colour = INK if missing or value - low > 0.55 * (high - low) else "white"
        text = "–" if missing else panel.text(value)
        weight = "bold" if value == best[j] else "normal"
        axes.text(j, i, text, ha="center", va="center", fontsize=SMALL, color=colour, weight=weight)
        if settings[j] == lines[i].label:
            axes.add_patch(Rectangle((j - 0.47, i - 0.45), 0.94, 0.9, fill=False, edgecolor=colour, linewidth=1.6))
    axes.set_yticks(range(len(lines)), [short(line.name, 1.9) for line in lines], fontsize=SMALL)
    axes.set_xticks(range(len(settings)), [_abbreviated(s) for s in settings], fontsize=SMALL)


def _abbreviated(scenario: str) -> str:
    """A scenario as in the paper's Figure 8, number below: "rec 0.1" → "REC", "0.1"."""
    variant, _, ratio = scenario.partition(" ")
    return f"{SHORT.get(variant, spoken(variant))}\n{ratio}".replace("Col ", "Col\n").strip()


def curves(chart: Chart) -> Figure:
    """A panel per metric over the settings, a curve per line with intervals, named at its end."""
    names = [line.name for line in chart.lines] + [name for panel in chart.panels for name in panel.references]
    right = max(inches(short(name, 1.7), SMALL) for name in names) + 0.45
    height = max(2.4, (len(names) + 1) * SMALL * LEADING)
    each, looks = HEAD + height + 0.5, styles(chart.lines)
    page = Page(chart, each * len(chart.panels))
    for k, panel in enumerate(chart.panels):
        axes = page.axes(0.5, k * each + HEAD, WIDTH - 0.5 - right, height, panel.title)
        ends = _curves(axes, panel, chart, looks)
        ends += [(level, name, FAINT) for name, level in panel.references.items()]
        for level in panel.references.values():
            axes.axhline(level, color=FAINT, linewidth=1.2, linestyle=(0, (2, 2)), zorder=1)
        _ends(axes, sorted(ends), SMALL * LEADING / height)
        _ground(axes)
        steps = all(setting.startswith("step ") for setting in chart.settings)
        words = [setting.removeprefix("step ") if steps else spoken(setting) for setting in chart.settings]
        places = [word.partition(", ")[0] for word in words]
        words = places if len(set(places)) == len(words) else words  # all in one manner, which the title says
        axes.set_xticks(range(len(words)), words)
        axes.set_xlabel("completions in succession" if steps else "", fontsize=SMALL, color=INK)
    return page.figure


def _curves(axes: Axes, panel: Panel, chart: Chart, looks: Mapping[str, Style]) -> list[tuple[float, str, str]]:
    """Draw a panel's curves; returns where each ends, its name and its colour."""
    ends = []
    lines = [line.name for line in chart.lines if any(name == line.name for name, _ in panel.cells)]
    for k, name in enumerate(lines):
        found = [(x, panel.cells[name, s]) for x, s in enumerate(chart.settings) if (name, s) in panel.cells]
        x = np.array([at for at, _ in found]) + 0.2 * (k / max(1, len(lines) - 1) - 0.5)  # intervals side by side
        value, low, high = (np.array([getattr(cell, part) for _, cell in found]) for part in ("value", "low", "high"))
        colour, mark, dash = looks[name]
        axes.plot(x, value, color=colour, marker=mark, linestyle=dash, markersize=3.5, linewidth=1.4, zorder=3)
        axes.vlines(x, low, high, color=colour, linewidth=1, zorder=2)
        ends.append((float(value[-1]), name, colour))
    axes.set_xlim(-0.3, len(chart.settings) - 0.7)
    return ends


def _ends(axes: Axes, ends: Sequence[tuple[float, str, str]], room: float) -> None:
    """Names right of the axes, at least `room` of the height apart, each joined to the end of its curve."""
    bottom, top = axes.get_ylim()
    places = apart([(value - bottom) / (top - bottom) for value, _, _ in ends], room)
    for (value, name, colour), y in zip(ends, places):
        start = (value - bottom) / (top - bottom)
        axes.plot([1, 1.06], [start, y], color=colour, linewidth=1, clip_on=False, transform=axes.transAxes)
        axes.text(1.075, y, short(name, 1.7), va="center", fontsize=SMALL, color=INK, transform=axes.transAxes)
    axes.set_ylim(bottom, top)


def apart(values: Sequence[float], room: float) -> list[float]:
    """Ascending places in [0, 1] moved as little as needed to lie at least `room` apart, within it where they fit."""
    groups: list[tuple[float, int]] = []  # (centre, members) of names that touch
    for value in values:
        groups.append((value, 1))
        while True:
            centre, count = groups.pop()
            half = room * (count - 1) / 2
            centre = max(half, min(1 - half, centre)) if half < 0.5 else 0.5
            if not groups or centre - groups[-1][0] >= room * (count + groups[-1][1]) / 2 - 1e-9:
                groups.append((centre, count))
                break
            below, members = groups.pop()
            groups.append(((below * members + centre * count) / (members + count), members + count))
    return [centre + room * (i - (count - 1) / 2) for centre, count in groups for i in range(count)]


def learning(chart: Chart) -> Figure:
    """A small panel per loss part: what was logged faint, its running mean strong; a log axis for a wide range."""
    height, left, gap = 1.15, 0.55, 0.55
    width = (WIDTH - left - gap - 2 * EDGE) / 2
    each = HEAD + height + 0.42
    page = Page(chart, each * math.ceil(len(chart.panels) / 2))
    for k, panel in enumerate(chart.panels):
        title = fold(panel.metric.replace("/", ": ").replace("_", " "), TEXT, width)
        axes = page.axes(left + k % 2 * (width + gap), k // 2 * each + HEAD, width, height, title)
        steps = np.array([int(step) for _, step in panel.cells])
        value, low, high = (
            np.array([getattr(cell, part) for cell in panel.cells.values()]) for part in ("value", "low", "high")
        )
        colour = COLOURS["inpainting"] if panel.metric.startswith("discriminator") else COLOURS["rec"]
        axes.plot(steps, value, color=colour, alpha=0.3, linewidth=0.8)
        axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(steps, smooth(value), color=colour, linewidth=1.6)
        if low.min() > 0 and high.max() > WIDE * low.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        axes.locator_params(axis="x", nbins=4)
        _ground(axes)
        if k >= len(chart.panels) - 2:
            axes.set_xlabel("updates", fontsize=SMALL, color=INK)
    return page.figure


def smooth(values: Numbers, share: float = 0.05) -> Numbers:
    """Running mean over a twentieth of the curve, over less towards its ends."""
    half = max(1, int(len(values) * share / 2))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    reach = np.minimum(half, np.minimum(places, len(values) - 1 - places))
    means: Numbers = (sums[places + reach + 1] - sums[places - reach]) / (2 * reach + 1)
    return means


def _ground(axes: Axes) -> None:
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color(FAINT)
