"""The published numbers, and beside which of our lines they may stand.

They are data in `results/paper/` of a checkout, inside the package in a wheel. One stands beside a line only where that
line is what was published: of that label, trained with those losses and that perceptual network, on that encoder, for
as many updates, measured on that data set at that size by that readout. All others stand in a block of their own, and
on another data set nowhere, or in a protocol's table in blocks that name the data (`elsewhere`). Where the paper leaves
open what it used (the losses of Tables 1 to 3), the full loss of equation (9) is meant, without hide-and-seek where the
box never moves.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import mdebench
from mdebench.results.cells import Cell

MADE = ("losses", "perceptual", "encoder", "width", "code", "updates", "size")  # what a line must share, data set aside
Numbers = Mapping[tuple[str, str, str], Cell]  # line, metric, setting ("" where there is one number of each) → number


def paper_dir() -> Path:
    """The folder of the published numbers: inside the package in a wheel, `results/paper` in a checkout."""
    package = Path(mdebench.__file__).resolve().parent
    return package / "paper" if (package / "paper").is_dir() else package.parent / "results" / "paper"


def published(table: int, rows: pd.DataFrame) -> pd.DataFrame:
    """The numbers of one of the paper's tables as printed, all text; those alone that are of the data set of `rows`."""
    paper = printed_table(table)
    return paper[[all(made_from(note, each) for note in rows["pack_note"]) for each in paper["dataset"]]]


def elsewhere(name: str) -> pd.DataFrame:
    """The numbers of `results/paper/<name>.csv`, all text, each of the data that its setting names; none for ""."""
    return pd.read_csv(paper_dir() / f"{name}.csv", dtype=str).fillna("") if name else pd.DataFrame()


def occlusions() -> list[str]:
    """The occlusions in the order of the paper's Table 3."""
    return list(dict.fromkeys(printed_table(3)["setting"]))


def made_from(note: str, source: str) -> bool:
    """Whether a pack is of that source, by its note (`Pack.footnote`): "celeba64: …", or "mine (from celeba): …"."""
    name = note.partition(":")[0]
    told = re.search(r" \(from (\w+)\)$", name)
    return told[1] == source if told else name.startswith(source)


def numbers(paper: pd.DataFrame) -> Numbers:
    """The published numbers by the names of their lines."""
    return {(row["name"], row["metric"], row["setting"]): _cell(row) for row in paper.to_dict("records")}


def printed_lines(paper: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Label, name and family of the published lines, as they come."""
    return list(dict.fromkeys(zip(paper["label"], paper["name"], paper["family"])))


def beside(paper: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Those of `paper` that a line of `rows` is, measured by the same readout; named as that line, their index kept."""
    read = set(zip(rows["line"], rows["metric"], rows["setting"]))
    found = [paper[:0]]
    for row in rows[rows["trained_on"].isin(("", *rows["dataset"]))].drop_duplicates("line").to_dict("records"):
        made, labels = _made(row), (row["label"], row["method"])
        same = [
            known["label"] in labels
            and all(known[name] == made[name] for name in MADE)
            and (row["line"], known["metric"], f"frozen-{known['readout']}") in read
            for known in paper.to_dict("records")
        ]
        found.append(paper[same].assign(name=row["line"]))
    return pd.concat(found)


def printed_table(table: int) -> pd.DataFrame:
    """The numbers of one of the paper's tables as printed, all text."""
    return pd.read_csv(paper_dir() / f"table{table}.csv", dtype=str).fillna("")


def _made(row: Mapping[Any, Any]) -> dict[str, str]:
    """How a row's run was made, as the published say it; the encoder is the paper's where the settings name none."""
    size = re.search(r"(\d+)×\1", row["pack_note"])
    facts = {"encoder": "mde"} | row["settings"] | {name: row[name] for name in ("losses", "perceptual", "updates")}
    return {name: str(facts.get(name, "")) for name in MADE} | {"size": size[1] if size else ""}


def _cell(row: Mapping[Any, Any]) -> Cell:
    return Cell(text=row["value"], value=float(row["value"]), source=f"{row['source']}, Table {row['table']}")
