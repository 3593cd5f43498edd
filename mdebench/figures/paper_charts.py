"""The paper's Figures 8 and 9, and its Tables 1 and 3 as charts: which rows they show, and its numbers beside them.

Each function takes the rows of one data set and scale and gives its chart, or None where they have nothing for it.
"""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from mdebench.figures.chart import Chart, Panel, Part, loss_order, panel, usual
from mdebench.results.cells import Cell, Line
from mdebench.results.displays import PROBE, setting_order
from mdebench.results.lines import TRIVIAL, lines_of
from mdebench.results.published import paper_dir

DIAMONDS = "open diamonds: published, at the paper's scale"


def matrix(part: Part, name: str = "figure8") -> Chart | None:
    """Figure 8: pSNR and Inception score of every training scenario on every test scenario."""
    rows = part.of("completion", "psnr/raw/image", "inception_score/raw")
    if rows.empty:
        return None
    rows, left_out = _usual(rows)
    panels = part.panels("completion", rows, "psnr/raw/image", "inception_score/raw")
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
    panels = part.panels("completion", rows, "inception_score/raw", "psnr/raw/image")
    chart = part.chart("figure9", "Figure 9, loss sets", rows, panels)
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
            panels.append(panel(rows, part.display(protocol).metric(metric), references=marks, published=published))
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


def occlusion(part: Part) -> Chart | None:
    """Table 3 as a chart: pSNR and SSIM under six occlusions, the published systems beside ours."""
    rows = part.of("occlusion", "psnr/raw/image", "ssim/raw/image")
    if rows.empty:
        return None
    rows, left_out = _usual(rows)
    paper = pd.read_csv(paper_dir() / "table3.csv", dtype=str)
    names = {label: f"{label}, published" for label in paper["label"].unique()}
    panels: list[Panel] = []
    for found in part.panels("occlusion", rows, "psnr/raw/image", "ssim/raw/image"):
        here = paper[(paper["metric"] == found.metric.partition("/")[0]) & paper["setting"].isin(rows["setting"])]
        printed = zip(here["label"], here["setting"], here["value"], here["source"])
        published = {(names[label], setting): _print(value, source, 3) for label, setting, value, source in printed}
        panels.append(replace(found, published=published))
    title, note = "Table 3 as a chart, raw output, whole image", "; ".join(filter(None, (DIAMONDS, left_out)))
    chart = part.chart("occlusion", title, rows, panels, note, list(dict.fromkeys(paper["setting"])))
    return replace(chart, lines=(*(Line(name, label, "") for label, name in names.items()), *chart.lines))
