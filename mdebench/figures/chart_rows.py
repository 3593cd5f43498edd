"""Which rows each chart shows: Figures 8 and 9, Tables 1 and 3 as charts, and a chart for every further protocol.

Each function takes the rows of one data set and scale and gives its chart, or None where they have nothing for it.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd

from mdebench.errors import UserError
from mdebench.figures.chart import Chart, Panel, Part, loss_order, panel, panels_of, usual
from mdebench.results.cells import Cell, Line
from mdebench.results.displays import FEW, PROBE, setting_order, spoken, with_few
from mdebench.results.lines import TRIVIAL, line_of, lines_of
from mdebench.results.published import paper_dir
from mdebench.runs import Run

DIAMONDS = "open diamonds: published, at the paper's scale"
BINS = 300  # points of a learning curve: a longer log is averaged in so many equal parts


def matrix(part: Part, name: str = "figure8") -> Chart | None:
    """Figure 8: pSNR and Inception score of every training scenario on every test scenario."""
    rows = part.of("completion", "psnr/raw/image", "inception_score/raw")
    if rows.empty:
        return None
    rows, left_out = _usual(rows)
    panels = panels_of(rows, "psnr/raw/image", "inception_score/raw")
    chart = part.chart(name, "Figure 8, completion by training and test scenario", rows, panels, left_out)
    trivial = [line for line in chart.lines if line.method in TRIVIAL]
    trained = sorted(set(chart.lines) - set(trivial), key=lambda line: (*setting_order(line.label), line.name))
    return replace(chart, lines=(*trained, *trivial))


def _usual(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of the usual loss set, and a sentence on the lines left out."""
    kept = usual(rows)
    others = sorted(set(rows["line"]) - set(kept["line"]))
    return kept, f"left out, for Figure 9: {', '.join(others)}" if others else ""


def matrix_bars(part: Part) -> Chart | None:
    """Figure 8 as bars, with intervals, and with the Inception score of the originals."""
    chart = matrix(part, "figure8-bars")
    if chart is None:
        return None
    originals = part.of("completion", "inception_score/originals")
    panels = (
        replace(p, references=_mark("originals", originals, p)) if p.metric.startswith("inception") else p
        for p in chart.panels
    )
    return replace(chart, panels=tuple(panels))


def _mark(name: str, rows: pd.DataFrame, panel: Panel) -> dict[str, float]:
    """The mean of these rows, of those by the panel's judge, as a reference line."""
    values = rows.loc[(rows["judge"] == panel.judge) | (panel.judge == ""), "value"]
    return {name: float(values.mean())} if len(values) else {}


def losses(part: Part) -> Chart | None:
    """Figure 9: Inception score and pSNR of one variant trained with different loss sets, at every S of its kind.

    Of runs that a judge saw with one loss set alone, nothing is shown: they have nothing to stand beside.
    """
    rows = part.of("completion", "inception_score/raw", "psnr/raw/image")
    own = [setting.split(" ")[0] == method for setting, method in zip(rows["setting"], rows["method"])]
    rows = rows.loc[own]
    rows = rows[rows.groupby(["label", "judge"])["losses"].transform("nunique") > 1]
    if rows.empty:
        return None
    alone = rows.groupby(["label", "losses"])["line"].transform("nunique") == 1
    many = rows["label"].nunique() > 1
    tested = rows["label"] + ", tested on " + rows["setting"] if many else rows["setting"]
    rows = rows.assign(line=rows["losses"].where(alone, rows["line"]), setting=tested)
    chart = part.chart("figure9", "Figure 9, loss sets", rows, panels_of(rows, "inception_score/raw", "psnr/raw/image"))
    lines = sorted(chart.lines, key=lambda line: loss_order(line.name))
    title = chart.title if many else chart.title.replace("loss sets", f"loss sets of {rows['label'].iloc[0]}")
    return replace(chart, title=title, lines=tuple(lines))


def ranking(part: Part) -> Chart | None:
    """Table 1 as a chart: attribute error and landmark distance by the converged probe, the published beside them."""
    panels, used = [], []
    for protocol, metric in (("attributes", "attribute_error"), ("landmarks", "landmark_distance")):
        rows = part.of(protocol, metric).query("setting == @PROBE")
        if len(rows):
            marks: dict[str, float] = {}
            for method in ("pixels", "random", "constant"):
                marks |= part.reference(protocol, metric, method)
            published = _published(1, metric, lines_of(rows, ((label, "") for label in rows["label"])), PROBE)
            panels.append(panel(rows, metric, references=marks, published=published))
            used.append(rows)
    if not panels:
        return None
    note = f"{DIAMONDS}, by a head of 5,000 updates; with a number: beyond the axis"
    note = note if any(found.published for found in panels) else ""
    return part.chart("rank", "Table 1 as a chart, frozen encoder, converged probe", pd.concat(used), panels, note)


def _published(table: int, metric: str, lines: Sequence[Line], setting: str) -> dict[tuple[str, str], Cell]:
    """The paper's number for each line that the paper has, under our setting."""
    paper = pd.read_csv(paper_dir() / f"table{table}.csv", dtype=str).query("metric == @metric")
    known = {
        label: _print(value, source, table) for label, value, source in zip(paper.label, paper.value, paper.source)
    }
    places = {line.name: line.label if line.label in known else line.method for line in lines}
    return {(name, setting): known[label] for name, label in places.items() if label in known}


def _print(value: str, source: str, table: int) -> Cell:
    return Cell(text=value, value=float(value), source=f"{source}, Table {table}")


def layers(part: Part) -> Chart | None:
    """What each stage of the encoder knows, with the raw pixels as the line to beat."""
    wanted = {"attribute_error": "attributes", "landmark_distance": "landmarks", "accuracy": "classes"}
    rows = part.of("layers", *wanted)
    panels = [
        panel(rows, m, references=part.reference(protocol, m, "pixels", PROBE if protocol != "classes" else "probe"))
        for m, protocol in wanted.items()
        if (rows["metric"] == m).any()
    ]
    return part.chart("layers", "What each layer knows, converged probe", rows, panels) if panels else None


def robustness(part: Part) -> Chart | None:
    """The probe's error when the test face itself is occluded by each preset, beside the clean one."""
    rows = part.of("robustness", "attribute_error", "landmark_distance")
    panels = [
        replace(found, origins=_clean(found)) for found in panels_of(rows, "attribute_error", "landmark_distance")
    ]
    title, note = "Representations of occluded faces", "upright ticks: the same line on clean faces"
    presets = pd.read_csv(paper_dir() / "table3.csv")["setting"].drop_duplicates()
    return part.chart("robustness", title, rows, panels, note, ["clean", *presets]) if panels else None


def _clean(found: Panel) -> dict[tuple[str, str], float]:
    """Where each line stood before the faces were occluded."""
    clean = {line: cell.value for (line, setting), cell in found.cells.items() if setting == "clean"}
    return {place: clean[place[0]] for place in found.cells if place[0] in clean and place[1] != "clean"}


def resampling(part: Part) -> Chart | None:
    """How long meaning survives ten successive completions; step 0 is the original itself."""
    metrics = ("judge_agreement", "attribute_agreement", "psnr/raw/image")
    rows = part.of("resampling", *metrics)
    panels: list[Panel] = []
    for found in panels_of(rows, *metrics):
        start = {} if found.metric.startswith("psnr") else _originals(found)
        marks = _mark("chance", part.of("resampling", f"{found.metric}/chance"), found)
        panels.append(replace(found, cells=start | dict(found.cells), references=marks))
    if not panels:
        return None
    chart = part.chart("resampling", "Ten successive completions", rows, panels)
    return replace(chart, settings=("step 0", *chart.settings))


def _originals(found: Panel) -> dict[tuple[str, str], Cell]:
    """Every original agrees with itself."""
    return {
        (line, "step 0"): Cell(value=100.0, low=100.0, high=100.0, source="by definition") for line, _ in found.cells
    }


def hide_and_seek(part: Part) -> Chart | None:
    """How well a generator hides the boxes: the seeker's error as a share of a blind guess's."""
    rows = part.of("hide_and_seek", "seek_share")
    if rows.empty:
        return None
    found = panel(rows, "seek_share", references={"blind guess": 100.0})
    return part.chart("hide_and_seek", "Hide and seek, the boxes sought in completed images", rows, [found])


def classes(part: Part) -> Chart | None:
    """Classification from the frozen code: k-NN, and the probe with 1 %, 10 % and all labels."""
    rows = part.of("classes", "accuracy")
    order = ("knn", "probe-1%", "probe-10%", "probe")
    found = panels_of(rows, "accuracy")
    return part.chart("classes", "Classification from the frozen code", rows, found, "", order) if found else None


def few_labels(part: Part) -> Chart | None:
    """Attributes and landmarks by a probe that saw 1 %, 10 % or all of the labels."""
    rows = pd.concat([part.of("attributes", "attribute_error"), part.of("landmarks", "landmark_distance")])
    rows = with_few(rows[rows["setting"].isin(FEW)])
    panels = panels_of(rows, "attribute_error", "landmark_distance")
    return part.chart("few_labels", "Probes with few labels", rows, panels, "", FEW) if panels else None


def occlusion(part: Part) -> Chart | None:
    """Table 3 as a chart: pSNR and SSIM under six occlusions, the published systems beside ours."""
    rows = part.of("occlusion", "psnr/raw/image", "ssim/raw/image")
    if rows.empty:
        return None
    rows, left_out = _usual(rows)
    paper = pd.read_csv(paper_dir() / "table3.csv", dtype=str)
    names = {label: f"{label}, published" for label in paper["label"].unique()}
    panels: list[Panel] = []
    for found in panels_of(rows, "psnr/raw/image", "ssim/raw/image"):
        here = paper[(paper["metric"] == found.metric.partition("/")[0]) & paper["setting"].isin(rows["setting"])]
        printed = zip(here["label"], here["setting"], here["value"], here["source"])
        published = {(names[label], setting): _print(value, source, 3) for label, setting, value, source in printed}
        panels.append(replace(found, published=published))
    title, note = "Table 3 as a chart, raw output, whole image", "; ".join(filter(None, (DIAMONDS, left_out)))
    chart = part.chart("occlusion", title, rows, panels, note, list(dict.fromkeys(paper["setting"])))
    return replace(chart, lines=(*(Line(name, label, "") for label, name in names.items()), *chart.lines))


def learning(run: Run) -> Chart | None:
    """Every loss part of a run over its updates: mean, smallest and largest of the logged values in each bin.

    None for a run without a log; UserError for a damaged one.
    """
    if not run.log_path.is_file():
        return None
    try:
        log = pd.DataFrame([json.loads(line) for line in run.log_path.read_text().splitlines()])
        log = log.set_index("step").sort_index()
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run.log_path} is damaged ({error}); delete {run.folder} to train this run again") from error
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
        panels.append(Panel(name, cells))
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
