"""What a table says in plain words, made from its cells.

Nothing here is typed by hand about a result: a claim is a comparison (`paired`), with the amount and how sure it is.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from mdebench.results.cells import Block, Cell, Column, Line
from mdebench.results.displays import Reference
from mdebench.results.lines import TRIVIAL
from mdebench.results.paired import Comparison
from mdebench.words import words

PAPER_SCALE = (
    "Published numbers are the papers', at their scale (the Missing Data Encoder: full CelebA, 96×96, 300,000 updates "
    "at batch 24), and so not comparable one to one with ours."
)
INTERVALS = (
    "[low, high]: 95 % bootstrap interval over test images, for one seed. With several seeds: mean ± sample standard "
    "deviation over seeds. Each comparison stands for itself: where many are made, one in twenty of equal methods "
    "would differ."
)
RULES = {
    "paired": "image by image (the 95 % interval of the mean paired difference lies on one side of 0)",
    "seeds": "over seeds (Welch's 95 % interval of the difference lies on one side of 0)",
    "intervals": "by their two 95 % intervals (these lie apart)",
}
VERBS = {"better": "beats", "worse": "loses to", "overlap": "is not distinguishable from"}
LISTED = 4  # of those that cannot be told apart, so many by name
Contrast = Callable[[Cell, Cell, bool], Comparison]


def legend(reference: str, blocks: Iterable[Block]) -> str:
    """What the marks mean, and how the cells of these blocks were compared."""
    used = Counter[str](cell.rule for block in blocks for line in block.cells for cell in line if cell.rule)
    how = [f"{text}: {used[rule]:,} cell{'s'[: used[rule] > 1]}" for rule, text in RULES.items() if used[rule]]
    return (
        f"† better than {reference}; ≈ not distinguishable from it; no mark: worse, or one of the two is missing. "
        f"Compared {words(how) if how else 'not at all'}."
    )


def reading(block: Block, columns: Iterable[Column], references: Sequence[Reference], contrast: Contrast) -> list[str]:
    """One sentence per column: how the best trained method stands against the references and the other methods.

    `contrast` compares two cells, given whether higher is better.
    """
    sentences = (_sentence(block, column, references, contrast) for column in columns if column.judged)
    return [sentence for sentence in sentences if sentence]


def _sentence(block: Block, column: Column, references: Sequence[Reference], contrast: Contrast) -> str:
    """E.g. "Attributes: rec 0.1 (10.2 %), best of 3 trained methods, beats raw pixels by 2.1 ± 0.4 points; …"."""
    cells = _cells(block, column)
    trained = [(line.name, cell) for line, cell in cells.items() if line.method and line.method not in TRIVIAL]
    ranked = sorted(trained, key=lambda pair: pair[1].value, reverse=column.higher_is_better)
    if not ranked:
        return ""
    (name, best), *others = ranked
    rivals = [
        (reference.called, cell)
        for reference in references
        for line, cell in _cells(block, column if reference.same_setting else column.reference).items()
        if line.method == reference.method
    ]
    said: dict[str, list[tuple[str, Comparison]]] = {verdict: [] for verdict in VERBS}
    for place, (rival, cell) in enumerate(rivals + others):
        comparison = contrast(best, cell, column.higher_is_better)
        if comparison.verdict == "overlap" or (comparison.verdict and place <= len(rivals)):
            runner_up = place == len(rivals) and comparison.verdict != "overlap"
            said[comparison.verdict].append((f"the runner-up {rival}" if runner_up else rival, comparison))
    clauses = [_clause(verdict, found, column) for verdict, found in said.items() if found]
    if not clauses:
        return ""
    among = f", best of {len(ranked)} trained methods," if others else ""
    return f"{column.title}: {name} ({_number(best.value, column)}){among} {'; '.join(clauses)}."


def _cells(block: Block, like: Column) -> dict[Line, Cell]:
    """Line → cell made from rows of the column with the protocol, setting, metric and split of `like`."""
    what = (like.protocol, like.setting, like.metric, like.split)
    places = [i for i, c in enumerate(block.columns) if (c.protocol, c.setting, c.metric, c.split) == what]
    found = ((line, cells[place]) for line, cells in zip(block.lines, block.cells) for place in places)
    return {line: cell for line, cell in found if cell.source == "rows" and cell.value == cell.value}


def _clause(verdict: str, found: Sequence[tuple[str, Comparison]], column: Column) -> str:
    """E.g. "beats a by 2.10 ± 0.40 points", "is not distinguishable from b (0.30 points) (intervals overlap)"."""
    overlap = verdict == "overlap"
    note = {"paired": "", "seeds": " (over seeds)", "intervals": f" (intervals {'overlap' if overlap else 'apart'})"}
    mixed = len({comparison.rule for _, comparison in found}) > 1
    told = [
        f"{who} {f'({amount})' if overlap else f'by {amount}'}{note[comparison.rule] if mixed else ''}"
        for (who, comparison), amount in zip(found, _amounts(found, column))
    ]
    if len(told) > LISTED + 1:
        told = [*told[:LISTED], f"{len(told) - LISTED} more"]
    return f"{VERBS[verdict]} {words(told)}{'' if mixed else note[found[0][1].rule]}"


def _amounts(found: Sequence[tuple[str, Comparison]], column: Column) -> Iterator[str]:
    """ "2.10 ± 0.40 points", by how much each is behind; below 0 only where that says nothing."""
    unit = "points" if column.unit.startswith("%") else _short(column.unit)
    for _, comparison in found:
        mean = comparison.difference.mean
        gain = mean if column.higher_is_better else -mean
        amount = f"{gain if comparison.verdict == 'overlap' else abs(gain):.{column.digits}f}".replace("-", "−")
        if comparison.rule != "intervals":
            amount += f" ± {comparison.difference.half:.{column.digits}f}"
        yield " ".join(filter(None, (amount, unit)))


def _number(value: float, column: Column) -> str:
    unit = "%" if column.unit.startswith("%") else _short(column.unit)
    return " ".join(filter(None, (f"{value:.{column.digits}f}", unit)))


def _short(unit: str) -> str:
    return unit.removesuffix(" of 96")
