"""Probes during pretraining: they change nothing, are taken once each, and read validation images alone."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import entropy
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from mdebench.data.pack import SPLITS
from mdebench.errors import Interrupted, UserError
from mdebench.evaluation import probing
from mdebench.evaluation.probing import Probes, effective_rank, linear_cka
from mdebench.evaluation.subjects import load_subject
from mdebench.files import Damaged
from mdebench.results import probes
from mdebench.results.probes import Schedule
from mdebench.runs import Run
from mdebench.training import recipes
from mdebench.training.loop import pretrain

SMALL = {"width": "2", "code": "4", "updates": "24", "batch": "6"}


@pytest.fixture(autouse=True)
def no_references(monkeypatch):
    """What is not trained is looked at where a test asks for it."""
    monkeypatch.setattr(probes, "REFERENCES", ())


def recipe_of(pack, name="rec", seed=0, **overrides):
    return recipes.make_recipe(name, pack, "tiny", seed, SMALL | overrides)


def probed(home, pack, console, schedule, recipe=None, **how):
    recipe = recipe or recipe_of(pack)
    run = home.run(recipe.name)
    pretrain(recipe, run, pack, console, watch=Probes(home, recipe, pack, schedule, console), **how)
    return Run(run.folder)


def looks(home, run):
    return probes.read(probes.path_of(home, run.folder.name))


def without_times(found):
    return [{key: value for key, value in look.items() if key not in ("seconds", "took")} for look in found]


@pytest.mark.parametrize("name", ["rec", "vae", "byol"])
def test_a_run_with_probes_ends_in_the_bits_of_one_without(home, pack, console, name):
    recipe = recipes.make_recipe(name, pack, "tiny", 0, {"updates": "12", "batch": "6"})
    plain = home.run(recipe.name)
    pretrain(recipe, plain, pack, console)
    state, log = plain.load_state(), plain.log()
    plain.folder.rename(home.folder / "plain")
    run = probed(home, pack, console, Schedule(every=5), recipe)
    again = run.load_state()
    assert all(torch.equal(again["method"][key], value) for key, value in state["method"].items())
    kept = ("images_per_second", "line")
    assert [{k: v for k, v in line.items() if k not in kept} for line in run.log()] == [
        {k: v for k, v in line.items() if k not in kept} for line in log
    ]
    assert [look["step"] for look in looks(home, run)] == [0, 5, 10, 12]


def test_a_run_that_is_stopped_has_each_probe_once_and_the_same(home, pack, console, monkeypatch, tmp_path):
    whole = looks(home, probed(home, pack, console, Schedule(every=8, at=(3,))))
    assert [look["step"] for look in whole] == [0, 3, 8, 16, 24]
    (home.runs / recipe_of(pack).name).rename(tmp_path / "whole")
    probes.path_of(home, recipe_of(pack).name).unlink()
    taken, real = [], Probes.look

    def stopped(self, run, method, step, *spent):
        real(self, run, method, step, *spent)
        taken.append(step)
        if taken == [0, 3, 8]:
            raise Interrupted("here")  # the last state on disk is an older one

    monkeypatch.setattr(Probes, "look", stopped)
    with pytest.raises(Interrupted):
        probed(home, pack, console, Schedule(every=8, at=(3,)), save_seconds=1000)
    run = probed(home, pack, console, Schedule(every=8, at=(3,)))
    assert without_times(looks(home, run)) == without_times(whole)


def test_turned_on_under_way_they_begin_there(home, pack, console):
    class Stops(Probes):
        def look(self, run, method, step, *spent):
            if step:
                raise Interrupted("here")

    recipe = recipe_of(pack)
    run = home.run(recipe.name)
    with pytest.raises(Interrupted):
        pretrain(recipe, run, pack, console, 0.0, watch=Stops(home, recipe, pack, Schedule(at=(10,)), console))
    at = run.load_state()["step"]
    assert at == 9 and looks(home, run) == []
    probed(home, pack, console, Schedule(at=(4, 15)))
    assert [look["step"] for look in looks(home, run)] == [15, 24]
    assert "is at update 9: no probe at 4" in console.file.getvalue()


def test_what_is_kept_at_a_probe_is_the_network_as_it_was(home, pack, console):
    run = probed(home, pack, console, Schedule(every=12))
    kept = [load_file(run.folder / "probes" / f"step-{step:06d}.safetensors") for step in (0, 12, 24)]
    final = run.load_state()["method"]
    assert all(torch.equal(kept[-1][name], value) for name, value in final.items())
    assert not all(torch.equal(kept[0][name], kept[1][name]) for name in final)


def test_test_images_are_never_touched_and_those_that_train_are_not_measured(home, pack, console, monkeypatch):
    seen, real = set(), probing.load

    def watched(pack, rows, device):
        seen.update(rows.tolist())
        return real(pack, rows, device)

    monkeypatch.setattr(probing, "load", watched)
    monkeypatch.setattr(probing, "TRAIN", 60)
    view = probing._without_test(pack)
    train, val, test = (set(view.indices(split).tolist()) for split in SPLITS)
    assert test <= set(pack.indices("val").tolist()) and train | val <= set(pack.indices("train").tolist())
    assert len(train) == 54 and len(val) == 6 and not train & val
    probed(home, pack, console, Schedule())
    assert seen == train | val | test and not seen & set(pack.indices("test").tolist())


def test_the_number_is_that_of_the_protocol_s_probe_on_the_same_images(home, pack, console):
    """By scikit-learn's ridge on the same codes, at the alpha that the note tells."""
    run = probed(home, pack, console, Schedule())
    last = looks(home, run)[-1]
    found = next(each for each in last["measured"] if each["metric"] == "landmark_distance")
    view, subject = probing._without_test(pack), load_subject(run)
    codes = {split: subject.features(pack, view.indices(split)).astype(float) for split in SPLITS}
    scale = StandardScaler().fit(codes["train"])
    alpha = float(found["note"].split("alpha ")[1].split(" ")[0])
    points = pack.landmarks.reshape(len(pack.landmarks), -1)
    grid = [a for a in np.logspace(-6, 1, 15) if math.isclose(float(f"{a:.2g}"), alpha)]
    ridge = Ridge(grid[0] * len(codes["train"])).fit(scale.transform(codes["train"]), points[view.indices("train")])
    off = (ridge.predict(scale.transform(codes["test"])) - points[view.indices("test")]).reshape(-1, 5, 2)
    assert found["value"] == pytest.approx(96 * np.linalg.norm(off, axis=2).mean(), rel=1e-4)
    assert probes.unpacked(found["values"]).mean() == pytest.approx(found["value"], rel=1e-3)


def test_seeds_are_aligned_with_those_that_were_looked_at(home, pack, console):
    first = probed(home, pack, console, Schedule(at=(12,)))
    assert all(each["metric"] != "cka" for look in looks(home, first) for each in look["measured"])
    second = probed(home, pack, console, Schedule(at=(12, 18)), recipe_of(pack, seed=1))
    found = {
        look["step"]: each["value"]
        for look in looks(home, second)
        for each in look["measured"]
        if each["metric"] == "cka"
    }
    codes = [np.load(run.folder / "probes" / "codes-000012.npy") for run in (first, second)]
    assert sorted(found) == [0, 12, 24] and found[12] == pytest.approx(linear_cka(*codes), abs=1e-2)


def test_a_look_draws_nothing(home, pack, console):
    class Draws(Probes):
        def look(self, *look):
            before = torch.get_rng_state(), np.random.get_state()[1].copy()
            super().look(*look)
            assert torch.equal(torch.get_rng_state(), before[0])
            assert (np.random.get_state()[1] == before[1]).all()

    recipe = recipes.make_recipe("vae", pack, "tiny", 0, {"updates": "2", "batch": "6"})
    pretrain(recipe, home.run(recipe.name), pack, console, watch=Draws(home, recipe, pack, Schedule(), console))
    assert len(looks(home, home.run(recipe.name))) == 2


def test_references_are_looked_at_once(home, pack, console, monkeypatch):
    """The constant answer is the majority's; random weights are where a run of the Missing Data Encoder begins."""
    monkeypatch.setattr(probes, "REFERENCES", ("random", "constant"))
    run = probed(home, pack, console, Schedule())
    found = probes.table(home).set_index(["method", "step", "metric"])["value"]
    view = probing._without_test(pack)
    train, test = (view.attributes[view.indices(split)] for split in ("train", "test"))
    wrong = 100 * (test != (train.mean(axis=0) > 0.5)).mean()
    assert found["constant", 0, "attribute_error"] == pytest.approx(wrong)
    assert looks(home, run)[0]["pack_note"].startswith("216 training images, alpha by 24 others, measured on 30")
    before = console.file.getvalue().count("probe random")
    probed(home, pack, console, Schedule(), recipe_of(pack, seed=1))
    assert before == 1 == console.file.getvalue().count("probe random")


def test_effective_rank_by_hand(rng):
    codes = rng.normal(size=(40, 12))
    values = np.sqrt(np.linalg.eigvalsh(codes.T @ codes))
    assert effective_rank(codes) == pytest.approx(math.exp(entropy(values / values.sum())), rel=1e-4)
    assert effective_rank(np.outer(rng.normal(size=30), rng.normal(size=7))) == pytest.approx(1, abs=1e-4)
    assert effective_rank(np.eye(9)) == pytest.approx(9, rel=1e-4) and effective_rank(np.zeros((5, 3))) == 0


def test_linear_cka_by_hand(rng):
    """Against the formula over units, and its properties: 1 for a rotation and a scale, small for what is unrelated."""
    x, y = rng.normal(size=(50, 6)), rng.normal(size=(50, 4))
    cx, cy = x - x.mean(0), y - y.mean(0)
    by_units = np.linalg.norm(cx.T @ cy) ** 2 / (np.linalg.norm(cx.T @ cx) * np.linalg.norm(cy.T @ cy))
    assert linear_cka(x, y) == pytest.approx(by_units)
    turned = 3 * x @ np.linalg.qr(rng.normal(size=(6, 6)))[0] + 7
    assert linear_cka(x, turned) == pytest.approx(1) and by_units < 0.3
    assert math.isnan(linear_cka(x, np.ones((50, 2))))


def test_dead_units_are_those_that_never_vary(home, pack, console, monkeypatch):
    real = probing.encode

    def half_dead(method, images):
        codes = real(method, images)
        codes[:, : codes.shape[1] // 2] = 3.0
        return codes

    monkeypatch.setattr(probing, "encode", half_dead)
    run = probed(home, pack, console, Schedule())
    dead = [each["value"] for look in looks(home, run) for each in look["measured"] if each["metric"] == "dead"]
    assert min(dead) >= 50


def test_mistakes_are_told(home, pack, console):
    assert probes.read_updates("300, 1k,3k,1000") == (300, 1000, 3000)
    for wrong in ("", "0", "1e3", "-5", "1m", "٣"):
        with pytest.raises(UserError, match="no number of updates"):
            probes.read_updates(wrong)
    bare = probing.replace(pack, split=np.where(pack.split == SPLITS.index("val"), 255, pack.split).astype(np.uint8))
    with pytest.raises(UserError, match="no validation images"):
        Probes(home, recipe_of(pack), bare, Schedule(), console)
    run = probed(home, pack, console, Schedule())
    path = probes.path_of(home, run.folder.name)
    path.write_bytes(path.read_bytes().replace(b'"step": 0', b'"step": 1', 1))
    with pytest.raises(Damaged, match="delete it"):
        probes.read(path)
