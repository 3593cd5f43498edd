"""Learning curves of the representation: what codes knew on the way, over updates, operations and time, and at which
budget each passes raw pixels. Views of `results/probes`."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from mdebench.figures.chart import Chart, Panel
from mdebench.figures.curves import HEAD
from mdebench.figures.page import EDGE, FAINT, INK, LEADING, RULE, SMALL, WIDTH, Page, Style, inches, short, styles
from mdebench.home import Home
from mdebench.results import probes
from mdebench.results.cells import Cell, Line, cell_from_rows
from mdebench.results.displays import Metric, spoken
from mdebench.results.lines import NAMES, lines_of
from mdebench.results.probes import Budget
from mdebench.results.spelled import file_stem
from mdebench.words import words

READ = (  # off the code, and compared with what raw pixels give
    Metric("attribute_error", "Attributes", "% error", "lower"),
    Metric("landmark_distance", "Landmarks", "px of 96", "lower"),
    Metric("accuracy", "Classes", "%", "higher"),
)
LOOKED_AT = (  # the code itself
    Metric("rank", "Effective rank"),
    Metric("dead", "Dead units", "%"),
    Metric("cka", "Seeds alike (CKA)"),
)
AXES = {"updates": 1.0, "TFLOP": 1e-3, "hours": 1 / 3600}  # of the facts step, gflop and seconds
FACTS = dict(zip(AXES, ("step", "gflop", "seconds")))
BUDGET = "budget"
HEIGHT, GAP = 1.25, 0.42  # inches


@dataclass(frozen=True)
class Curve(Panel):
    """A panel whose settings are places on one of `AXES`; of `BUDGET`, how the updates were found."""

    axis: str = "updates"

    @property
    def title(self) -> str:
        """What it shows, over what."""
        return super().title if self.axis == BUDGET else f"{super().title} over {self.axis}"


def charts(home: Home) -> Iterator[Chart]:
    """A chart for each pack and scale that there are probes of trained runs for. Damaged."""
    found = probes.table(home)
    if found.empty:
        return
    for (dataset, scale), part in found.groupby(["dataset", "scale"]):
        if (part["updates"] > 0).any():
            yield _chart(str(dataset), str(scale), part)


def _chart(dataset: str, scale: str, rows: pd.DataFrame) -> Chart:
    trained, trivial = _of_all_seeds(rows[rows["updates"] > 0]), rows[rows["updates"] == 0]
    panels, told = list[Panel](), list[str]()
    for metric in (*READ, *LOOKED_AT):
        own, levels = trained[trained["metric"] == metric.name], trivial[trivial["metric"] == metric.name]
        if own.empty:
            continue
        levels = levels if metric in READ else levels[:0]
        across = {NAMES.get(name, name): float(value) for name, value in zip(levels["method"], levels["value"])}
        panels += [_curve(metric, own, axis, across) for axis in (AXES if metric in READ else ("updates",))]
    for metric in READ:
        pixels = trivial[(trivial["method"] == "pixels") & (trivial["metric"] == metric.name)]
        if len(pixels):
            panel, words_of_it = _budgets(metric, trained[trained["metric"] == metric.name], pixels.iloc[0])
            panels, told = [*panels, panel], [*told, words_of_it]
    seeds = sorted(set(trained["seed"]))
    facts = [
        f"{dataset}: {words(sorted(set(trained['pack_note'])))}",
        f"seed{'s' * (len(seeds) > 1)} {words(map(str, seeds))}",
    ]
    facts += ["lines across: the same probe of what is not trained; budgets: 95 % over the people on the images"]
    facts += ["between probes by the logarithm of updates, beyond the last by a + b · updates^-c"]
    if rows["pack_hash"].nunique() > 1:
        facts.append("NOT COMPARABLE: packs of the same name but different content")
    return Chart(
        "representation",
        file_stem(f"representation-{dataset}-{scale}"),
        f"What the code knows on the way: {dataset}, scale {scale}",
        tuple(panels),
        tuple(lines_of(trained)),
        tuple(map(str, sorted(set(trained["step"])))),
        " · ".join(facts),
        " ".join(told),
    )


def _of_all_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each line the updates after which all its seeds were looked at: a mean over others would jump."""
    seeds = rows.groupby("line")["seed"].transform("nunique")
    there = rows[rows["metric"] != "cka"].groupby(["line", "step"])["seed"].nunique().rename("there")
    return rows[rows.join(there, on=["line", "step"])["there"] == seeds]


def _curve(metric: Metric, rows: pd.DataFrame, axis: str, across: Mapping[str, float]) -> Curve:
    """A cell for each line and look, its seeds together; the place is the mean of theirs."""
    cells = {}
    for (line, _), own in rows.groupby(["line", "step"], sort=True):
        place = float(own[FACTS[axis]].mean()) * AXES[axis]
        plain = own.assign(key="", low=own["low"].astype(float), high=own["high"].astype(float)).to_dict("records")
        cells[str(line), f"{place:.6g}"] = cell_from_rows(plain, 2)
    return Curve(metric, cells, references=across, axis=axis)


def _budgets(metric: Metric, rows: pd.DataFrame, pixels: pd.Series) -> tuple[Curve, str]:
    """From how many updates on each line's code is read no worse than raw pixels; the mean of its seeds, image by
    image."""
    people = probes.unpacked(pixels["faces"], "<i4")
    reference = _errors(metric, [pixels["values"]])
    cells, said = {}, []
    for line in lines_of(rows):
        own = rows[rows["line"] == line.name]
        steps = [int(step) for step in sorted(set(own["step"]))]
        looks = [own[own["step"] == step]["values"] for step in steps]
        found = probes.budget(steps, [_errors(metric, texts) for texts in looks], reference, people)
        runs = own.drop_duplicates("run")[["seed", "run"]].assign(key="").to_dict("records")
        cells[line.name, found.how] = Cell(
            value=found.value, low=found.low, high=found.high, n=len(reference), rows=tuple(runs), source="rows"
        )
        said.append(f"{spoken(line.name)} {_in_words(found)}")
    told = f"{metric.title}: raw pixels are passed by {'; '.join(said)}."
    shown = Metric(f"{BUDGET}/{metric.name}", f"{metric.title}: updates until raw pixels are passed")
    return Curve(shown, cells, axis=BUDGET), told


def _errors(metric: Metric, looks: Iterable[str]) -> NDArray[np.float64]:
    """The error on each image, the mean of several seeds; of an accuracy what it lacks of 100 %."""
    values = np.mean([probes.unpacked(text).astype(float) for text in looks], axis=0)
    return np.asarray(100 - values if metric.better == "higher" else values, np.float64)


def _in_words(found: Budget) -> str:
    if found.how == "from the start":
        return "from the start"
    if found.how == "out of reach":
        return "within no reach" + (f" (from {found.low:,.0f} at the earliest)" if math.isfinite(found.low) else "")
    end = f"{found.high:,.0f}" if math.isfinite(found.high) else "never"
    about = "after about" if found.how == "crossed" else "by extrapolation after"
    return f"{about} {found.value:,.0f} updates ({found.low:,.0f} to {end})"


def draw(chart: Chart) -> Figure:
    """Three panels a row, over updates, operations and time; then the code itself; then the budgets, a row for each
    line. The names of lines stand once, on top."""
    looks = styles(chart.lines)
    curves = [panel for panel in chart.panels if isinstance(panel, Curve) and panel.axis != BUDGET]
    budgets = [panel for panel in chart.panels if isinstance(panel, Curve) and panel.axis == BUDGET]
    legend = _legend_rows([line.name for line in chart.lines], WIDTH - 2 * EDGE)
    top = (len(legend) + 0.5) * SMALL * LEADING * 1.15
    each, rows = HEAD + HEIGHT + GAP, math.ceil(len(curves) / 3)
    heights = [0.25 + 0.2 * len({line for line, _ in panel.cells}) for panel in budgets]
    page = Page(chart, top + rows * each + sum(heights) + len(budgets) * (HEAD + GAP))
    _legend(page, legend, looks, top)
    left, gap = 0.5, 0.42
    width = (WIDTH - left - 2 * gap - EDGE) / 3
    for k, panel in enumerate(curves):
        title = panel.shown.axis_title if k % 3 == 0 or panel.shown in LOOKED_AT else ""
        axes = page.axes(left + k % 3 * (width + gap), top + k // 3 * each + HEAD, width, HEIGHT, title)
        _draw_curve(axes, panel, chart.lines, looks)
    names = max(inches(short(line.name, 1.6), SMALL) for line in chart.lines)
    place = top + rows * each + HEAD
    for panel, height in zip(budgets, heights):
        axes = page.axes(names + 3 * EDGE, place, WIDTH - names - 6 * EDGE - 0.6, height, "")
        page.figure.text(EDGE / WIDTH, 1 - (page.top + place - 0.08) / page.height, panel.shown.title, color=INK)
        _draw_budgets(axes, panel, looks)
        place += height + HEAD + GAP
    return page.figure


def _legend_rows(names: Sequence[str], width: float) -> list[list[str]]:
    rows: list[list[str]] = [[]]
    room = width
    for name in names:
        takes = inches(short(name, 1.9), SMALL) + 0.42
        if takes > room and rows[-1]:
            rows.append([])
            room = width
        rows[-1].append(name)
        room -= takes
    return rows


def _legend(page: Page, rows: Sequence[Sequence[str]], looks: Mapping[str, Style], height: float) -> None:
    axes = page.axes(EDGE, 0, WIDTH - 2 * EDGE, height)
    axes.set_xlim(0, WIDTH - 2 * EDGE)
    axes.set_ylim(height, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    for k, row in enumerate(rows):
        x, y = 0.0, (k + 0.5) * SMALL * LEADING * 1.15
        for name in row:
            colour, mark, dash = looks[name]
            axes.plot([x, x + 0.24], [y, y], color=colour, linestyle=dash, linewidth=1.4, clip_on=False)
            axes.plot([x + 0.12], [y], color=colour, marker=mark, markersize=3.5, clip_on=False)
            axes.text(x + 0.29, y, short(name, 1.9), va="center", fontsize=SMALL, color=INK)
            x += inches(short(name, 1.9), SMALL) + 0.42


def _draw_curve(axes: Axes, panel: Curve, lines: Sequence[Line], looks: Mapping[str, Style]) -> None:
    """The look before the first update stands at the left edge, as a logarithm has no place for 0."""
    places = [float(place) for _, place in panel.cells]
    least = min([place for place in places if place > 0], default=1.0)
    edge = least / 3
    for line in lines:
        found = [(max(float(place), edge), cell) for (name, place), cell in panel.cells.items() if name == line.name]
        found.sort(key=lambda at: at[0])
        colour, mark, dash = looks[line.name]
        x, y = [at for at, _ in found], [cell.value for _, cell in found]
        axes.plot(x, y, color=colour, marker=mark, linestyle=dash, markersize=3, linewidth=1.2, zorder=3)
    for name, level in panel.references.items():
        axes.axhline(level, color=FAINT, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
        axes.text(
            0.99, level, name, transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=7, color=FAINT
        )
    axes.set_xscale("log")
    axes.set_xlim(edge / 1.2, 1.3 * max([*places, edge]))
    axes.xaxis.set_major_locator(LogLocator(numticks=4))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.locator_params(axis="y", nbins=4)
    axes.set_xlabel(panel.axis, fontsize=SMALL, color=INK, labelpad=1)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color(FAINT)


def _draw_budgets(axes: Axes, panel: Curve, looks: Mapping[str, Style]) -> None:
    cells = {line: (how, cell) for (line, how), cell in panel.cells.items()}
    ends = [x for _, cell in cells.values() for x in (cell.value, cell.low, cell.high) if 0 < x < math.inf]
    low, high = min(ends, default=1.0) / 2, 2 * max(ends, default=10.0)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    for k, (line, (how, cell)) in enumerate(cells.items()):
        colour, mark, _ = looks[line]
        begin, end = max(cell.low, low), min(cell.high, high)
        if begin < high:
            axes.plot([begin, end], [k, k], color=colour, linewidth=1.2, zorder=2)
        if math.isfinite(cell.value):
            fill = colour if how == "crossed" else "white"
            axes.plot(
                [max(cell.value, low)], [k], color=colour, marker=mark, markersize=5, markerfacecolor=fill, zorder=3
            )
        told = f"{cell.value:,.0f}" if math.isfinite(cell.value) else how
        axes.text(1.01, k, told, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL, color=INK)
    axes.set_yticks(range(len(cells)), [short(line, 1.6) for line in cells], fontsize=SMALL)
    axes.set_ylim(len(cells) - 0.4, -0.6)
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.set_xlabel("updates; hollow: extrapolated", fontsize=SMALL, color=INK, labelpad=1)
    axes.grid(axis="x", color=RULE, linewidth=0.6)


def _short(value: float) -> str:
    for size, sign in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{sign}"
    return f"{value:g}"
