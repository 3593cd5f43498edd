"""A plan is what is then done, nothing is done twice, a kill loses nothing, and a failure stops only what needs it."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest

from mdebench import catalog
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.results.rows import read_rows
from mdebench.settings import SCALES
from mdebench.suite import experiments, reproduce
from mdebench.suite.experiments import Measure, Part, Wanted
from mdebench.suite.plan import Order, make_plan
from mdebench.suite.speed import Speed
from mdebench.training import recipes

SMALL = {"width": "2", "code": "4", "updates": "4"}
COMMAND = ["reproduce", "table3", "--scale", "tiny", "--pack", "toyfaces16", "--set", "width=2", "--set", "code=4"]


@pytest.fixture
def order(home):
    return Order(home, "table3", "tiny", "toyfaces16", overrides=SMALL)


def numbers(home):
    """What rows say, whenever and in whatever order they were measured."""
    rows = read_rows(home)[["key", "run", "setting", "metric", "value", "low", "high"]]
    return rows.sort_values(["key", "setting", "metric"]).reset_index(drop=True)


def test_the_plan_is_what_is_then_done_and_done_once(order, console):
    plan = make_plan(order, console)
    planned = [task.title for task in plan.missing]
    assert planned and all(task.seconds > 0 for task in plan.missing)
    assert reproduce.reproduce(order, True, console) == [] and not order.home.list_runs()  # a dry run does nothing
    assert reproduce.reproduce(order, False, console) == planned
    assert {run.folder.name for run in order.home.list_runs()} == {
        task.name for task in plan.tasks if task.kind == "run"
    }
    assert make_plan(order, console).missing == () and not any(t.seconds for t in make_plan(order, console).tasks)
    before = numbers(order.home)
    assert reproduce.reproduce(order, False, console) == []
    assert numbers(order.home).equals(before)
    assert "nothing is missing" in console.file.getvalue()


def test_a_bumped_version_makes_rows_stale_and_only_those_are_measured(order, console, monkeypatch):
    reproduce.reproduce(order, False, console)
    monkeypatch.setattr(catalog.protocol("occlusion"), "VERSION", 99)
    plan = make_plan(order, console)
    assert {task.kind for task in plan.missing} == {"rows"} and {task.state for task in plan.missing} == {"stale"}
    assert reproduce.reproduce(order, False, console) == [task.title for task in plan.missing]
    assert make_plan(order, console).missing == ()


def test_a_run_that_was_begun_is_gone_on_with(order, console, monkeypatch):
    plan = make_plan(order, console)
    recipe = next(task for task in plan.tasks if task.kind == "run" and task.name.startswith("toyfaces16-rec"))
    assert recipe.state == "missing" and recipe.left == "4 of 4 updates"


def test_a_run_that_fails_stops_only_what_needs_it(order, console, monkeypatch):
    part = Part((Wanted("rec 0.1"), Wanted("re 0.33")), (Measure("occlusion", {"preset": "mouth"}),))
    monkeypatch.setattr("mdebench.suite.plan.parts", lambda *_: [part])
    real = recipes.train_run

    def train(home, recipe, pack, console, watch):
        if recipe.label == "rec 0.1":
            raise UserError("the loss is not finite")
        return real(home, recipe, pack, console, watch)

    monkeypatch.setattr(recipes, "train_run", train)
    with pytest.raises(UserError, match=r"not all was done.*rec-S0.1.*not finite.*tries these again"):
        reproduce.reproduce(order, False, console)
    measured = set(read_rows(order.home)["label"])
    assert "re 0.33" in measured and "rec 0.1" not in measured
    monkeypatch.setattr(recipes, "train_run", real)
    left = make_plan(order, console).missing
    assert [task.kind for task in left] == ["run", "rows"] and all("rec-S0.1" in task.title for task in left)


def test_killed_again_and_again_it_ends_with_the_same_rows(faces, tmp_path):
    homes = [Home(tmp_path / "whole"), Home(tmp_path / "killed")]
    for home in homes:
        home.folder.mkdir()
        (home.packs).symlink_to(faces.packs)
    command = [sys.executable, "-m", "mdebench", *COMMAND, "--set", "updates=60"]
    command += ["--set", "occlusion.preset=mouth", "--home"]
    one = {**os.environ, "OMP_NUM_THREADS": "1"}  # as the suite itself
    subprocess.run([*command, str(homes[0])], check=True, capture_output=True, env=one)
    kills = 0
    for _ in range(40):
        process = subprocess.Popen([*command, str(homes[1])], stdout=subprocess.PIPE, text=True, env=one)
        lines = 0
        for line in process.stdout:  # kill it a little later each time, in the middle of what it does
            lines += line[:1].isdigit()
            if kills < 3 and lines > kills:
                time.sleep(0.2 * kills)
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
        process.stdout.close()
        if process.wait() == 0:
            break
    assert process.returncode == 0 and kills == 3
    assert numbers(homes[0]).equals(numbers(homes[1]))


def test_seeds_are_runs_of_their_own_and_references_are_not(order, console):
    plan = make_plan(dataclasses.replace(order, seeds=(0, 1)), console)
    runs = [task.name for task in plan.tasks if task.kind == "run"]
    assert [run for run in runs if "-rec-" in run] == [run for run in runs if run.split("-")[1] == "rec"]
    assert sum("-rec-" in run for run in runs) == 2 and sum("biharmonic" in run for run in runs) == 1


def test_families_are_all_methods_that_the_pack_suits(order, console, monkeypatch):
    plan = make_plan(dataclasses.replace(order, what="families"), console, speed=lambda recipe: Speed(1e-3, 1e-3, 1e-3))
    runs = {task.name for task in plan.tasks if task.kind == "run"}
    encode = {name: code for name, code in catalog.own_methods().items() if hasattr(code.load().Method, "encode")}
    assert len(encode) > 40
    for name, code in encode.items():
        clips = "clip" in code.load().Method.TAKES
        assert any(run.startswith(f"toyfaces16-{name}-") for run in runs) != clips, name
        left = f"left out: {name} cannot learn from the pack toyfaces16: it learns from clip, and the pack has no"
        assert any(note.startswith(left) for note in plan.notes) == clips
    measured = {task.name.partition(" of ")[0] for task in plan.tasks if task.kind == "rows"}
    assert measured == {"attributes", "landmarks"}


def test_loss_sets_follow_the_perceptual_network():
    tiny, paper = SCALES["tiny"], SCALES["paper"]
    assert experiments.loss_sets(paper, paper.perceptual) == experiments.LOSS_SETS
    assert not any("vgg" in losses for losses in experiments.loss_sets(tiny, tiny.perceptual))
    (part,) = experiments.parts("figure9", "toyfaces", tiny, "random")
    assert [wanted.overrides["losses"] for wanted in part.runs] == list(experiments.LOSS_SETS)
    (part,) = experiments.parts("figure9", "toyfaces", tiny, "none")
    assert dict(part.runs[-1].overrides) == {}  # the scale's own set is the run that Table 1 has already


def test_the_published_lines_of_table_1_are_trained():
    labels = {
        wanted.label.replace(" 0.25", "") if "inpainting" in wanted.label else wanted.label
        for wanted in experiments.parts("table1", "celeba", SCALES["paper"], "imagenet")[0].runs
    }
    import pandas as pd

    from mdebench.results.published import paper_dir

    published = set(pd.read_csv(paper_dir() / "table1.csv")["label"]) - {"random"}
    assert labels == published


@pytest.mark.parametrize("source", ["toyfaces", "celeba", "flowers", "mnist", "folder"])
def test_figure_5_shows_each_data_set_by_its_own_variants(source):
    (part,) = experiments.parts("figure5", source, SCALES["small"], "none")
    assert "re 0.25" in {w.label for w in part.runs} if source == "mnist" else "re 0.33" in {w.label for w in part.runs}
    assert all(measure.own for measure in part.measures)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"widht": "2"}, "Did you mean 'width'"),
        ({"oclusion.preset": "mouth"}, "Did you mean 'occlusion'"),
        ({"occlusion.preset": "mout"}, "Did you mean 'mouth'"),
    ],
)
def test_a_wrong_override_is_told_before_anything_is_done(home, console, overrides, message):
    with pytest.raises(UserError, match=message):
        make_plan(Order(home, "table3", "tiny", "toyfaces16", overrides=overrides), console)
    assert not home.list_runs()


def test_a_pack_that_must_be_drawn_first_is_planned_with_all_that_follows(tmp_path, console):
    plan = make_plan(Order(Home(tmp_path), "table3", "tiny", "toyfaces16", overrides=SMALL), console)
    assert plan.tasks[0].kind == "pack" and plan.tasks[0].state == "missing" and "6,000 faces" in plan.tasks[0].left
    assert all(task.state == "missing" for task in plan.tasks) and not (tmp_path / "packs").exists()


def test_a_pack_that_cannot_be_drawn_is_asked_for(tmp_path, console):
    with pytest.raises(UserError, match="mdebench data prepare"):
        make_plan(Order(Home(tmp_path), "table3", "tiny", "celeba64"), console)


@pytest.mark.parametrize("text", ["{", "[]", '{"table3": 1}', '{"table3": {"state": "x", "files": [1]}}', "\xff", ""])
def test_a_damaged_note_of_what_was_written_is_told_and_made_anew(order, console, monkeypatch, text):
    written = []
    monkeypatch.setattr(reproduce, "_write", lambda order, console: written.append(order.what) or [])
    stamp = order.home.results / ".written.json"
    stamp.parent.mkdir()
    stamp.write_text(text)
    reproduce.write(order, console)
    said = console.file.getvalue()
    assert f"note {stamp} is damaged (" in said and "; all is written anew" in said and written == ["table3"]
    reproduce.write(order, console)
    assert "kept 0 files" in console.file.getvalue() and written == ["table3"]


@pytest.mark.parametrize("text", ["[]", "3", '{"source": 4}', "{", "\xff"])
def test_of_a_damaged_pack_no_source_is_known(tmp_path, text):
    home = Home(tmp_path)
    home.pack("faces").mkdir(parents=True)
    (home.pack("faces") / "pack.json").write_text(text)
    assert home.source_of("faces") in ("", "4")
