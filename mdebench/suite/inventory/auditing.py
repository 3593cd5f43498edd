"""`mdebench audit`: does every number still lead to what it was made from, and does that still say the same?

From the bottom up: rows say the key that their own facts give; a row's value and interval are those of its stored
values; no run was measured on other weights than it has; packs hold what their manifest says, and no test image is
also trained on. Then everything made from rows is made again in memory and compared, line by line: tables, the data of
figures, the README's marked block. What cannot be looked at here (the logs of runs that are elsewhere) is said.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mdebench.data.pack import open_pack, verify_pack
from mdebench.errors import UserError
from mdebench.evaluation.displays import displays
from mdebench.figures.write import chart_data, list_figures, vouches
from mdebench.files import Rest, Without
from mdebench.home import Home
from mdebench.results.cells import Table
from mdebench.results.displays import Displays, versions
from mdebench.results.paired import damaged_values, remade
from mdebench.results.rows import stale, superseded, unit_key, values_path, whole_rows
from mdebench.tables.says import page, renewed
from mdebench.tables.write import build_tables, rendered

CLOSE = 2e-5  # values are stored in single precision: a mean of them agrees so far, relative to their size
SHOWN = 5  # finds of a kind in full


@dataclass
class Audit:
    """What was looked at, what does not hold, and what could not be looked at."""

    looked: list[str] = field(default_factory=list)
    finds: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    def look(self, what: str, finds: Iterable[str]) -> None:
        """Note that something was looked at, and what was found."""
        self.looked.append(what)
        self.finds += finds


def audit(home: Home) -> Audit:
    """Look at all results under `home`; UserError where there are none. What is damaged is a find, and the rest is
    looked at without it."""
    rows, damaged = whole_rows(home)
    if rows.empty and not damaged:
        raise UserError(f"there are no rows under {home.rows} to audit")
    found = Audit()
    if damaged:
        found.look("files of rows", damaged)
    records = rows.to_dict("records")
    found.look(f"{len(records):,} rows against their keys", _keys(home, records))
    values = damaged_values(home, records)
    if values:
        found.look("files of stored values", values.values())
    readable = [row for row in records if values_path(home, row["key"]).name not in values]
    made = [(row, remade(home, row)) for row in readable]
    kept = [(row, again) for row, again in made if again is not None]
    found.look(f"{len(kept):,} rows against their stored values", _values(home, kept))
    bare = [row["metric"] for row, again in made if again is None]
    if bare:
        metrics = ", ".join(sorted(set(bare)))
        found.unseen.append(f"values image by image, which were not kept, of {len(bare):,} rows ({metrics})")
    rest = Rest()
    with rest.without():
        shown = displays(home)
        found.look("versions of protocols", _stale(rows[~superseded(rows)], versions(shown)))
        if damaged or values:
            found.unseen.append("tables and figures against rows, while rows or values are damaged")
        else:
            _views(home, shown, found, rest)
    found.finds += rest.damaged
    _packs_and_runs(home, rows, found)
    return found


def _views(home: Home, shown: Displays, found: Audit, rest: Rest) -> None:
    """What is made from rows against what stands there."""
    tables = build_tables(home, shown)
    if home.tables.is_dir():
        found.look(f"{len(tables)} tables, made again", _tables(home, tables))
    charts = chart_data(home, shown, rest.without)
    if home.figures.is_dir():
        found.look("data and pictures of figures", _figures(home, charts, found, rest.without))
    found.look("README", _readme(home.folder / "README.md", tables))


def told(found: Audit) -> str:
    """An audit in words; of many finds in one file the first few."""
    lines = [f"looked at {what}" for what in found.looked]
    lines += [f"not looked at: {what}" for what in found.unseen]
    by_file: dict[str, list[str]] = {}
    for find in found.finds:
        by_file.setdefault(find.partition(": ")[0], []).append(find)
    for finds in by_file.values():
        lines += [f"does not hold: {find}" for find in finds[:SHOWN]]
        if len(finds) > SHOWN:
            lines.append(f"… and {len(finds) - SHOWN} more like these in the same file")
    return "\n".join([*lines, f"{len(found.finds)} finds" if found.finds else "all of it holds"])


def _keys(home: Home, rows: Sequence[dict[Any, Any]]) -> Iterator[str]:
    """A row's key is the hash of what decides about it: any of that changed by hand shows here."""
    names = ("protocol", "protocol_version", "protocol_settings", "method", "settings", "seed", "pack_hash")
    wrong: dict[str, None] = {}  # in order, a find for each unit
    for row in rows:
        if unit_key(**{name: row[name] for name in (*names, "weights_hash")}) != row["key"]:
            wrong[f"{_place(home, row)}: the key {row['key'][:8]} is not that of its facts (pack, weights …)"] = None
    yield from wrong


def _values(home: Home, rows: Sequence[tuple[dict[Any, Any], tuple[float, float, float]]]) -> Iterator[str]:
    for row, again in rows:
        told = row["value"], row["low"], row["high"]
        size = max(abs(again[0]), abs(again[2] - again[1]), 1e-9)
        if not np.allclose(told, again, rtol=0, atol=CLOSE * size, equal_nan=True):
            yield (
                f"{_place(home, row)}: {row['metric']}, {row['setting']} is {_interval(told)}, its stored values give "
                f"{_interval(again)}"
            )


def _stale(rows: pd.DataFrame, now: dict[str, int]) -> Iterator[str]:
    for (protocol, run), part in rows[stale(rows, now)].groupby(["protocol", "run"]):
        version = part["protocol_version"].iloc[0]
        older = f"by version {version}, now {now[str(protocol)]}"
        why = older if version < now[str(protocol)] else "before the widths of timm's networks were measured"
        yield f"{protocol} of {run}: measured {why}; measure again"


def _tables(home: Home, tables: Sequence[Table]) -> Iterator[str]:
    files = {name: text for table in tables for name, text in rendered(table).items()}
    yield from _files(home.tables, files, ("md", "csv", "tex"))
    yield from _files(home.results, {"README.md": page(tables)}, ())


def _figures(home: Home, charts: dict[str, str], found: Audit, without: Without) -> Iterator[str]:
    others = {path.name for path in home.figures.glob("*.csv")} - set(charts)
    made_of_runs = {
        name for name in others if name.startswith(("learning-", "figure1-", "figure5-", "figure6-", "figure7-"))
    }
    yield from _files(home.figures, charts, ("csv",), known=made_of_runs)
    if made_of_runs:
        found.unseen.append(
            f"the logs and galleries behind {len(made_of_runs)} figures: their data against their pictures"
        )
    for figure in list_figures(home, without):
        if figure.csv and not vouches(figure.path, figure.csv):
            yield f"{figure.path}: is no picture of {figure.csv.name} as it is; draw it again with `mdebench figures`"


def _files(folder: Path, made: dict[str, str], endings: Sequence[str], known: Iterable[str] = ()) -> Iterator[str]:
    """Where files are not what rows give; files that nothing gives."""
    for name, text in made.items():
        path = folder / name
        if not path.is_file():
            yield f"{path}: is missing; `mdebench tables` and `mdebench figures` write it"
        elif (said := _read(path)) != text:
            yield _first_difference(path, said, text)
    there = {path.name for ending in endings for path in folder.glob(f"*.{ending}")}
    yield from (f"{folder / name}: no rows give it any more" for name in sorted(there - set(made) - set(known)))


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")  # a byte that is no text is a difference like others


def _first_difference(path: Path, said: str, text: str) -> str:
    lines = list(zip_longest(said.splitlines(), text.splitlines(), fillvalue=""))
    differing = [number for number, (ours, theirs) in enumerate(lines, start=1) if ours != theirs]
    if not differing:
        return f"{path}: ends otherwise than rows give it"
    ours, theirs = lines[differing[0] - 1]
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    here, there = (line[max(0, at - 30) : at + 30] for line in (ours, theirs))
    more = f", and {len(differing) - 1} more lines" if len(differing) > 1 else ""
    return f"{path}, line {differing[0]}{more}: it says “…{here}…”, rows give “…{there}…”"


def _readme(path: Path, tables: Sequence[Table]) -> Iterator[str]:
    if path.is_file():
        text = _read(path)
        if renewed(text, tables) != text:
            yield _first_difference(path, text, renewed(text, tables))
        for link in re.findall(r"\]\((results/[^)#]+)", text):
            if not (path.parent / link).exists():
                yield f"{path}: {link} is not there"


def _packs_and_runs(home: Home, rows: pd.DataFrame, found: Audit) -> None:
    """Packs and runs that are here against what rows say of them."""
    names = {str(name): set(part) for name, part in rows.groupby("dataset")["pack_hash"]}
    here = {name: home.pack(name) for name in names if (home.pack(name) / "pack.json").is_file()}
    for name, path in here.items():
        rest = Rest()
        with rest.without():
            found.look(f"pack {name}", _pack(path, names[name]))
        found.finds += rest.damaged
    weights = {str(run): set(part) for run, part in rows[~superseded(rows)].groupby("run")["weights_hash"]}
    runs = {run: home.run(run) for run in weights if home.run(run).info}
    found.look(
        f"{len(runs)} runs that are here",
        (
            f"rows of {run}: measured with other weights ({', '.join(sorted(each[:8] for each in weights[run]))}) than "
            f"the run has ({there.info['weights_hash'][:8]}); measure again"
            for run, there in runs.items()
            if there.finished and weights[run] != {there.info["weights_hash"]}
        ),
    )
    absent = [f"{len(names) - len(here)} packs"] if len(names) > len(here) else []
    absent += [f"{len(weights) - len(runs)} runs"] if len(weights) > len(runs) else []
    if absent:
        found.unseen.append(f"{' and '.join(absent)} that are not here")


def _pack(path: Path, hashes: set[str]) -> Iterator[str]:
    if problems := verify_pack(path):
        yield from problems
        return
    pack = open_pack(path)
    if pack.hash not in hashes:
        told = ", ".join(sorted(each[:8] for each in hashes))
        yield f"{path}: is pack {pack.hash[:8]}, the rows were measured on {told}; measure again"


def _place(home: Home, row: dict[Any, Any]) -> str:
    return f"{home.rows / row['protocol'] / row['run']}.jsonl"


def _interval(numbers: tuple[float, ...]) -> str:
    value, low, high = numbers
    return f"{value:.6g} [{low:.6g}, {high:.6g}]"
