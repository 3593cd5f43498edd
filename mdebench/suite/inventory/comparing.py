"""Two runs side by side: the settings in which they differ, and their rows, paired image by image.

All that is said better or worse holds together at 95 %, of these two runs.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from tabulate import tabulate

from mdebench.evaluation.displays import displays
from mdebench.home import Home
from mdebench.results.cells import Cell, cell_from_rows
from mdebench.results.displays import SILENT, Metric, setting_order
from mdebench.results.intervals import quantile
from mdebench.results.paired import Family, Seeds, contrast, damaged_values
from mdebench.results.rows import read_rows, superseded
from mdebench.runs import Run

FACTS = ("method", "scale", "size", "pack", "seed", "updates", "batch", "precision", "losses", "perceptual", "device")
WORDS = {"better": "better", "worse": "worse", "overlap": "no difference seen", "": "–"}
RULES = {"paired": "image by image", "unpaired": "by intervals", "": ""}
UNKNOWN = Seeds(math.nan, 0)  # two runs tell nothing of the spread over seeds


def compare_text(home: Home, one: Run, other: Run) -> str:
    """What differs between two runs, and how the rows that both have compare."""
    left, right = _settings(one), _settings(other)
    differing = [
        (key, left.get(key, "–"), right.get(key, "–")) for key in {**left, **right} if left.get(key) != right.get(key)
    ]
    names = one.folder.name, other.folder.name
    parts = [f"A: {names[0]}\nB: {names[1]}"]
    parts.append(
        tabulate(differing, headers=("differs in", "A", "B"), disable_numparse=True) if differing else "equal settings"
    )
    rows = _current(home, names)
    shared = _shared(home, rows, names)
    headers = ("protocol", "setting", "metric", "A", "B", "A − B", "A is", "compared")
    parts.append(tabulate(shared, headers=headers, disable_numparse=True) if shared else "no rows that both have")
    alone = [f"{name}: {', '.join(sorted(found))}" for name, found in _alone(rows, names).items() if found]
    parts += [f"measured for one alone: {'; '.join(alone)}"] if alone else []
    parts += damaged_values(home, rows.to_dict("records")).values()
    return "\n\n".join(parts)


def _settings(run: Run) -> dict[str, str]:
    info = run.info
    own = {key: str(info[key]) for key in FACTS if key in info}
    return own | {key: str(value) for key, value in info["settings"].items()}


def _current(home: Home, names: tuple[str, str]) -> pd.DataFrame:
    rows = read_rows(home)
    rows = rows[rows["run"].isin(names)]
    return rows[~superseded(rows)]


def _shared(home: Home, rows: pd.DataFrame, names: tuple[str, str]) -> list[tuple[str, ...]]:
    """A line for each measurement of both, by protocol, setting and metric."""
    shown = displays(home)
    what = ["protocol", "setting", "metric", "split", "dataset", "judge"]
    found: dict[tuple[Any, ...], dict[str, Mapping[Any, Any]]] = {}
    for row in rows.to_dict("records"):
        found.setdefault(tuple(row[name] for name in what), {})[row["run"]] = row
    both = [place for place in found if set(found[place]) == set(names)]
    asked = list[tuple[tuple[Any, ...], Metric, Cell, Cell]]()
    family = Family(home)
    for place in sorted(both, key=lambda place: (place[0], setting_order(place[1]), place[2:])):
        metric = shown.get(place[0], SILENT).metric(place[2])
        a, b = (cell_from_rows([found[place][run]], metric.digits) for run in names)
        asked.append((place, metric, a, b))
        if metric.better:
            family.ask(a, b, UNKNOWN)
    family.settle()
    return [_line(home, family, *each) for each in asked]


def _line(home: Home, family: Family, place: tuple[Any, ...], metric: Metric, a: Cell, b: Cell) -> tuple[str, ...]:
    protocol, setting, name, split, *_ = place
    if metric.better:
        seen = family.read(a, b, metric.better == "higher")
        half = seen.half
    else:
        seen = contrast(home, a, b, UNKNOWN)
        half = quantile(seen.runs[1]) * seen.runs[0]
    gap = f"{seen.difference:.{metric.digits}f} ± {half:.{metric.digits}f}".replace("-", "−")
    told = setting if split == "test" else f"{setting} ({split})"
    verdict = WORDS[seen.verdict] if metric.better else "–"
    return protocol, told, name, a.text, b.text, gap, verdict, RULES[seen.rule]


def _alone(rows: pd.DataFrame, names: tuple[str, str]) -> dict[str, set[str]]:
    by = {letter: set(rows.loc[rows["run"] == name, "protocol"]) for letter, name in zip("AB", names)}
    return {"A": by["A"] - by["B"], "B": by["B"] - by["A"]}
