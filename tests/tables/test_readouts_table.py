"""The table of readouts: a verdict for each line, by a rule that is fixed by family, and all others beside it."""

import pytest
from madeup import displays, measured, store

from mdebench.results.lines import FAMILIES
from mdebench.results.verdict import IN_WORDS, READOUTS, verdict_of
from mdebench.tables.write import build_tables


def read(home, label, family, errors, **facts):
    """One error for each readout, in the order of `READOUTS`."""
    for (readout, of), error in zip(READOUTS.items(), errors):
        protocol, setting = of["attribute_error"]
        if error is not None:
            each = measured(error, "attribute_error", setting, unit="%")
            more = {"protocol": protocol, "family": family, "key": f"{label} {readout}".ljust(64, "x")}
            store(home, label, [each], **more, **facts)


def readouts(home):
    return next((table for table in build_tables(home, displays()) if table.stem.startswith("readouts")), None)


@pytest.fixture
def read_out(home):
    read(home, "pixels", "reference", (12.0, 13.0, None, None, None))
    read(home, "rec 0.1", "completion", (14.0, 16.0, 13.0, 12.5, 11.5))
    read(home, "mae", "completion", (15.0, 17.0, 11.0, 14.5, 13.5), settings={"patches": 8, "backbone": "native"})
    read(home, "jigsaw", "context", (18.0, 19.0, 17.0, 12.8, 13.0))
    return home


def test_the_verdict_is_the_readout_of_the_family(read_out):
    block = readouts(read_out).blocks[0]
    assert [column.title for column in block.columns] == ["Verdict", *READOUTS]
    found = {line.name: [cell.text for cell in cells] for line, cells in zip(block.lines, block.cells)}
    values = {name: [text.split(" ")[0] for text in texts] for name, texts in found.items()}
    assert values["rec 0.1"] == ["14.00", "14.00", "16.00", "13.00", "12.50", "11.50"]
    assert values["mae"][0] == "11.00" and values["jigsaw"][0] == "12.80"
    marked = {name: [text.endswith("●") for text in texts].index(True) for name, texts in found.items()}
    assert marked == {"rec 0.1": 1, "mae": 3, "jigsaw": 4, next(name for name in found if "pixels" in name): 1}
    assert IN_WORDS in readouts(read_out).footnotes


def test_each_readout_is_compared_with_the_verdict_on_pixels(read_out):
    block = readouts(read_out).blocks[0]
    assert {cell.value for cell in block.against} == {12.0}
    cells = dict(zip([line.name for line in block.lines], block.cells))
    assert cells["mae"][0].verdict == "better" and cells["rec 0.1"][0].verdict in ("worse", "overlap")


def test_a_verdict_that_was_not_measured_is_a_dash(home):
    read(home, "mae", "completion", (15.0, 17.0, None, None, None), settings={"patches": 8})
    block = readouts(home).blocks[0]
    assert block.cells[0][0].text == "–"


def test_without_another_readout_there_is_no_table(home):
    read(home, "rec 0.1", "completion", (14.0, None, None, None, None))
    assert readouts(home) is None


def test_every_family_has_a_verdict():
    assert {verdict_of(family, {}) for family in FAMILIES} <= set(READOUTS)
    assert verdict_of("completion", {"patches": 8, "backbone": "mde"}) == verdict_of("completion", {})
