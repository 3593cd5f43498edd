"""What a table says in plain words, made from its cells.

Nothing here is typed by hand about a result: a claim is a comparison (`paired`), with the amount and how sure it is.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from mdebench.results.cells import Block, Cell, Column
from mdebench.results.intervals import FEW
from mdebench.results.paired import Comparison
from mdebench.tables.judging import Verdicts, rivals, seeds_of, trained
from mdebench.words import words

PAPER_SCALE = (
    "Published numbers are the papers', at their scale (the Missing Data Encoder: full CelebA, 96×96, 300,000 updates "
    "at batch 24), and so not comparable one to one with ours."
)
RULES = {
    "paired": "image by image",
    "unpaired": 'by their two intervals alone, as no values image by image were kept ("unpaired" beside the cell)',
}
VERBS = {
    ("better", "methods"): "beats",
    ("better", "runs"): "beats in these runs",
    ("worse", "methods"): "loses to",
    ("worse", "runs"): "loses in these runs to",
    ("overlap", ""): "is not distinguishable from",
}
LISTED = 4  # of those that cannot be told apart, so many by name


def legend(reference: str, blocks: Sequence[Block], verdicts: Verdicts) -> list[str]:
    """What marks, bold type and intervals mean, how sure they are, and what they could not have found."""
    cells = [cell for block in blocks for line in block.cells for cell in line]
    used = Counter[str](cell.rule for cell in cells if cell.rule)
    how = [f"{RULES[rule]}: {used[rule]:,} cell{'s'[: used[rule] > 1]}" for rule in RULES if used[rule]]
    notes = [
        f"† better than {reference}, beyond what other images and other seeds could do; (†) better in these runs, "
        "while the spread over seeds is not known or not cleared; ≈ not distinguishable; no mark: worse, or nothing to "
        "compare. Bold: the best of its column, and every line not worse than it; there is no rank among these.",
    ]
    if len(verdicts.family):
        notes.append(
            f"All {len(verdicts.family):,} comparisons of this table, marks and sentences, hold together at 95 % "
            "(Holm; the ± of a difference is as wide as that takes). "
            f"Compared with {reference} {words(how) if how else 'nowhere'}."
        )
        notes += [f"Seeds: {seeds}" for seeds in _seeds(blocks)]
        notes += [
            f"Differences that would have been found four times in five: {found}." for found in _power(blocks, verdicts)
        ]
    return [*notes, *_intervals(cells)]


def _seeds(blocks: Sequence[Block]) -> list[str]:
    """Which lines tell the spread over seeds, and with how many degrees of freedom; that none does."""
    judged = [(block, place) for block in blocks for place, column in enumerate(block.columns) if column.judged]
    degrees = {seeds_of(block, place).degrees for block, place in judged}
    if max(degrees, default=0) == 0:
        return ["no line has several, so that the spread over them is not known; marks speak of these runs."]
    several = {
        f"{line.name} ({len(cells[place].rows)})": None
        for block, place in judged
        for line, cells in zip(block.lines, block.cells)
        if len(cells[place].rows) > 1
    }
    few, many = min(degrees), max(degrees)
    told = f"{many}" if few == many else f"{few} to {many}"
    return [f"their spread is pooled over {words(several)}: {told} degree{'s'[: many > 1]} of freedom a column."]


def _power(blocks: Sequence[Block], verdicts: Verdicts) -> list[str]:
    """The smallest differences by metric: "0.81 to 1.20 points (attribute_error)"."""
    found: dict[tuple[str, str, int], list[float]] = {}
    for block in blocks:
        for column, gap in verdicts.smallest(block).items():
            found.setdefault((column.metric, column.unit, column.digits), []).append(gap)
    told = []
    for (metric, unit, digits), gaps in found.items():
        span = sorted({f"{gap:.{digits}f}" for gap in (min(gaps), max(gaps))}, key=float)
        told.append(f"{' '.join(filter(None, (' to '.join(span), _points(unit))))} ({metric})")
    return ["; ".join(told)] if told else []


def _intervals(cells: Iterable[Cell]) -> list[str]:
    """Over what the intervals are, and a warning where these are few people."""
    rows = [row for cell in cells if cell.source == "rows" and cell.low == cell.low for row in cell.rows]
    counts = sorted({row["people"] for row in rows if row["people"]})
    if not rows:
        return []
    over = "test images"
    if counts:
        people = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        over = f"the {people} people on the test images (all images of a person together)"
        if any(not row["people"] for row in rows):
            over += ", or over images where nobody is known"
    notes = [f"[low, high]: 95 % interval over {over}. With several seeds: mean ± standard deviation over seeds."]
    if counts and counts[0] < FEW:
        notes.append(f"Few people: {counts[0]} tell little of others (below {FEW}); small differences cannot be found.")
    return notes


def reading(block: Block, verdicts: Verdicts) -> list[str]:
    """One sentence per column that the block tells of: the best trained method beside references and other methods."""
    sentences = (_sentence(block, column, verdicts) for column in block.told if column.judged)
    return [f"{block.prefix}{sentence}" for sentence in sentences if sentence]


def summary(block: Block, verdicts: Verdicts) -> list[tuple[int, str]]:
    """`reading` in short: how the best trained method stands against each reference, columns of many taken together.

    Each sentence with the number of columns that it is about.
    """
    columns = [column for column in block.told if column.judged and trained(block, column)]
    together = [columns] if len(columns) > 2 else [[column] for column in columns]
    return [(len(some), sentence) for some in together if (sentence := _in_short(block, some, verdicts))]


def _in_short(block: Block, columns: Sequence[Column], verdicts: Verdicts) -> str:
    """E.g. "pSNR, 6 columns: best trained is rec 0.1 in 4, 1 other else; the mean colour beaten in 5, ahead in 1."."""
    first, *more = columns
    best = [trained(block, column)[0] for column in columns]
    found: dict[str, Counter[str]] = {}
    for column, (_, cell) in zip(columns, best):
        for rival, other in rivals(block, column):
            found.setdefault(rival, Counter())[verdicts.contrast(cell, other, column).verdict] += 1
    if not found:
        return ""
    (name, count), *others = Counter(name for name, _ in best).most_common()
    if more:
        title = f"{block.prefix.removesuffix(', ') or block.title}, {len(columns)} columns"
        who = name if not others else f"{name} in {count}, {len(others)} other{'s'[: len(others) > 1]} else"
    else:
        title, who = f"{block.prefix}{first.title}", f"{name} ({_number(best[0][1].value, first)})"
    said = {"better": "beaten", "overlap": "not distinguishable", "worse": "ahead", "": "not comparable"}
    told = [
        f"{rival} {', '.join(said[each] + (f' in {counts[each]}' if more else '') for each in said if counts[each])}"
        for rival, counts in found.items()
    ]
    return f"{title}: best trained is {who}; {'; '.join(told)}."


def _sentence(block: Block, column: Column, verdicts: Verdicts) -> str:
    """E.g. "Attributes: rec 0.1 (10.2 %), best of 3 trained methods, beats raw pixels by 2.1 ± 0.4 points; …"."""
    ranked = trained(block, column)
    if not ranked:
        return ""
    (name, best), *others = ranked
    beside = rivals(block, column)
    said: dict[tuple[str, str], list[tuple[str, Comparison]]] = {}
    for place, (rival, cell) in enumerate(beside + others):
        found = verdicts.contrast(best, cell, column)
        if found.verdict == "overlap" or (found.verdict and place <= len(beside)):
            runner_up = place == len(beside) and found.verdict != "overlap"
            told = f"the runner-up {rival}" if runner_up else rival
            said.setdefault((found.verdict, found.scope), []).append((told, found))
    clauses = [_clause(verb, said[verdict], column) for verdict, verb in VERBS.items() if verdict in said]
    if not clauses:
        return ""
    among = f", best of {len(ranked)} trained methods," if others else ""
    return f"{column.title}: {name} ({_number(best.value, column)}){among} {'; '.join(clauses)}."


def _clause(verb: str, found: Sequence[tuple[str, Comparison]], column: Column) -> str:
    """E.g. "beats in these runs a by 2.10 ± 0.40 points", "is not distinguishable from b (0.30 ± 0.41 points)"."""
    told = [
        f"{who} {f'({amount})' if comparison.verdict == 'overlap' else f'by {amount}'}"
        f"{' unpaired' if comparison.rule == 'unpaired' else ''}"
        for (who, comparison), amount in zip(found, _amounts(found, column))
    ]
    if len(told) > LISTED + 1:
        told = [*told[:LISTED], f"{len(told) - LISTED} more"]
    return f"{verb} {words(told)}"


def _amounts(found: Sequence[tuple[str, Comparison]], column: Column) -> Iterator[str]:
    """ "2.10 ± 0.40 points", by how much each is behind; below 0 only where that says nothing."""
    for _, comparison in found:
        gain = comparison.difference if column.higher_is_better else -comparison.difference
        tied, digits = comparison.verdict == "overlap", column.digits
        while not tied and digits < column.digits + 3 and round(abs(gain), digits) <= round(comparison.half, digits):
            digits += 1  # "0.04 ± 0.04" would not show what was found
        amount = f"{gain if tied else abs(gain):.{digits}f}".replace("-", "−")
        yield " ".join(filter(None, (f"{amount} ± {comparison.half:.{digits}f}", _points(column.unit))))


def _number(value: float, column: Column) -> str:
    unit = "%" if column.unit.startswith("%") else _short(column.unit)
    return " ".join(filter(None, (f"{value:.{column.digits}f}", unit)))


def _points(unit: str) -> str:
    return "points" if unit.startswith("%") else _short(unit)


def _short(unit: str) -> str:
    return unit.removesuffix(" of 96")
