"""The paper's Figures 8 and 9, and its Tables 1 and 3 as charts: which rows they show, and where its numbers stand.

Each function takes the rows of one data set and scale and gives its chart, or None where they have nothing for it.
"""

from dataclasses import replace

import pandas as pd

from mdebench.figures.chart import Chart, Panel, Part, loss_order, panel, usual
from mdebench.results.cells import Line
from mdebench.results.displays import PIXELS, PROBE, setting_order
from mdebench.results.lines import FAMILIES, NAMES, TRIVIAL
from mdebench.results.published import numbers, occlusions, published

DIAMONDS = "open diamonds: published, full CelebA, not measured here"


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
    """Table 1 as a chart: attribute error and landmark distance by the converged probe, which the paper lacks."""
    panels, used = [], []
    for protocol, metric in (("attributes", "attribute_error"), ("landmarks", "landmark_distance")):
        rows = part.of(protocol, metric)
        rows = rows[rows["setting"] == PROBE]
        if len(rows):
            marks: dict[str, float] = {}
            for method in ("pixels", "random", "constant"):
                marks |= part.reference(protocol, metric, method)
            panels.append(panel(rows, part.display(protocol).metric(metric), references=marks))
            used.append(rows)
    if not panels:
        return None
    constant = NAMES["constant"]
    note = f"{constant}: the majority value and the mean shape" if any(constant in p.references for p in panels) else ""
    return part.chart("rank", "Table 1 as a chart, frozen encoder, converged probe", pd.concat(used), panels, note)


def families(part: Part) -> Chart | None:
    """Where the families stand: balanced accuracy and landmark distance by the converged probe, a group for each."""
    panels, used = list[Panel](), list[pd.DataFrame]()
    for protocol, metric in (("attributes", "balanced_accuracy"), ("landmarks", "landmark_distance")):
        rows = part.of(protocol, metric)
        rows = rows[(rows["setting"] == PROBE) & rows["family"].isin(FAMILIES) & rows["value"].notna()]
        if len(rows):
            rows = rows.assign(setting=rows["family"])
            marks = part.reference(protocol, metric, PIXELS.method)
            panels.append(panel(rows, part.display(protocol).metric(metric), references=marks))
            used.append(rows)
    if not panels:
        return None
    title = "What was learned from, frozen encoder, converged probe"
    return part.chart("families", title, pd.concat(used), panels, order=FAMILIES)


def occlusion(part: Part) -> Chart | None:
    """Table 3 as a chart: pSNR and SSIM under six occlusions, on the papers' data set with the published systems."""
    rows = part.of("occlusion", "psnr/raw/image", "ssim/raw/image")
    if rows.empty:
        return None
    rows, left_out = _usual(rows)
    paper = published(3, rows)
    known = numbers(paper.assign(name=paper["label"] + ", published"))
    panels: list[Panel] = []
    for found in part.panels("occlusion", rows, "psnr/raw/image", "ssim/raw/image"):
        metric = found.metric.partition("/")[0]
        theirs = {(name, s): cell for (name, m, s), cell in known.items() if m == metric and s in set(rows["setting"])}
        panels.append(replace(found, published=theirs))
    note = "; ".join(filter(None, (DIAMONDS if known else "", left_out)))
    chart = part.chart("occlusion", "Table 3 as a chart, raw output, whole image", rows, panels, note, occlusions())
    systems = dict.fromkeys((label, f"{label}, published") for label in paper["label"])
    return replace(chart, lines=(*(Line(name, label, "") for label, name in systems), *chart.lines))
