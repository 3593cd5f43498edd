"""What all tables share: the current rows of one data set and scale, found by line and column, and made into cells.

Every table carries the trivial rows the papers lack, and marks what beats them: a representation is worth something
where it beats raw pixels, a completion where it beats a fill without any network.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd

from mdebench.home import Home
from mdebench.results.cells import Block, Cell, Column, Line, Table, cell_from_rows
from mdebench.results.displays import CONTROLS, SILENT, Display, Displays, Reference, versions
from mdebench.results.lines import TRIVIAL, lines_of
from mdebench.results.paired import damaged_values
from mdebench.results.published import Numbers
from mdebench.results.spelled import file_stem
from mdebench.tables.controls import controlled
from mdebench.tables.footnotes import footnotes, lacking
from mdebench.tables.judging import Verdicts
from mdebench.tables.made import how_made
from mdebench.tables.plain_words import legend, reading, summary


class View:
    """The current rows of one data set and scale (column `line` added), and what is made of them; `controls` apart.

    `old` are the superseded rows, `twins` sentences about runs that agree in settings and seed, `displays` say how each
    protocol's rows are shown; per-image values are read from `home`.
    """

    def __init__(
        self,
        home: Home,
        dataset: str,
        scale: str,
        rows: pd.DataFrame,
        old: pd.DataFrame,
        twins: Sequence[str],
        displays: Displays,
    ) -> None:
        control = rows["setting"].isin(CONTROLS)
        self.dataset, self.scale, self.rows, self.controls = dataset, scale, rows[~control], rows[control]
        self.old, self.twins, self.displays = old, twins, displays
        self.home = home
        self.index: dict[tuple[str, ...], list[dict[Any, Any]]] = defaultdict(list)
        for row in self.rows.to_dict("records"):
            self.index[tuple(row[name] for name in ("line", "protocol", "setting", "metric", "split"))].append(row)

    def display(self, protocol: str) -> Display:
        """How the rows of a protocol are shown."""
        rows = self.of(protocol).drop_duplicates("metric")
        return self.displays.get(protocol, SILENT).shown_for(protocol, zip(rows["metric"], rows["unit"]))

    def of(self, *protocols: str) -> pd.DataFrame:
        """The rows of these protocols."""
        return self.rows[self.rows["protocol"].isin(protocols)]

    def only(self, lines: Collection[str]) -> "View":
        """The same with these lines and the untrained ones alone."""
        every = pd.concat([self.rows, self.controls])
        kept = every[every["line"].isin(lines) | every["method"].isin(TRIVIAL)]
        return View(self.home, self.dataset, self.scale, kept, self.old, self.twins, self.displays)

    def block(
        self,
        title: str,
        columns: Sequence[Column],
        lines: Sequence[Line],
        reference: Reference,
        published: Numbers = MappingProxyType({}),
        told: Sequence[Column] = (),
        rivals: Sequence[Reference] = (),
        prefix: str = "",
    ) -> Block:
        """Fill in the cells, from our rows or the `published`, and say what they will be compared with.

        `told`, `rivals` and `prefix` as in `Block`.
        """
        base = next((line for line in lines_of(self.rows) if line.method == reference.method), None)
        cells = tuple(tuple(self.cell(line, column, published) for column in columns) for line in lines)
        against = tuple(self.cell(base, column.reference) if base else Cell() for column in columns)
        return Block(title, tuple(columns), tuple(lines), cells, against, base, tuple(told), tuple(rivals), prefix)

    def table(
        self,
        name: str,
        title: str,
        rows: pd.DataFrame,
        blocks: Sequence[Block],
        reference: Reference,
        remarks: Sequence[str] = (),
    ) -> Table | None:
        """The table with all its comparisons judged together, its plain words, how its lines were made, and footnotes.


        Blocks in which our rows fill no cell are left out; None where none is left. `rows` are all that it could show,
        `remarks` go before the footnotes that are made of them.
        """
        filled = [{cell.source for line in block.cells for cell in line} - {""} for block in blocks]
        if not any("rows" in sources for sources in filled):
            return None
        made, shared = how_made(rows)
        blocks = [*(block for block, sources in zip(blocks, filled) if sources), *([made] if made.columns else [])]
        verdicts = Verdicts(self.home, blocks)
        say = [sentence for block in blocks for sentence in reading(block, verdicts)]
        short = [sentence for block in blocks for sentence in summary(block, verdicts)]
        blocks = [verdicts.judged(block) for block in blocks]
        old = self.old[self.old["protocol"].isin(rows["protocol"])]
        first = [
            *legend(reference.called, blocks, verdicts),
            *remarks,
            *controlled(rows["line"], blocks, self.controls, self.display),
        ]
        notes = footnotes(rows, old, self.twins, versions(self.displays), first, shared)
        notes += lacking(damaged_values(self.home, rows.to_dict("records")))
        title = f"{title} · {self.dataset} · {self.scale}"
        stem = file_stem(f"{name}-{self.dataset}-{self.scale}")
        return Table(stem, title, self.dataset, self.scale, tuple(blocks), tuple(say), tuple(notes), tuple(short))

    def cell(self, line: Line, column: Column, published: Numbers = MappingProxyType({})) -> Cell:
        """The published number where column or line is a paper's, else the one from our rows."""
        if column.published or not line.method:
            return published.get((line.name, column.metric.partition("/")[0], column.setting), Cell())
        rows = self.index.get((line.name, column.protocol, column.setting, column.metric, column.split))
        rows = [row for row in rows or () if column.judge in ("", row["judge"])]
        return cell_from_rows(rows, column.digits) if rows else Cell()
