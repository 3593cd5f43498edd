"""Damage, want and strays: what a flipped bit, a lost key, an empty machine or a kill does to a run is one sentence."""

import io
import json
import re
import shutil

import numpy as np
import pytest
import torch
from rich.console import Console

from mdebench.errors import UserError
from mdebench.files import Damaged, write_json
from mdebench.methods.contract import Loss
from mdebench.methods.mde import Method
from mdebench.runs import Run
from mdebench.training import recipes
from mdebench.training.loop import pretrain

SMALL = {"width": "2", "code": "4", "updates": "4", "batch": "6"}


def recipe_of(pack, **overrides):
    return recipes.make_recipe("rec", pack, "tiny", 0, SMALL | {k: str(v) for k, v in overrides.items()})


@pytest.fixture(scope="module")
def trained(faces, tmp_path_factory):
    """A finished run of four updates, to be copied."""
    from mdebench.data.pack import open_pack

    pack = open_pack(faces.packs / "toyfaces16")
    recipe, folder = recipe_of(pack), tmp_path_factory.mktemp("trained")
    pretrain(recipe, Run(folder / recipe.name), pack, Console(quiet=True), save_seconds=0)
    return folder / recipe.name


@pytest.fixture
def run(trained, home):
    """A copy of it in a home of its own."""
    shutil.copytree(trained, home.runs / trained.name)
    return home.run(trained.name)


def flips(path, rng, count):
    """The file with one bit flipped, many times over; the file is as it was afterwards."""
    data = path.read_bytes()
    for _ in range(count):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        yield
    path.write_bytes(data)


def same(a, b):
    """Whether two checkpoints hold the same numbers under the same names."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_a_flipped_bit_of_a_checkpoint_never_becomes_other_weights(run, rng):
    whole, refused = run.load_state(), 0
    for _ in flips(run.state_path, rng, 150):
        try:
            assert same(run.load_state(), whole)
        except Damaged as error:
            refused += 1
            assert "state.pt is damaged" in str(error)
    assert refused > 75 and same(run.load_state(), whole)


def test_a_checkpoint_has_checksums_whatever_torch_is_set_to(run):
    state = run.load_state()
    torch.serialization.set_crc32_options(False)
    try:
        run.save_state(state)
        assert torch.serialization.get_crc32_options() is False
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(run.load_state(), state)


@pytest.mark.parametrize("part", ["run.json", "trained_on.npy", "log.jsonl"])
def test_a_flipped_bit_of_a_record_is_never_read_as_another_record(run, rng, part):
    def read():
        again = Run(run.folder)
        return again.info, again.trained_on().tolist(), again.log()

    whole = read()
    for _ in flips(run.folder / part, rng, 100):
        try:
            found = read()
        except Damaged as error:
            assert f"{part} is damaged" in str(error)
        else:  # white space, or the end of the last line of the log, as a kill would have left it
            assert found == whole or (part == "log.jsonl" and found[2] == whole[2][: len(found[2])])


def test_what_a_record_lacks_or_says_otherwise_is_one_sentence_everywhere(home, run, pack, console):
    info = run.info
    for key in ("method", "label", "settings", "scale", "size", "pack", "pack_hash", "seed", "updates", "batch"):
        for changed in ({k: v for k, v in info.items() if k != key}, info | {key: [1]}):
            write_json(run.info_path, changed)
            with pytest.raises(Damaged, match=rf"run\.json is damaged .*'{key}'.*delete .* to train this run again"):
                Run(run.folder)
    for lost in ("status", "step", "recipe", "weights_hash", "pack_note"):
        write_json(run.info_path, {k: v for k, v in info.items() if k != lost})
        with pytest.raises(Damaged, match=f"it does not say '{lost}'"):
            home.find_run(run.folder.name)
        with pytest.raises(Damaged, match=f"it does not say '{lost}'"):
            recipes.train_run(home, recipe_of(pack), pack, console)


def test_one_damaged_run_hides_no_other(home, run, capsys):
    broken = home.runs / "another"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    assert [each.folder.name for each in home.list_runs()] == [run.folder.name]
    assert re.search(r"left out .*another/run\.json is damaged", capsys.readouterr().out)
    assert home.list_runs() and not capsys.readouterr().out  # said once


def test_older_records_without_checksums_are_read_as_they_are(run):
    info = run.info
    run.info_path.write_text(json.dumps({key: value for key, value in info.items() if key != "trained_on_checksum"}))
    run.log_path.write_text("".join(json.dumps(line) + "\n" for line in run.log()))
    again = Run(run.folder)
    assert again.info["weights_hash"] == info["weights_hash"] and len(again.trained_on()) and again.log()


@pytest.mark.parametrize("key", ["step", "method", "optimizers"])
def test_a_checkpoint_without_a_key_is_one_sentence(run, key):
    state = run.load_state()
    for changed in ({k: v for k, v in state.items() if k != key}, state | {key: "x"}):
        run.save_state(changed)
        with pytest.raises(Damaged, match=f"no checkpoint of this suite .*{key}"):
            run.load_state()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state["optimizers"].pop("generator"),
        lambda state: state["optimizers"]["generator"].pop("state"),
        lambda state: state["optimizers"]["generator"]["param_groups"][0].pop("betas"),
        lambda state: [kept.pop("exp_avg") for kept in state["optimizers"]["generator"]["state"].values()],
        lambda state: state["optimizers"]["generator"]["state"][0].update(exp_avg=torch.zeros(3)),
        lambda state: state["method"].popitem(),
    ],
)
def test_an_optimizer_without_what_updates_need_is_one_sentence(run, pack, console, spoil):
    state = run.load_state()
    spoil(state)
    run.save_state(state)
    run.update(status="interrupted")
    with pytest.raises(UserError, match=r"does not fit the networks of this recipe; delete it to train this run again"):
        pretrain(recipe_of(pack), run, pack, console)


def test_a_damaged_checkpoint_is_never_called_the_last_good_state(home, pack, console, monkeypatch):
    original, recipe = Method.loss, recipe_of(pack)
    run = home.run(recipe.name)

    def loss(self, player, batch):
        found = original(self, player, batch)
        if batch.step < 3 or player == "discriminator" or not run.state_path.exists():
            return found
        data = run.state_path.read_bytes()
        run.state_path.write_bytes(data[: len(data) // 2] + bytes(64) + data[len(data) // 2 + 64 :])
        return Loss(found.total * float("nan"), found.parts)

    monkeypatch.setattr(Method, "loss", loss)
    with pytest.raises(UserError, match=r"not finite at step 3 .*state\.pt is damaged .*delete it") as told:
        pretrain(recipe, run, pack, console, save_seconds=0)
    assert "last good state" not in str(told.value)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_want_of_memory_says_how_much_was_asked_for_and_keeps_the_state(home, pack, console, monkeypatch, kind):
    original, recipe = Method.loss, recipe_of(pack)
    run = home.run(recipe.name)

    def loss(self, player, batch):
        if batch.step == 2 and run.state_path.exists():
            torch.empty(2**50) if kind == "torch" else np.ones(2**50, np.float32)
        return original(self, player, batch)

    monkeypatch.setattr(Method, "loss", loss)
    told = (
        r"not enough memory for batches of 6 of 16×16 pixels \(45035\d\d\.\d GB more were asked for\); give a smaller"
    )
    with pytest.raises(UserError, match=told + r".*the last good state is in .*state\.pt, update 2"):
        pretrain(recipe, run, pack, console, save_seconds=0)
    assert Run(run.folder).load_state()["step"] == 2 and Run(run.folder).info["status"] == "failed"


def test_more_weights_than_memory_are_refused_before_any_is_asked_for(home, pack, console, monkeypatch):
    monkeypatch.setattr("mdebench.training.trial.free_memory", lambda device: 1e5)
    recipe = recipe_of(pack, code=1000)
    with pytest.raises(
        UserError, match=r"has [\d,]+ weights, which take at least [\d.]+ MB to train, and 100 kB are free"
    ):
        recipes.train_run(home, recipe, pack, console)
    assert not (home.runs / recipe.name).exists()


def test_what_kills_left_is_cleared_and_told_when_the_run_is_taken_up_again(run, pack, console):
    left = [run.folder / ".state.pt.12345.partial", run.folder / ".run.json.0a1b2c3d.partial"]
    left += [run.folder / "samples" / ".step-000004.png.0a1b2c3d.partial", run.folder / "features" / "tmpabc" / "x.npy"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert len(run.strays()) == 4
    pretrain(recipe_of(pack), run, pack, console)
    assert not run.strays() and not any(path.exists() for path in left) and not left[3].parent.exists()
    said = console.file.getvalue()
    assert said.count("cleared") == 4 and "state.pt.12345.partial, left half written by a kill" in said


def test_an_empty_run_folder_is_gone_after_its_lock(home):
    run = home.run("empty")
    run.folder.mkdir(parents=True)
    with run.lock():
        assert (run.folder / ".lock").exists()
    assert not run.folder.exists()


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, "٣"])
def test_seeds_that_nothing_draws_from_are_refused(pack, seed):
    with pytest.raises(UserError, match=r"seed=.* is not a whole number from 0 to 9,223,372,036,854,775,807"):
        recipes.make_recipe("rec", pack, "tiny", seed, SMALL)


@pytest.mark.parametrize(
    "changed",
    [{"updates": "٣"}, {"batch": "٣"}, {"width": "٣"}, {"S": "٠.١"}, {"S": "nan"}, {"generator_lr": "inf"}],
)
def test_numbers_are_finite_and_in_ascii(pack, changed):
    with pytest.raises(UserError, match=next(iter(changed))):
        recipes.make_recipe("rec", pack, "tiny", 0, SMALL | changed)


def test_a_run_has_a_name_that_files_can_have(pack):
    with pytest.raises(UserError, match=r"a name of \d+ letters, and 200 is the most"):
        recipes.make_recipe("rec", pack, "tiny", 0, SMALL | {"perceptual": "x" * 250})


@pytest.fixture
def threads():
    """Any number of threads may be set; afterwards they are as they were."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_deterministic_gives_the_same_bits_for_one_thread_and_two(home, pack, console, threads):
    hashes = {}
    for asked, count in (("true", 1), ("true", 2), ("false", 1)):
        threads(count)
        recipe = recipe_of(pack, deterministic=asked, width=8, code=64, batch=24)
        run = recipes.train_run(home, recipe, pack, console)
        hashes[asked, count] = run.info["weights_hash"]
        assert torch.get_num_threads() == count and run.info["stretches"][0]["threads"] == 1
        assert run.info["stretches"][0]["kernels"].startswith(torch.backends.cpu.get_cpu_capability())
        shutil.rmtree(run.folder)
    assert hashes["true", 1] == hashes["true", 2] == hashes["false", 1]
    assert "deterministic=true" in recipe_of(pack, deterministic="true").name
    assert recipe_of(pack, deterministic="false") == recipe_of(pack)  # as it is where nothing is said


def test_another_number_of_threads_is_told_where_a_run_goes_on(home, pack, monkeypatch):
    original, run = Method.loss, home.run(recipe_of(pack).name)

    def loss(self, player, batch):
        if batch.step == 2:
            raise UserError("stop")
        return original(self, player, batch)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="stop"):
        patch.setattr(Method, "loss", loss)
        pretrain(recipe_of(pack), run, pack, Console(quiet=True), save_seconds=0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # two would wait for each other on a busy machine
    said = io.StringIO()
    run = recipes.train_run(home, recipe_of(pack), pack, Console(file=said, width=400))
    assert "threads from update 2 on: 2, before: 1; the same training, rounded otherwise" in said.getvalue()
    assert [(each["from"], each["threads"]) for each in run.info["stretches"]] == [(0, 1), (2, 2)]


def test_what_an_older_stretch_did_not_keep_is_not_called_changed(run, pack, console):
    run.update(status="interrupted", stretches=[{"from": 0, "processes": 1}])
    pretrain(recipe_of(pack), run, pack, console)
    assert "on: " not in console.file.getvalue()
    assert Run(run.folder).info["stretches"][1]["threads"] == torch.get_num_threads()


def test_a_kill_between_the_state_and_the_word_about_it_changes_neither_log_nor_costs(run, pack, home, monkeypatch):
    """The log's means are over two updates here, of which the kill comes after the first."""
    monkeypatch.setattr("mdebench.training.loop.LOG_EVERY", 2)
    recipe, quiet = recipe_of(pack, updates=6), Console(quiet=True)
    unbroken, broken = Run(home.runs / "unbroken"), Run(home.runs / "broken")
    pretrain(recipe, unbroken, pack, quiet, save_seconds=0)
    true = Run.update

    def update(self, **values):
        if values.get("step") == 3 and "gflop" in values:
            raise SystemExit(9)
        true(self, **values)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Run, "update", update)
        pretrain(recipe, broken, pack, quiet, save_seconds=0)
    assert broken.load_state()["step"] == 3 and Run(broken.folder).info["step"] == 2
    pretrain(recipe, Run(broken.folder), pack, quiet, save_seconds=0)

    def told(run):
        return [{k: v for k, v in line.items() if k != "images_per_second"} for line in run.log()]

    one, other = Run(unbroken.folder), Run(broken.folder)
    assert other.info["gflop"] == one.info["gflop"] and told(other) == told(one) and len(told(one)) == 3
    assert same(other.load_state(), one.load_state())


def test_a_line_that_is_gone_from_a_log_is_missed(run, pack, monkeypatch):
    monkeypatch.setattr("mdebench.training.loop.LOG_EVERY", 1)
    recipe, log = recipe_of(pack, updates=6), Run(run.folder.with_name("going-on"))

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mdebench.training.loop._Means.take", stop)
        patch.setattr("mdebench.training.loop.LOG_EVERY", 5)
        pretrain(recipe, log, pack, Console(quiet=True), save_seconds=0)
    pretrain(recipe, log, pack, Console(quiet=True), save_seconds=0)
    lines = log.log_path.read_bytes().splitlines(keepends=True)
    assert [line["line"] for line in log.log()] == list(range(1, len(lines) + 1)) and len(lines) > 1
    for place in range(len(lines) - 1):
        log.log_path.write_bytes(b"".join(lines[:place] + lines[place + 1 :]))
        with pytest.raises(Damaged, match="lines are missing or out of order"):
            log.log()
    log.log_path.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(Damaged, match=r"it has 1 of 2 lines up to update 6\); delete it to go on without it"):
        log.cut_log(6, log.load_state()["since"]["lines"])
    log.log_path.unlink()
    assert log.cut_log(6, 2) == 0
