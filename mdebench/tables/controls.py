"""Negative controls: where there is nothing to learn, a probe must give the majority answer. Said once in a table.

A probe that reads more from shuffled labels, or from the codes of other images, than a constant has looked where it may
not look, and so may have every other number of its line.
"""

from collections.abc import Callable, Iterable, Iterator

import pandas as pd

from mdebench.results.cells import Block
from mdebench.results.displays import CONSTANT, CONTROLS, Display, Metric
from mdebench.words import words


def controlled(
    lines: Iterable[str], blocks: Iterable[Block], controls: pd.DataFrame, display: Callable[[str], Display]
) -> list[str]:
    """What the controls (rows of settings in `CONTROLS`) say of the lines and columns of a table."""
    shown, known = {(column.protocol, column.metric) for block in blocks for column in block.columns}, set(lines)
    whole = {(protocol, metric) for protocol, metric in shown if "/" not in metric}  # not its parts: points, people
    places = zip(controls["line"], controls["protocol"], controls["metric"])
    own = controls[[line in known and (protocol, metric) in whole for line, protocol, metric in places]]
    if own.empty:
        return []
    told, failed = list[str](), list[str]()
    for (protocol, name), part in own.groupby(["protocol", "metric"], sort=False):
        metric = display(str(protocol)).metric(str(name))
        part = part[part["split"] == ("test" if (part["split"] == "test").any() else part["split"].iloc[0])]
        majority = part.loc[part["method"] == CONSTANT.method, "value"]
        others = part[part["method"] != CONSTANT.method]
        if majority.empty or others.empty or not metric.better:
            continue
        told.append(_told(metric, others, float(majority.mean())))
        failed += _failed(metric, others, float(majority.mean()))
    if not told:
        return []
    tried = len(set(own["line"]))
    head = f"Negative controls, the probes of {tried} of {len(known)} lines where there is nothing to learn"
    notes = [f"{head}: {'; '.join(told)}."]
    return notes + [f"A CONTROL FAILS, so its line may know what it must not: {'; '.join(failed)}."] * bool(failed)


def _told(metric: Metric, rows: pd.DataFrame, majority: float) -> str:
    """The range over all lines for each control, beside the majority answer."""
    parts = []
    for setting, called in CONTROLS.items():
        values = rows.loc[rows["setting"] == setting, "value"]
        if len(values):
            parts.append(f"{values.min():.{metric.digits}f} to {values.max():.{metric.digits}f} on {called}")
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.title}{unit} {words(parts)} (majority answer {majority:.{metric.digits}f})"


def _failed(metric: Metric, rows: pd.DataFrame, majority: float) -> Iterator[str]:
    """Lines whose control is better than the majority answer by more than its interval is wide, which chance alone
    does not do in a table's many controls."""
    sign = 1 if metric.better == "higher" else -1
    for row in rows.to_dict("records"):
        if sign * (row["value"] - majority) > row["high"] - row["low"]:
            value = f"{row['value']:.{metric.digits}f} on {CONTROLS[row['setting']]}"
            yield f"{row['line']}, {metric.title} {value}, majority answer {majority:.{metric.digits}f}"
