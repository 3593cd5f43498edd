"""Sentences beside a table: what it says in plain words, and what a reader must know; each made from the rows.

Nothing here is typed by hand about a result: a claim is a comparison (`paired`), with the amount and how sure it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from mdebench.results.displays import CONSTANT
from mdebench.results.lines import NAMES
from mdebench.results.rows import of_unknown_width, stale
from mdebench.tables.made import who
from mdebench.words import words

FEW = 3  # files that are named
CONSTANTS = (
    f"{NAMES[CONSTANT.method]}: what a readout makes of one and the same code for every image. The probe makes of it "
    "the majority value of each attribute, the majority class and the mean shape, which a code has to beat under any "
    "readout; a head may stop short of them."
)


def footnotes(
    rows: pd.DataFrame,
    old: pd.DataFrame,
    twins: Sequence[str],
    versions: Mapping[str, int],
    first: Sequence[str],
    shared: Sequence[str],
) -> list[str]:
    """What a reader must know about `rows` (a `line` column names each row's line), beside what was left out.

    `old` are superseded rows, `twins` sentences about runs of equal settings and seed; `first` come before all others,
    `shared` say how all lines were made (see `made`).
    """
    test = rows.groupby("split")["n"].agg(["min", "max"])
    counts = (
        f"{split} {low:,}" if low == high else f"{split} {low:,} to {high:,}" for split, low, high in test.itertuples()
    )
    judges = sorted(set(rows["judge"]) - {""})
    notes = [
        *first,
        *([CONSTANTS] if (rows["method"] == CONSTANT.method).any() else []),
        f"Scale: {words(sorted(set(rows['scale'])))}.",
        f"Data: {words(sorted(set(rows['pack_note'])))}. Images measured: {words(counts)}.",
        *([f"Judge{'s'[: len(judges) > 1]}: {'; '.join(judges)}."] if judges else []),
        f"Evaluators: {words(f'{name} version {version}' for name, version in _pairs(rows, 'protocol_version'))}.",
        *shared,
        *_sources(rows),
        *_trained(rows),
        *twins,
    ]
    return notes + _warnings(rows, old, versions)


def lacking(damaged: Iterable[str]) -> list[str]:
    """What a table does without: stored values in damaged files of these names."""
    names = sorted(damaged)
    if not names:
        return []
    told = words(names[:FEW]) if len(names) <= FEW else f"{len(names)} files"
    return [f"Damaged values image by image ({told}): what needs them is compared by intervals alone."]


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


def _trained(rows: pd.DataFrame) -> list[str]:
    """Which lines were trained on another pack than they were measured on, and of which, beside others, none knows."""
    trained = rows[rows["updates"] > 0]
    known, older = trained[trained["trained_hash"] != ""], trained[trained["trained_hash"] == ""]
    told = []
    other = known[known["trained_hash"] != known["pack_hash"]]
    for (pack, content), part in other.groupby(["trained_on", "trained_hash"]):
        version = ", another version of it" if pack in set(part["dataset"]) else ""
        told.append(f"{words(sorted(set(part['line'])))} on {pack} (pack {str(content)[:8]}{version})")
    notes = [f"Not trained on the pack that they were measured on: {'; '.join(told)}."] if told else []
    if len(known) and len(older):
        notes.append(f"Training pack not recorded, in older rows: {who(older['line'], rows['line'])}.")
    return notes


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
        lines = who(part["line"], rows.loc[rows["protocol"] == protocol, "line"])
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
        packs = rows.groupby("pack_hash")["line"].agg(lambda names: who(names, rows["line"]))
        held = "; ".join(f"{str(pack)[:8]}: {names}" for pack, names in packs.items())
        notes.append(f"Different packs of the same name ({held}): not comparable with one another; measure again.")
    return notes


def _pairs(rows: pd.DataFrame, column: str) -> list[tuple[str, Any]]:
    return sorted(set(zip(rows["protocol"], rows[column])))
