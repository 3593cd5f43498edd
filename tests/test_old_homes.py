"""A home made by the revision before the rooms works on: packs open, runs go on, rows are kept and shown."""

import zipfile
from pathlib import Path

import pytest
import torch

from mdebench import catalog
from mdebench.data.pack import open_pack, verify_pack
from mdebench.evaluation import measuring
from mdebench.evaluation.displays import displays
from mdebench.figures.write import write_figures
from mdebench.home import Home
from mdebench.report.page import write_report
from mdebench.results.displays import CONTROLS
from mdebench.results.galleries import list_galleries, open_gallery
from mdebench.results.rows import read_rows
from mdebench.runs import Recipe
from mdebench.suite.inventory.showing import show_text
from mdebench.suite.inventory.upkeep import list_text
from mdebench.tables.write import build_tables
from mdebench.training.recipes import train_run

ZIP = Path(__file__).parent / "homes" / "before-the-rooms.zip"
REC = "toyfaces16-rec-S0.1-tiny-batch=4-code=8-precision=fp32-updates=6-width=2-seed0"
BROKEN_OFF = "toyfaces16-rec-S0.1-tiny-batch=4-code=8-precision=fp32-updates=8-width=2-seed2"
SETTINGS = {
    "attributes": {"updates": "20"},
    "landmarks": {"updates": "20"},
    "occlusion": {"preset": "mouth"},
    "completion": {"scenario": "rec 0.1", "images": "20", "judge": "none"},
    "layers": {"width": "32"},
}


@pytest.fixture
def old(tmp_path):
    with zipfile.ZipFile(ZIP) as archive:
        archive.extractall(tmp_path)
    return Home(tmp_path)


def test_its_pack_is_whole(old):
    assert verify_pack(old.pack("toyfaces16")) == []


def test_its_unfinished_run_goes_on_to_the_end(old, console):
    run = old.find_run(BROKEN_OFF)
    assert run.info["status"] == "interrupted" and 0 < run.info["step"] < 8
    recipe, pack = Recipe(**run.info["recipe"]), open_pack(old.pack("toyfaces16"))
    assert train_run(old, recipe, pack, console).finished and "resuming" in console.file.getvalue()


@pytest.mark.parametrize("protocol", [protocol for protocol in SETTINGS if protocol != "completion"])
def test_its_rows_are_kept_and_not_measured_again(old, protocol, console):
    """But by a protocol whose numbers have changed since: that measures again, beside them; and controls are new."""
    pack, run, before = open_pack(old.pack("toyfaces16")), old.find_run(REC), len(read_rows(old))
    new = measuring.measure(old, protocol, [run], pack, SETTINGS[protocol], console)
    rows = read_rows(old)
    controls = int(rows["setting"].isin(CONTROLS).sum())
    assert len(rows) == before + new and bool(controls) == (protocol in ("attributes", "landmarks"))
    assert (new == controls) == (catalog.protocol(protocol).VERSION == 1)
    assert ("measured already" in console.file.getvalue()) == (new == 0)


def test_its_rows_of_an_older_version_of_a_protocol_are_measured_again(old, console):
    """Version 2 of completion splits images otherwise for the Inception score; pSNR and SSIM are what they were."""
    pack, before = open_pack(old.pack("toyfaces16")), read_rows(old)
    new = measuring.measure(old, "completion", [old.find_run(REC)], pack, SETTINGS["completion"], console)
    rows = read_rows(old)
    then, now = (each[(each["protocol"] == "completion") & (each["run"] == REC)] for each in (before, rows))
    assert len(rows) == len(before) + new and set(now["protocol_version"]) == {1, 2}
    both = now[now["protocol_version"] == 2].merge(then, on=["setting", "metric"], suffixes=("", "_then"))
    assert len(both) == new and (both["value"] - both["value_then"]).abs().max() < 0.5


def test_its_run_is_measured_to_the_numbers_that_are_stored(old, console):
    """On the processor that made them to the bit, on another one nearly so."""
    pack, stored = open_pack(old.pack("toyfaces16")), read_rows(old)
    for path in old.rows.glob("attributes/*rec*"):
        path.unlink()
    assert measuring.measure(old, "attributes", [old.find_run(REC)], pack, SETTINGS["attributes"], console) > 0
    what = ["protocol", "run", "setting", "metric"]
    both = read_rows(old).merge(stored, on=what, suffixes=("", "_then"))
    ours = both[(both["protocol"] == "attributes") & (both["run"] == REC)]
    assert len(ours) > 2
    assert (ours["value"] - ours["value_then"]).abs().max() <= 2  # of 20 test images, % of attributes


def test_everything_is_shown(old, console):
    shown = displays(old)
    stems = {table.stem for table in build_tables(old, shown)}
    assert {"table1-toyfaces16-tiny", "table3-toyfaces16-tiny", "layers-toyfaces16-tiny"} <= stems
    assert write_figures(old, shown, console) and write_report(old, old.report, shown).is_file()
    assert REC in list_text(old, old.list_runs()) and "attributes" in show_text(old, REC)
    assert all(open_gallery(found.path).scenario for found in list_galleries(old))


def test_its_encoder_can_be_taken_out(old, tmp_path):
    import mdebench

    images = torch.rand(2, 3, 16, 16)
    encoder = mdebench.load(REC, home=old)
    assert encoder.encode(images).shape == (2, 8) and encoder.complete(images, torch.ones(1)).shape == images.shape
