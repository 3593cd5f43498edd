"""The table of agreement: readings of Table 1's methods, from rows alone, and pairs that stand the other way round."""

import hashlib

import numpy as np
import pytest
from click.testing import CliRunner
from madeup import displays, measured, store
from scipy.stats import kendalltau

from mdebench.cli.main import cli
from mdebench.results.rows import keep_values
from mdebench.tables.write import build_tables

PAPER = {
    "rec 0.5": 10.16,
    "rec 0.3": 10.30,
    "re 0.5": 10.39,
    "rec 0.1": 10.49,
    "re 0.33": 11.41,
    "inpainting 0.25": 16.12,
}


def measure(home, errors, setting="frozen-probe"):
    for label, error in errors.items():
        values = np.full(40, error, np.float32) + np.tile(np.float32([-0.5, 0.5]), 20)
        each = measured(error, "attribute_error", setting, unit="%", n=40, values=values)
        key = hashlib.sha256(f"{label} {setting}".encode()).hexdigest()
        keep_values(home, key, [each], [np.arange(40)])
        store(home, label, [each], protocol="attributes", key=key)


def agreement(home):
    return next((table for table in build_tables(home, displays()) if table.stem.startswith("agreement")), None)


def test_an_order_is_compared_with_the_published_one_reading_by_reading(home):
    measure(home, PAPER)
    ours = {label: 30 - error for label, error in PAPER.items()}
    measure(home, ours, "frozen-head-5000")
    measure(home, {"constant": 20.0, "pixels": 9.0})
    table = agreement(home)
    block = table.blocks[0]
    found = {
        line.name: dict(zip([c.title for c in block.columns], cells)) for line, cells in zip(block.lines, block.cells)
    }
    probe, head = found["attributes: frozen-probe"], found["attributes: frozen-head-5000"]
    assert (probe["τ"].value, head["τ"].value, head["ρ"].value) == pytest.approx((1, -1, -1))
    assert probe["τ over seeds"].text == "–"  # one seed of each says nothing of others
    assert probe["Methods"].text == "6" and probe["τ"].text == "1.00 [1.00, 1.00]"
    assert {row["label"] for row in probe["τ"].rows} == set(PAPER)  # what is not trained has no place in the order
    turned = table.blocks[1]
    assert turned.title.startswith("Pairs that stand the other way round") and len(turned.lines) == 15
    assert all(line.name.startswith("attributes: frozen-head-5000") for line in turned.lines)
    name = "attributes: frozen-head-5000: inpainting 0.25 before rec 0.5"
    ours, paper = turned.cells[[line.name for line in turned.lines].index(name)]
    assert ours.value == pytest.approx(5.96) and paper.text == "-5.96 %"
    assert any("15 of 30 compared" in note for note in table.footnotes)


def test_it_is_kendalls_of_the_means(home, rng):
    errors = {label: float(error) for label, error in zip(PAPER, rng.permutation([11, 12, 13, 14, 15, 16]))}
    measure(home, errors)
    cell = agreement(home).blocks[0].cells[0][1]
    assert cell.value == pytest.approx(kendalltau(list(errors.values()), list(PAPER.values())).statistic)


def test_an_order_of_few_is_none(home):
    measure(home, dict(list(PAPER.items())[:3]))
    assert agreement(home) is None
    told = CliRunner().invoke(cli, ["agree", "--home", str(home)])
    assert "fewer than 4 of the methods of Table 1" in str(told.exception or told.output)


def test_the_command_prints_the_table(home):
    measure(home, PAPER)
    assert "attributes: frozen-probe" in CliRunner().invoke(cli, ["agree", "table1", "--home", str(home)]).output
    assert "no published order of 'figure8'" in str(
        CliRunner().invoke(cli, ["agree", "figure8", "--home", str(home)]).exception
    )
