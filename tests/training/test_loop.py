"""The loop and runs: what a kill, a full disk, a second process, a bad number or a stranger's file cannot do."""

import errno
import json
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from mdebench.errors import Interrupted, UserError
from mdebench.evaluation import measuring
from mdebench.files import read_json, write_json
from mdebench.home import Home
from mdebench.methods.contract import Loss, polynomial
from mdebench.methods.mde import Method
from mdebench.runs import Run
from mdebench.training import recipes
from mdebench.training.loop import pretrain
from mdebench.training.trainer import Trainer, batch_at, build_method

SMALL = {"width": "2", "code": "4", "updates": "30", "batch": "6"}

CHILD = """
import sys
from rich.console import Console
import torch
torch.set_num_threads(1)
from mdebench.evaluation import measuring
from mdebench.training import recipes
from mdebench.data.pack import open_pack
from mdebench.home import Home
from mdebench.training.loop import pretrain
home = Home(sys.argv[1])
pack = open_pack(home.packs / "toyfaces16")
recipe = recipes.make_recipe("rec", pack, "tiny", 0, {"width": "2", "code": "4", "updates": sys.argv[2], "batch": "6"})
print("ready", flush=True)
pretrain(recipe, home.run(recipe.name), pack, Console(quiet=True), save_seconds=float(sys.argv[3]))
"""


def recipe_of(pack, **overrides):
    return recipes.make_recipe("rec", pack, "tiny", 0, SMALL | {k: str(v) for k, v in overrides.items()})


def train(home, pack, console, name="rec", **overrides):
    recipe = recipes.make_recipe(name, pack, "tiny", 0, SMALL | {k: str(v) for k, v in overrides.items()})
    return recipes.train_run(home, recipe, pack, console)


def weights(run):
    return run.load_state()["method"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def child(home, updates=200, save_seconds=0.0, **kwargs):
    command = [sys.executable, "-c", CHILD, str(home), str(updates), str(save_seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)


def test_a_run_leaves_a_readable_record(home, pack, console):
    run = train(home, pack, console)
    assert run.folder.name == "toyfaces16-rec-S0.1-tiny-batch=6-code=4-updates=30-width=2-seed0"
    assert run.finished and run.info["updates"] == run.info["step"] == 30
    assert run.info["pack_hash"] == pack.hash and run.info["losses"] == "compl+adv+hns_coord"
    lines = [json.loads(line) for line in run.log_path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30] and all(
        np.isfinite([value for key, value in line.items() if key != "checksum"]).all() for line in lines
    )
    assert len(list((run.folder / "samples").glob("*.png"))) == 5


def test_twice_says_finished_and_changes_nothing(home, pack, console):
    run = train(home, pack, console)
    before = run.state_path.stat().st_mtime_ns
    train(home, pack, console)
    assert "finished" in console.file.getvalue() and run.state_path.stat().st_mtime_ns == before


def test_kill_minus_nine_at_random_moments_ends_in_the_same_bits(home, pack, tmp_path):
    """Killed and started again until it is through, saving after every update; the unbroken run saves at the end."""
    (tmp_path / "unbroken").mkdir()
    (tmp_path / "unbroken" / "packs").symlink_to(home.packs)
    process = child(tmp_path / "unbroken", save_seconds=1000)
    assert process.communicate()[1] == "" and process.returncode == 0
    chance, kills = random.Random(0), 0
    while True:
        process = child(home)
        process.stdout.readline()  # ready
        if kills < 3:
            time.sleep(chance.uniform(0.05, 0.8))
            process.kill()
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
        else:
            assert process.communicate()[1] == ""
            break
    (broken,) = home.list_runs()
    (unbroken,) = Home(tmp_path / "unbroken").list_runs()
    assert kills == 3 and broken.finished and same(weights(broken), weights(unbroken))
    assert broken.info["weights_hash"] == unbroken.info["weights_hash"]
    steps = [json.loads(line)["step"] for line in broken.log_path.read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 200


def test_ctrl_c_saves_and_resumes(home, pack, console, monkeypatch):
    unbroken = weights(train(home, pack, console))
    (run,) = home.list_runs()
    run.folder.rename(home.folder / "elsewhere")
    original, calls = Method.loss, []

    def loss(self, player, batch):
        if batch.step == 12 and not calls:
            calls.append(player)
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, player, batch)

    monkeypatch.setattr(Method, "loss", loss)
    with pytest.raises(Interrupted, match="SIGINT at update 13 of 30"):
        train(home, pack, console)
    monkeypatch.undo()
    (run,) = home.list_runs()
    assert run.info["status"] == "interrupted" and run.load_state()["step"] == 13
    assert same(weights(train(home, pack, console)), unbroken)
    assert "resuming" in console.file.getvalue()


def test_a_second_signal_does_not_come_between_the_state_and_the_word_about_it(home, pack, console, monkeypatch):
    original_update, original_loss, seen = Run.update, Method.loss, []

    def update(self, **info):
        if info.get("status") == "interrupted":
            os.kill(os.getpid(), signal.SIGINT)  # an executor that takes down its workers sends one more
            seen.append(info["status"])
        original_update(self, **info)

    def loss(self, player, batch):
        os.kill(os.getpid(), signal.SIGINT)
        return original_loss(self, player, batch)

    monkeypatch.setattr(Run, "update", update)
    monkeypatch.setattr(Method, "loss", loss)
    with pytest.raises(Interrupted, match="SIGINT at update 1 of 30"):
        train(home, pack, console)
    (run,) = home.list_runs()
    assert seen and run.info["status"] == "interrupted" and run.load_state()["step"] == 1


def test_a_second_process_is_refused(home, pack, console):
    recipe = recipe_of(pack)
    run = home.run(recipe.name)
    with run.lock(), pytest.raises(UserError, match=f"another process .pid {os.getpid()}"):
        pretrain(recipe, run, pack, console)


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(UserError, match=r"cannot be locked .*No locks available.*another --home"), Run(tmp_path).lock():
        pass


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(home, pack, console, monkeypatch):
    original = Method.loss

    def loss(self, player, batch):
        good = original(self, player, batch)
        return Loss(good.total * float("nan"), good.parts) if batch.step == 17 and player == "generator" else good

    monkeypatch.setattr(Method, "loss", loss)
    recipe = recipe_of(pack)
    run = home.run(recipe.name)
    with pytest.raises(UserError, match=r"generator is not finite at step 17.*last good state"):
        pretrain(recipe, run, pack, console, save_seconds=0)
    state = Run(run.folder).load_state()
    assert state["step"] == 17 and all(v.isfinite().all() for v in state["method"].values() if v.is_floating_point())
    assert Run(run.folder).info["status"] == "failed"


def test_losses_that_are_read_later_still_name_the_step_and_keep_it_from_being_saved(pack, monkeypatch):
    """As on a GPU, where reading a loss would wait for it."""
    original, recipe, device = Method.loss, recipe_of(pack), torch.device("cpu")

    def loss(self, player, batch):
        found = original(self, player, batch)
        return Loss(found.total * float("nan"), found.parts) if batch.step >= 2 and player == "generator" else found

    monkeypatch.setattr(Method, "loss", loss)
    trainer = Trainer(build_method("rec", recipe.settings, pack.size, 0), recipe, device)
    trainer.at_most_unread = 9  # the ninth is the discriminator's at step 4
    for step in range(4):
        trainer.update(batch_at(pack, pack.indices("train"), recipe, step, device))
    assert not any(value.requires_grad for _, _, told in trainer.unread for value in (told.total, *told.parts.values()))
    with pytest.raises(UserError, match="the generator is not finite at step 2 "):
        trainer.update(batch_at(pack, pack.indices("train"), recipe, 4, device))
    trainer.update(batch_at(pack, pack.indices("train"), recipe, 5, device))
    with pytest.raises(UserError, match="the discriminator is not finite at step 5 "):  # by now its pictures are not
        trainer.state()


def test_weights_that_are_not_finite_are_never_saved(home, pack, console):
    with pytest.raises(UserError, match="not finite"):
        train(home, pack, console, generator_lr="1e38")
    (run,) = home.list_runs()
    assert not run.state_path.exists()


def test_another_recipe_under_the_same_name_is_refused(home, pack, console):
    run = train(home, pack, console)
    info = json.loads(run.info_path.read_text())
    info["recipe"]["pack_hash"] = "another"
    write_json(run.info_path, info)
    with pytest.raises(UserError, match="different: pack_hash"):
        train(home, pack, console)


def test_a_truncated_state_is_one_sentence(home, pack, console):
    run = train(home, pack, console)
    data = run.state_path.read_bytes()
    for cut in (0, 100, len(data) // 2, len(data) - 10):
        run.state_path.write_bytes(data[:cut])
        with pytest.raises(UserError, match="is damaged"):
            run.load_state()


class Payload:
    def __reduce__(self):
        return os.system, ("touch /nonexistent/pwned",)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickled_payload_is_not_run(home, pack, console, save):
    run = train(home, pack, console)
    save({"step": 30, "method": {}, "optimizers": Payload()}, run.state_path)
    with pytest.raises(UserError, match=r"not loaded|is damaged \(File is not a zip file"):
        run.load_state()


def test_a_full_disk_while_saving_keeps_the_last_good_state(home, pack, console):
    process = child(home, updates=20)
    assert process.communicate()[1] == ""
    (run,) = home.list_runs()
    before, size = weights(run), run.state_path.stat().st_size
    process = child(
        home, updates=21, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
    )
    error = process.communicate()[1]
    assert process.returncode == 1 and "UserError" in error and "could not write" in error
    assert same(weights(run), before) and not list(run.folder.parent.glob("*/.*partial"))


def test_fp64_trains_in_double_precision_and_is_measured_like_any_other(home, pack, console):
    run = train(home, pack, console, precision="fp64", updates=3)
    assert {v.dtype for v in weights(run).values() if v.is_floating_point()} == {torch.float64}
    assert run.info["precision"] == "fp64" and "precision=fp64" in run.folder.name
    subject = measuring.load_subject(run)
    assert subject.features(pack, np.arange(2)).dtype == np.float32


def test_batches_are_a_permutation_in_each_epoch(pack):
    train_rows, recipe = pack.indices("train"), recipe_of(pack, batch=7)
    per_epoch = len(train_rows) // 7
    first = np.concatenate([batch_at(pack, train_rows, recipe, s, torch.device("cpu")).index for s in range(per_epoch)])
    second = np.concatenate(
        [batch_at(pack, train_rows, recipe, per_epoch + s, torch.device("cpu")).index for s in range(per_epoch)]
    )
    assert len(set(first)) == len(first) and set(first) <= set(train_rows) and not np.array_equal(first, second)
    batch = batch_at(pack, train_rows, recipe, 3, torch.device("cpu"))
    np.testing.assert_allclose(batch.images.numpy(), pack.images[batch.index.numpy()] / 255, atol=1e-6)


def test_polynomial_annealing():
    assert [round(polynomial(0.9)(p), 6) for p in (0, 0.5, 1)] == [1, round(0.5**0.9, 6), 0]


def test_an_unknown_run_is_answered_with_the_nearest(home, pack, console):
    run = train(home, pack, console)
    with pytest.raises(UserError, match=run.folder.name):
        home.find_run(run.folder.name.replace("seed0", "seed1"))


@pytest.mark.parametrize(
    ("key", "value"), [("updates", "0"), ("updates", "many"), ("batch", "-1"), ("precision", "fp8")]
)
def test_wrong_recipe_values(pack, key, value):
    with pytest.raises(UserError, match=key):
        recipes.make_recipe("rec", pack, "tiny", 0, {key: value})


def begun_as(run, **changed):
    """The run as one that another machine began and left."""
    info = read_json(run.info_path, "")
    info |= {"status": "interrupted", "recipe": info["recipe"] | changed}
    write_json(run.info_path, info | {key: value for key, value in changed.items() if key in info})


def test_a_run_moved_to_another_machine_goes_on_in_its_own_precision(home, pack, console, monkeypatch):
    monkeypatch.setattr(recipes, "default_precision", lambda device: "fp32")
    whole = train(home, pack, console).info["weights_hash"]
    (run,) = home.list_runs()
    begun_as(run)
    monkeypatch.setattr(recipes, "default_precision", lambda device: "bf16")
    resumed = train(home, pack, console)
    assert resumed.finished and resumed.info["precision"] == resumed.info["recipe"]["precision"] == "fp32"
    assert resumed.info["weights_hash"] == whole
    assert "goes on in fp32, in which it was begun; this machine's own choice would be bf16" in console.file.getvalue()
    train(home, pack, console)  # and it is found finished
    assert console.file.getvalue().count("goes on in fp32") == 1
    with pytest.raises(UserError, match=r"different: .*precision"):  # what was asked for is not overruled
        begun_as(run, overrides=run.info["recipe"]["overrides"] | {"precision": "bf16"})
        pretrain(recipe_of(pack, precision="bf16"), Run(run.folder), pack, console)


def test_more_updates_than_a_finished_run_has_are_another_run_and_that_is_said(home, pack, console):
    done = train(home, pack, console, updates=4)
    train(home, pack, console, updates=4, width=4)  # a run of other networks is none of its kin
    assert "another run than" not in console.file.getvalue()
    longer = train(home, pack, console, updates=6)
    said = console.file.getvalue()
    assert f"{longer.folder.name} is another run than {done.folder.name}, which is finished (4 updates)" in said
    assert "begins at update 0: schedules follow the length of a run" in said and said.count("another run than") == 1


def test_a_folder_of_a_run_of_another_length_says_why_it_cannot_be_made_longer(home, pack, console):
    run = train(home, pack, console, updates=4)
    with pytest.raises(UserError, match=r"4 updates there, 6 asked for, .* a finished one cannot be made longer"):
        pretrain(recipe_of(pack, updates=6), run, pack, console)


def test_a_pack_replaced_under_its_name_is_told_by_both_hashes(home, pack, console):
    run = train(home, pack, console, updates=4)
    begun_as(run)
    other = replace(pack, info=pack.info | {"hash": "ab" * 32})
    said = rf"begun on another pack called toyfaces16 \(pack {pack.hash[:8]}, replaced by abababab\); to go on with it"
    with pytest.raises(UserError, match=said):
        train(home, other, console, updates=4)


def test_a_refused_run_leaves_no_folder_and_one_that_was_there_stays(tmp_path):
    new, old = Run(tmp_path / "new"), Run(tmp_path / "old")
    old.folder.mkdir()
    (old.folder / "notes.txt").touch()
    for run in (new, old):
        with pytest.raises(UserError), run.lock():
            raise UserError("no")
    assert not new.folder.exists() and old.folder.exists()
    with new.lock():
        new.update(status="running")
    assert read_json(new.info_path, "") == {"status": "running"}
