"""Runs listed, shown, compared, removed and slimmed: what is said is what is there, and nothing is lost by it."""

import fcntl
import re
from datetime import datetime

import pytest
import torch
from click.testing import CliRunner

from mdebench import catalog, files
from mdebench.cli.main import cli
from mdebench.errors import UserError
from mdebench.evaluation import measuring
from mdebench.evaluation.subjects import load_subject
from mdebench.home import Home
from mdebench.results.rows import read_rows
from mdebench.suite.inventory.comparing import compare_text
from mdebench.suite.inventory.showing import show_text
from mdebench.suite.inventory.strays import strays
from mdebench.suite.inventory.upkeep import free, freeable
from mdebench.training.recipes import make_recipe, train_run

SMALL = {"width": "2", "code": "4", "updates": "20", "batch": "4"}


@pytest.fixture
def runs(home, pack, console):
    recipes = [make_recipe("rec", pack, "tiny", seed, SMALL | {"S": S}) for seed, S in ((0, "0.1"), (0, "0.3"))]
    return [train_run(home, recipe, pack, console) for recipe in recipes]


def invoke(home, *words):
    result = CliRunner().invoke(cli, [*words, "--home", str(home)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_runs_are_listed_with_date_size_and_last_loss(home, runs):
    said = invoke(home, "runs")
    line = next(line for line in said.splitlines() if "S0.1" in line)
    assert f"{datetime.now():%Y-%m-%d}" in line and "20/20" in line and re.search(r"\d+ kB", line)
    last = runs[0].log_path.read_text().splitlines()[-1]
    value = float(re.search(r'"generator/rec": ([\d.]+)', last)[1])
    assert f"rec {value:.3g}" in line
    assert "S0.3" not in invoke(home, "runs", runs[0].folder.name)


def test_a_run_is_removed_with_its_folder_and_its_rows_stay(home, runs, pack, console):
    measuring.measure(home, "landmarks", runs, pack, {"setting": "frozen-probe"}, console)
    before = len(read_rows(home))
    said = invoke(home, "runs", runs[0].folder.name, "--remove")
    assert "freed" in said and not runs[0].folder.exists() and runs[1].folder.exists()
    assert len(read_rows(home)) == before


def test_what_another_has_freed_meanwhile_is_no_error(home, runs, pack, console):
    measuring.measure(home, "landmarks", runs, pack, {"setting": "frozen-probe"}, console)
    found = freeable(home)
    gone = next(each for each in found if each.text.startswith("features of"))
    gone.free()
    assert free(found) and freeable(home) == []


def test_a_damaged_run_is_removed_and_stops_no_pruning(home, runs):
    damaged, state = runs[0].info_path, runs[1].state_path
    damaged.write_bytes(damaged.read_bytes()[:-20])
    state.write_bytes(state.read_bytes()[:-1])
    said = invoke(home, "prune")
    assert f"left out {damaged} is damaged" in said and f"left as it is {state} is damaged" in said
    assert "freed" in invoke(home, "runs", str(runs[0].folder), "--remove")
    assert not runs[0].folder.exists() and runs[1].folder.exists()
    elsewhere = home.folder / "elsewhere" / runs[1].folder.name
    elsewhere.mkdir(parents=True)
    runs[1].info_path.write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        CliRunner().invoke(cli, ["runs", str(elsewhere), "--remove", "--home", str(home)], catch_exceptions=False)
    assert runs[1].folder.exists()


def test_a_run_that_is_being_trained_is_not_removed(home, runs):
    with runs[1].lock(), pytest.raises(UserError, match="being trained by another process"):
        CliRunner().invoke(
            cli, ["runs", *(r.folder.name for r in runs), "--remove", "--home", str(home)], catch_exceptions=False
        )
    assert all(run.folder.exists() for run in runs)


def test_prune_says_what_it_frees_and_frees_what_can_be_made_again(home, runs, pack, console):
    measuring.measure(home, "landmarks", runs, pack, {"setting": "frozen-probe"}, console)
    (runs[0].folder / ".state.pt.123.partial").write_bytes(b"x" * 1000)
    rows = read_rows(home)
    codes = load_subject(runs[0]).features(pack, pack.indices("test"))
    said = invoke(home, "prune", "--dry-run")
    for what in ("features of", "optimizer state of", "left half written (1 kB)"):
        assert what in said
    assert len(freeable(home)) == 4 and len(strays(home)) == 1  # two of each, and one scrap
    size = runs[0].state_path.stat().st_size
    assert "freed" in invoke(home, "prune")
    assert freeable(home) == strays(home) == [] and "nothing to free" in invoke(home, "prune")
    assert runs[0].state_path.stat().st_size < 0.6 * size
    again = home.find_run(runs[0].folder.name)
    assert again.finished and (load_subject(again).features(pack, pack.indices("test")) == codes).all()
    assert measuring.measure(home, "landmarks", runs, pack, {"setting": "frozen-probe"}, console) == 0
    assert read_rows(home).equals(rows)


def test_prune_clears_what_kills_left_wherever_it_lies_and_nothing_that_is_at_work(home, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SHORT", str(tmp_path / "tmp"))
    packs, temporary = tmp_path / "own", tmp_path / "tmp" / ".mdebench-abcdefgh"
    (tmp_path / "packs").unlink()
    packs.mkdir()
    (tmp_path / "packs").symlink_to(packs)
    temporary.mkdir(parents=True, mode=0o700)
    files_left = [home.rows / "landmarks" / ".a.jsonl.0f.partial", home.values / ".a.npz.0f.partial"]
    files_left += [home.folder / ".report.html.0f.partial", runs[0].folder / "samples" / ".a.png.0f.partial"]
    for path in files_left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    for folder in (packs / ".faces.part", packs / ".busy.part", runs[0].folder / "features" / "tmpabcd1234"):
        folder.mkdir(parents=True)
    others = [home.folder / "mine" / ".a.b.0f.partial", home.folder / "mine.partial"]  # not where a home's files lie
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (home.runs / "empty").mkdir()
    with (packs / ".busy.lock").open("w") as lock, home.run("new").lock():
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = invoke(home, "prune")
        assert (packs / ".busy.part").is_dir() and home.run("new").folder.is_dir()
    cleared = [*files_left, packs / ".faces.part", home.runs / "empty", temporary]
    cleared.append(runs[0].folder / "features" / "tmpabcd1234")
    assert not any(path.exists() for path in cleared) and all(path.exists() for path in others)
    assert all(str(path) in said for path in files_left) and f"{temporary}, a temporary folder left" in said


def test_what_is_being_trained_is_left_alone_by_prune(home, runs):
    with runs[0].lock():
        assert [each.text for each in freeable(home) if "S0.1" in each.text] == []


def test_a_method_is_shown_with_defaults_at_every_scale_and_their_source(home):
    said = show_text(home, "glcic")
    assert "baselines/glcic.py" in said and "encode, stages, complete" in said
    settings = catalog.method("glcic").load().Settings()
    for name in vars(settings):
        assert re.search(rf"^{name} ", said, re.M), name
    assert re.search(r"^width +64 +32 +16 +8", said, re.M)
    assert re.search(r"^S +0\.1 ", show_text(home, "rec"), re.M)


def test_what_stands_beside_a_default_is_shown_as_its_source(home, tmp_path):
    from elsewhere import METHOD

    path = tmp_path / "tint.py"
    path.write_text(METHOD.replace("lr: float = 1e-3", "lr: float = 1e-3  # section 4 of nobody's paper"))
    said = show_text(home, str(path))
    assert "section 4 of nobody's paper" in said and "tint.py, sha256 " in said


def test_a_protocol_is_shown_with_its_metrics(home):
    said = show_text(home, "completion")
    assert "a method that can complete" in said
    assert re.search(r"^fid/raw +– +lower is better", said, re.M) and re.search(r"^images +1000", said, re.M)


def test_a_run_is_shown_with_what_was_changed_and_where_it_was_measured(home, runs, pack, console):
    measuring.measure(home, "landmarks", runs[:1], pack, {"setting": "frozen-probe"}, console)
    said = show_text(home, runs[0].folder.name)
    assert re.search(r"^width +2 +changed against the scale", said, re.M)
    assert re.search(r"^landmarks +\d", said, re.M) and runs[0].info["weights_hash"] in said
    assert "not measured yet" in show_text(home, runs[1].folder.name)


def test_two_runs_are_compared_image_by_image(home, runs, pack, console):
    measuring.measure(home, "landmarks", runs, pack, {"setting": "frozen-probe"}, console)
    measuring.measure(home, "attributes", runs[:1], pack, {"setting": "frozen-probe"}, console)
    said = compare_text(home, *runs)
    assert re.search(r"^S +0\.1 +0\.3$", said, re.M) and "measured for one alone: A: attributes" in said
    line = next(line for line in said.splitlines() if "landmark_distance " in line)
    assert "image by image" in line
    rows = read_rows(home).query("metric == 'landmark_distance'").set_index("run")["value"]
    gap = rows[runs[0].folder.name] - rows[runs[1].folder.name]
    assert f"{gap:.2f}".replace("-", "−") in line
    mirrored = compare_text(home, *reversed(runs))
    words = {"better": "worse", "worse": "better", "no difference seen": "no difference seen"}
    (verdict,) = [word for word in words if word in line]
    assert words[verdict] in next(each for each in mirrored.splitlines() if "landmark_distance " in each)


def test_equal_weights_have_equal_rows(home, runs, pack, console):
    measuring.measure(home, "landmarks", runs, pack, {"setting": "frozen-probe"}, console)
    said = compare_text(home, runs[0], runs[0])
    assert "equal settings" in said and "0.00 ± 0.00" in said
    assert torch.equal(*(load_subject(runs[0]).method.state_dict()["generator.encoder.to_code.0.weight"] for _ in "ab"))


def test_prune_frees_what_kills_left_in_results(tmp_path):
    home = Home(tmp_path)
    for place in (home.tables, home.rows / "landmarks", home.packs, home.values):
        place.mkdir(parents=True, exist_ok=True)
        (place / ".table1.md.0a1b2c3d.partial").write_bytes(b"half")
    assert len(strays(home)) == 4 and not freeable(home)
    invoke(home, "prune")
    assert strays(home) == [] and not list(tmp_path.rglob("*.partial"))
