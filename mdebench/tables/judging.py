"""What the cells of a table are compared with, and what is found when all that is shown is judged together.

Each cell is compared with the table's reference line, and with the best of its column: the lines that are not worse
than it are its set of best, into which no rank may be read. The plain words compare the best trained method with
others. All of these are one `Family`: false verdicts of a table, of any kind, are at most one in twenty tables.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from mdebench.home import Home
from mdebench.results.cells import Block, Cell, Column, Line
from mdebench.results.lines import TRIVIAL
from mdebench.results.paired import Comparison, Family, Seeds, cell_interval, pooled_seeds


class Verdicts:
    """The comparisons of a table's blocks."""

    def __init__(self, home: Home, blocks: Sequence[Block]) -> None:
        self._home, self.family = home, Family(home)
        for block in blocks:
            for place, column in enumerate(block.columns):
                if column.judged:
                    self._ask(block, place, column)
        self.family.settle()

    def judged(self, block: Block) -> Block:
        """The block with intervals over seeds, marks, and the set of best of each column."""
        columns = [self._judged(block, place, column) for place, column in enumerate(block.columns)]
        return replace(block, cells=tuple(zip(*columns)))

    def smallest(self, block: Block) -> dict[Column, float]:
        """Column → the difference from the reference that would have been found, the median over its lines."""
        found = {}
        for place, column in enumerate(block.columns):
            if column.judged and (pairs := list(self._marked(block, place))):
                pairs_each = len(block.column(place)) / 2  # the line that is found would be the best of its column
                found[column] = median(self.family.smallest(cell, other, pairs_each) for cell, other in pairs)
        return {column: gap for column, gap in found.items() if gap == gap}

    def contrast(self, cell: Cell, other: Cell, column: Column) -> Comparison:
        """What was found for two cells of a column."""
        return self.family.read(cell, other, column.higher_is_better)

    def _ask(self, block: Block, place: int, column: Column) -> None:
        seeds = seeds_of(block, place)
        for cell, other in self._marked(block, place):
            self.family.ask(cell, other, seeds)
        cells = block.column(place)
        if best := _best(cells, column):
            for cell in cells:
                if cell is not best:
                    self.family.ask(best, cell, seeds, len(cells) / 2)
        if column in block.told and (ranked := trained(block, column)):
            for _, cell in rivals(block, column):
                self.family.ask(ranked[0][1], cell, seeds, len(ranked))
            for _, cell in ranked[1:]:
                self.family.ask(ranked[0][1], cell, seeds, len(ranked) / 2)

    def _judged(self, block: Block, place: int, column: Column) -> list[Cell]:
        cells, seeds = block.column(place), seeds_of(block, place)
        best = _best(cells, column) if column.judged else None
        made = []
        marked = {id(cell): other for cell, other in self._marked(block, place)} if column.judged else {}
        for line in block.cells:
            old = cell = line[place]
            if not math.isnan(old.sd):  # of scores: what a run cost, or from which level on it overtakes, has none
                low, high = cell_interval(self._home, old, seeds)
                cell = replace(cell, low=low, high=high)
            if id(old) in marked:
                found = self.contrast(old, marked[id(old)], column)
                cell = replace(cell, verdict=found.verdict, scope=found.scope, rule=found.rule)
            if best and len(cells) > 1:
                tied = old is best or (any(old is each for each in cells) and self._tied(best, old, column))
                cell = replace(cell, best=tied)
            made.append(cell)
        return made

    def _tied(self, best: Cell, cell: Cell, column: Column) -> bool:
        return self.contrast(best, cell, column).verdict == "overlap"

    def _marked(self, block: Block, place: int) -> Iterator[tuple[Cell, Cell]]:
        """The cells of a column that are compared with the reference, and its cell."""
        against = block.against[place] if block.reference else Cell()
        for line, cells in zip(block.lines, block.cells):
            if line != block.reference and cells[place].source == "rows" and cells[place].rows and against.rows:
                yield cells[place], against


def seeds_of(block: Block, place: int) -> Seeds:
    """The spread over seeds of a column, from all of its lines that have several."""
    return pooled_seeds(block.column(place))


def trained(block: Block, column: Column) -> list[tuple[str, Cell]]:
    """(name, cell) of the trained methods in a column, the best first."""
    cells = cells_like(block, column).items()
    found = [(line.name, cell) for line, cell in cells if line.method and line.method not in TRIVIAL]
    return sorted(found, key=lambda pair: pair[1].value, reverse=column.higher_is_better)


def rivals(block: Block, column: Column) -> list[tuple[str, Cell]]:
    """(its name in a sentence, cell) of the references that the plain words speak of."""
    return [
        (reference.called, cell)
        for reference in block.rivals
        for line, cell in cells_like(block, column if reference.same_setting else column.reference).items()
        if line.method == reference.method
    ]


def cells_like(block: Block, like: Column) -> dict[Line, Cell]:
    """Line → cell made from rows of the column with the protocol, setting, metric and split of `like`."""
    what = (like.protocol, like.setting, like.metric, like.split)
    places = [i for i, c in enumerate(block.columns) if (c.protocol, c.setting, c.metric, c.split) == what]
    found = ((line, cells[place]) for line, cells in zip(block.lines, block.cells) for place in places)
    return {line: cell for line, cell in found if cell.source == "rows" and cell.value == cell.value}


def _best(cells: Sequence[Cell], column: Column) -> Cell | None:
    if not cells:
        return None
    return (max if column.higher_is_better else min)(cells, key=lambda cell: cell.value)
