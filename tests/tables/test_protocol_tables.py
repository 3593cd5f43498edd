"""The tables beyond the paper's: settings in order, better the right way round, judges named, Tables 1–3 left alone."""

import json
import math
import re
from dataclasses import asdict

import numpy as np
import pytest
from madeup import displays, measured, store

from mdebench.errors import UserError
from mdebench.evaluation.displays import displays as displays_in
from mdebench.figures.chart import parts
from mdebench.figures.write import charts_of
from mdebench.files import write_json
from mdebench.home import Home
from mdebench.results.displays import Display, Metric, from_plain, setting_order
from mdebench.results.rows import keep_values
from mdebench.tables.write import build_tables, write_tables
from mdebench.variants import SCENARIOS


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


NOW = displays()
JUDGE = "resnet18 on 200 identities, held-out accuracy 61.2 %, weights a1b2c3d4"


def table(home, stem):
    return {table.stem: table for table in build_tables(home, NOW)}[stem]


def texts(block):
    """Line name → header → marked text."""
    return {
        line.name: {column.header: cell.marked for column, cell in zip(block.columns, cells)}
        for line, cells in zip(block.lines, block.cells)
    }


def completions(home):
    for label, value in (("biharmonic", 20.0), ("rec 0.1", 21.0), ("rec 0.5", 19.0)):
        for scenario in ("rec 0.5", "rec 0.1", "inpainting 0.25", "colorization1"):
            cells = [
                measured(value, "psnr/raw/image", scenario, unit="dB"),
                measured(value / 10, "inception_score/raw", scenario, unit="", low=value / 10, high=value / 10),
                measured(3.5, "inception_score/originals", scenario, unit=""),
                measured(40 - value, "fid/raw", scenario, unit=""),
            ]
            store(home, label, cells, protocol="completion", key=f"{label} {scenario}", judge=JUDGE)


def test_completion_is_a_matrix_per_metric(home):
    completions(home)
    made = table(home, "completion-pack-small")
    titles = [block.title for block in made.blocks]
    assert titles == [
        "pSNR of the raw output, whole image",
        "Inception score of the raw output",
        "Inception score of the originals, for comparison",
        "FID of the raw output (lower is better)",
        "How each line was made",
    ]
    psnr, score, originals, fid, _ = map(texts, made.blocks)
    assert list(psnr["rec 0.1"]) == ["inpainting 0.25 (dB)", "colorization1 (dB)", "rec 0.1 (dB)", "rec 0.5 (dB)"]
    assert psnr["rec 0.1"]["rec 0.5 (dB)"] == "21.00 [20.90, 21.10] (†) unpaired"
    assert psnr["rec 0.5"]["rec 0.5 (dB)"] == "19.00 [18.90, 19.10] unpaired"
    assert score["rec 0.1"]["rec 0.1"] == "2.10 [2.10, 2.10] (†) unpaired"
    assert fid["rec 0.1"]["rec 0.1"] == "19.00 [18.90, 19.10] (†) unpaired"
    assert originals["rec 0.1"]["rec 0.1"] == "3.50 [3.40, 3.60]"  # of the images: nobody is better at it
    assert re.sub(r" ± \d\.\d\d dB unpaired", "", made.reading[0]) == (
        "pSNR of the raw output, whole image, inpainting 0.25: rec 0.1 (21.00 dB), best of 2 trained methods, beats in "
        "these runs the biharmonic fill by 1.00 and the runner-up rec 0.5 by 2.00."
    )
    assert any("Inception score of the raw output" in text for text in made.reading)


def test_what_two_judges_say_stands_apart(home):
    """Each block has the lines that its judge saw; what needs no judge is one block, of the newest rows."""
    completions(home)
    for label, value in (("rec 0.1", 23.0), ("re 0.33", 22.0)):
        cells = [measured(value, "psnr/raw/image", "rec 0.1"), measured(value / 2, "inception_score/raw", "rec 0.1")]
        facts = {"protocol": "completion", "key": f"{label} again", "time": "2026-01-02T00:00:00.000+00:00"}
        store(home, label, cells, judge=JUDGE.replace("a1b2c3d4", "0badcafe"), **facts)
    made = table(home, "completion-pack-small")
    blocks = {block.title: texts(block) for block in made.blocks}
    psnr = blocks["pSNR of the raw output, whole image"]
    own = {name: cells["rec 0.1 (dB)"][:5] for name, cells in psnr.items()}
    assert own == {"Biharmonic fill": "20.00", "rec 0.1": "23.00", "rec 0.5": "19.00", "re 0.33": "22.00"}
    old = blocks["Inception score of the raw output (judge a1b2c3d4)"]
    new = blocks["Inception score of the raw output (judge 0badcafe)"]
    assert set(old) == {"Biharmonic fill", "rec 0.1", "rec 0.5"} and old["rec 0.1"]["rec 0.1"].startswith("2.10")
    assert set(new) == {"rec 0.1", "re 0.33"} and new["rec 0.1"]["rec 0.1"].startswith("11.50")
    assert any(sentence.startswith("Inception score of the raw output (judge 0badcafe)") for sentence in made.reading)
    assert any(note.startswith("Different judges") for note in made.footnotes)
    assert not any(note.startswith(("Superseded", "Runs")) for note in made.footnotes)


def test_the_judge_is_named_and_two_are_warned_about(home):
    completions(home)
    notes = table(home, "completion-pack-small").footnotes
    assert f"Judge: {JUDGE}." in notes and not any("Different judges" in note for note in notes)
    other = [measured(2.0, "inception_score/raw", "rec 0.1", unit="")]
    store(home, "re 0.33", other, protocol="completion", judge="resnet50")
    made = table(home, "completion-pack-small")
    assert any(note.startswith("Different judges") for note in made.footnotes)
    assert f"Judges: {JUDGE}; resnet50." in made.footnotes
    judged = {name: line["Judge"] for name, line in texts(made.blocks[-1]).items()}
    assert (judged["re 0.33"], judged["rec 0.1"]) == ("resnet50", "a1b2c3d4")


def test_resampling_shows_four_of_its_ten_steps(home):
    steps = [measured(90.0 - k, "judge_agreement", f"step {k}", unit="%") for k in range(1, 11)]
    store(home, "rec 0.1", steps, protocol="resampling")
    block, _ = table(home, "resampling-pack-small").blocks
    assert [column.title for column in block.columns] == ["step 1", "step 2", "step 5", "step 10"]


def test_few_labels_stand_beside_all_of_them_and_not_in_tables_1_and_2(home):
    settings = ("frozen-probe", "frozen-probe-1%", "frozen-probe-10%")
    for label, base in (("pixels", 13.0), ("rec 0.1", 12.0)):
        for protocol, metric in (("attributes", "attribute_error"), ("landmarks", "landmark_distance")):
            for setting in settings:
                cell = measured(base + len(setting), metric, setting, note=f"note of {setting}")
                store(home, label, [cell], protocol=protocol, key=f"{label} {protocol} {setting}")
    made = table(home, "few_labels-pack-small")
    assert [block.title for block in made.blocks] == ["Attributes", "Landmarks", "How each line was made"]
    assert texts(made.blocks[0])["rec 0.1"] == {
        "all labels (% error)": "24.00 [23.90, 24.10] (†) unpaired",
        "1 % of the labels (% error)": "27.00 [26.90, 27.10] (†) unpaired",
        "10 % of the labels (% error)": "28.00 [27.90, 28.10] (†) unpaired",
    }
    first = table(home, "table1-pack-small")
    assert [column.title for column in first.blocks[0].columns] == ["Landmarks, probe"]
    assert not any("note of frozen-probe-1" in note for note in first.footnotes)
    assert not any("1 %" in column.title for block in first.blocks for column in block.columns)


def test_without_few_labels_there_is_no_such_table(home):
    store(home, "rec 0.1", [measured(1.0)])
    assert [table.stem for table in build_tables(home, NOW)] == ["table1-pack-small"]


def test_layers_compare_with_raw_pixels_of_the_other_protocol(home):
    store(home, "pixels", [measured(13.0, "attribute_error")], protocol="attributes", key="p")
    store(home, "rec 0.1", [measured(12.5, "attribute_error")], protocol="attributes", key="r")
    stages = [measured(v, "attribute_error", s) for s, v in (("code", 12.5), ("stage2", 13.1), ("stage1", 14.0))]
    store(home, "rec 0.1", stages, protocol="layers", key="layers")
    block, _ = table(home, "layers-pack-small").blocks
    lines = texts(block)
    assert list(lines["rec 0.1"]) == [
        "code (frozen probe) (% error)",
        "stage1 (% error)",
        "stage2 (% error)",
        "code (% error)",
    ]
    assert lines["rec 0.1"]["stage2 (% error)"] == "13.10 [13.00, 13.20] ≈ unpaired"
    assert lines["rec 0.1"]["code (% error)"] == "12.50 [12.40, 12.60] (†) unpaired"
    assert lines["Raw pixels (ridge, 21×21)"]["code (frozen probe) (% error)"] == "13.00 [12.90, 13.10]"


def keep(home, label, protocol, values, unit="", **facts):
    """Store (setting, metric) → values image by image, whose means are the rows."""
    key = f"{label} {protocol}"
    cells = []
    for (setting, metric), numbers in values.items():
        mean = float(np.mean(numbers))
        interval = {"low": mean - 0.5, "high": mean + 0.5, "n": len(numbers), "values": np.float32(numbers)}
        cells.append(measured(mean, metric, setting, unit=unit, **interval))
    keep_values(home, key, cells)
    store(home, label, cells, protocol=protocol, key=key, **facts)


def test_robustness_has_a_block_for_each_fill_and_speaks_of_the_chosen_one(home, rng):
    """Raw pixels do best under the biharmonic fill, rec 0.1 under its own completion; re 0.33 cannot complete."""
    hard = rng.normal(20, 1, 200)
    means = {
        "pixels": {"clean": 0, "mouth": 9, "mouth, mean colour": 4, "mouth, biharmonic": 2, "mouth, chosen fill": 2},
        "rec 0.1": {"clean": 1, "mouth": 6, "mouth, mean colour": 5, "mouth, biharmonic": 3, "mouth, chosen fill": 1.5},
        "re 0.33": {
            "clean": 2,
            "mouth": 5,
            "mouth, mean colour": 6,
            "mouth, biharmonic": 2.5,
            "mouth, chosen fill": 2.5,
        },
    }
    means["rec 0.1"]["mouth, own completion"] = 1.5
    for label, own in means.items():
        spread = {setting: hard + mean + rng.normal(0, 0.1, 200) for setting, mean in own.items()}
        keep(home, label, "robustness", {(s, "attribute_error"): v for s, v in spread.items()}, unit="%")
    made = table(home, "robustness-pack-small")
    *blocks, made_how = made.blocks
    assert made_how.title == "How each line was made"
    assert [block.title.removeprefix("Attributes, ").partition(", beside")[0] for block in blocks] == [
        "missing pixels are zero",
        "missing pixels filled with the mean colour",
        "missing pixels filled by the biharmonic fill",
        "missing pixels filled by the method's own completion",
        "each line under the fill chosen for it on validation images",
    ]
    titles = [[column.title for column in block.columns] for block in blocks]
    assert titles == [["clean", "mouth"], ["mouth"], ["mouth"], ["mouth"], ["mouth"]]
    verdicts = [
        {
            (line.name, column.title): cell.verdict
            for line, cells in zip(block.lines, block.cells)
            for column, cell in zip(block.columns, cells)
            if line.name != "Raw pixels (ridge, 21×21)"
        }
        for block in blocks
    ]
    assert verdicts[0] == {
        ("rec 0.1", "clean"): "worse",
        ("re 0.33", "clean"): "worse",
        ("rec 0.1", "mouth"): "better",
        ("re 0.33", "mouth"): "better",
    }
    assert verdicts[2] == {("rec 0.1", "mouth"): "worse", ("re 0.33", "mouth"): "worse"}
    assert verdicts[3] == {("rec 0.1", "mouth"): "better"}  # than raw pixels under their chosen fill
    assert verdicts[4] == {("rec 0.1", "mouth"): "better", ("re 0.33", "mouth"): "worse"}
    told = [sentence.partition(" (")[0] for sentence in made.reading]
    assert told == [
        "Attributes, missing pixels are zero, clean: rec 0.1",
        "Attributes, each line under the fill chosen for it on validation images, mouth: rec 0.1",
    ]


def test_the_words_speak_of_the_fill_under_which_a_trained_line_does_best(home, rng):
    hard = rng.normal(20, 1, 200)
    for label, more in (
        ("pixels", {"": 9, ", biharmonic": 2, ", chosen fill": 2}),
        ("rec 0.1", {"": 6, ", biharmonic": 3, ", chosen fill": 3}),
    ):
        spread = {(f"mouth{s}", "attribute_error"): hard + mean + rng.normal(0, 0.1, 200) for s, mean in more.items()}
        keep(home, label, "robustness", spread, unit="%")
    first, second = table(home, "robustness-pack-small").reading
    assert first.startswith("Attributes, missing pixels filled by the biharmonic fill, mouth: rec 0.1")
    assert second.startswith("Attributes, each line under the fill chosen for it on validation images, mouth: rec 0.1")


def test_answers_are_judged_by_all_metrics_of_a_readout_side_by_side(home, rng):
    metrics = ("attribute_error", "balanced_accuracy", "auc", "average_precision", "calibration_error")
    for label, shift in (("pixels", 0.0), ("rec 0.1", 1.0)):
        values = {
            (setting, metric): 50 + shift + rng.normal(0, 1, 100)
            for setting in ("frozen-probe", "frozen-head-5000", "frozen-probe-1%")
            for metric in metrics
        }
        keep(home, label, "attributes", values, unit="%")
    made = table(home, "attributes-pack-small")
    *blocks, _ = made.blocks
    assert [block.title for block in blocks] == ["Converged probe", "Head of 5,000 updates"]
    for block in blocks:
        assert [column.header for column in block.columns] == [
            "Attribute error (% error)",
            "Balanced accuracy (%)",
            "Area under the ROC curve (%)",
            "Average precision (%)",
            "Calibration error (% points)",
        ]
        _, ours = block.cells
        assert [cell.verdict for cell in ours] == ["worse", "better", "better", "better", "worse"]
    assert any(sentence.startswith("Converged probe, Area under the ROC curve: rec 0.1") for sentence in made.reading)


def test_partitions_of_classes_are_told_apart(home):
    cells = [
        measured(50.0, "accuracy", s, unit="%", split="held-out") for s in ("knn", "probe-10%", "probe", "probe-1%")
    ]
    store(home, "rec 0.1", cells, protocol="classes")
    block, _ = table(home, "classes-pack-small").blocks
    assert [column.title for column in block.columns] == [
        "probe (held-out)",
        "1 % of the labels (held-out)",
        "10 % of the labels (held-out)",
        "knn (held-out)",
    ]


def test_marks_are_paired_where_values_are_kept_and_the_legend_says_so(home, rng):
    """Intervals of ± 1 overlap; image by image one is 0.1 worse throughout."""
    hard = rng.normal(2, 0.5, 50)
    for label, more in (("pixels", 0.0), ("rec 0.1", -0.1), ("rec 0.5", 0.1)):
        values = (hard + more + rng.normal(0, 0.01, 50)).astype(np.float32)
        mean = float(values.mean())
        point = measured(mean, low=mean - 1, high=mean + 1, n=50, values=values)
        keep_values(home, key := f"{label:<16}".replace(" ", "_"), [point])
        store(home, label, [point], key=key)
    store(home, "re 0.33", [measured(2.0, n=50)])
    made = table(home, "table1-pack-small")
    verdicts = {line.name: cells[0].verdict for line, cells in zip(made.blocks[0].lines, made.blocks[0].cells)}
    assert (verdicts["rec 0.1"], verdicts["rec 0.5"], verdicts["re 0.33"]) == ("better", "worse", "overlap")
    notes = " ".join(made.footnotes)
    assert "image by image: 2 cells" in notes and '("unpaired" beside the cell): 1 cell.' in notes
    assert "All 5 comparisons of this table" in notes  # three marks, and the best beside three, one of them marked
    assert "beats in these runs raw pixels read by the ridge probe by 0.10 ± 0.01 px" in made.reading[0]


@pytest.mark.parametrize(
    ("protocol", "metric", "better"),
    [
        ("completion", "inception_score/raw", "higher"),
        ("completion", "inception_score/originals", ""),  # of the images, not of the method
        ("completion", "fid/raw", "lower"),
        ("completion", "kid/raw", "lower"),
        ("completion", "lpips/raw/image", "lower"),
        ("completion", "psnr/raw/hole", "higher"),
        ("occlusion", "ssim/composite/hole", "higher"),
        ("classes", "accuracy", "higher"),
        ("layers", "accuracy", "higher"),
        ("resampling", "judge_agreement", "higher"),
        ("resampling", "attribute_agreement", "higher"),
        ("attributes", "attribute_error", "lower"),
        ("attributes", "balanced_accuracy", "higher"),
        ("robustness", "landmark_distance", "lower"),
        ("landmarks", "landmark_distance_iod", "lower"),
        ("landmarks", "landmark_distance_iod/nose", "lower"),
        ("landmarks", "landmark_share_10", "higher"),
        ("attributes", "auc", "higher"),
        ("attributes", "average_precision", "higher"),
        ("attributes", "calibration_error", "lower"),
        ("hide_and_seek", "seek_share", "higher"),  # what a seeker does not find is well hidden
        ("hide_and_seek", "blind_error", ""),
    ],
)
def test_which_way_is_better(protocol, metric, better):
    assert NOW[protocol].metric(metric).better == better


def test_a_protocol_that_says_nothing_is_shown_as_it_is(home):
    """Its table and its chart have all that there is, and nothing is said to be better."""
    for label, value in (("pixels", 1.0), ("rec 0.1", 2.0)):
        store(home, label, [measured(value, "twist", "left", unit="turns")], protocol="spin")
    made = table(home, "spin-pack-small")
    block, _ = made.blocks
    assert block.title == "twist" and texts(block)["rec 0.1"] == {"left (turns)": "2.00 [1.90, 2.10]"}
    (chart,) = [chart for chart, _ in charts_of(*parts(home, NOW)) if chart.name == "spin"]
    assert [panel.metric for panel in chart.panels] == ["twist"] and chart.settings == ("left",)


def test_rows_of_which_a_display_says_nothing_are_not_forgotten(home):
    said = Display("Spun", (Metric("misspelt", "Twist", "turns", "lower"),), version=1, needs="encode")
    store(home, "rec 0.1", [measured(2.0, "twist", "left", unit="turns")], protocol="spin")
    (made,) = build_tables(home, {"spin": said})
    assert made.title.startswith("Spun") and made.blocks[0].title == "twist"


def test_what_somebody_elses_protocol_said_of_its_rows_is_read_back_from_beside_them(home):
    said = Display("Spun", (Metric("twist", "Twist", "turns", "lower", told=True),), version=3, needs="encode")
    for label, value in (("pixels", 1.0), ("rec 0.1", 0.5)):
        store(home, label, [measured(value, "twist", "left", unit="turns")], protocol="spin", protocol_source="spin.py")
    (home.rows / "spin" / "display.json").write_text(json.dumps(asdict(said)))
    assert displays_in(home)["spin"] == said
    (made,) = build_tables(home, displays_in(home))
    assert made.title.startswith("Spun") and texts(made.blocks[0])["rec 0.1"]["left (turns)"].endswith("(†) unpaired")
    assert any("Stale: " in note for note in made.footnotes)  # measured by version 1
    assert "Code of others: protocol spin from spin.py." in made.footnotes
    for bad in (
        '{"metrics": 3}',
        '{"metrics": [{"digits": "x"}]}',
        '{"metrics": [{"name": "a", "better": "up"}]}',
        "[]",
    ):
        (home.rows / "spin" / "display.json").write_text(bad)
        with pytest.raises(UserError, match=r"display\.json is damaged \(.*; measure spin again"):
            displays_in(home)


def test_a_display_is_held_to_its_digest(home):
    store(home, "rec 0.1", [measured(2.0)], protocol="spin")
    path = home.rows / "spin" / "display.json"
    write_json(path, asdict(Display("Spun", (Metric("twist", better="lower"),), version=3)))
    assert displays_in(home)["spin"].version == 3
    path.write_text(path.read_text().replace('"version": 3', '"version": 2'))
    with pytest.raises(UserError, match="not what its checksum says"):
        displays_in(home)


@pytest.mark.parametrize("name", NOW)
def test_displays_survive_being_written_down(name):
    assert from_plain(json.loads(json.dumps(asdict(NOW[name])))) == NOW[name]


def test_settings_stand_in_the_papers_order():
    names = [scenario.name for scenario in SCENARIOS]
    assert sorted(set(names), key=setting_order) == names
    stages = ["code", "stage10", "stage2", "stage1"]
    assert sorted(stages, key=setting_order) == ["stage1", "stage2", "stage10", "code"]


def test_missing_intervals_are_not_compared_and_every_table_is_written(home):
    completions(home)
    nan = {"low": math.nan, "high": math.nan}
    store(home, "rec 0.3", [measured(1.0, "fid/raw", "rec 0.1", unit="", **nan)], protocol="completion")
    fid = texts(table(home, "completion-pack-small").blocks[3])
    assert fid["rec 0.3"]["rec 0.1"] == "1.00"
    paths = write_tables(home, home.folder / "out", NOW)
    assert sorted(path.name for path in paths) == [f"completion-pack-small.{end}" for end in ("csv", "md", "tex")]
