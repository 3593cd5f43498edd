"""Rows: every number the suite ever reports, with what it was measured on, by what, and how sure it is.

A protocol returns measurements; together with the facts about run, pack and code each becomes a row, one JSON line in
`results/rows/<protocol>/<run>.jsonl`. The rows of one evaluation form a unit and share a key: the hash of all that
decides whether they are still good. Rows are appended whole or not at all, and tables are views of them. Every line
carries a digest of itself, which is checked whenever it is read; lines from before there were digests are read as they
are, and stand in their file as they were written.
"""

import fcntl
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from itertools import zip_longest
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mdebench.errors import UserError
from mdebench.files import Damaged, changed_line, json_lines, read_lines, said, write_atomically, writing
from mdebench.home import Home
from mdebench.variants import ALIASES


@dataclass(frozen=True)
class Measurement:
    """One number with its 95 % interval [low, high] over `n` test images, in `unit`; NaN where it is undefined.

    `values` holds one number per test image whose mean is `value` and whose spread says how sure it is; they are kept
    beside the rows, so that two runs can be compared image by image. `images` are the rows of the pack that they
    belong to, by default those of `split` in the pack's order. Where the pack knows who is on them, `people` is their
    number, and the interval is over people (0: over images).
    """

    metric: str
    unit: str
    value: float
    low: float
    high: float
    n: int
    setting: str
    split: str = "test"
    note: str = ""
    people: int = 0
    values: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    images: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)

    def plain(self) -> dict[str, Any]:
        """What goes into the row: everything but the arrays."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("values", "images")}


@dataclass(frozen=True)
class Row:
    """A measurement and its provenance: `Row(**facts, **measurement.plain())`.

    `label` is the variant in words ("rec 0.1"); `protocol_settings` and `settings` (the method's) are plain JSON
    values; `losses` is the loss set that was in fact used; `seconds` and `gflop` are what the run's training took, NaN
    where it was not counted; `method_source` and `protocol_source` are "" for the suite's own code, else the file or
    distribution with its SHA-256; `trained_on` and `trained_hash` are name and hash of the pack that the run was
    trained on; `width` is that of its code as measured (0: not asked for, or not measured yet); `family` is what the
    method learns from, one of `lines.FAMILIES` ("": an older row, see `mdebench audit --mend`); `git` is the revision
    of the code, or "wheel"; `time` is ISO 8601 in UTC.
    """

    key: str
    protocol: str
    protocol_version: int
    protocol_settings: dict[str, Any]
    method: str
    label: str
    run: str
    settings: dict[str, Any]
    scale: str
    updates: int
    dataset: str
    pack_hash: str
    pack_note: str
    seed: int
    weights_hash: str
    perceptual: str
    git: str
    dirty: bool
    packages: dict[str, str]
    device: str
    time: str
    metric: str
    unit: str
    value: float
    low: float
    high: float
    n: int
    setting: str
    split: str = "test"
    note: str = ""
    judge: str = ""
    losses: str = ""
    batch: int = 0
    precision: str = ""
    seconds: float = math.nan
    gflop: float = math.nan
    method_source: str = ""
    protocol_source: str = ""
    people: int = 0
    trained_on: str = ""
    trained_hash: str = ""
    width: int = 0
    family: str = ""


LATER: dict[str, Any] = {  # what older rows do not say
    **{"seconds": None, "gflop": None, "method_source": "", "protocol_source": ""},
    **{"people": 0, "trained_on": "", "trained_hash": "", "width": 0, "family": ""},
}
Images = NDArray[np.integer]
COLUMNS = tuple(field.name for field in fields(Row))
_TYPES: dict[str, type] = {name: get_origin(hint) or hint for name, hint in get_type_hints(Row).items()}


def unit_key(
    *,
    protocol: str,
    protocol_version: int,
    protocol_settings: Mapping[str, Any],
    method: str,
    settings: Mapping[str, Any],
    seed: int,
    pack_hash: str,
    weights_hash: str,
) -> str:
    """Sha256 (hex) of what decides whether a unit's rows are still good; device, time and run name are not in it."""
    decides = [
        protocol,
        protocol_version,
        dict(protocol_settings),
        method,
        dict(settings),
        seed,
        pack_hash,
        weights_hash,
    ]
    return hashlib.sha256(json.dumps(decides, sort_keys=True, allow_nan=False).encode()).hexdigest()


def append_rows(home: Home, rows: Sequence[Row]) -> int:
    """Append rows of one protocol and one run, whole or not at all; returns how many were new.

    Rows whose unit is stored already are left out: another process finished it first; but where a stored row's
    `width_is_unknown`, the new ones of its unit take its place. The file is rewritten beside itself and moved into
    place, under a lock, so that neither a kill nor a second process loses a row. A full disk is a UserError and leaves
    the file as it was; an infinite value is a ValueError (a protocol's mistake).
    """
    if not rows:
        return 0
    if len({(row.protocol, row.run) for row in rows}) != 1:
        raise ValueError("append_rows takes rows of one protocol and one run at a time")
    path = _path(home, rows[0].protocol, rows[0].run)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent.parent / ".lock"):
            given = {row.key for row in rows}
            stored = [each for each in _lines(path) if each[1]["key"] not in given or not width_is_unknown(each[1])]
            known = {row["key"] for _, row in stored}
            units = dict[str, list[dict[str, Any]]]()
            for row in rows:
                if row.key not in known:
                    units.setdefault(row.key, []).append(_plain(asdict(row)))
            new = [line for key, unit in units.items() for line in json_lines(key, unit)]
            if new:
                write_atomically(path, b"".join([*(line for line, _ in stored), *new]))
    except OSError as error:
        raise UserError(
            f"could not write rows to {path}: {said(error)}; make room or permit writing, then go on"
        ) from error
    return len(new)


def change_rows(
    home: Home, protocol: str, run: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Put `change(row)` in the place of each row of a run by a protocol, whole or not at all; returns those changed."""
    path = _path(home, protocol, run)
    with _locked(path.parent.parent / ".lock"):
        stored = _lines(path)
        made = [(line, row, change(row)) for line, row in stored]
        changed = [new for _, old, new in made if _plain(new) != _plain(old)]
        if changed:
            lines = (line if _plain(new) == _plain(old) else changed_line(line, _plain(new)) for line, old, new in made)
            write_atomically(path, b"".join(lines))
    return changed


def values_path(home: Home, key: str) -> Path:
    """Where the per-image values of a unit are kept."""
    return home.values / f"{key[:16]}.npz"


def keep_values(
    home: Home, key: str, measurements: Sequence[Measurement], people: Sequence[Images | None] = ()
) -> None:
    """Write a unit's values, one float32 array for each `setting|metric|split`; nothing where there are none.

    `people` says who is on the images of each measurement: (n,), -1 where unknown, None where nobody is known. They are
    kept once for a split, as `people|split`, and as `people|setting|metric|split` where others were measured. Called
    before the rows are appended, so that rows never promise values that a kill has lost.
    """
    arrays: dict[str, Any] = {}
    for m, shown in zip_longest(measurements, people):
        if m is None or m.values is None:
            continue
        place = f"{m.setting}|{m.metric}|{m.split}"
        arrays[place] = np.asarray(m.values, np.float32)
        if shown is not None:
            arrays.setdefault(f"people|{m.split}", shown)
            if not np.array_equal(arrays[f"people|{m.split}"], shown):
                arrays[f"people|{place}"] = shown
    if arrays:
        write_values(home, key, arrays)


def write_values(home: Home, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a unit's arrays, named as `keep_values` names them; equal arrays give equal bytes."""
    with writing(values_path(home, key)) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def stored_rows(home: Home, protocol: str, run: str) -> list[dict[str, Any]]:
    """The rows of a run by a protocol, in the order in which they were stored; UserError for a damaged line."""
    return [row for _, row in _lines(_path(home, protocol, run))]


def has_unit(home: Home, protocol: str, run: str, key: str) -> bool:
    """Whether the unit is finished (its rows are stored), so that it need not be computed again."""
    return any(row["key"] == key and not width_is_unknown(row) for row in stored_rows(home, protocol, run))


def read_rows(home: Home) -> pd.DataFrame:
    """All rows, one line each, columns as in `Row`, of one file in the order in which they were stored.

    Damaged names a damaged line of each file that has one: without a run, what is said of the others is not the same,
    as all comparisons of a table are judged together.
    """
    rows, damaged = whole_rows(home)
    if damaged:
        raise Damaged("; ".join(damaged))
    return rows


def whole_rows(home: Home) -> tuple[pd.DataFrame, list[str]]:
    """The rows of all files that are whole, and a sentence on each that is not."""
    rows, damaged = list[dict[str, Any]](), list[str]()
    for path in sorted(home.rows.glob("*/*.jsonl")):
        try:
            rows += [row for _, row in _lines(path)]
        except Damaged as problem:
            damaged.append(str(problem))
    return pd.DataFrame(rows, columns=list(COLUMNS)), damaged


def stale(rows: pd.DataFrame, versions: Mapping[str, int]) -> pd.Series:
    """True for each row measured by an older version of its protocol than `versions` gives (absent: not stale), or
    before widths were measured (`of_unknown_width`)."""
    current = rows["protocol"].map(dict(versions)).fillna(0)
    return (rows["protocol_version"] < current).astype(bool) | of_unknown_width(rows)


def of_unknown_width(rows: pd.DataFrame) -> pd.Series:
    """True for each row whose `width_is_unknown`."""
    unknown = [width_is_unknown(row) for row in rows[["method", "width"]].to_dict("records")]
    return pd.Series(unknown, index=rows.index, dtype=bool)


def width_is_unknown(row: Mapping[Any, Any]) -> bool:
    """Whether a row is of a network of timm and from before widths were measured; its unit counts as not there.

    Its features may have been read shifted: they were stored under the width that timm declares, which is another
    layer's in about one network of eight.
    """
    family = row["method"].partition(":")[0]
    return not row["width"] and ALIASES.get(family, family) == "timm_encoder"


def superseded(rows: pd.DataFrame) -> pd.Series:
    """True for each row that a newer unit of the same run, data set, protocol and setting replaces.

    Such units differ in their key: the run was trained again (other weights), the pack or the evaluator changed. The
    newest wins, that is the one that stands last in the run's file, whatever clocks said: a merge of what two machines
    measured is read in the order that it was merged in. The older are never averaged with it. The same weights seen by
    another judge are not replaced.
    """
    if rows.empty:
        return pd.Series(False, index=rows.index, dtype=bool)
    unit = ["protocol", "run", "dataset", "setting"]
    newest = rows.groupby([*unit, "judge"])["key"].transform("last")
    weights = rows.groupby(unit)["weights_hash"].transform("last")
    return (rows["key"] != newest) | (rows["weights_hash"] != weights)


def _path(home: Home, protocol: str, run: str) -> Path:
    return home.rows / protocol / f"{run}.jsonl"


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON has it: an undefined number (NaN) is null, since JSON has no NaN."""
    return {name: None if isinstance(x, float) and math.isnan(x) else x for name, x in row.items()}


def _lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """The lines of a file as they stand and their rows (none where there is no file), every one checked; Damaged."""
    way_on = (
        "restore the file from git, or delete all lines of its key and give the command again to compute that unit anew"
    )
    try:
        return read_lines(path, way_on, _checked)
    except FileNotFoundError:
        return []


def _checked(line: dict[str, Any]) -> dict[str, Any]:
    """The row of a line; ValueError where it is none."""
    row = {**LATER, **line}
    if wrong := sorted(set(COLUMNS) ^ set(row)):
        raise ValueError(f"fields missing or unknown: {', '.join(wrong)}")
    for name, kind in _TYPES.items():
        if not isinstance(row[name], (int, float, type(None)) if kind is float else kind):
            raise ValueError(f"{name} is {row[name]!r}, not {kind.__name__}")
        if kind is float and row[name] is not None and math.isinf(row[name]):
            raise ValueError(f"{name} is {row[name]!r}")
    return {name: math.nan if row[name] is None else row[name] for name in COLUMNS}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the operating system frees it when the process ends, however it ends."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
