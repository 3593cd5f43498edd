"""The tables beyond the paper's three, one per experiment: a block for each metric, a column for each setting.

What an experiment shows is a `Layout`, nothing else; all of them are filled in and compared alike.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from mdebench.results.cells import Column, Table
from mdebench.results.displays import (
    BIHARMONIC,
    FEW,
    MEAN_COLOUR,
    PIXELS,
    PROBE,
    RANDOM,
    Reference,
    setting_order,
    spoken,
    with_few,
)
from mdebench.results.lines import judges, lines_of, short
from mdebench.tables.view import View

CONSTANT = Reference("constant", "the constant answer", same_setting=True)
STEPS = ("step 1", "step 2", "step 5", "step 10")  # of ten, the ones shown


class Metric(NamedTuple):
    """A block of a table: whose rows, under which title, and whether the plain-words reading speaks of it.

    `home` is the (protocol, setting) that reads the same metric off the code, where the block shows that too and
    compares with raw pixels there.
    """

    protocol: str
    name: str
    title: str
    unit: str = ""
    told: bool = False
    home: tuple[str, str] | None = None


@dataclass(frozen=True)
class Layout:
    """A table: its metrics, the line that the marks compare with, all lines that the reading compares with, and which
    settings it takes as columns ("" takes every one)."""

    name: str
    title: str
    metrics: tuple[Metric, ...]
    reference: Reference
    references: tuple[Reference, ...]
    settings: tuple[str, ...] = ()


FILLS = (BIHARMONIC, MEAN_COLOUR)
CODES = (PIXELS._replace(same_setting=True), RANDOM, CONSTANT)

LAYOUTS = (
    Layout(
        "completion",
        "Completion: every run on every test scenario",
        (
            Metric("completion", "psnr/raw/image", "pSNR of the raw output, whole image", "dB", told=True),
            Metric("completion", "psnr/raw/hole", "pSNR of the raw output, hole", "dB"),
            Metric("completion", "psnr/composite/image", "pSNR of the composite, whole image", "dB"),
            Metric("completion", "psnr/composite/hole", "pSNR of the composite, hole", "dB"),
            Metric("completion", "ssim/raw/image", "SSIM of the raw output, whole image"),
            Metric("completion", "ssim/composite/image", "SSIM of the composite, whole image"),
            Metric("completion", "inception_score/raw", "Inception score of the raw output", told=True),
            Metric("completion", "inception_score/composite", "Inception score of the composite"),
            Metric("completion", "inception_score/originals", "Inception score of the originals, for comparison"),
            Metric("completion", "fid/raw", "FID of the raw output (lower is better)"),
            Metric("completion", "kid/raw", "KID of the raw output (lower is better)"),
            Metric("completion", "lpips/raw/image", "LPIPS of the raw output (lower is better)"),
        ),
        BIHARMONIC,
        FILLS,
    ),
    Layout(
        "hide_and_seek",
        "Hide and seek: does a fresh network find the boxes in completed images?",
        (
            Metric("hide_and_seek", "seek_share", "Error of the seeker, as a share of a blind guess's", "%", told=True),
            Metric("hide_and_seek", "seek_error", "Error of the seeker", "of the side"),
            Metric("hide_and_seek", "blind_error", "Error of a blind guess", "of the side"),
        ),
        BIHARMONIC,
        FILLS,
    ),
    Layout(
        "resampling",
        "Resampling: what is left after completing completions, again and again",
        (
            Metric("resampling", "judge_agreement", "The judge says what it says of the original", "%", told=True),
            Metric("resampling", "attribute_agreement", "Attributes as predicted of the original", "%", told=True),
            Metric("resampling", "psnr/raw/image", "pSNR to the original", "dB"),
        ),
        BIHARMONIC,
        FILLS,
        STEPS,
    ),
    Layout(
        "classes",
        "Classes read off the frozen code",
        (Metric("classes", "accuracy", "Accuracy", "%", told=True),),
        PIXELS,
        CODES,
    ),
    Layout(
        "few_labels",
        "Few labels: the probe trained on 1 % and on 10 % of them",
        (
            Metric("attributes", "attribute_error", "Attributes", "% error", told=True),
            Metric("attributes", "balanced_accuracy", "Attributes, balanced accuracy", "%"),
            Metric("landmarks", "landmark_distance", "Landmarks", "px of 96", told=True),
        ),
        PIXELS,
        CODES,
        FEW,
    ),
    Layout(
        "layers",
        "Layers: which stage of the encoder knows what",
        (
            Metric("layers", "attribute_error", "Attributes", "% error", told=True, home=("attributes", PROBE)),
            Metric("layers", "landmark_distance", "Landmarks", "px of 96", told=True, home=("landmarks", PROBE)),
            Metric("layers", "accuracy", "Classes", "%", told=True, home=("classes", "probe")),
        ),
        PIXELS,
        (PIXELS, RANDOM),
    ),
    Layout(
        "robustness",
        "Robustness: what is read off a face that is itself occluded",
        (
            Metric("robustness", "attribute_error", "Attributes", "% error", told=True),
            Metric("robustness", "landmark_distance", "Landmarks", "px of 96", told=True),
        ),
        PIXELS,
        CODES,
    ),
)


def protocol_tables(view: View) -> list[Table]:
    """A table for each layout that the view has rows for."""
    made = (_build(view, layout) for layout in LAYOUTS)
    return [table for table in made if table is not None]


def _build(view: View, layout: Layout) -> Table | None:
    blocks, say, used = [], [], []
    for metric in layout.metrics:
        rows = _rows(view, metric, layout)
        if rows.empty:
            continue
        for judge in judges(rows, metric.name):
            here = rows[rows["judge"] == judge] if judge else rows
            title = f"{metric.title} ({short(judge)})" if judge else metric.title
            columns = [replace(column, judge=judge) for column in _columns(here, metric)]
            blocks.append(view.block(title, columns, lines_of(here), layout.reference))
            used.append(here)
            if metric.told:
                own = [column for column in columns if column.protocol == metric.protocol]
                said = view.reading(blocks[-1], own, layout.references)
                say += [f"{title}, {sentence}" for sentence in said]
    if not used:
        return None
    rows = pd.concat(used).drop_duplicates(subset=["line", "seed", "protocol", "setting", "split", "metric", "judge"])
    return view.table(layout.name, layout.title, rows, blocks, say, layout.reference)


def _rows(view: View, metric: Metric, layout: Layout) -> pd.DataFrame:
    """The rows of a block, none where all that there is are rows of readouts with every label."""
    rows = view.of(metric.protocol)
    rows = rows[rows["metric"] == metric.name]
    if rows.empty:
        return rows
    if layout.settings:
        rows = rows[rows["setting"].isin(layout.settings)]
    if layout.settings == FEW:
        rows = with_few(rows)
    if metric.home:
        protocol, setting = metric.home
        whole = view.of(protocol)
        whole = whole[(whole["metric"] == metric.name) & (whole["setting"] == setting)]
        whole = whole[whole["line"].isin(rows["line"]) | (whole["method"] == PIXELS.method)]
        rows = pd.concat([whole[whole["split"].isin(rows["split"])], rows])
    return rows


def _columns(rows: pd.DataFrame, metric: Metric) -> list[Column]:
    """A column for each protocol, setting and split of the rows; the code's own reading first."""
    protocol, setting = metric.home or ("", "")
    found = rows[["protocol", "setting", "split"]].drop_duplicates().itertuples(index=False, name=None)
    places = sorted(found, key=lambda place: (place[2] != "test", place[0] == metric.protocol, setting_order(place[1])))
    columns = []
    for own, name, split in places:
        title = spoken(name) if own == metric.protocol else "code (frozen probe)"
        title += "" if split == "test" else f" ({split})"
        columns.append(Column(title, own, name, metric.name, metric.unit, split, against=setting, beside=protocol))
    return columns
