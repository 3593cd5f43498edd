"""Learning curves: what a run logged, as a chart."""

from itertools import pairwise

import numpy as np
import pandas as pd

from mdebench.figures.chart import Chart, Panel
from mdebench.files import reading
from mdebench.results.cells import Cell
from mdebench.results.displays import Metric, spoken
from mdebench.results.lines import line_of
from mdebench.runs import LOG_WAY_ON, Run

BINS = 300  # points of a learning curve: a longer log is averaged in so many equal parts


def learning(run: Run) -> Chart | None:
    """Every loss part of a run over its updates: mean, smallest and largest of the logged values in each bin.

    None for a run without a log; Damaged.
    """
    if not run.log_path.is_file():
        return None
    lines = run.log()
    with reading(run.log_path, LOG_WAY_ON):
        log = pd.DataFrame(lines)
        log = log.astype({"step": "int64"}).set_index("step").sort_index()
        log = log[[name for name in log.columns if "/" in name]].apply(pd.to_numeric, errors="coerce")
    if log.empty or not len(log.columns):
        return None
    line, seed = line_of(run.info), run.info["seed"]
    panels, steps = list[Panel](), list[str]()
    for name in sorted(log.columns, key=lambda name: name.startswith("discriminator")):
        part = log[name].dropna()
        edges = np.linspace(0, len(part), min(BINS, len(part)) + 1).astype(int)
        bins = [part.iloc[start:end] for start, end in pairwise(edges)]
        cells = {(line.name, str(values.index[-1])): _bin(values, seed, run.folder.name) for values in bins}
        panels.append(Panel(Metric(name), cells))
        steps += [step for _, step in cells]
    info = run.info
    facts = [f"scale {info['scale']}", f"{info['pack_note']}", f"{len(log):,} logged means", f"seed {seed}"]
    facts += [f"loss set {info.get('losses') or 'none'}", f"perceptual network {info['perceptual']}"]
    facts += [f"{info['status']} at update {info['step']:,} of {info['updates']:,}"]
    title = f"Learning curves of {spoken(line.name)}: {info['pack']}, scale {info['scale']}"
    order = tuple(sorted(set(steps), key=int))
    return Chart("learning", f"learning-{run.folder.name}", title, tuple(panels), (line,), order, " · ".join(facts))


def _bin(values: pd.Series, seed: int, run: str) -> Cell:
    return Cell(
        value=float(values.mean()),
        low=float(values.min()),
        high=float(values.max()),
        n=len(values),
        rows=({"seed": seed, "run": run, "key": ""},),
        source="log",
    )
