"""Sentences beside a table: what it says in plain words, and what a reader must know; each made from the rows.

Nothing here is typed by hand about a result: a claim is a comparison (`paired`), with the amount and how sure it is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from mdebench.results.rows import of_unknown_width, stale
from mdebench.words import words


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
        *_sources(rows),
        *twins,
        *_notes(rows),
    ]
    return notes + _warnings(rows, old, versions)


def _sources(rows: pd.DataFrame) -> list[str]:
    """Where methods and protocols are from that are not the suite's own; a warning where one name had several codes."""
    told, twice = [], []
    for what, column in (("method", "method_source"), ("protocol", "protocol_source")):
        for name in sorted(set(rows.loc[rows[column] != "", what])):
            found = sorted(set(rows.loc[rows[what] == name, column]))
            told.append(f"{what} {name} from {words(each or 'the suite' for each in found)}")
            if len(found) > 1:
                twice.append(f"Different code under one name: {what} {name}; its rows may not be comparable.")
    return [*([f"Code of others: {'; '.join(told)}."] if told else []), *twice]


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
    unknown = of_unknown_width(rows)
    if unknown.any():
        notes.append(
            f"Stale: {words(sorted(set(rows.loc[unknown, 'line'])))}: measured before the widths of timm's networks "
            "were measured; features may have been read shifted; measure again."
        )
    late = rows[stale(rows, versions) & ~unknown]
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
