"""The command line as typed: the whole path on a small pack, and one clear sentence for every mistake."""

import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from mdebench.cli.main import cli
from mdebench.errors import UserError
from mdebench.results.rows import read_rows

SMALL = ["--scale", "tiny", "--pack", "toyfaces16", "--updates", "4", "--set", "width=2", "--set", "code=4"]


def invoke(home, *words):
    """Run a command in a home; returns its output, or raises what it raised."""
    arguments = [*words, "--home", str(home)]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_whole_path(home):
    invoke(home, "pretrain", "rec", "--S", "0.1", *SMALL)
    assert "finished" in invoke(home, "pretrain", "rec", "--S", "0.1", *SMALL)
    for target in ("attributes", "landmarks"):
        output = invoke(home, "transfer", target, "--set", "updates=20")
        assert "new rows" in output and not output.startswith("0 new")
        assert "\n0 new rows" in invoke(home, "transfer", target, "--set", "updates=20")
    invoke(home, "occlusion", "--preset", "both_eyes")
    written = invoke(home, "tables")
    for name in ("table1-toyfaces16-tiny.md", "table1-toyfaces16-tiny.csv", "table3-toyfaces16-tiny.tex"):
        assert (home.tables / name).is_file() and name in written
    rows = read_rows(home)
    assert set(rows["protocol"]) == {"attributes", "landmarks", "occlusion"}
    assert {"rec 0.1", "random", "pixels", "constant"} <= set(rows["label"])
    assert set(rows["pack_note"].str.contains("toyfaces16")) == {True}
    assert (rows["low"] <= rows["value"]).all() and (rows["value"] <= rows["high"]).all()
    assert "rec" in invoke(home, "runs") and "finished" in invoke(home, "runs")


def test_finetuning_leaves_the_run_alone(home):
    invoke(home, "pretrain", "ri", *SMALL)
    (run,) = home.list_runs()
    before = run.state_path.read_bytes()
    invoke(home, "transfer", "landmarks", run.folder.name, "--setting", "finetune", "--set", "updates=3")
    assert run.state_path.read_bytes() == before
    rows = read_rows(home).query("setting == 'finetune-head-3'")
    assert set(rows["label"]) == {"reverse_inpainting 0.25", "random"}  # pixels and a constant have nothing to tune
    assert (rows["width"] > 0).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pretrain rek", "Did you mean 're'"),
        ("pretrain rec --scale smal", "Did you mean 'small'"),
        ("pretrain rec --S 1.5", r"must lie in \(0, 1\)"),
        ("pretrain rec --S 0", r"must lie in \(0, 1\)"),
        ("pretrain colorization1 --S 0.5", "has no ratio S"),
        ("pretrain rec --set widht=3", "Did you mean 'width'"),
        ("pretrain rec --set width", "name=value"),
        ("pretrain rec --updates many", "whole number"),
        ("pretrain rec --pack nothing16", "no pack at"),
        ("pretrain rec --pack toyfaces16 --set losses=vgg+adv", "needs a perceptual network"),
        ("transfer attributes", "no finished run"),
        ("transfer atributes", "Did you mean 'attributes'"),
        ("transfer attributes nobody", "no run 'nobody'"),
        ("tables", "no rows"),
        ("data verify nothing", "no pack at"),
        ("data prepare celeba", "needs --root"),
    ],
)
def test_a_mistake_is_one_sentence(home, words, message):
    with pytest.raises(UserError, match=message) as caught:
        invoke(home, *words.split())
    assert "\n" not in str(caught.value)


def test_occlusion_of_a_random_encoder_is_refused(home):
    invoke(home, "pretrain", "random", "--scale", "tiny", "--pack", "toyfaces16", "--set", "width=2", "--set", "code=4")
    (run,) = home.list_runs()
    with pytest.raises(UserError, match="random cannot complete"):
        invoke(home, "occlusion", run.folder.name)


def test_a_corrupted_pack_is_one_sentence(home, pack):
    copy = home.folder / "runs.pack"
    copy.mkdir()
    for file in pack.path.iterdir():
        data = file.read_bytes()
        (copy / file.name).write_bytes(data[: len(data) // 2] if file.name == "images.npy" else data)
    with pytest.raises(UserError, match="damaged"):
        invoke(home, "pretrain", "rec", "--pack", str(copy))


def test_the_entry_point_prints_the_sentence_and_exits_with_one(tmp_path):
    command = [sys.executable, "-m", "mdebench", "transfer", "attributes", "--home", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("Error: ") and "Traceback" not in done.stderr


def test_an_unknown_command_is_answered_with_the_nearest():
    result = CliRunner().invoke(cli, ["pretrian"])
    assert result.exit_code == 2 and "Did you mean 'pretrain'" in result.output


def test_lists(home):
    listed = CliRunner().invoke(cli, ["list", "--scale", "tiny", "--home", str(home)]).output
    assert re.search(r"^rec +completion +Dapogny.* transfers, stages, completes", listed, re.MULTILINE)
    assert "occlusion" in CliRunner().invoke(cli, ["protocols"]).output
    assert "toyfaces16" in invoke(home, "data", "list") and "is whole" in invoke(home, "data", "verify", "toyfaces16")
    sheet = home.folder / "sheet.png"
    assert (
        "contact sheet" in invoke(home, "data", "show", "toyfaces16", "--out", str(sheet)) and sheet.stat().st_size > 0
    )
