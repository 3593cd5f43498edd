"""The table of alignment: a block for each manner, and the level from which on a line is better than raw pixels."""

import csv
import json
import re
from dataclasses import asdict

import numpy as np
import pytest
from madeup import displays, measured, store

from mdebench.home import Home
from mdebench.results.displays import PIXELS as PIXELS_LINE
from mdebench.results.displays import Crossing, Display, Metric, TableOf, from_plain
from mdebench.results.rows import keep_values
from mdebench.tables.formats import csv_text
from mdebench.tables.write import build_tables

NOW = displays()
SETTINGS = ("0 %", "5 %", "10 %", "20 %", "5 %, test alone", "10 %, test alone", "20 %, test alone")
PIXELS = [12.0, 14, 16, 18, 20, 30, 40]
LINES = {
    "pixels": PIXELS,
    "rec 0.1": [13.0, 14.5, 15.5, 17, 21, 29, 39],  # 7.5 both ways
    "re 0.33": [11.0, 13, 15, 17, 19, 29, 41],  # at once, and in test alone not at the end
    "random": [14.0, 16, 18, 20, 22, 32, 42],  # never
}


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def keep(home, rng, label, means, seed=0, unit="% error", metric="attribute_error", kept=True, split="test"):
    hard = np.random.default_rng(1).normal(0, 5, 200)  # of the images, the same for all lines
    points = []
    for setting, mean in zip(SETTINGS, means):
        numbers = mean + hard + rng.normal(0, 0.2, 200)
        numbers += mean - numbers.mean()
        points.append(measured(mean, metric, setting, unit=unit, n=200, values=np.float32(numbers), split=split))
    key = f"{label} {seed}"
    if kept:
        keep_values(home, key, points)
    store(home, label, points, protocol="alignment", key=key, seed=seed)


def overtaking(table):
    block = next(block for block in table.blocks if block.title.startswith("From which level"))
    return block, {line.name: dict(zip(block.columns, cells)) for line, cells in zip(block.lines, block.cells)}


def texts(table):
    return {name: [cell.text for cell in own.values()] for name, own in overtaking(table)[1].items()}


def test_each_line_has_its_level_with_an_interval(home, rng):
    for label, means in LINES.items():
        keep(home, rng, label, means)
    (table,) = (table for table in build_tables(home, NOW) if table.stem == "alignment-pack-small")
    assert [block.title for block in table.blocks][:3] == [
        "Attributes, misaligned in test alone",
        "Attributes, misaligned in training and test",
        "From which level on a line is better than raw pixels",
    ]
    block, found = overtaking(table)
    assert [column.header for column in block.columns] == [
        "Attributes, in training and test (% misaligned)",
        "Attributes, in test alone (% misaligned)",
    ]
    assert set(found) == {"rec 0.1", "re 0.33", "Random weights"}  # raw pixels overtake nobody
    for text in texts(table)["rec 0.1"]:
        level, low, high = map(float, re.fullmatch(r"(.+) \[(.+), (.+)\]", text).groups())
        assert level == 7.5 and 7 < low < 7.5 < high < 8
    assert texts(table)["re 0.33"] == ["at once", "never"]
    assert texts(table)["Random weights"] == ["never", "never"]
    assert any("“at once”: at all of them" in note and "1,000 draws of the people" in note for note in table.footnotes)


def test_its_cells_are_numbers_in_the_csv_and_have_the_keys_of_their_rows(home, rng):
    for label, means in LINES.items():
        keep(home, rng, label, means)
    (table,) = (table for table in build_tables(home, NOW) if table.stem == "alignment-pack-small")
    lines = [line for line in csv.DictReader(csv_text(table).splitlines()) if "From which level" in line["block"]]
    both = {line["line"]: (line["value"], line["keys"]) for line in lines if "training and test" in line["column"]}
    assert both == {
        "rec 0.1": ("7.5", "rec 0.1 0"),
        "re 0.33": ("0.0", "re 0.33 0"),
        "Random weights": ("inf", "random 0"),
    }


def test_what_is_uncertain_says_between_what(home, rng):
    """A line as good as raw pixels at the highest level may never overtake, or may."""
    keep(home, rng, "pixels", PIXELS)
    keep(home, rng, "rec 0.1", [13, 15, 17, 18.0005, 21, 31, 39.9999])
    (table,) = (table for table in build_tables(home, NOW) if table.stem == "alignment-pack-small")
    both, alone = texts(table)["rec 0.1"]
    assert re.fullmatch(r"never \[\d+\.\d, never\]", both) and re.fullmatch(r"20\.0 \[\d+\.\d, never\]", alone)


def test_several_seeds_count_with_their_mean_on_each_image(home, rng):
    keep(home, rng, "pixels", PIXELS)
    for seed, more in enumerate((-0.5, 0.5)):
        keep(home, rng, "rec 0.1", [mean + more for mean in LINES["rec 0.1"]], seed)
    (table,) = (table for table in build_tables(home, NOW) if table.stem == "alignment-pack-small")
    cell = next(iter(overtaking(table)[1]["rec 0.1"].values()))
    assert cell.value == pytest.approx(7.5) and 7 < cell.low < 7.5 < cell.high < 8  # not an interval of the errors
    assert cell.seeds == (0, 1)


def test_what_is_held_out_has_its_blocks_too(home, rng):
    """Identities, which the test images do not show."""
    for label, means in LINES.items():
        keep(home, rng, label, [100 - mean for mean in means], unit="%", metric="accuracy", split="held-out")
    (table,) = (table for table in build_tables(home, NOW) if table.stem == "alignment-pack-small")
    titles = [block.title for block in table.blocks]
    assert titles[1] == "Classes, misaligned in training and test (held-out)"
    assert len(table.blocks[1].column(3)) == len(LINES)
    columns = overtaking(table)[0].columns
    assert columns[0].header == "Classes, in training and test (held-out) (% misaligned)"
    assert texts(table)["re 0.33"] == ["at once", "never"]  # more is better here


def test_without_values_image_by_image_there_is_no_interval_and_without_pixels_no_level(home, rng):
    keep(home, rng, "rec 0.1", LINES["rec 0.1"], kept=False)
    (table,) = (table for table in build_tables(home, NOW) if table.stem == "alignment-pack-small")
    assert not any(block.title.startswith("From which level") for block in table.blocks)
    keep(home, rng, "pixels", PIXELS, kept=False)
    (table,) = (table for table in build_tables(home, NOW) if table.stem == "alignment-pack-small")
    assert texts(table)["rec 0.1"] == ["7.5", "7.5"]


def test_a_strangers_display_may_ask_for_crossings():
    crossing = Crossing("by noise", "dB", (("none", 0.0), ("loud", 6.0)))
    table = TableOf("mine", "Mine", ("score",), PIXELS_LINE, crossings=(crossing,))
    said = Display("Mine", (Metric("score", "Score", "%", "higher"),), tables=(table,))
    assert from_plain(json.loads(json.dumps(asdict(said)))) == said
