"""The paper's order, confirmed or refuted: how far our order of its methods agrees with the published one, by reading.

A reading is a protocol's setting in which attributes or landmarks are read: each readout, each level of misalignment.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import pandas as pd

from mdebench.results.agreement import Agreement, agreements
from mdebench.results.cells import Block, Cell, Column, Line, Table
from mdebench.results.displays import PIXELS, setting_order
from mdebench.results.paired import Family, pooled_seeds
from mdebench.results.published import printed_lines, printed_table
from mdebench.tables.view import View

FEWEST = 4  # of the published methods: an order of fewer says nothing
BETTER = {"attribute_error": "Attributes", "landmark_distance": "Landmarks"}  # both: lower is better
OTHERWISE = ("robustness",)  # protocols that read faces which the encoder is not shown whole
SHOWN = 20  # pairs that disagree, the surest first


@dataclass(frozen=True)
class Reading:
    """A protocol's setting and partition, the cells of the published methods in it, and their published values."""

    line: Line
    metric: str
    methods: tuple[Line, ...]
    cells: tuple[Cell, ...]
    theirs: tuple[float, ...]


def agreement_table(view: View) -> Table | None:
    """Our order of the methods of Table 1 beside the published one; None where fewer than `FEWEST` were measured."""
    readings = list(_readings(view))
    if not readings:
        return None
    family = Family(view.home)
    for reading in readings:
        seeds = pooled_seeds(reading.cells)
        for one, other in combinations(reading.cells, 2):
            family.ask(one, other, seeds)
    family.settle()
    blocks, told = [], []
    for metric, title in BETTER.items():
        if own := [reading for reading in readings if reading.metric == metric]:
            blocks.append(_block(view, title, own, family))
    turned = [pair for reading in readings for pair in _turned(reading, family)]
    turned.sort(key=lambda pair: (pair[1].high - pair[1].low) / pair[1].value)
    if turned:
        columns = (Column("ours", "agreement", "", "ours"), Column("published", "agreement", "", "published"))
        title = "Pairs that stand the other way round than published, beyond chance"
        blocks.append(Block(title, columns, tuple(p[0] for p in turned[:SHOWN]), tuple(p[1:] for p in turned[:SHOWN])))
    told.append(
        f"Pairs that stand the other way round than published, beyond chance: {len(turned)} of {len(family)} compared"
        + (f", of which the {SHOWN} surest stand in a block" if len(turned) > SHOWN else "")
        + ". Compared image by image, over people, and over seeds where they are known; all together at 95 % (Holm)."
    )
    told.append(
        "τ: Kendall's τ-b, ρ: Spearman's, of our means with the published ones: 1 the same order, 0 none, -1 the other "
        "way round. [low, high]: 95 % of draws of the people on the test images; over seeds: of each one's seeds, "
        "where all have several. The published order is of CelebA at 96×96 after 300,000 updates, read by the paper's "
        "head; it has no interval."
    )
    rows = pd.DataFrame([row for reading in readings for cell in reading.cells for row in cell.rows])
    return view.table("agreement", "Our order and the published one of Table 1", rows, blocks, PIXELS, told)


def _readings(view: View) -> Iterator[Reading]:
    """Each reading that enough of the published methods have, by protocol and setting."""
    paper = printed_table(1)
    paper = paper[paper["family"] != "reference"]
    known = {(row["label"], row["metric"]): float(row["value"]) for row in paper.to_dict("records")}
    labels = [label for label, _, _ in printed_lines(paper)]
    rows = view.rows[view.rows["metric"].isin(BETTER) & ~view.rows["protocol"].isin(OTHERWISE)]
    places = rows[["protocol", "setting", "metric", "split"]].drop_duplicates().itertuples(index=False, name=None)
    for protocol, setting, metric, split in sorted(places, key=lambda p: (p[0], setting_order(p[1]), p[3])):
        column = Column("", protocol, setting, metric, split=split)
        lines = [_line_of(rows, label) for label in labels]
        there = [(line, known[line.label, metric], view.cell(line, column)) for line in lines if line]
        there = [each for each in there if each[2].rows and not math.isnan(each[2].value)]
        if len(there) >= FEWEST:
            name = f"{protocol}: {setting}" + ("" if split == "test" else f" ({split})")
            lines_there, theirs, cells = zip(*there)
            yield Reading(Line(name, name, ""), metric, lines_there, cells, theirs)


def _line_of(rows: pd.DataFrame, label: str) -> Line | None:
    """The line of a published method as it is by default: the one that nothing but its label names."""
    found = rows[((rows["label"] == label) | (rows["method"] == label)) & (rows["line"] == rows["label"])]
    return Line(str(found["line"].iloc[0]), label, str(found["method"].iloc[0])) if len(found) else None


def _block(view: View, title: str, readings: Sequence[Reading], family: Family) -> Block:
    columns = (
        Column("Methods", "agreement", "", "methods"),
        Column("τ", "agreement", "", "tau"),
        Column("τ over seeds", "agreement", "", "tau_over_seeds"),
        Column("ρ", "agreement", "", "rho"),
        Column("Smallest difference found", "agreement", "", "smallest_difference"),
    )
    cells = []
    for reading in readings:
        tau, rho = agreements(view.home, reading.cells, reading.theirs)
        gaps = [family.smallest(a, b) for a, b in combinations(reading.cells, 2)]
        rows = tuple(row for cell in reading.cells for row in cell.rows)
        gap = median(each for each in gaps if not math.isnan(each)) if not all(map(math.isnan, gaps)) else math.nan
        unit = rows[0]["unit"]
        cells.append(
            (
                Cell(str(len(reading.cells)), len(reading.cells), rows=rows, source="rows"),
                _cell(tau, tau.over_people, rows),
                Cell() if math.isnan(tau.over_seeds[0]) else _cell(tau, tau.over_seeds, rows),
                _cell(rho, rho.over_people, rows),
                Cell(rows=rows) if math.isnan(gap) else Cell(f"{gap:.2f} {unit}", gap, rows=rows, source="rows"),
            )
        )
    return Block(title, columns, tuple(reading.line for reading in readings), tuple(cells))


def _cell(found: Agreement, interval: tuple[float, float], rows: tuple[object, ...]) -> Cell:
    low, high = interval
    if math.isnan(found.value):
        return Cell()
    text = f"{found.value:.2f}" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")
    return Cell(text, found.value, low, high, rows=rows, source="rows")  # type: ignore[arg-type]  # rows as they came


def _turned(reading: Reading, family: Family) -> Iterator[tuple[Line, Cell, Cell]]:
    """Pairs of which ours say, beyond chance, the reverse of the paper: who is ahead, by how much here and there."""
    for (line, one, theirs), (other_line, other, others) in combinations(
        zip(reading.methods, reading.cells, reading.theirs), 2
    ):
        found = family.read(one, other, higher_is_better=False)
        if found.verdict in ("better", "worse") and found.difference * (theirs - others) < 0:
            ahead, behind = (line, other_line) if found.difference < 0 else (other_line, line)
            rows = (*one.rows, *other.rows)
            unit, ours, paper = rows[0]["unit"], abs(found.difference), abs(theirs - others)
            name = f"{reading.line.name}: {ahead.name} before {behind.name}"
            text = f"{ours:.2f} ± {found.half:.2f} {unit}"
            yield (
                Line(name, name, ""),
                Cell(text, ours, ours - found.half, ours + found.half, rows=rows, source="rows"),
                Cell(f"-{paper:.3g} {unit}", -paper, rows=rows, source="Table 1"),
            )
