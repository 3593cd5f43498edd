"""Tables 1, 2 and 3 of the paper: which columns and lines each has, and where its numbers stand (see `published`)."""

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from mdebench.results.cells import Block, Column, Line, Table, column
from mdebench.results.displays import BIHARMONIC, CONSTANT, MEAN_COLOUR, PIXELS, PROBE, RANDOM, Reference
from mdebench.results.lines import TRIVIAL, lines_of
from mdebench.results.published import beside, numbers, occlusions, printed_lines, published
from mdebench.tables.plain_words import PAPER_SCALE
from mdebench.tables.view import View

READINGS = ("raw/image", "raw/hole", "composite/image", "composite/hole")
COMPLETION = (("psnr", "pSNR"), ("ssim", "SSIM"))
LONG_HEAD = 50_000  # updates of the head of Table 2
FEW = r"%$"  # how the settings of few labels end, which have a table of their own
RIDGE = PIXELS._replace(called="raw pixels read by the ridge probe")


def paper_tables(view: View) -> list[Table]:
    """Those of Tables 1, 2 and 3, and of their companions, that there are rows for."""
    made = [transfer(view), *equal_operations(view), interocular(view), attributes(view), occlusion(view)]
    made.append(readings(view))
    return [table for table in made if table is not None]


def transfer(view: View, name: str = "table1", heading: str = "Table 1: landmarks and attributes") -> Table | None:
    """Table 1; fine-tuned encoders, where there are any, in a block of their own."""
    rows = _all_labels(view, "attributes", "landmarks")
    paper = published(1, rows)
    same, lines = beside(paper, rows), lines_of(rows)
    blocks: list[Block] = []
    printed = []
    for kind, metric, unit, constant, ours in (
        ("Landmarks", "landmark_distance", "px", "the mean shape", _landmarks(view, rows, "frozen")),
        ("Attributes", "attribute_error", "% error", "the majority value", _attributes(view, rows, "frozen")),
    ):
        told = [each for each in ours if each.metric == metric and each.split == "test"]
        rivals = (RIDGE, RANDOM, Reference(CONSTANT.method, constant))
        columns = [*_paper_column("Paper, head 5,000", metric, unit, same), *ours]
        blocks.append(view.block(f"{kind}, frozen encoder", columns, lines, RIDGE, numbers(same), told, rivals))
        printed.append(Column(f"{kind}, head 5,000", "", "", metric, unit, published=True))
    if tuned := _landmarks(view, rows, "finetune") + _attributes(view, rows, "finetune"):
        lines = lines_of(rows[rows["setting"].str.startswith("finetune")])
        blocks.append(view.block("Fine-tuned encoder", tuned, lines, RIDGE))
    full = "Published, full CelebA at 96×96, 300,000 updates; not measured here"
    blocks.append(_printed(view, full, printed, paper.drop(same.index)))
    return view.table(name, heading, rows, blocks, RIDGE, _remarks(paper))


def equal_operations(view: View) -> list[Table | None]:
    """Table 1 for each set of lines whose training took the same operations, to a tenth, where others took others."""
    rows = _all_labels(view, "attributes", "landmarks")
    trained = rows[(rows["gflop"] > 0) & ~rows["method"].isin(TRIVIAL)]
    spent = trained.groupby("line")["gflop"].mean().sort_values()
    groups: list[dict[str, float]] = []
    for line, gflop in spent.items():
        if groups and gflop <= 1.1 * min(groups[-1].values()):
            groups[-1][str(line)] = gflop
        else:
            groups.append({str(line): gflop})
    tables = []
    for group in groups:
        if 1 < len(group) < len(spent):
            tflop = f"{sum(group.values()) / len(group) / 1000:.0f}"
            title = f"Table 1 at equal operations: {tflop} TFLOP of training"
            tables.append(transfer(view.only(group), f"table1-{tflop}tflop", title))
    return tables


def interocular(view: View) -> Table | None:
    """Beside Table 1: the landmark distance as a share of the distance between the eyes."""
    rows = _all_labels(view, "landmarks")
    columns = _landmarks(view, rows, "frozen", "landmark_distance_iod")
    blocks = [view.block("Frozen encoder", columns, lines_of(rows), RIDGE)]
    title = "Table 1, other reading: landmark distance as a share of the inter-ocular distance"
    return view.table("table1-interocular", title, rows, blocks, RIDGE)


def attributes(view: View) -> Table | None:
    """Table 2: ours, then the published list."""
    rows = _all_labels(view, "attributes")
    paper = published(2, rows)
    same = beside(paper, rows)
    columns = [
        *_paper_column("Paper, head 50,000", "attribute_error", "% error", same),
        *_attributes(view, rows, "frozen", [LONG_HEAD]),
    ]
    printed = [Column("Attributes", "", "", "attribute_error", "% error", published=True)]
    blocks = [
        view.block("Frozen encoder", columns, lines_of(rows), RIDGE, numbers(same)),
        _printed(view, "Published, full CelebA; not measured here", printed, paper.drop(same.index)),
    ]
    return view.table("table2", "Table 2: facial attributes", rows, blocks, RIDGE, _remarks(paper))


def occlusion(view: View) -> Table | None:
    """Table 3: the raw output over the whole image, for the paper says "without postprocessing"."""
    rows = view.of("occlusion")
    paper, lines = published(3, rows), lines_of(rows)
    ours: list[Block] = []
    theirs: list[Block] = []
    shown, fills = view.display("occlusion"), (BIHARMONIC, MEAN_COLOUR)
    for metric, name in COMPLETION:
        columns = [column(shown.metric(f"{metric}/raw/image"), _spoken(p), "occlusion", p) for p in occlusions()]
        ours.append(view.block(name, columns, lines, BIHARMONIC, told=columns, rivals=fills, prefix=f"{name}, "))
        printed = [Column(each.title, "", each.setting, metric, each.unit, published=True) for each in columns]
        theirs.append(_printed(view, f"{name}, published, full CelebA; not measured here", printed, paper))
    title = "Table 3: face completion under occlusions (raw output, whole image)"
    return view.table("table3", title, rows, ours + theirs, BIHARMONIC, _remarks(paper))


def readings(view: View) -> Table | None:
    """Beside Table 3: all four readings of pSNR and of SSIM."""
    rows, shown = view.of("occlusion"), view.display("occlusion")
    blocks = []
    for preset in occlusions():
        columns = [
            column(shown.metric(f"{metric}/{which}"), f"{name} {which.replace('/', ', ')}", "occlusion", preset)
            for metric, name in COMPLETION
            for which in READINGS
        ]
        blocks.append(view.block(_spoken(preset).capitalize(), columns, lines_of(rows), BIHARMONIC))
    title = "Table 3, all readings: raw output or composite (seen pixels pasted back), whole image or hole alone"
    return view.table("table3-readings", title, rows, blocks, BIHARMONIC)


def _paper_column(title: str, metric: str, unit: str, same: pd.DataFrame) -> list[Column]:
    """The column of the published numbers beside ours, where a line of ours has one."""
    return [Column(title, "", "", metric, unit, published=True)] if metric in set(same["metric"]) else []


def _printed(view: View, title: str, columns: Sequence[Column], paper: pd.DataFrame) -> Block:
    """A block of published lines, as printed."""
    lines = [Line(name, label, "", family) for label, name, family in printed_lines(paper)]
    return view.block(title, columns, lines, RIDGE, numbers(paper))


def _remarks(paper: pd.DataFrame) -> list[str]:
    """What is to be said of published numbers, where there are any."""
    noted = paper.query("note != ''").drop_duplicates("name")
    told = "; ".join(f"{name}: {note}" for name, note in zip(noted["name"], noted["note"]))
    return [*([] if paper.empty else [PAPER_SCALE]), *([f"Of the published numbers: {told}."] if told else [])]


def _all_labels(view: View, *protocols: str) -> pd.DataFrame:
    """The rows of readouts trained on all labels."""
    rows = view.of(*protocols)
    return rows[~rows["setting"].str.contains(FEW)]


def _landmarks(view: View, rows: pd.DataFrame, kind: str, metric: str = "landmark_distance") -> list[Column]:
    found = rows[(rows["protocol"] == "landmarks") & (rows["metric"] == metric)]
    shown = view.display("landmarks").metric(metric)
    return [
        column(shown, f"Landmarks{also}, {called}", "landmarks", setting, split, against=PROBE)
        for split, also in (("test", ""), ("annotated", " (annotated)"))
        for setting, called in _settings(found.loc[found["split"] == split, "setting"], kind)
    ]


def _attributes(view: View, rows: pd.DataFrame, kind: str, heads: Sequence[int] = ()) -> list[Column]:
    found = rows.loc[rows["protocol"] == "attributes", "setting"]
    shown = view.display("attributes")
    return [
        column(shown.metric(metric), f"{title}, {called}", "attributes", setting, against=PROBE)
        for title, metric in (("Attributes", "attribute_error"), ("Balanced accuracy", "balanced_accuracy"))
        for setting, called in _settings(found, kind, heads)
    ]


def _spoken(preset: str) -> str:
    return preset.replace("_", " ")


def _settings(found: Iterable[str], kind: str, heads: Sequence[int] = ()) -> list[tuple[str, str]]:
    """(setting, its name in words) of the heads, then the probe; without `heads` all but Table 2's long one."""
    names = set(found)
    trained = sorted(int(match[1]) for name in names if (match := re.fullmatch(rf"{kind}-head-(\d+)", name)))
    wanted = heads or [updates for updates in trained if updates != LONG_HEAD]
    settings = [(f"{kind}-head-{updates}", f"head {updates:,}") for updates in wanted]
    return settings + ([(f"{kind}-probe", "probe")] if f"{kind}-probe" in names else [])
