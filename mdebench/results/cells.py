"""What a table is made of: a cell is one number with its interval and its origin, a table is blocks of lines of cells.

A cell knows the keys of the rows it came from, so that a reader can follow every number, and a missing cell is a dash,
never a zero.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import stdev
from typing import Any, Literal

from mdebench.results.displays import Better, Metric, Reference

MISSING = "–"
Verdict = Literal["better", "overlap", "worse", ""]
Rule = Literal["paired", "unpaired", ""]  # how two cells were compared; see `paired`
Scope = Literal["methods", "runs", ""]  # of what a verdict is said: of the methods, or of these runs only
MARKS: dict[tuple[str, str], str] = {("better", "methods"): "†", ("better", "runs"): "(†)", ("overlap", ""): "≈"}
# What a run's training took, and not what it is worth: a field of its rows, with title, unit, and how many of the
# field's units make one. No times: these are of whatever machine it was, and of what else that machine did.
COSTS: dict[str, tuple[str, str, float]] = {
    "updates": ("Updates", "", 1),
    "gflop": ("Operations", "TFLOP", 1000),
}


@dataclass(frozen=True)
class Column:
    """Which rows a column shows, or, when `published`, which of a paper's numbers.

    `against` and `beside` are the setting and the protocol in which the reference line is read where they are not
    this column's own; `judge` is who judged, where several did; `digits` are decimals shown.
    """

    title: str
    protocol: str
    setting: str
    metric: str
    unit: str = ""
    split: str = "test"
    published: bool = False
    against: str = ""
    beside: str = ""
    judge: str = ""
    better: Better = ""
    digits: int = 2

    @property
    def header(self) -> str:
        """The title with its unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is the better one."""
        return self.better == "higher"

    @property
    def judged(self) -> bool:
        """Whether a value says that one method is better than another."""
        return bool(self.better)

    @property
    def reference(self) -> "Column":
        """The column in which the reference line is read."""
        return replace(self, setting=self.against or self.setting, protocol=self.beside or self.protocol)


def column(metric: Metric, title: str, protocol: str, setting: str, split: str = "test", **more: Any) -> Column:
    """The column of a metric, shown as its protocol says; `more` as in `Column`."""
    shown: dict[str, Any] = {"unit": metric.unit, "better": metric.better, "digits": metric.digits}
    return Column(title, protocol, setting, metric.name, split=split, **{**shown, **more})


@dataclass(frozen=True)
class Cell:
    """A number in a table. `low` and `high` bound its 95 % interval, over test images and, with several, over seeds.

    `sd` is the sample standard deviation over seeds (NaN for one seed), `n` the number of test images, `source` a
    paper or "rows", `rows` those rows, one per seed; `verdict` is how it compares with the table's reference line, by
    `rule`, and `scope` of what that is said; `best`: it is the best of its column, or not worse than that.
    """

    text: str = MISSING
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    sd: float = math.nan
    n: int = 0
    rows: tuple[Mapping[Any, Any], ...] = ()
    source: str = ""
    verdict: Verdict = ""
    rule: Rule = ""
    scope: Scope = ""
    best: bool = False

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each row."""
        return tuple(row["seed"] for row in self.rows)

    @property
    def runs(self) -> tuple[str, ...]:
        """The run of each row."""
        return tuple(row["run"] for row in self.rows)

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of each row's unit."""
        return tuple(row["key"] for row in self.rows)

    @property
    def marked(self) -> str:
        """The text with its mark, and whether that was made without comparing image by image."""
        unpaired = "unpaired" if self.rule == "unpaired" else ""
        return " ".join(filter(None, (self.text, MARKS.get((self.verdict, self.scope)), unpaired)))


@dataclass(frozen=True)
class Line:
    """A line of a table: its name, the label under which a paper may have numbers for it, the method and its family."""

    name: str
    label: str
    method: str
    family: str = ""


@dataclass(frozen=True)
class Block:
    """Lines × columns of cells under one heading.

    `against` is for each column the cell that the marks compare with, of the line `reference` (no line is marked
    where there is none); plain words are said of the columns `told`, beside the lines of `rivals`, after `prefix`.
    """

    title: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    cells: tuple[tuple[Cell, ...], ...]
    against: tuple[Cell, ...] = ()
    reference: Line | None = None
    told: tuple[Column, ...] = ()
    rivals: tuple[Reference, ...] = ()
    prefix: str = ""

    def column(self, place: int) -> list[Cell]:
        """The cells of a column that were made from rows and have a value."""
        cells = (line[place] for line in self.cells)
        return [cell for cell in cells if cell.source == "rows" and not math.isnan(cell.value)]


@dataclass(frozen=True)
class Table:
    """One table for one data set and scale; `stem` is its file name without the ending.

    `reading` is what it says in plain words, `summary` the same in short, each with the number of columns it is about.
    """

    stem: str
    title: str
    dataset: str
    scale: str
    blocks: tuple[Block, ...]
    reading: tuple[str, ...]
    footnotes: tuple[str, ...]
    summary: tuple[tuple[int, str], ...] = ()

    @property
    def rows(self) -> list[Mapping[Any, Any]]:
        """The rows that its numbers are from; one that several cells show stands there as often."""
        return [row for block in self.blocks for line in block.cells for cell in line for row in cell.rows]


def cell_from_rows(rows: Iterable[Mapping[Any, Any]], digits: int) -> Cell:
    """The cell of one line and column: "1.40 [1.37, 1.43]", or over several seeds "1.40 ± 0.02 (3 seeds)".

    `rows` holds one row per seed. An undefined value (NaN) makes the cell a missing one, with its key.
    """
    rows = sorted(rows, key=lambda row: row["seed"])
    values, lows, highs = ([row[name] for row in rows] for name in ("value", "low", "high"))
    cell = Cell(
        value=math.fsum(values) / len(values),
        low=math.nan if any(map(math.isnan, lows)) else min(lows),
        high=math.nan if any(map(math.isnan, highs)) else max(highs),
        sd=stdev(values) if len(values) > 1 and not any(map(math.isnan, values)) else math.nan,
        n=max(row["n"] for row in rows),
        rows=tuple(rows),
        source="rows",
    )
    if math.isnan(cell.value):
        return cell
    text = f"{cell.value:.{digits}f}"
    if len(values) > 1:
        text += f" ± {cell.sd:.{digits}f} ({len(values)} seeds)"
    elif not math.isnan(cell.low):
        text += f" [{cell.low:.{digits}f}, {cell.high:.{digits}f}]"
    return replace(cell, text=text)


def cost_cell(runs: Iterable[Mapping[Any, Any]], field: str) -> Cell:
    """What training took by one of `COSTS`, the mean over runs (one row of each); a dash where none counted it."""
    runs = [row for row in runs if row[field] > 0]  # NaN is not
    if not runs:
        return Cell()
    value = math.fsum(row[field] for row in runs) / len(runs) / COSTS[field][2]
    text = f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
    return Cell(text=text, value=value, n=len(runs), rows=tuple(runs), source="rows")
