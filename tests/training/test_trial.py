"""What is tried before a run begins: what it refuses, in which words, and that nothing of it is left."""

import random
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from rich.console import Console

from mdebench import catalog
from mdebench.compute import devices
from mdebench.data.pack import SPLITS
from mdebench.errors import UserError
from mdebench.evaluation.passes import encode, frozen
from mdebench.methods.contract import Batch, Completes, Encodes, Stages
from mdebench.runs import Recipe
from mdebench.settings import Scale
from mdebench.suite.speed import measure_speed
from mdebench.training import loop, recipes, trial
from mdebench.training.trainer import Trainer, build_method

CPU, QUIET = torch.device("cpu"), Console(quiet=True)
SCALE = Scale(16, 4, 16, "compl+adv+hns_coord", "none", 4, 10)  # small networks
METHOD = """
from dataclasses import dataclass

import torch
from torch import nn

from mdebench.methods import Loss, Player
from mdebench.methods import Method as BaseMethod


@dataclass(frozen=True)
class Settings:
    lr: float = 1e-3


class Method(BaseMethod):
    def __init__(self, settings, size):
        super().__init__(settings, size)
        self.feature_dim = 8
        self.net = nn.Linear(3 * size**2, 8)

    def players(self):
        return {"net": Player(list(self.parameters()), self.settings.lr)}

    def loss(self, player, batch):
        error = self.encode(batch.images).square().mean()
        return Loss(error, {"error": error})

    def encode(self, images):
        return self.net(images.flatten(1))

    def stages(self, images):
        return {"stage1": images[..., ::2, ::2], "stage2": images[..., ::4, ::4]}

    def complete(self, images, seen):
        return images
"""


def recipe_of(name, size=16, batch=4, precision="fp32"):
    plain = asdict(catalog.method(name).settings(SCALE, {}))
    return Recipe(name, name, plain, "tiny", size, "p", "", 0, 10, batch, precision, {})


def attempt(name, console=QUIET, **of_recipe):
    """The untrained method, once it was tried at a recipe."""
    recipe = recipe_of(name, **of_recipe)
    method = build_method(catalog.method(name), recipe.settings, recipe.size, 0)
    trial.try_out(method, recipe, CPU, np.arange(recipe.batch), console, catalog.method(name))
    return method, recipe


def train(home, pack, console, name="rec", **overrides):
    plain = {"updates": "4", "batch": "4"} | {k: str(v) for k, v in overrides.items()}
    return recipes.train_run(home, recipes.make_recipe(str(name), pack, "tiny", 0, plain), pack, console)


@pytest.fixture
def theirs(tmp_path):
    """Writes somebody's method, changed as told; returns its path."""

    def write(*changes):
        text = METHOD
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "theirs.py"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", ["rec", "colorization1", "context_encoder", "glcic"])
def test_one_value_of_a_channel_is_refused_before_anything_is_written(home, pack, console, name):
    with pytest.raises(UserError, match=r"in batches of 1: batch-norm .* single value .*; give --set batch=2"):
        train(home, pack, console, name, batch=1)
    assert not list(home.runs.iterdir())
    train(home, pack, console, name, batch=2, precision="fp32")


@pytest.mark.parametrize("name", ["mae", "simmim", "deepfill_v2", "split_brain", "vcnet", "colorization_proxy"])
def test_a_batch_of_one_trains_where_nothing_is_against_it(home, pack, console, name):
    assert train(home, pack, console, name, batch=1, updates=1).finished


def test_several_processes_that_normalise_their_own_part_are_told_the_batch_for_all(monkeypatch):
    recipe = recipe_of("rec", batch=2)
    error = ValueError("Expected more than 1 value per channel when training, got input size torch.Size([1, 16])")
    monkeypatch.setattr(devices, "count", lambda: 2)
    said = trial._sentence(error, recipe, None, "trained on")
    assert "each shared by 2 processes" in said and said.endswith("give --set batch=4 or more")


FAMILIES = (
    "rec",
    "context_encoder",
    "deepfill_v2",
    "glcic",
    "mae",
    "simmim",
    "split_brain",
    "colorization_proxy",
    "random",
    "pixels",
    "vcnet",
)


@pytest.mark.parametrize("size", [8, 9, 16, 17, 33, 50])
@pytest.mark.parametrize("name", [*FAMILIES, "constant", "mean_colour", "biharmonic"])
def test_a_size_is_refused_at_once_or_carried_through_to_the_end(name, size):
    try:
        method, recipe = attempt(name, size=size)
    except UserError as refused:
        assert str(size) in str(refused) and "\n" not in str(refused)
        return
    trainer, generator = Trainer(method, recipe, CPU), torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, size, size, generator=generator)
    if trainer.players:
        trainer.update(Batch(images, torch.arange(4), 0, 0, 0, generator, recipe.updates))
    with frozen(method):
        if isinstance(method, Encodes):
            encode(method, images)
        if isinstance(method, Stages):
            assert all(each.ndim == 4 for each in method.stages(images).values())
        if isinstance(method, Completes):
            seen = torch.ones_like(images)
            seen[..., 2:5, 2:5] = 0
            assert method.complete(images * seen, seen).shape == images.shape


@pytest.mark.parametrize(("size", "side"), [(50, "glcic"), (9, "glcic"), (50, "deepfill_v2")])
def test_what_would_do_instead_is_said(size, side):
    with pytest.raises(UserError, match=r"4 divides.*|make a pack of"):
        attempt(side, size=size)


def test_nothing_moves_and_nothing_is_drawn_from_the_generators_of_the_run():
    recipe = recipe_of("rec")
    method = build_method("rec", recipe.settings, 16, 0)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    trial.try_out(method, recipe, CPU, np.arange(4), QUIET)
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters()) and method._turn is None
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[2]
    assert (np.random.get_state()[1] == states[1]).all()


def test_a_run_has_the_bits_it_had_without_the_trial(home, pack, console, monkeypatch):
    tried = train(home, pack, console).info["weights_hash"]
    (run,) = home.list_runs()
    run.folder.rename(home.folder / "tried")
    monkeypatch.setattr(loop, "try_out", lambda *args: None)
    assert train(home, pack, console).info["weights_hash"] == tried


def test_what_plays_late_in_a_run_is_tried_at_its_beginning(home, pack, console, theirs):
    late = theirs(
        (
            "    def loss(",
            "    def turns(self, step, updates):\n        return ('net',) * (1 + step // 3)\n\n    def loss(",
        ),
        ("        error = self", "        assert batch.step < 3, 'too late'\n        error = self"),
    )
    with pytest.raises(UserError, match=r"theirs \(.*failed: AssertionError: too late \(line \d+\); `mdebench check"):
        train(home, pack, console, late)
    assert not list(home.runs.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("self.feature_dim = 8", "self.feature_dim = 9"), r"\(2, 9\) and gives \(2, 8\): set feature_dim"),
        (("self.feature_dim = 8", "self.feature_dim = 3"), r"\(2, 3\) and gives \(2, 8\)"),
        (("return self.net(images.flatten(1))", "return self.net(images.flatten(1)).squeeze()"), r"\(1, 8\) and gives"),
        (("return self.net(images.flatten(1))", "return [images]"), "gives a list"),
        (
            ('"stage1": images[..., ::2, ::2]', '"stage1": images.flatten(1)'),
            r"stages promises .* gives \(2, 768\)",
        ),
        (
            ("        return images\n", "        return images[:, :1]\n"),
            r"complete promises .* \(2, 1, 16, 16\)",
        ),
        (
            (
                "        return images\n",
                "        return images\n\n    def likelihood(self, images):\n        return images\n",
            ),
            r"likelihood promises .* each of 2 images and gives \(2, 3, 16, 16\)",
        ),
        (("nn.Linear(3 * size**2, 8)", "nn.Linear(3 * 32**2, 8)"), r"16×16 pixels .* RuntimeError"),
    ],
)
def test_what_a_method_promises_is_held_to_before_it_trains(home, pack, console, theirs, change, message):
    trained = ("self.encode(batch.images)", "self.net(batch.images.flatten(1))")
    with pytest.raises(UserError, match=message):
        train(home, pack, console, theirs(trained, change))
    assert not list(home.runs.iterdir())


def test_maps_of_one_pixel_in_bf16_on_a_cpu_are_refused_and_train_in_fp32(home, pack, console):
    """Their gradients are partly unset: weights that are no numbers after some updates, or worse, wrong ones."""
    with pytest.raises(UserError, match=r"maps of 1×1, .* bf16 on a CPU: give --set precision=fp32"):
        train(home, pack, console, "glcic", precision="bf16")
    assert train(home, pack, console, "glcic", precision="fp32").finished


@pytest.mark.parametrize(
    "black",
    ["torch.linalg.cholesky(batch.images[0, 0])", "1 / batch.images.sum().item()"],
)
def test_numbers_that_black_images_lack_are_no_reason(home, pack, console, theirs, black):
    body = f"        if not batch.images.any():\n            {black}\n        error = self"
    assert train(home, pack, console, theirs(("        error = self", body))).finished


def test_a_method_that_cannot_be_copied_is_not_tried_and_that_is_said(home, pack, console, theirs):
    lock = ("self.feature_dim = 8", "self.feature_dim, self.lock = 8, __import__('threading').Lock()")
    assert train(home, pack, console, theirs(lock)).finished
    assert "theirs is not tried before it begins: it cannot be copied (TypeError" in console.file.getvalue()


def test_too_little_memory_asks_for_a_smaller_batch():
    told = r"not enough memory for batches of \d+ of 16×16 pixels; give a smaller --set batch=N or --scale"
    with pytest.raises(UserError, match=told), trial.room(recipe_of("rec")):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_plan_tells_it_as_well(home):
    with pytest.raises(UserError, match="single value of a channel"):
        measure_speed(recipe_of("rec", batch=1))


def test_too_few_images_are_told_before_anything_is_written(home, pack, console):
    count = len(pack.indices("train"))
    with pytest.raises(UserError, match=rf"has {count} training images, fewer .* of 999: give --set batch={count} or"):
        train(home, pack, console, batch=999)
    split = np.full(len(pack.images), SPLITS.index("test"), np.uint8)
    with pytest.raises(UserError, match=r"has no train images \(0 train, 0 val, 300 test\)"):
        train(home, replace(pack, split=split), console)
    assert not home.runs.exists() or not list(home.runs.iterdir())
