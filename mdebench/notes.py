"""Sentences under a table: what it says in plain words, and what a reader must know; each made from the rows.

Nothing here is typed by hand about a result: a claim is a comparison of two intervals.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from mdebench.cells import Block, Cell, Column, Line, compare, words
from mdebench.lines import TRIVIAL
from mdebench.results import stale

PAPER_SCALE = (
    "Published numbers are the papers', at their scale (the Missing Data Encoder: full CelebA, 96×96, 300,000 updates "
    "at batch 24), and so not comparable one to one with ours."
)
INTERVALS = (
    "[low, high]: 95 % bootstrap interval over test images, for one seed. With several seeds: mean ± sample standard "
    "deviation over seeds; comparisons then use the range that all their intervals cover."
)


VERBS = {  # verdict → for one method, for several
    "better": ("beats", "beat"),
    "overlap": ("is not distinguishable from", "are not distinguishable from"),
    "worse": ("does not beat", "do not beat"),
}
POSITIVE = {"overlap": "is distinguishable from", "worse": "beats"}  # after "none of …"


def legend(reference: str) -> str:
    """What the marks mean."""
    return (
        f"† better than {reference}, 95 % intervals apart; ≈ not distinguishable from {reference} (intervals overlap); "
        f"no mark: worse than {reference}, or one of the two is missing."
    )


def reading(block: Block, columns: Iterable[Column], references: Mapping[str, tuple[str, str]]) -> list[str]:
    """One sentence per column: how the trained methods stand against each reference.

    `references`: method → (its name in words, the setting it is read in, or "" for the column's own).
    """
    sentences = []
    for column in columns:
        cells = _cells(block, column)
        trained = {line.name: cell for line, cell in cells.items() if line.method and line.method not in TRIVIAL}
        clauses = []
        for method, (called, setting) in references.items():
            at = replace(column, setting=setting or column.setting)
            found = [cell for line, cell in _cells(block, at).items() if line.method == method]
            clauses += _clauses(trained, found[0], called, column) if found else []
        if clauses:
            sentences.append(f"{column.title}: {'; '.join(clauses)}.")
    return sentences


def _cells(block: Block, like: Column) -> dict[Line, Cell]:
    """Line → cell of the column with the setting, metric and split of `like`."""
    what = (like.setting, like.metric, like.split)
    places = [i for i, c in enumerate(block.columns) if (c.setting, c.metric, c.split) == what and not c.published]
    return {line: cells[place] for line, cells in zip(block.lines, block.cells) for place in places}


def _clauses(cells: Mapping[str, Cell], reference: Cell, called: str, column: Column) -> list[str]:
    """E.g. "rec 0.1 (1.40 px) does not beat raw pixels (0.98 px)"; one clause per verdict that occurs."""
    verdicts = {name: compare(cell, reference, column.higher_is_better) for name, cell in cells.items()}
    known = [name for name, verdict in verdicts.items() if verdict]
    clauses = []
    for verdict, (one, many) in VERBS.items():
        names = [name for name in known if verdicts[name] == verdict]
        if not names:
            continue
        values = sorted(cells[name].value for name in names)
        who = words(f"{name} ({_number(cells[name].value, column)})" for name in names)
        if len(names) == len(known) > 2:
            span = f"{values[0]:.{column.digits}f} to {_number(values[-1], column)}"
            who = f"{'all' if verdict == 'better' else 'none of the'} {len(names)} trained methods ({span})"
            one, many = (one, many) if verdict == "better" else (POSITIVE[verdict], POSITIVE[verdict])
        clauses.append(f"{who} {one if len(names) == 1 else many} {called} ({_number(reference.value, column)})")
    return clauses


def _number(value: float, column: Column) -> str:
    unit = " %" if column.unit.startswith("%") else f" {column.unit.split()[0]}" if column.unit else ""
    return f"{value:.{column.digits}f}{unit}"


def footnotes(
    rows: pd.DataFrame, old: pd.DataFrame, twins: Sequence[str], versions: Mapping[str, int], reference: str
) -> list[str]:
    """What a reader must know about `rows` (a `line` column names each row's line), beside what was left out.

    `old` are superseded rows, `twins` sentences about runs of equal settings and seed, `reference` the line that the
    marks compare with.
    """
    test = rows.groupby("split")["n"].agg(["min", "max"])
    counts = (
        f"{split} {low:,}" if low == high else f"{split} {low:,} to {high:,}" for split, low, high in test.itertuples()
    )
    losses = rows["losses"].where(
        rows["losses"] != "", rows["settings"].map(lambda settings: settings.get("losses", ""))
    )
    notes = [
        legend(reference),
        INTERVALS,
        PAPER_SCALE,
        f"Scale: {words(sorted(set(rows['scale'])))}.",
        f"Data: {words(sorted(set(rows['pack_note'])))}. Images measured: {words(counts)}.",
        _by_value(rows, "Updates", rows["updates"], lambda n: f"{n:,}"),
        _by_value(rows, "Loss set", losses, lambda text: text or "none"),
        _by_value(rows, "Perceptual network", rows["perceptual"], lambda text: text or "none"),
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
