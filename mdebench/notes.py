"""Sentences beside a table: what it says in plain words, and what a reader must know; each made from the rows.

Nothing here is typed by hand about a result: a claim is a comparison (`paired`), with the amount and how sure it is.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from mdebench.cells import Block, Cell, Column, Line, words
from mdebench.lines import TRIVIAL
from mdebench.paired import Comparison
from mdebench.results import stale

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


class Reference(NamedTuple):
    """A line that others are compared with: its method, its name in a sentence, and whether each column compares with
    this line in its own setting, where there is a choice (else in that of `Column.reference`)."""

    method: str
    called: str
    same_setting: bool = False


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


def footnotes(
    rows: pd.DataFrame, old: pd.DataFrame, twins: Sequence[str], versions: Mapping[str, int], first: Sequence[str]
) -> list[str]:
    """What a reader must know about `rows` (a `line` column names each row's line), beside what was left out.

    `old` are superseded rows, `twins` sentences about runs of equal settings and seed; `first` come before all others.
    """
    test = rows.groupby("split")["n"].agg(["min", "max"])
    counts = (
        f"{split} {low:,}" if low == high else f"{split} {low:,} to {high:,}" for split, low, high in test.itertuples()
    )
    losses = rows["losses"].where(
        rows["losses"] != "", rows["settings"].map(lambda settings: settings.get("losses", ""))
    )
    judged = rows[rows["judge"] != ""]
    notes = [
        *first,
        f"Scale: {words(sorted(set(rows['scale'])))}.",
        f"Data: {words(sorted(set(rows['pack_note'])))}. Images measured: {words(counts)}.",
        _by_value(rows, "Updates", rows["updates"], lambda n: f"{n:,}"),
        _by_value(rows, "Loss set", losses, lambda text: text or "none"),
        _by_value(rows, "Perceptual network", rows["perceptual"], lambda text: text or "none"),
        *([_by_value(judged, "Judge", judged["judge"], str)] if len(judged) else []),
        _by_value(rows, "Seeds", rows.groupby("line")["seed"].transform(_list), str),
        f"Evaluators: {words(f'{name} version {version}' for name, version in _pairs(rows, 'protocol_version'))}.",
        f"Code: {words(f'{git[:10]} with uncommitted changes' if dirty else git[:10] for git, dirty in _code(rows))}.",
        *twins,
        *_notes(rows),
    ]
    return notes + _warnings(rows, old, versions)


def _notes(rows: pd.DataFrame) -> list[str]:
    """The rows' own notes, one sentence per protocol; each part says on which lines, unless on all."""
    sentences = []
    for protocol, part in rows.groupby("protocol"):
        parts = part.assign(note=part["note"].str.split("; ")).explode("note")
        lines = parts[parts["note"] != ""].groupby("note", sort=False)["line"].unique()
        every = part["line"].nunique()
        texts = [str(text) if len(names) == every else f"{text} ({words(names)})" for text, names in lines.items()]
        if texts:
            sentences.append(f"On {protocol}: {'; '.join(texts)}.")
    return sentences


def _warnings(rows: pd.DataFrame, old: pd.DataFrame, versions: Mapping[str, int]) -> list[str]:
    """Stale rows, superseded rows, and rows of packs that share a name but not their content."""
    notes = []
    late = rows[stale(rows, versions)]
    for (protocol, version), part in late.groupby(["protocol", "protocol_version"]):
        lines = words(sorted(set(part["line"])))
        notes.append(
            f"Stale: {lines}: measured by {protocol} version {version}, which is now {versions[str(protocol)]}; "
            "measure again to compare."
        )
    for run, part in old.groupby("run"):
        weights = words(sorted({weights[:8] for weights in part["weights_hash"]}))
        notes.append(
            f"Superseded: {len(part):,} older rows of {run} (weights {weights}) are left out; its newest "
            "unit is shown, never an average."
        )
    if rows.loc[rows["judge"] != "", "judge"].nunique() > 1:
        notes.append("Different judges: what one says does not compare with what another says, and stands apart.")
    if rows["pack_hash"].nunique() > 1:
        packs = rows.groupby("pack_hash")["line"].agg(lambda names: words(sorted(set(names))))
        held = "; ".join(f"{str(pack)[:8]}: {names}" for pack, names in packs.items())
        notes.append(f"Different packs of the same name ({held}): not comparable with one another; measure again.")
    return notes


def _by_value(rows: pd.DataFrame, what: str, values: pd.Series, show: Callable[[Any], str]) -> str:
    """ "Updates: 3,000 (rec 0.1 and rec 0.5); 0 (Random weights)." or, when all agree, "Updates: 3,000."."""
    groups = rows.groupby(values.map(show), sort=False)["line"].unique()
    if len(groups) == 1:
        return f"{what}: {groups.index[0]}."
    return f"{what}: {'; '.join(f'{value} ({words(lines)})' for value, lines in groups.items())}."


def _list(seeds: pd.Series) -> str:
    return ", ".join(str(seed) for seed in sorted(set(seeds)))


def _pairs(rows: pd.DataFrame, column: str) -> list[tuple[str, Any]]:
    return sorted(set(zip(rows["protocol"], rows[column])))


def _code(rows: pd.DataFrame) -> list[tuple[str, bool]]:
    return sorted(set(zip(rows["git"], rows["dirty"])))
