"""The figure of what codes knew on the way: from files of probes alone, with the budgets that the formula gives."""

import csv
import io

import numpy as np
import pytest

from mdebench.figures.csv_data import chart_csv
from mdebench.figures.representation import charts, draw
from mdebench.figures.write import chart_data
from mdebench.results import probes

SPENT = {0: 0.0, 100: 500.0, 10_000: 50_000.0}  # step → GFLOP


def look(method, step, error, seed=0, updates=10_000):
    """Forty people, all with this error; and what else a line says."""
    label = f"{method} 0.1" if method == "rec" else method
    alike = {"unit": "%", "n": 40, "note": ""}
    measured = {**alike, "metric": "attribute_error", "value": error, "low": error, "high": error}
    values = {"values": probes.packed(np.full(40, error)), "faces": probes.packed(np.arange(40), "<i4"), "people": 40}
    rank = {**alike, "metric": "rank", "unit": "", "value": 7.0 + step, "low": None, "high": None}
    facts = {"run": f"p-{method}-seed{seed}", "method": method, "label": label, "settings": {}, "scale": "tiny"}
    facts |= {
        "dataset": "p",
        "pack_hash": "0" * 64,
        "pack_note": "40 images",
        "seed": seed,
        "updates": updates,
        "batch": 6,
    }
    facts |= {
        "losses": "",
        "perceptual": "none",
        "precision": "fp32",
        "family": "completion",
        "version": probes.VERSION,
    }
    spent = {"step": step, "gflop": SPENT[step], "seconds": 36.0 * step / 100, "took": 1.0}
    return {**facts, **spent, "measured": [measured | values, rank]}


@pytest.fixture
def looked(home):
    for seed, shift in ((0, 0.5), (1, -0.5)):
        errors = {0: 20, 100: 14 + shift, 10_000: 10 + shift}
        looks = [look("rec", step, error, seed) for step, error in errors.items()]
        probes.write(probes.path_of(home, f"p-rec-seed{seed}"), looks)
    probes.write(probes.path_of(home, "p-mae-seed0"), [look("mae", step, 15.0) for step in SPENT])
    probes.write(probes.path_of(home, "p-pixels-seed0"), [look("pixels", 0, 12.0, updates=0)])
    return home


def rows_of(chart):
    return list(csv.DictReader(io.StringIO(chart_csv(chart))))


def test_curves_are_means_over_seeds_over_updates_operations_and_time(looked):
    (chart,) = charts(looked)
    found = {(row["panel"], row["line"], row["setting"]): row for row in rows_of(chart) if row["source"] == "rows"}
    title = "Attributes (% error, lower is better) over "
    for place in (f"{title}updates", "100"), (f"{title}TFLOP", "0.5"), (f"{title}hours", "0.01"):
        row = found[place[0], "rec 0.1", place[1]]
        assert float(row["value"]) == 14 and row["seeds"] == "0 1"
    assert float(found["Effective rank over updates", "mae", "100"]["value"]) == 107
    assert [row["value"] for row in rows_of(chart) if row["source"] == "reference"] == ["12.0"] * 3


def test_the_budgets_are_told_in_words_and_numbers(looked):
    """From 14 % at 100 to 10 % at 10,000, pixels' 12 % lie half way in logarithms: at 1,000; 15 % never falls."""
    (chart,) = charts(looked)
    found = {row["line"]: row for row in rows_of(chart) if row["panel"].endswith("raw pixels are passed")}
    assert float(found["rec 0.1"]["value"]) == pytest.approx(1000) and found["rec 0.1"]["setting"] == "crossed"
    assert found["mae"]["setting"] == "out of reach" and found["mae"]["value"] == "inf"
    assert "rec 0.1 after about 1,000 updates (1,000 to 1,000)" in chart.told and "mae within no reach" in chart.told


def test_an_accuracy_is_passed_upwards(home):
    """From 30 % at 100 to 50 % at 10,000 updates, the 40 % of pixels lie half way; and no curve that stands still."""

    def classes(method, step, right, updates=10_000):
        found = look(method, step, 0.0, updates=updates)
        found["measured"][0] |= {"metric": "accuracy", "value": right, "values": probes.packed(np.full(40, right))}
        return found

    for method, shares in (("rec", (10, 30, 50)), ("mae", (10, 20, 15))):
        looks = [classes(method, step, right) for step, right in zip(SPENT, shares)]
        probes.write(probes.path_of(home, f"p-{method}-seed0"), looks)
    probes.write(probes.path_of(home, "p-pixels-seed0"), [classes("pixels", 0, 40.0, 0)])
    (chart,) = charts(home)
    found = {row["line"]: row for row in rows_of(chart) if row["panel"].endswith("raw pixels are passed")}
    assert float(found["rec 0.1"]["value"]) == pytest.approx(1000) and found["mae"]["setting"] == "out of reach"


def test_updates_that_one_seed_lacks_are_left_out(looked):
    probes.write(probes.path_of(looked, "p-rec-seed1"), [look("rec", step, 14.0, 1) for step in (0, 10_000)])
    (chart,) = charts(looked)
    assert {row["setting"] for row in rows_of(chart) if row["line"] == "rec 0.1" and "updates" in row["panel"]} >= {"0"}
    ranks = [row["setting"] for row in rows_of(chart) if row["line"] == "rec 0.1" and "rank" in row["panel"]]
    assert ranks == ["0", "10000"]


def test_it_is_drawn_and_followed_by_the_audit(looked):
    (chart,) = charts(looked)
    width, height = draw(chart).get_size_inches()
    assert width < 6 and height < 16
    assert list(chart_data(looked, {})) == ["representation-p-tiny.csv"]


def test_without_a_trained_run_there_is_no_figure(home):
    probes.write(probes.path_of(home, "p-pixels-seed0"), [look("pixels", 0, 12.0, updates=0)])
    assert list(charts(home)) == []
