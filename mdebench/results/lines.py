"""Which rows stand on which line of a table: one line per variant, its seeds together, names that tell variants apart.

Two runs share a line when method, settings, losses, perceptual network and updates agree and only the seed differs.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mdebench.results.cells import Line
from mdebench.results.displays import SILENT, Displays, Metric

# What is learned from, in the order of tables: nothing; labels; whatever others had; then what images alone hold.
FAMILIES = (
    *("reference", "supervised", "published"),
    *("colour", "context", "contrast", "reconstruction", "completion"),
)
TRIVIAL = ("constant", "pixels", "mean_colour", "biharmonic", "telea", "navier_stokes", "patch_match", "random")
ORDER = (
    *TRIVIAL,
    "colorization1",
    "colorization2",
    "inpainting",
    "reverse_inpainting",
    "re",
    "rec",
)
NAMES = {
    "constant": "Constant (no image)",  # by the probe the majority value and the mean shape, by a head neither
    "pixels": "Raw pixels (ridge, 21×21)",
    "random": "Random weights",
    "mean_colour": "Mean colour",
    "biharmonic": "Biharmonic fill",
    "telea": "Telea's fill",
    "navier_stokes": "Navier–Stokes fill",
    "patch_match": "PatchMatch fill",
}
RECIPE = ("losses", "perceptual", "updates", "batch", "precision")
VARIANT = ("method", "label", "settings", *RECIPE)
LATER = {
    "encoder": "mde",
    "masks": "free_form",
}  # settings that came later, and what every run of their methods had before


def with_lines(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with a column `line`: the label, plus what sets variants of one label apart ("rec 0.1 (width=32)").

    What most variants of all labels share goes without saying, and so do updates, but for variants that differ in
    nothing else ("glcic, 2,000 updates"). How a method that was never updated would have been trained sets nothing
    apart.
    """
    spelled = rows.assign(settings=_complete(rows).map(lambda settings: json.dumps(settings, sort_keys=True)))
    spelled[list(RECIPE)] = spelled[list(RECIPE)].astype(object).where(spelled["updates"] > 0, None)
    usual = _usual(_facts(variant) for variant in spelled[list(VARIANT)].drop_duplicates().to_dict("records"))
    names: dict[tuple[str, ...], str] = {}
    for (method, label), part in spelled.groupby(["method", "label"]):
        base = NAMES.get(str(method), str(label))
        variants = part[list(VARIANT)].drop_duplicates()
        facts = [_facts(variant) for variant in variants.to_dict("records")]
        apart = [[name for name in own if any(other.get(name) != own[name] for other in facts)] for own in facts]
        if _losses_follow(facts):
            apart = [[name for name in some if name != "losses"] for some in apart]
        unusual = [[name for name in some if own[name] != usual.get(name)] for some, own in zip(apart, facts)]
        told = _names(base, facts, unusual)
        if len(set(told)) < len(told):  # a variant that lacks a setting may be told apart by the usual value alone
            told = _names(base, facts, apart)
        names |= dict(zip(variants.itertuples(index=False, name=None), told))
    line = [names[variant] for variant in spelled[list(VARIANT)].itertuples(index=False, name=None)]
    return rows.assign(line=line)


def _complete(rows: pd.DataFrame) -> pd.Series:
    """The settings of each row, with those that came later wherever another row of its method has them."""
    known: dict[str, set[str]] = defaultdict(set)
    for method, settings in zip(rows["method"], rows["settings"]):
        known[method] |= settings.keys()
    complete = [
        {name: value for name, value in LATER.items() if name in known[method]} | settings
        for method, settings in zip(rows["method"], rows["settings"])
    ]
    return pd.Series(complete, rows.index)


def _losses_follow(facts: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a setting tells the same variants apart as their losses do, so that these need not be told as well."""
    losses = [own["losses"] for own in facts]

    def follows(name: str) -> bool:
        pairs = {(repr(own.get(name)), loss) for own, loss in zip(facts, losses)}
        return len(pairs) == len(set(losses)) == len({value for value, _ in pairs})

    return any(follows(name) for name in {name for own in facts for name in own} - set(RECIPE))


def _names(base: str, facts: Sequence[Mapping[str, Any]], told: Sequence[Sequence[str]]) -> list[str]:
    """The name of each variant, given which of its facts are told; updates only where names are alike without."""
    names = [_name(base, own, [name for name in some if name != "updates"]) for own, some in zip(facts, told)]
    return [
        f"{name}, {own['updates'] or 0:,} updates" if "updates" in some and names.count(name) > 1 else name
        for name, own, some in zip(names, facts, told)
    ]


def _name(base: str, facts: Mapping[str, Any], told: Iterable[str]) -> str:
    apart = ", ".join(f"{name}={facts[name]}" for name in told)
    return f"{base} ({apart})" if apart else base


def _usual(variants: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each fact the value that most of the trained variants share, where no other is as common; of a setting that
    came later what all had before, so that names do not change with what is measured."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    values: dict[tuple[str, str], Any] = {}
    for variant in variants:
        for name, value in variant.items() if pd.notna(variant["updates"]) else ():
            counts[name][repr(value)] += 1
            values[name, repr(value)] = value
    most = {name: count.most_common(2) for name, count in counts.items()}
    found = {name: values[name, top[0][0]] for name, top in most.items() if len(top) == 1 or top[0][1] > top[1][1]}
    return found | {name: value for name, value in LATER.items() if name in counts}


def _facts(variant: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: variant[name] for name in RECIPE} | dict(json.loads(variant["settings"]))


def newest_per_seed(rows: pd.DataFrame, displays: Displays) -> tuple[pd.DataFrame, list[str]]:
    """One row per line, seed and measurement: the newest; and a sentence about each run that another one replaces.

    Of one run's rows by a protocol the newest stands last in their file. Only between two runs, whose files have no
    common order, do clocks decide: those of the machines that measured. A score by another judge is another
    measurement; see `judges`.
    """
    what = ["line", "seed", "protocol", "setting", "split", "metric", "by"]
    scored = {
        (protocol, metric): displays.get(protocol, SILENT).metric(metric).by_judge
        for protocol, metric in set(zip(rows["protocol"], rows["metric"]))
    }
    by = [
        judge if scored[protocol, metric] else ""
        for protocol, metric, judge in zip(rows["protocol"], rows["metric"], rows["judge"])
    ]
    ordered = rows.assign(by=by).iloc[np.argsort(_times(rows), kind="stable")]
    last = ordered.drop_duplicates(what, keep="last")
    dropped = ordered.drop(last.index)
    shown = dropped[["run", *what]].merge(last[["run", *what]], on=what, suffixes=("", "_shown"))
    pairs = sorted({(run, newer) for run, newer in zip(shown["run"], shown["run_shown"]) if run != newer})
    return last.drop(columns="by").sort_index(), [
        f"Runs {run} and {newer} agree in settings and seed: {newer}, measured last, is shown." for run, newer in pairs
    ]


def _times(rows: pd.DataFrame) -> list[str]:
    """When each row was measured, never before what stands above it in its file."""
    latest: dict[tuple[str, str], str] = {}
    times = []
    for protocol, run, time in zip(rows["protocol"], rows["run"], rows["time"]):
        latest[protocol, run] = max(latest.get((protocol, run), ""), time)
        times.append(latest[protocol, run])
    return times


def with_settings(rows: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """Those of the lines that were measured in one of the settings."""
    return rows[rows["line"].isin(rows.loc[rows["setting"].isin(settings), "line"])]


def judges(rows: pd.DataFrame, metric: Metric) -> list[str]:
    """Who judged, where several did: what one says does not compare with what another says. Else one nobody, ""."""
    found = sorted(set(rows.loc[rows["metric"] == metric.name, "judge"])) if metric.by_judge else []
    return found if len(found) > 1 else [""]


def short(judge: str) -> str:
    """A judge in two words: the hash of its weights, which its name ends with."""
    return f"judge {judge.rpartition(' ')[2]}"


def lines_of(rows: pd.DataFrame) -> list[Line]:
    """The lines of `rows` by families, in each in the order of Table 1."""
    told = rows[["line", "label", "method", "family"]].sort_values("family", ascending=False, kind="stable")
    lines = told.drop_duplicates("line").itertuples(index=False, name=None)  # of older rows another may say it
    return sorted((Line(*line) for line in lines), key=rank)


def line_of(info: Mapping[str, Any]) -> Line:
    """The line of a run, from its run.json."""
    return Line(NAMES.get(info["method"], info["label"]), info["label"], info["method"], info.get("family", ""))


def rank(line: Line) -> tuple[int, int, float, str, int]:
    """By families; in each the trivial rows, the paper's variants by S, then all others by name and updates."""
    family = FAMILIES.index(line.family) if line.family in FAMILIES else len(FAMILIES)
    place = ORDER.index(line.method) if line.method in ORDER else len(ORDER)
    ratio = re.match(r"[a-z_]+ (\d*\.?\d+)", line.name)
    updates = re.search(r", ([\d,]+) updates$", line.name)
    name, count = (line.name[: updates.start()], int(updates[1].replace(",", ""))) if updates else (line.name, 0)
    return family, place, float(ratio[1]) if ratio and place < len(ORDER) else 0.0, name, count
