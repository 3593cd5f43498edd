"""What a chart is made of: panels of cells by line and setting, with published numbers and reference lines beside them.

A chart computes nothing that a row lacks. `paper_charts` and `protocol_charts` fill it, `curves` and
`bars` draw it, and its cells are the figure's CSV.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mdebench.home import Home
from mdebench.results.cells import Cell, Line, cell_from_rows
from mdebench.results.displays import (
    CONTROLS,
    PROBE,
    SILENT,
    Display,
    Displays,
    Metric,
    setting_order,
    spoken,
    versions,
)
from mdebench.results.lines import NAMES, TRIVIAL, judges, lines_of, newest_per_seed, short, with_lines
from mdebench.results.rows import read_rows, stale, superseded
from mdebench.results.spelled import file_stem
from mdebench.words import words


@dataclass(frozen=True)
class Panel:
    """One axis: `cells` and `published` by (line, setting), `references` (name → value) drawn as lines across.

    `origins` are marked beside their cells: where the line stood before. `judge` is who judged, where several did.
    """

    shown: Metric
    cells: Mapping[tuple[str, str], Cell]
    published: Mapping[tuple[str, str], Cell] = field(default_factory=dict)
    references: Mapping[str, float] = field(default_factory=dict)
    origins: Mapping[tuple[str, str], float] = field(default_factory=dict)
    judge: str = ""

    @property
    def metric(self) -> str:
        """The metric's name in the rows."""
        return self.shown.name

    @property
    def title(self) -> str:
        """What the axis shows, with its unit and which way is better."""
        title = self.shown.axis_title
        if not self.judge:
            return title
        return f"{title[:-1]}, {short(self.judge)})" if title.endswith(")") else f"{title} ({short(self.judge)})"

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is the better one."""
        return self.shown.better == "higher"

    def text(self, value: float) -> str:
        """A value in as many digits as tell lines apart."""
        digits = 3 if self.shown.digits == 3 else sum(abs(value) < bound for bound in (10, 100))
        return f"{value:.{digits}f}"


@dataclass(frozen=True)
class Chart:
    """A figure before it is drawn: panels over common lines and settings, in drawing order.

    `name` is the figure's ("figure8"), `stem` the file's name without ending; `caption` says what a reader must know,
    `told` what is to be seen where that is not said by the smallest and largest value of each panel.
    """

    name: str
    stem: str
    title: str
    panels: tuple[Panel, ...]
    lines: tuple[Line, ...]
    settings: tuple[str, ...]
    caption: str
    told: str = ""

    @property
    def alt(self) -> str:
        """The chart in one or two sentences, for those who cannot see it."""
        return f"{self.title}. " + (self.told or " ".join(filter(None, map(self._extremes, self.panels))))

    def _extremes(self, panel: Panel) -> str:
        known = {place: cell for place, cell in panel.cells.items() if cell.source in ("rows", "log")}
        known = {place: cell for place, cell in known.items() if not math.isnan(cell.value)}
        if not known:
            return ""
        order = list(known) if self.name == "learning" else sorted(known, key=lambda place: known[place].value)

        def told(place: tuple[str, str]) -> str:
            line, setting = place
            if self.name == "learning":
                return f"{panel.text(known[place].value)} at update {int(setting):,}"
            where = f" ({spoken(setting)})" if len(self.settings) > 1 else ""
            return f"{panel.text(known[place].value)} for {spoken(line)}{where}"

        return f"{panel.title}: from {told(order[0])} to {told(order[-1])}."


@dataclass(frozen=True)
class Part:
    """The current rows of one data set and scale, with a column `line`; `displays` say how they are shown, values image
    by image are read from `home`."""

    dataset: str
    scale: str
    rows: pd.DataFrame
    displays: Displays
    home: Home

    def display(self, protocol: str) -> Display:
        """How the rows of a protocol are shown."""
        rows = self.rows[self.rows["protocol"] == protocol].drop_duplicates("metric")
        return self.displays.get(protocol, SILENT).shown_for(protocol, zip(rows["metric"], rows["unit"]))

    def panels(self, protocol: str, rows: pd.DataFrame, *metrics: str) -> list[Panel]:
        """A panel for each of the metrics that there are rows of, and for each judge of what a judge says."""
        return panels_of(rows, *map(self.display(protocol).metric, metrics))

    def of(self, protocol: str, *metrics: str) -> pd.DataFrame:
        """The rows of a protocol's metrics; of several partitions the one called test, if there is one."""
        rows = self.rows[(self.rows["protocol"] == protocol) & self.rows["metric"].isin(metrics)]
        return rows[rows["split"] == "test"] if (rows["split"] == "test").any() else rows

    def chart(
        self,
        name: str,
        title: str,
        rows: pd.DataFrame,
        panels: Iterable[Panel],
        note: str = "",
        order: Sequence[str] = (),
    ) -> Chart:
        """The chart of `rows` with lines as in the tables, and settings as in `order`, then by their own."""
        place = {setting: k for k, setting in enumerate(order)}
        settings = sorted(set(rows["setting"]), key=lambda s: (place.get(s, len(place)), setting_order(s)))
        return Chart(
            name,
            file_stem(f"{name}-{self.dataset}-{self.scale}"),
            f"{title}: {self.dataset}, scale {self.scale}",
            tuple(panels),
            tuple(lines_of(rows)),
            tuple(settings),
            " · ".join(filter(None, (note, _caption(rows, versions(self.displays))))),
        )

    def reference(self, protocol: str, metric: str, method: str, setting: str = PROBE) -> dict[str, float]:
        """The value of a trivial method as a reference line; empty where it was not measured."""
        rows = self.of(protocol, metric).query("method == @method and setting == @setting")
        value = float(rows["value"].mean())
        return {} if math.isnan(value) else {NAMES[method]: value}


def parts(home: Home, displays: Displays) -> list[Part]:
    """The rows of `home`, one part per data set and scale; superseded rows are left out."""
    rows = read_rows(home)
    found = rows[~superseded(rows) & ~rows["setting"].isin(CONTROLS)].groupby(["dataset", "scale"])
    return [
        Part(str(d), str(s), newest_per_seed(with_lines(here), displays)[0], displays, home) for (d, s), here in found
    ]


def loss_order(name: str) -> tuple[Any, ...]:
    """Loss sets as in Figure 9: from completion alone to the full loss."""
    return name.count("+"), "vgg" in name, "coord" in name, name


def usual(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each label the rows trained with the loss set that most lines were asked for (of several, the fullest), where
    the label has it; the others are for Figure 9."""
    asked = rows["settings"].map(lambda settings: settings.get("losses", ""))
    counts = rows.assign(asked=asked).drop_duplicates("line")["asked"].value_counts()
    place = asked.map({name: (count, *loss_order(str(name))) for name, count in counts.items()})
    best = place.groupby(rows["label"]).transform("max")
    return rows[place == best]


def panel(rows: pd.DataFrame, metric: Metric, **more: Any) -> Panel:
    """The panel of one metric: a cell per line and setting, its seeds together."""
    found: dict[tuple[str, str], list[dict[Any, Any]]] = defaultdict(list)
    for row in rows[rows["metric"] == metric.name].to_dict("records"):
        found[row["line"], row["setting"]].append(row)
    return Panel(metric, {place: cell_from_rows(cell, 2) for place, cell in found.items()}, **more)


def panels_of(rows: pd.DataFrame, *metrics: Metric) -> list[Panel]:
    """A panel for each of the metrics that there are rows of, and for each judge of what a judge says."""
    found = ((metric, judge) for metric in metrics for judge in judges(rows, metric))
    by = {place: rows[rows["judge"] == place[1]] if place[1] else rows for place in found}
    return [
        panel(own, metric, judge=judge) for (metric, judge), own in by.items() if (own["metric"] == metric.name).any()
    ]


def _caption(rows: pd.DataFrame, now: Mapping[str, int]) -> str:
    """What a reader must know about the rows of a chart."""
    own = rows[~rows["method"].isin(TRIVIAL)]
    counts, seeds = rows["n"], sorted(set(rows["seed"]))
    images = f"{counts.min():,}" if counts.min() == counts.max() else f"{counts.min():,} to {counts.max():,}"
    several = rows.groupby("line")["seed"].nunique().max() > 1
    facts = [
        words(sorted(set(rows["pack_note"]))),
        f"{images} images measured",
        f"seeds {words(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}",
        f"perceptual network {words(sorted(set((own if len(own) else rows)['perceptual'])))}",
        *(f"judge {judge}" for judge in sorted(set(rows["judge"]) - {""})),
        "intervals: 95 %" + ("; over several seeds the mean, and the range of all their intervals" if several else ""),
    ]
    late = rows[stale(rows, now)]
    if len(late):
        facts.append(f"STALE, measured by an older version of the protocol: {words(sorted(set(late['line'])))}")
    if rows["pack_hash"].nunique() > 1:
        facts.append("NOT COMPARABLE: packs of the same name but different content")
    return " · ".join(facts)
