"""Tables are grouped by what is learned from, and say once what probes read where there is nothing to learn."""

import re

import pandas as pd
import pytest
from madeup import displays, measured, store

from mdebench import catalog
from mdebench.figures.chart import parts
from mdebench.figures.paper_charts import families
from mdebench.home import Home
from mdebench.results.displays import CONTROLS
from mdebench.results.lines import FAMILIES
from mdebench.results.published import paper_dir
from mdebench.results.rows import read_rows
from mdebench.suite.inventory.mending import mend
from mdebench.tables.formats import csv_text, markdown
from mdebench.tables.write import build_tables

NOW = displays()


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def table(home, stem="table1-pack-small"):
    return {table.stem: table for table in build_tables(home, NOW)}[stem]


def test_every_method_says_a_family_that_tables_know():
    for name, code in catalog.own_methods().items():
        assert code.load().Method.family(code.settings(None, {})) in FAMILIES, name


def test_what_is_learned_from_depends_on_the_settings():
    colour, timm = catalog.method("colorization2"), catalog.method("timm:resnet18")
    assert colour.load().Method.family(colour.settings(None, {})) == "colour"
    for weights, family in (("random", "reference"), ("published", "published"), ("mine.pt", "published")):
        assert timm.load().Method.family(timm.settings(None, {"weights": weights})) == family


def test_lines_stand_by_families_and_older_rows_last(home):
    told = {"rec 0.1": "completion", "split_brain": "colour", "pixels": "reference", "jigsaw": "context", "old": ""}
    for place, (label, family) in enumerate(told.items()):
        store(home, label, [measured(1 + place / 10)], family=family)
    block = table(home).blocks[0]
    names = ["Raw pixels (ridge, 21×21)", "split_brain", "jigsaw", "rec 0.1", "old"]
    assert [(line.name, line.family) for line in block.lines] == list(
        zip(names, ["reference", "colour", "context", "completion", ""])
    )
    assert re.search(r"^\| old +\| – +\|", markdown(table(home)), re.M)
    assert re.search(r"^\| jigsaw +\| context +\|", markdown(table(home)), re.M)
    assert ",jigsaw,context," in csv_text(table(home))


def test_published_lines_have_families():
    for file in sorted(paper_dir().glob("*.csv")):
        assert set(pd.read_csv(file)["family"]) <= set(FAMILIES), file


def test_older_rows_are_told_their_family_where_the_method_is_ours(home):
    store(home, "glcic", [measured(1.0)], settings={"width": 16})
    store(home, "colorization1", [measured(1.0)], settings={"variant": "colorization1", "S": None})
    store(home, "theirs", [measured(1.0)], method_source="theirs.py, sha256 ab")
    assert len(list(mend(home))) == 2
    assert dict(read_rows(home)[["method", "family"]].itertuples(index=False)) == {
        **{"glcic": "completion", "colorization1": "colour"},
        "theirs": "",
    }
    assert not list(mend(home))


def test_the_chart_of_families_has_a_group_for_each(home):
    for label, family in (("pixels", "reference"), ("rec 0.1", "completion"), ("jigsaw", "context"), ("old", "")):
        store(home, label, [measured(1.0)], family=family)
    chart = families(parts(home, NOW)[0])
    assert chart.settings == ("reference", "context", "completion")
    assert set(chart.panels[0].cells) == {
        ("Raw pixels (ridge, 21×21)", "reference"),
        ("jigsaw", "context"),
        ("rec 0.1", "completion"),
    }


def with_controls(home, label, value, controls, **facts):
    store(home, label, [measured(value)], **facts)
    both = [measured(control, setting=setting) for setting, control in zip(CONTROLS, controls)]
    store(home, label, both, key=f"controls of {label}", **facts)


def test_controls_are_said_once_and_are_no_columns(home):
    with_controls(home, "constant", 2.4, (2.4, 2.4))
    with_controls(home, "rec 0.1", 1.4, (2.41, 2.45))
    store(home, "rec 0.5", [measured(1.3)])
    found = [note for note in table(home).footnotes if note.startswith(("Negative", "A CONTROL"))]
    assert found == [
        "Negative controls, the probes of 2 of 3 lines where there is nothing to learn: Landmarks (px of 96) 2.41 to"
        " 2.41 on shuffled labels and 2.45 to 2.45 on shuffled images (majority answer 2.40)."
    ]
    titles = [column.title for block in table(home).blocks for column in block.columns]
    assert titles.count("Landmarks, probe") == 1 and not any("shuffled" in title for title in titles)
    assert families(parts(home, NOW)[0]) is None  # rows without a family, and controls are no readout


def test_a_probe_that_reads_more_than_the_majority_answer_is_named(home):
    with_controls(home, "constant", 2.4, (2.4, 2.4))
    with_controls(home, "rec 0.1", 1.4, (2.15, 2.3))  # intervals are 0.2 wide
    found = [note for note in table(home).footnotes if note.startswith("A CONTROL FAILS")]
    assert len(found) == 1 and "rec 0.1, Landmarks 2.15 on shuffled labels, majority answer 2.40" in found[0]
    assert "2.30" not in found[0]
