"""Tables: every number from a row or a paper, marks by intervals, missing is never zero, stale never unsaid."""

import csv
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from madeup import RECORD, displays, measured, store
from PIL import Image

from mdebench.errors import UserError
from mdebench.figures.contact_sheets import write_sheets
from mdebench.home import Home
from mdebench.pictures import GAP, grid
from mdebench.results.cells import MISSING, cell_from_rows
from mdebench.results.lines import newest_per_seed
from mdebench.results.published import paper_dir
from mdebench.results.rows import keep_values, read_rows, values_path
from mdebench.tables.formats import csv_text, latex, markdown, tex
from mdebench.tables.says import page
from mdebench.tables.write import build_tables, write_tables


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


NOW = displays()
PRESETS = ("right_half", "left_half", "both_eyes", "right_eye", "left_eye", "mouth")


def table(home, stem, versions=NOW):
    return {table.stem: table for table in build_tables(home, versions)}[stem]


def texts(block):
    """Line name → header → marked text."""
    return {
        line.name: {column.header: cell.marked for column, cell in zip(block.columns, cells)}
        for line, cells in zip(block.lines, block.cells)
    }


def everybody(home):
    for label, value in (
        ("constant", 2.4),
        ("pixels", 0.98),
        ("random", 1.39),
        ("rec 0.1", 1.4),
        ("re 0.33", 1.05),
        ("rec 0.5", 0.7),
    ):
        store(home, label, [measured(value), measured(value + 1, setting="frozen-head-5000")])


def test_published_numbers_are_the_papers():
    """Against the paper's tables, typed a second time; Table 3 in the order of the presets, not in the paper's."""
    first = pd.read_csv(paper_dir() / "table1.csv").pivot(index="metric", columns="label", values="value")
    colours = ["random", "colorization1", "colorization2", "inpainting", "reverse_inpainting"]
    boxes = ["re 0.25", "re 0.33", "re 0.5", "rec 0.1", "rec 0.3", "rec 0.5"]
    assert list(first.loc["landmark_distance", colours]) == [9.753, 2.358, 2.278, 5.411, 1.496]
    assert list(first.loc["landmark_distance", boxes]) == [2.039, 1.719, 1.759, 1.509, 1.451, 1.498]
    assert list(first.loc["attribute_error", colours]) == [19.79, 11.69, 10.92, 16.12, 13.73]
    assert list(first.loc["attribute_error", boxes]) == [12.72, 11.41, 10.39, 10.49, 10.30, 10.16]
    assert list(pd.read_csv(paper_dir() / "table2.csv")["value"]) == [13.4, 10.37, 9.58, 10.21, 10.29, 8.64, 9.17]
    third = pd.read_csv(paper_dir() / "table3.csv").pivot(index="label", columns=["metric", "setting"], values="value")
    order = ["left_half", "right_half", "both_eyes", "left_eye", "right_eye", "mouth"]
    assert list(third.loc["CE", "psnr"][order]) == [18.4, 18.6, 17.9, 19.1, 19.0, 19.3]
    assert list(third.loc["GFC", "psnr"][order]) == [19.3, 19.4, 18.3, 18.9, 19.1, 19.7]
    assert list(third.loc["MDE", "psnr"][order]) == [21.8, 21.6, 21.8, 22.6, 22.4, 21.9]
    assert list(third.loc["CE", "ssim"][order]) == [0.774, 0.772, 0.719, 0.757, 0.754, 0.818]
    assert list(third.loc["GFC", "ssim"][order]) == [0.808, 0.804, 0.731, 0.755, 0.759, 0.824]
    assert list(third.loc["MDE", "ssim"][order]) == [0.815, 0.814, 0.839, 0.860, 0.855, 0.818]


def test_what_training_took_stands_below_table_1(home):
    store(home, "pixels", [measured(0.98)], seconds=0.3, gflop=0.0)
    for seed, seconds in ((0, 600.0), (1, 1200.0)):
        store(home, "rec 0.1", [measured(1.4)], seed=seed, seconds=seconds, gflop=118_500.0)
    store(home, "re 0.33", [measured(1.1)], seconds=math.nan, gflop=math.nan)  # a row of before they were counted
    store(home, "tiny 0.1", [measured(1.2)], updates=6, gflop=13.4)
    made = table(home, "table1-pack-small").blocks[-1]
    assert made.title == "How each line was made"
    assert texts(made) == {
        "Raw pixels (ridge, 21×21)": {"Updates": MISSING, "Operations (TFLOP)": MISSING, "Seeds": "0"},
        "re 0.33": {"Updates": "3,000", "Operations (TFLOP)": MISSING, "Seeds": "0"},
        "rec 0.1": {"Updates": "3,000", "Operations (TFLOP)": "118", "Seeds": "0, 1"},
        "tiny 0.1": {"Updates": "6", "Operations (TFLOP)": "0.013", "Seeds": "0"},
    }


def test_a_second_table_1_compares_at_equal_operations(home):
    store(home, "pixels", [measured(0.98)])
    for label, gflop in (("rec 0.1", 50_000.0), ("re 0.33", 54_000.0), ("rec 0.5", 56_000.0), ("mae", 9_000.0)):
        store(home, label, [measured(1.4)], gflop=gflop)
    tables = [each for each in build_tables(home, NOW) if "equal operations" in each.title]
    assert [each.stem for each in tables] == ["table1-52tflop-pack-small"]
    assert set(texts(tables[0].blocks[0])) == {"rec 0.1", "re 0.33", "Raw pixels (ridge, 21×21)"}
    for label in ("mae", "rec 0.5"):
        next((home.rows).glob(f"*/{label}*")).unlink()
    stems = [each.stem for each in build_tables(home, NOW)]
    assert "table1-pack-small" in stems and not any("tflop" in stem for stem in stems)  # it would be the same table


def test_table_1_says_what_beats_raw_pixels(home):
    everybody(home)
    first = table(home, "table1-pack-small")
    assert texts(first.blocks[0])["rec 0.1"] == {
        "Landmarks, head 5,000 (px of 96)": "2.40 [2.30, 2.50] unpaired",
        "Landmarks, probe (px of 96)": "1.40 [1.30, 1.50] unpaired",
    }
    probe = {name: line["Landmarks, probe (px of 96)"] for name, line in texts(first.blocks[0]).items()}
    assert probe == {
        "Constant (no image)": "2.40 [2.30, 2.50] unpaired",
        "Raw pixels (ridge, 21×21)": "0.98 [0.88, 1.08]",
        "Random weights": "1.39 [1.29, 1.49] unpaired",
        "re 0.33": "1.05 [0.95, 1.15] ≈ unpaired",
        "rec 0.1": "1.40 [1.30, 1.50] unpaired",
        "rec 0.5": "0.70 [0.60, 0.80] (†) unpaired",
    }
    assert list(probe)[:3] == ["Constant (no image)", "Raw pixels (ridge, 21×21)", "Random weights"]


def test_a_trained_head_is_marked_against_the_best_readout_of_pixels(home):
    """The head on rec 0.5 gives 1.70 px: better than the head on pixels (1.98), worse than their ridge probe (0.98)."""
    everybody(home)
    block = table(home, "table1-pack-small").blocks[0]
    assert texts(block)["rec 0.5"]["Landmarks, head 5,000 (px of 96)"] == "1.70 [1.60, 1.80] unpaired"


def test_the_reading_is_made_of_the_numbers(home):
    everybody(home)
    head, probe = table(home, "table1-pack-small").reading
    assert re.sub(r" ± \d\.\d\d px unpaired", "", probe) == (
        "Landmarks, probe: rec 0.5 (0.70 px), best of 3 trained methods, beats in these runs raw pixels read by the "
        "ridge probe by 0.28, random weights by 0.69, the mean shape by 1.70 and the runner-up re 0.33 by 0.35."
    )
    assert re.sub(r" ± \d\.\d\d px unpaired", "", head) == (
        "Landmarks, head 5,000: rec 0.5 (1.70 px), best of 3 trained methods, beats in these runs random weights by "
        "0.69, the mean shape by 0.70 and the runner-up re 0.33 by 0.35; loses in these runs to raw pixels read by the "
        "ridge probe by 0.72."
    )


def test_annotated_landmarks_and_fine_tuning_have_columns_where_they_exist(home):
    everybody(home)
    store(
        home,
        "zeta",
        [measured(1.2), measured(1.3, split="annotated", n=227), measured(0.5, setting="finetune-head-5000")],
    )
    first = table(home, "table1-pack-small")
    titles = ["Landmarks, frozen encoder", "Fine-tuned encoder", "How each line was made"]
    assert [block.title for block in first.blocks] == titles
    frozen, tuned, _ = map(texts, first.blocks)
    assert list(frozen)[-1] == "zeta"
    assert frozen["zeta"]["Landmarks (annotated), probe (px of 96)"] == "1.30 [1.20, 1.40]"
    assert frozen["rec 0.1"]["Landmarks (annotated), probe (px of 96)"] == MISSING
    assert tuned == {"zeta": {"Landmarks, head 5,000 (px of 96)": "0.50 [0.40, 0.60] (†) unpaired"}}
    assert any("annotated 227 and test 330" in note for note in first.footnotes)


def test_seeds_are_a_mean_and_a_spread(home):
    """(1.0 + 1.2 + 1.7) / 3 = 1.3; deviations −0.3, −0.1, 0.4: √((0.09 + 0.01 + 0.16) / 2) = 0.3606."""
    everybody(home)
    for seed, value in enumerate((1.0, 1.2, 1.7)):
        store(home, "rec 0.3", [measured(value)], seed=seed)
    first = table(home, "table1-pack-small")
    assert texts(first.blocks[0])["rec 0.3"]["Landmarks, probe (px of 96)"] == "1.30 ± 0.36 (3 seeds) unpaired"
    seeds = {name: line["Seeds"] for name, line in texts(first.blocks[-1]).items()}
    assert seeds.pop("rec 0.3") == "0, 1, 2" and set(seeds.values()) == {"0"}


def test_variants_of_one_label_stand_apart(home):
    store(home, "rec 0.1", [measured(1.0)], settings={"S": 0.1, "width": 16}, run="a", key="a")
    store(home, "rec 0.1", [measured(2.0)], settings={"S": 0.1, "width": 32}, run="b", key="b")
    lines = texts(table(home, "table1-pack-small").blocks[0])
    assert lines["rec 0.1 (width=16)"]["Landmarks, probe (px of 96)"] == "1.00 [0.90, 1.10]"
    assert lines["rec 0.1 (width=32)"] == {"Landmarks, probe (px of 96)": "2.00 [1.90, 2.10]"}
    assert "rec 0.1" not in lines


def test_what_most_variants_share_goes_without_saying(home):
    """Three of four runs had both losses: the fourth alone is told apart, by its losses. Fills do not count."""
    for label in ("mean_colour", "biharmonic", "random"):
        store(home, label, [measured(3.0)])
    for k, label in enumerate(("rec 0.1", "re 0.33", "inpainting 0.25")):
        store(home, label, [measured(1.0)], run=str(k), key=str(k))
    store(home, "rec 0.1", [measured(2.0)], updates=1000, losses="compl", run="own", key="own")
    lines = texts(table(home, "table1-pack-small").blocks[0])
    other = "rec 0.1 (losses=compl)"
    assert lines["rec 0.1"]["Landmarks, probe (px of 96)"].startswith("1.00")
    assert lines[other]["Landmarks, probe (px of 96)"].startswith("2.00")


def test_variants_without_a_setting_are_told_apart_by_its_usual_value(home):
    """Where one variant lacks what two others share, the shared value must be said."""
    store(home, "rec 0.1", [measured(1.0)], settings={"S": 0.1}, run="a", key="a")
    store(home, "rec 0.1", [measured(2.0)], settings={"S": 0.1, "width": 16}, run="b", key="b")
    store(home, "rec 0.5", [measured(2.0)], settings={"S": 0.5, "width": 16}, run="c", key="c")
    assert {"rec 0.1", "rec 0.1 (width=16)"} <= set(texts(table(home, "table1-pack-small").blocks[0]))


def test_a_setting_that_came_later_is_told_where_it_is_another_than_all_had_before(home):
    """Also where most variants have the other one: names do not change with what else is measured."""
    for k, method in enumerate(("partial_conv", "edge_connect", "deepfill_v2")):
        store(home, method, [measured(2.0 + k)], settings={"masks": "damage"})
    store(home, "edge_connect", [measured(1.0)], settings={"masks": "free_form"}, run="free", key="free")
    lines = texts(table(home, "table1-pack-small").blocks[0])
    assert {"edge_connect", "edge_connect (masks=damage)"} <= set(lines)


def test_a_row_from_before_a_setting_had_what_is_now_its_default(home):
    store(home, "rec 0.1", [measured(1.0)], settings={"S": 0.1}, seed=0)
    store(home, "rec 0.1", [measured(2.0)], settings={"S": 0.1, "encoder": "mde"}, seed=1)
    store(home, "rec 0.1", [measured(3.0)], settings={"S": 0.1, "encoder": "timm:x"}, run="x", key="x")
    lines = texts(table(home, "table1-pack-small").blocks[0])
    assert lines["rec 0.1"]["Landmarks, probe (px of 96)"].endswith("(2 seeds)")
    assert lines["rec 0.1 (encoder=timm:x)"]["Landmarks, probe (px of 96)"].startswith("3.00")


def test_updates_are_in_a_name_only_where_nothing_else_tells_lines_apart(home):
    for updates in (2000, 12_000):
        store(home, "glcic", [measured(1.0)], updates=updates, run=f"g{updates}", key=f"g{updates}")
    for label, updates in (
        ("rec 0.1", 3000),
        ("rec 0.5", 3000),
        ("re 0.33", 3000),
        ("mae", 9100),
        ("inpainting", 3000),
    ):
        store(home, label, [measured(1.0)], updates=updates)
    store(home, "rec 0.1", [measured(2.0)], updates=970, run="short", key="short")
    store(home, "rec 0.1", [measured(2.0)], updates=970, losses="compl", run="own", key="own")
    first = table(home, "table1-pack-small")
    names = ["inpainting", "re 0.33", "rec 0.1", "rec 0.1, 970 updates", "rec 0.1 (losses=compl)", "rec 0.5", "mae"]
    assert set(texts(first.blocks[0])) == {*names, "glcic, 2,000 updates", "glcic, 12,000 updates"}
    assert list(texts(first.blocks[0]))[-3:] == ["glcic, 2,000 updates", "glcic, 12,000 updates", "mae"]
    updates = {name: line["Updates"] for name, line in texts(first.blocks[-1]).items()}
    assert (updates["mae"], updates["rec 0.1"], updates["rec 0.1 (losses=compl)"]) == ("9,100", "3,000", "970")


AS_PUBLISHED = {
    "losses": "vgg+adv+hns_coord",
    "perceptual": "vgg16-imagenet",
    "settings": {"width": 64, "code": 4000},
    "updates": 300_000,
    "pack_note": "celeba96: 202,599 images, 96×96",
    "dataset": "celeba96",
    "scale": "paper",
}
HEAD = "frozen-head-5000"


def beside_paper(home, label="rec 0.1", setting=HEAD, **changes):
    """What stands beside a line of Table 1 from the paper, and the published lines whose landmarks stand apart."""
    facts = {**AS_PUBLISHED, **changes}
    store(home, label, [measured(1.4), measured(1.6, setting=setting)], **facts)
    first = table(home, f"table1-{facts['dataset']}-paper")
    (ours,) = texts(first.blocks[0]).values()
    apart = [texts(block) for block in first.blocks if block.title.startswith("Published")]
    column = "Landmarks, head 5,000 (px)"
    return ours.get("Paper, head 5,000 (px)"), [
        name for b in apart for name, line in b.items() if line[column] != MISSING
    ]


def test_a_published_number_stands_beside_the_method_it_is_of(home):
    beside, apart = beside_paper(home)
    assert beside == "1.509" and len(apart) == 10 and "MDE-REC(0.1)" not in apart


@pytest.mark.parametrize(
    "changes",
    [
        {"losses": "compl"},
        {"losses": "compl+adv+hns_coord"},
        {"perceptual": "random:0"},
        {"settings": {"width": 64, "code": 4000, "encoder": "timm:resnet18"}},
        {"settings": {"width": 16, "code": 1000}},
        {"updates": 3000},
        {"pack_note": "celeba96: 202,599 images, 64×64"},
        {"setting": "finetune-head-5000"},
        {"trained_on": "toyfaces96"},
        {"label": "rec 0.2"},
    ],
)
def test_beside_another_method_or_readout_nothing_is_published(home, changes):
    """Its number stands with all others of the paper's in a block that says what they are."""
    beside, apart = beside_paper(home, **changes)
    assert beside is None and len(apart) == 11 and "MDE-REC(0.1)" in apart


@pytest.mark.parametrize(
    ("dataset", "note", "shown"),
    [
        ("toyfaces96", "toyfaces96: 20,000 images, 96×96", False),
        ("mine", "mine (from celeba): 20,000 images, 96×96", True),
        ("celebaish", "celebaish (from folder): 20,000 images, 96×96", False),
    ],
)
def test_published_numbers_stand_only_in_tables_of_their_data_set(home, dataset, note, shown):
    """In those of generated faces there are none, nor is there a word of them."""
    beside, apart = beside_paper(home, dataset=dataset, pack_note=note)
    assert (beside == "1.509") == shown == bool(apart)
    completions(home, dataset=dataset, pack_note=note)
    for made in build_tables(home, NOW):
        assert any(cell.source.startswith("Dapogny") for b in made.blocks for line in b.cells for cell in line) == (
            shown and made.stem.startswith(("table1", "table3-m"))
        )
        assert any("ublished" in note for note in made.footnotes) == (
            shown and made.stem.startswith(("table1", "table3-m"))
        )


def test_a_label_with_s_finds_the_papers_line_without(home):
    beside, apart = beside_paper(home, "inpainting 0.25", losses="vgg+adv")
    assert beside == "5.411" and "Inpainting" not in apart


def test_a_run_trained_again_supersedes_and_is_never_averaged(home):
    store(home, "rec 0.1", [measured(9.0)], key="old", weights_hash="0ld" * 20)
    store(home, "rec 0.1", [measured(1.0)], key="new", time="2026-01-02T00:00:00.000+00:00")
    first = table(home, "table1-pack-small")
    assert texts(first.blocks[0])["rec 0.1"]["Landmarks, probe (px of 96)"] == "1.00 [0.90, 1.10]"
    superseded = [note for note in first.footnotes if note.startswith("Superseded")]
    assert len(superseded) == 1 and "1 older rows of rec 0.1-small-seed0 (weights 0ld0ld0l)" in superseded[0]


def test_the_newest_by_another_judge_stands_last_whatever_the_clock_said(home):
    """Rows of one run that two judges have a part in: of what no judge says, the one stored last is shown."""
    times = ("2026-01-02T00:00:00.000+00:00", "2026-01-01T00:00:00.000+00:00")
    for value, time in zip((9.0, 1.0), times):
        store(home, "rec 0.1", [measured(value)], key=f"of {value}", judge=f"judge {value}", time=time)
    shown, _ = newest_per_seed(read_rows(home).assign(line="rec 0.1"), NOW)
    assert list(shown["value"]) == [1.0]


def test_equal_runs_are_not_seeds(home):
    store(home, "rec 0.1", [measured(9.0)], key="one", run="one")
    store(home, "rec 0.1", [measured(1.0)], key="two", run="two", time="2026-01-02T00:00:00.000+00:00")
    first = table(home, "table1-pack-small")
    assert texts(first.blocks[0])["rec 0.1"]["Landmarks, probe (px of 96)"] == "1.00 [0.90, 1.10]"
    assert "Runs one and two agree in settings and seed: two, measured last, is shown." in first.footnotes


def test_footnotes_tell_the_conditions(home):
    everybody(home)
    store(
        home,
        "rec 0.3",
        [measured(1.0)],
        pack_hash="ef" * 32,
        dirty=True,
        perceptual="imagenet",
        updates=10_000,
    )
    notes = "\n".join(table(home, "table1-pack-small", displays(landmarks=2)).footnotes)
    for words in (
        "Scale: small.",
        "Data: pack: 1,000 images, 64×64. Images measured: test 330.",
        "Seeds: 0.",
        "Evaluators: landmarks version 1.",
        "95 % interval over test images",
        "Stale: all 7 lines: measured by landmarks version 1, which is now 2",
        "Different packs of the same name (abababab: 6 lines (which, says “How each line was made”); efefefef: rec",
    ):
        assert words in notes
    made = texts(table(home, "table1-pack-small").blocks[-1])
    own = {"Updates": "10,000", "Perceptual network": "imagenet", "Pack": "efefefef"}
    assert {**made["rec 0.3"], **own, "Code": "0123456789 with uncommitted changes"} == made["rec 0.3"]
    other = {"Updates": "3,000", "Perceptual network": "none", "Pack": "abababab", "Code": "0123456789"}
    assert {**made["rec 0.1"], **other} == made["rec 0.1"]


def test_notes_of_rows_are_told_once(home):
    for label, note in (("rec 0.1", "alpha 1; half left out"), ("rec 0.5", "alpha 2; half left out")):
        store(home, label, [measured(1.0, note=note), measured(1.0, "landmark_distance_iod", note=note)])
    first = table(home, "table1-pack-small")
    assert [note for note in first.footnotes if note.startswith("On ")] == ["On landmarks: half left out."]
    assert {name: line["On landmarks"] for name, line in texts(first.blocks[-1]).items()} == {
        "rec 0.1": "alpha 1",
        "rec 0.5": "alpha 2",
    }


def test_notes_of_a_setting_say_which(home):
    for label in ("rec 0.1", "rec 0.5"):
        store(home, label, [measured(1.0, note="all"), measured(1.0, setting=HEAD, note="all; 5 left out")])
    told = [note for note in table(home, "table1-pack-small").footnotes if note.startswith("On ")]
    assert told == ["On landmarks: all.", "On landmarks, frozen-head-5000: 5 left out."]


def test_many_lines_do_not_make_long_notes_and_nothing_is_lost(home):
    """Every note of a row is in the block of how lines were made, in a sentence, or with its number in the CSV."""
    for k in range(25):
        facts = {"losses": f"l{k}", "updates": 100 + k, "git": f"{k:02}" * 20, "run": f"r{k}", "key": f"k{k}"}
        presets = [
            measured(20.0, "psnr/raw/image", preset, note=f"sd {k}.{p} over 10 splits")
            for p, preset in enumerate(PRESETS)
        ]
        store(home, f"method{k} 0.1", presets, protocol="occlusion", seed=k, **facts)
        facts = {**facts, "key": f"a{k}"}
        store(home, f"method{k} 0.1", [measured(1.0, note=f"alpha {k}")], seed=k, **facts)
    for made in build_tables(home, displays(occlusion=9, landmarks=9)):
        assert max(map(len, made.footnotes)) < 400
    third = table(home, "table3-pack-small")
    own = {"Updates": "107", "Operations (TFLOP)": "50", "Loss set": "l7", "Seeds": "7", "Code": "0707070707"}
    assert texts(third.blocks[-1])["method7 0.1"] == own
    assert "On occlusion: notes on single numbers, such as “sd 0.0 over 10 splits”, stand in the table's CSV." in (
        third.footnotes
    )
    lines = list(csv.DictReader(csv_text(third).splitlines()))
    own = {line["column"]: line["notes"] for line in lines if line["line"] == "method7 0.1" and line["block"] == "pSNR"}
    assert own == {preset.replace("_", " "): f"sd 7.{p} over 10 splits" for p, preset in enumerate(PRESETS)}
    assert texts(table(home, "table1-pack-small").blocks[-1])["method7 0.1"]["On landmarks"] == "alpha 7"


def test_what_the_constant_is_called_is_right_under_every_readout(home):
    """The head on a constant is no majority answer; that stands in the column of the probe, and is compared with."""
    everybody(home)
    store(
        home, "constant", [measured(9.9, setting=HEAD)], key="head on a constant", time="2026-01-02T00:00:00.000+00:00"
    )
    first = table(home, "table1-pack-small")
    assert texts(first.blocks[0])["Constant (no image)"] == {
        "Landmarks, head 5,000 (px of 96)": "9.90 [9.80, 10.00] unpaired",
        "Landmarks, probe (px of 96)": "2.40 [2.30, 2.50] unpaired",
    }
    assert any("The probe makes of it the majority value" in n for n in first.footnotes)
    head, _ = first.reading
    assert "rec 0.5 (1.70 px)" in head and "the mean shape by 0.70 ±" in head  # 2.40 − 1.70, not 9.90 − 1.70
    assert not any(word in text for text in (markdown(first), latex(first)) for word in ("Majority value /",))


def test_each_data_set_and_scale_has_its_own_tables(home):
    store(home, "rec 0.1", [measured(1.0)])
    store(home, "rec 0.1", [measured(2.0)], scale="tiny")
    store(home, "rec 0.1", [measured(3.0)], dataset="other", run="else")
    stems = [table.stem for table in build_tables(home, NOW)]
    assert stems == ["table1-other-small", "table1-pack-small", "table1-pack-tiny"]


def test_table_2_has_the_published_methods_apart(home):
    """They are no frozen encoders read by a head of ours; the paper's own stands beside the line that is it."""
    errors = [measured(13.0, "attribute_error", "frozen-head-50000"), measured(12.0, "attribute_error")]
    store(home, "rec 0.5", errors, protocol="attributes", **AS_PUBLISHED)
    store(home, "rec 0.1", errors, protocol="attributes", **AS_PUBLISHED)
    ours, theirs, _ = map(texts, table(home, "table2-celeba96-paper").blocks)
    assert list(ours) == ["rec 0.1", "rec 0.5"]
    found = {"Paper, head 50,000 (% error)": "9.17", "Attributes, head 50,000 (% error)": "13.00 [12.90, 13.10]"}
    assert found.items() <= ours["rec 0.5"].items()
    assert ours["rec 0.1"]["Paper, head 50,000 (% error)"] == MISSING
    assert theirs.pop("Soft order+identity") == {"Attributes (% error)": "8.64"}
    assert len(theirs) == 5 and "MDE-REC(0.5)" not in theirs


def completions(home, **facts):
    for label, value in (("mean_colour", 18.0), ("biharmonic", 20.0), ("rec 0.1", 21.5)):
        for preset in PRESETS:
            values = {"psnr/raw/image": value, "psnr/composite/hole": value - 5, "ssim/raw/image": value / 25}
            cells = [measured(v, metric, preset) for metric, v in values.items()]
            store(home, label, cells, protocol="occlusion", key=f"{label} {preset}", **facts)


def test_table_3_has_the_papers_methods_below_ours(home):
    completions(home, dataset="celeba64", pack_note="celeba64: 1,000 images, 64×64")
    third = table(home, "table3-celeba64-small")
    titles = [block.title for block in third.blocks]
    assert titles == [
        "pSNR",
        "SSIM",
        "pSNR, published, full CelebA; not measured here",
        "SSIM, published, full CelebA; not measured here",
        "How each line was made",
    ]
    psnr, ssim, published, similar, _ = map(texts, third.blocks)
    assert list(psnr) == ["Mean colour", "Biharmonic fill", "rec 0.1"]
    assert list(published) == ["Context encoder (CE)", "Generative face completion (GFC)", "MDE-REC(0.1)"]
    assert similar["MDE-REC(0.1)"]["mouth"] == "0.818"
    assert list(psnr["Mean colour"]) == [f"{preset.replace('_', ' ')} (dB)" for preset in PRESETS]
    assert published["Generative face completion (GFC)"]["left eye (dB)"] == "18.9"
    assert psnr["rec 0.1"]["mouth (dB)"] == "21.50 [21.40, 21.60] (†) unpaired"
    assert psnr["Mean colour"]["mouth (dB)"] == "18.00 [17.90, 18.10] unpaired"
    assert ssim["rec 0.1"]["mouth"] == "0.860 [0.760, 0.960] ≈ unpaired"
    assert third.reading[0].startswith(
        "pSNR, right half: rec 0.1 (21.50 dB) beats in these runs the biharmonic fill by 1.50"
    )
    assert third.summary[0] == (
        6,
        "pSNR, 6 columns: best trained is rec 0.1; the biharmonic fill beaten in 6; the mean colour beaten in 6.",
    )


def test_all_readings_of_a_completion_are_in_the_second_table(home):
    completions(home)
    block = table(home, "table3-readings-pack-small").blocks[0]
    assert block.title == "Right half" and len(block.columns) == 8
    line = texts(block)["rec 0.1"]
    assert line["pSNR composite, hole (dB)"] == "16.50 [16.40, 16.60] (†) unpaired"
    assert line["pSNR raw, hole (dB)"] == MISSING


def test_undefined_values_are_missing_cells_with_a_key(home):
    nan = {"low": math.nan, "high": math.nan}
    store(home, "rec 0.1", [measured(math.nan, **nan), measured(1.0, "landmark_distance_iod", **nan)])
    block = table(home, "table1-pack-small").blocks[0]
    cell = block.cells[[line.name for line in block.lines].index("rec 0.1")][0]
    assert cell.text == MISSING and cell.keys == ("landmarks of rec 0.1-small-seed0",)
    assert texts(table(home, "table1-interocular-pack-small").blocks[0])["rec 0.1"] == {
        "Landmarks, probe (% of inter-ocular)": "1.00"
    }


def test_several_seeds_compare_by_the_range_of_their_intervals():
    facts = {"n": 5, "run": "r", "key": "k"}
    one, two = {"value": 1.0, "low": 0.5, "high": 1.1, "seed": 1}, {"value": 2.0, "low": 1.9, "high": 2.5, "seed": 0}
    cell = cell_from_rows([one | facts, two | facts], 3)
    assert (cell.low, cell.high, cell.seeds) == (0.5, 2.5, (0, 1))
    assert cell.text == "1.500 ± 0.707 (2 seeds)"
    assert cell_from_rows([one | facts, two | facts | {"value": math.nan}], 3).text == MISSING


def test_files_are_written_and_every_cell_is_followed_to_its_row(home):
    everybody(home)
    paths = write_tables(home, home.folder / "out", NOW)
    assert sorted(path.name for path in paths) == [f"table1-pack-small.{end}" for end in ("csv", "md", "tex")]
    text = (home.folder / "out" / "table1-pack-small.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(text.splitlines()))
    assert len(lines) == 6 * 2 + 6 * 2  # two readouts of each, and how it was made: updates and operations
    found = {(line["line"], line["column"]): line for line in lines}
    ours = found["re 0.33", "Landmarks, probe"]
    assert (ours["value"], ours["low"], ours["n"], ours["keys"]) == (
        "1.05",
        "0.9500000000000001",
        "330",
        "landmarks of re 0.33-small-seed0",
    )
    assert (ours["against_reference"], ours["source"], ours["split"]) == ("overlap", "rows", "test")
    took = found["re 0.33", "Operations"]  # no row has a metric of that name
    assert (took["value"], took["unit"], took["source"]) == ("50.0", "TFLOP", "rows, field gflop")
    assert {took[name] for name in ("protocol", "setting", "split", "metric")} == {""}


def test_what_a_line_took_to_make_has_no_interval_of_a_score(home):
    """Two seeds of 3,000 updates took 3,000 updates, and not 2,999.3 to 3,000.7."""
    for seed, distance in enumerate((1.0, 2.0)):
        each = measured(distance, values=np.full(4, distance, np.float32) + np.float32([-0.1, 0.1, 0.1, -0.1]), n=4)
        store(home, "rec 0.1", [each], seed=seed, gflop=5000.0 + seed, key=f"{seed}" * 64)
        keep_values(home, f"{seed}" * 64, [each])
    lines = list(csv.DictReader(csv_text(table(home, "table1-pack-small")).splitlines()))
    costs = [line for line in lines if line["block"] == "How each line was made"]
    scores = [line for line in lines if line["line"] == "rec 0.1" and line not in costs]
    assert costs and all(line["low"] == line["high"] == "" for line in costs)
    assert any(float(line["low"]) < 1.4 < 1.6 < float(line["high"]) for line in scores)


def test_published_numbers_are_in_the_csv_as_printed(home):
    beside_paper(home)
    text = csv_text(table(home, "table1-celeba96-paper"))
    found = {(line["line"], line["column"]): line for line in csv.DictReader(text.splitlines())}
    beside, apart = found["rec 0.1", "Paper, head 5,000"], found["MDE-REC(0.3)", "Attributes, head 5,000"]
    assert (beside["value"], apart["value"]) == ("1.509", "10.30")
    for line in (beside, apart):
        assert line["source"].endswith("The Missing Data Encoder, Table 1") and not line["keys"]


def test_markdown_is_a_table_with_its_notes(home):
    everybody(home)
    text = markdown(table(home, "table1-pack-small"))
    assert text.startswith("# Table 1: landmarks and attributes · pack · small\n\n## Landmarks, frozen encoder\n\n|")
    assert "\n## What it says\n\n- Landmarks, head 5,000: rec 0.5" in text and "\n## Notes\n\n- † better than" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_latex_spells_out_what_latex_would_read_as_a_command(home):
    assert tex(r"95 % × ± ≈ † – a_b & #1 $x$ {y} ~ ^ \z") == (
        r"95 \% $\times$ $\pm$ $\approx$ $\dagger$ -- a\_b \& \#1 \$x\$ \{y\} \textasciitilde{} \textasciicircum{} "
        r"\textbackslash{}z"
    )
    everybody(home)
    completions(home)
    for made in build_tables(home, NOW):
        text = latex(made)
        assert text.isascii()
        assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == len(made.blocks)
        assert text.count("{") == text.count("}")


def test_no_rows_is_one_sentence_that_says_what_to_do(home):
    with pytest.raises(UserError, match=r"There are no rows under .*mdebench transfer attributes"):
        write_tables(home, home.folder / "out", NOW)
    assert not (home.folder / "out").exists()


def strip(folder, record, shade):
    """A run's sheet as the protocol writes it: input 10, completed `shade`, composite `shade` + 1, original 200.

    A shade of 90 is of a method that leaves the seen pixels as they are.
    """
    composite = shade if shade == 90 else shade + 1
    rows = [[np.full((8, 8, 3), value, np.uint8)] * 8 for value in (10, shade, composite, 200)]
    (folder / "sheets").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(RECORD | record))
    grid(rows).save(folder / "sheets" / "pack-occlusion-mouth.png")


def test_contact_sheets_stack_the_runs_between_input_and_original(home):
    for name, shade in (("z", 90), ("b", 50)):
        strip(home.runs / name, {"label": f"rec {name}", "scale": "tiny"}, shade)
    (path,) = write_sheets(home, home.folder / "out")
    assert path == home.folder / "out" / "pack-mouth.png"
    column = np.asarray(Image.open(path))[GAP + 4 :: 8 + GAP, -(GAP + 4), 0]  # the middle of each row's last image
    assert list(column) == [10, 50, 51, 90, 200]


def test_a_damaged_strip_is_named(home):
    strip(home.runs / "a", {"label": "rec", "scale": "tiny"}, 50)
    (home.runs / "a" / "sheets" / "pack-occlusion-mouth.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"pack-occlusion-mouth\.png is damaged"):
        write_sheets(home, home.folder / "out")


def test_other_sheets_are_made_where_a_strip_is_damaged(home):
    strip(home.runs / "a", {"label": "rec", "scale": "tiny"}, 50)
    for name in ("pack-occlusion-nose.png", "pack-occlusion-mouth.png"):
        (home.runs / "a" / "sheets" / name).write_bytes((home.runs / "a/sheets/pack-occlusion-mouth.png").read_bytes())
    spoil(home.runs / "a" / "sheets" / "pack-occlusion-mouth.png")
    with pytest.raises(UserError, match=r"mouth\.png is damaged .*; the sheets without these are written"):
        write_sheets(home, home.folder / "out")
    assert [path.name for path in (home.folder / "out").iterdir()] == ["pack-nose.png"]


def spoil(path):
    """Flip one bit in the middle of a file, where its data are."""
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1 :])


def test_a_full_disk_leaves_every_table_as_it_was(home, monkeypatch):
    everybody(home)
    before = {path: path.read_bytes() for path in write_tables(home, home.tables, NOW)}
    store(home, "rec 0.3", [measured(0.1)])

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"could not write .*: No space left on device; what stood there"):
        write_tables(home, home.tables, NOW)
    assert {path: path.read_bytes() for path in before} == before
    assert set(home.tables.iterdir()) <= set(before)  # and nothing half written


def test_tables_say_which_values_they_do_without(home, rng):
    everybody(home)
    for label in ("pixels", "rec 0.1"):
        values = rng.normal(1, 0.1, 330).astype(np.float32)
        keep_values(home, f"landmarks of {label}-small-seed0", [measured(1.0, values=values)])
    write_tables(home, home.tables, NOW)
    assert "Damaged" not in (home.tables / "table1-pack-small.md").read_text()
    path = values_path(home, "landmarks of rec 0.1-small-seed0")
    spoil(path)
    with pytest.raises(UserError, match=r"npz is damaged .*; the tables are written, and say"):
        write_tables(home, home.tables, NOW)
    assert f"Damaged values image by image ({path.name})" in (home.tables / "table1-pack-small.md").read_text()


def test_names_of_others_do_nothing_in_any_format(home):
    label, note = "=<img/src=x/onerror=alert(1)>|`a`\x1b[31m\u202e", "<b>pack</b>\n# big\x07"
    store(home, "pixels", [measured(0.9)], pack_note=note)
    store(home, label, [measured(1.2)], run="=run", pack_note=note)
    made = table(home, "table1-pack-small")
    for text in (markdown(made), csv_text(made), latex(made), page([made])):
        assert "\x1b" not in text and "\u202e" not in text and "\x07" not in text
        assert all(ord(sign) >= 32 or sign == "\n" for sign in text)
    assert "<img" not in markdown(made) and "<b>" not in markdown(made) + page([made]) and "&lt;img" in markdown(made)
    cells = [cell for line in csv.reader(csv_text(made).splitlines()) for cell in line]
    assert any(cell.startswith("'=<img") for cell in cells) and not any(cell.startswith("=") for cell in cells)


def test_a_data_set_cannot_name_a_file_elsewhere(home):
    store(home, "rec 0.1", [measured(1.0)], dataset="../../evil")
    paths = write_tables(home, home.tables, NOW)
    assert all(path.resolve().is_relative_to(home.results.resolve()) for path in paths)
    assert {path.parent for path in paths} == {home.tables, home.results}


def test_losses_that_follow_from_a_setting_are_not_told_beside_it(home):
    for objective, losses in (("l2", "l2"), ("joint", "l2+adv")):
        facts = {"settings": {"objective": objective}, "losses": losses, "run": objective, "key": objective}
        store(home, "context_encoder", [measured(1.0)], **facts)
    lines = texts(table(home, "table1-pack-small").blocks[0])
    assert {"context_encoder (objective=l2)", "context_encoder (objective=joint)"} <= set(lines)


def test_lines_trained_on_another_pack_than_they_were_measured_on_are_named(home):
    """One under the same name, made again since, one of another; what was never trained was trained on nothing."""
    own, before, other = "ab" * 32, "12" * 32, "ef" * 32
    store(home, "pixels", [measured(0.98)], trained_on="pack", trained_hash=before)
    store(home, "rec 0.1", [measured(1.4)], trained_on="pack", trained_hash=own)
    store(home, "rec 0.3", [measured(1.4)], trained_on="pack", trained_hash=before)
    store(home, "re 0.33", [measured(1.4)], trained_on="flowers64", trained_hash=other)
    store(home, "rec 0.5", [measured(1.4)], trained_on="flowers64", trained_hash=other)
    notes = [note for note in table(home, "table1-pack-small").footnotes if "rained on the pack" in note]
    assert notes == [
        "Not trained on the pack that they were measured on: re 0.33 and rec 0.5 on flowers64 (pack efefefef); "
        "rec 0.3 on pack (pack 12121212, another version of it)."
    ]


def test_which_older_rows_do_not_say_what_they_were_trained_on_is_told_beside_those_that_do(home):
    store(home, "pixels", [measured(0.98)])
    store(home, "rec 0.1", [measured(1.4)])

    def told():
        return [note for note in table(home, "table1-pack-small").footnotes if "raining pack" in note]

    assert told() == []
    store(home, "rec 0.3", [measured(1.4)], trained_on="pack", trained_hash="ab" * 32)
    assert told() == ["Training pack not recorded, in older rows: rec 0.1."]


def test_rows_of_timm_from_before_widths_were_measured_are_called_stale_and_why(home):
    everybody(home)
    store(home, "timm:resnet18", [measured(0.5)], width=0)
    store(home, "timm:vgg11", [measured(0.6)], width=4096)
    stale = [note for note in table(home, "table1-pack-small").footnotes if note.startswith("Stale")]
    assert len(stale) == 1 and "timm:resnet18" in stale[0] and "vgg11" not in stale[0] and "rec" not in stale[0]
    assert "before the widths of timm's networks were measured" in stale[0] and "measure again" in stale[0]


def test_a_run_that_was_trained_again_between_two_protocols_is_told(home):
    store(home, "pixels", [measured(1.0)])
    store(home, "rec 0.1", [measured(0.5)])
    assert "Trained again" not in page(build_tables(home, NOW))
    again = [measured(20.0, "psnr/raw/image", preset, unit="dB") for preset in PRESETS]
    store(home, "rec 0.1", again, protocol="occlusion", weights_hash="ef" * 32)
    said = page(build_tables(home, NOW))
    assert "other weights than others" in said and "beside the rest): rec 0.1-small-seed0." in said


def test_a_difference_that_was_found_is_told_in_so_many_digits_that_it_shows(home):
    """0.0443 ± 0.0400 are both 0.04 in two digits."""
    store(home, "pixels", [measured(1.0443, low=1.0443 - 1e-9, high=1.0443 + 1e-9)])
    store(home, "rec 0.1", [measured(1.0, low=0.96, high=1.04)])
    (said,) = table(home, "table1-pack-small").reading
    assert "by 0.044 ± 0.040 px" in said
