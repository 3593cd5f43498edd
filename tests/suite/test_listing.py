"""The list counts what it says: parameters and operations of a convolution worked out by hand, turns as they change."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from madeup import row
from torch import nn
from torch.nn.functional import affine_grid, grid_sample
from torch.utils.flop_counter import FlopCounterMode

from mdebench import catalog
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.methods.contract import Batch, Loss, Method, Player
from mdebench.results.rows import append_rows
from mdebench.settings import SCALES
from mdebench.suite.inventory import listing
from mdebench.suite.inventory.listing import list_methods
from mdebench.training.operations import Operations
from mdebench.training.trainer import Trainer, build_method


class Game(Method):
    """One 1×1 convolution 3 → 5 without bias, which moves in the first tenth of a run only, then twice an update."""

    def __init__(self, settings, size):
        super().__init__(settings, size)
        self.conv = nn.Conv2d(3, 5, 1, bias=False)

    def players(self):
        return {"one": Player(list(self.conv.parameters()), 1e-3)}

    def turns(self, step, updates):
        return ("one",) if step < updates / 10 else ("one", "one")

    def loss(self, player, batch):
        total = self.conv(batch.images).mean()
        return Loss(total, {"mean": total})


def forward_and_weights(images: int, size: int) -> float:
    """GFLOP of one forward pass and of the gradient of the weights, two operations each a multiplication: by hand."""
    return 2 * (2 * 3 * 5 * size * size * images) / 1e9


def test_operations_are_those_of_the_convolutions(monkeypatch):
    recipe = listing.recipe_of(catalog.method("rec"), "tiny")
    counted = listing.gflop(Game(None, recipe.size), recipe)
    once = forward_and_weights(recipe.batch, recipe.size)
    assert counted == pytest.approx(once * (0.1 * 1 + 0.9 * 2))


def test_each_order_of_turns_is_counted_once():
    recipe, counts = listing.recipe_of(catalog.method("rec"), "tiny"), Operations()
    trainer = Trainer(Game(None, 8), recipe, torch.device("cpu"))

    def update(step):
        return counts.update(
            trainer, Batch(torch.rand(2, 3, 8, 8), torch.arange(2), step, 0, 0, torch.Generator(), 20)
        )[1]

    costs = [update(step) for step in (0, 1, 2, 3)]
    assert costs == pytest.approx([forward_and_weights(2, 8) * times for times in (1, 1, 2, 2)])
    assert list(counts.gflop) == [("one",), ("one", "one")]


class Steep(Game):
    """It makes its slope small: gradients are asked for at a leaf of the graph, and gradients of those."""

    def loss(self, player, batch):
        images = batch.images.clone().requires_grad_()
        (slope,) = torch.autograd.grad(self.conv(images).square().sum(), images, create_graph=True)
        total = slope.square().mean()
        return Loss(total, {"slope": total})


def test_operations_of_gradients_of_gradients_at_a_leaf_are_counted():
    """Five products where the plain game has two: images to output and back, then the slope's gradient goes to the
    output and to the weights, and the output's to the weights.
    """
    recipe = listing.recipe_of(catalog.method("rec"), "tiny")
    once = 5 / 2 * forward_and_weights(recipe.batch, recipe.size)
    assert listing.gflop(Steep(None, recipe.size), recipe) == pytest.approx(once * (0.1 * 1 + 0.9 * 2))


def test_operations_of_the_paper_s_game_are_those_that_torch_counts():
    recipe, counts = listing.recipe_of(catalog.method("rec"), "tiny"), Operations()
    trainer = Trainer(build_method("rec", recipe.settings, 32, 0), recipe, torch.device("cpu"))
    batch = Batch(torch.rand(2, 3, 32, 32), torch.arange(2), 0, 0, 0, torch.Generator(), recipe.updates)
    counted = counts.update(trainer, batch)[1]
    with FlopCounterMode(display=False) as counter:
        trainer.update(batch)
    assert counted == counter.get_total_flops() / 1e9


class Turned(Game):
    """The same on turned images: the product that places their pixels is rounded otherwise under the counter."""

    def loss(self, player, batch):
        turn = torch.tensor([[0.8, -0.6, 0.05], [0.6, 0.8, 0.0]]).expand(len(batch.images), 2, 3)
        noise = 0.1 * torch.rand(batch.images.shape, generator=batch.generator)
        places = affine_grid(turn, list(batch.images.shape), align_corners=False)
        turned = grid_sample(batch.images + noise, places, align_corners=False)
        total = self.conv(turned).square().mean()
        return Loss(total, {"mean": total})


def test_counting_changes_no_bit():
    """What is counted is taken back: a run that is killed, and so counted again, ends in the same bits."""
    recipe = replace(listing.recipe_of(catalog.method("rec"), "tiny"), precision="bf16")
    networks = []
    for counted in (True, False):
        torch.manual_seed(0)
        trainer, counts = Trainer(Turned(None, 16), recipe, torch.device("cpu")), Operations()
        for step in range(3):
            draws = torch.Generator().manual_seed(step)
            images = torch.rand(2, 3, 16, 16, generator=draws)
            batch = Batch(images, torch.arange(2), step, 0, 0, draws, 20)
            counts.update(trainer, batch) if counted else trainer.update(batch)
        networks.append(trainer.method)
    assert torch.equal(*(network.conv.weight for network in networks))


def test_every_method_is_listed_with_what_it_can_do_and_where_it_was_tried(tmp_path, console, monkeypatch):
    few = {name: entry for name, entry in catalog.own_methods().items() if name in ("rec", "colorization1", "pixels")}
    monkeypatch.setattr(catalog, "methods", lambda: few)
    append_rows(Home(tmp_path), [row(dataset="celeba64")])
    listed = {each.name: each for each in list_methods(Home(tmp_path), "tiny", console)}
    assert list(listed) == list(few)
    assert listed["rec"].counted.abilities == ("transfers", "stages", "completes")
    assert listed["pixels"].counted.abilities == ("transfers",)
    assert listed["rec"].tried == ("celeba64 small",) and listed["colorization1"].tried == ()
    assert listed["pixels"].counted.gflop == listed["pixels"].counted.parameters == 0
    assert listed["rec"].counted.gflop == pytest.approx(
        listed["colorization1"].counted.gflop, rel=0.05
    )  # one game, other masks
    assert SCALES["tiny"].batch == 24  # what the figures are for


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", catalog.own_methods())
def test_the_counts_that_lie_beside_the_code_are_of_this_code(name, scale):
    """Else `make counts` counts anew."""
    kept = json.loads(listing.OWN.read_text())[f"{name} {scale}"]
    assert kept["code"] == listing.code_hash(catalog.own_methods()[name], scale)


@pytest.mark.parametrize("name", ["colorization2", "split_brain", "mae", "pixels"])
def test_kept_counts_are_what_is_counted(name):
    kept = json.loads(listing.OWN.read_text())[f"{name} tiny"]
    found = asdict(listing.count(catalog.own_methods()[name], "tiny"))
    assert found.pop("gflop") == pytest.approx(kept.pop("gflop"))
    assert {**found, "abilities": list(found["abilities"])} == kept


def test_what_was_counted_is_kept_and_counted_again_when_the_code_changes(tmp_path, console, monkeypatch):
    home, few = Home(tmp_path), {"pixels": catalog.own_methods()["pixels"]}
    monkeypatch.setattr(catalog, "methods", lambda: few)
    list_methods(home, "tiny", console)
    assert not (home.results / "counts.json").exists()  # the suite's own are kept beside the code
    monkeypatch.setattr(listing, "code_hash", lambda entry, scale: "another")
    list_methods(home, "tiny", console)
    assert json.loads((home.results / "counts.json").read_text())["pixels tiny"]["code"] == "another"
    monkeypatch.setattr(listing, "count", None)  # nothing is counted twice
    list_methods(home, "tiny", console)
    (home.results / "counts.json").write_text("[")
    with pytest.raises(UserError, match=r"counts\.json is damaged"):
        list_methods(home, "tiny", console)


def test_a_method_of_another_distribution_is_named_and_not_loaded(tmp_path, console, monkeypatch):
    foreign = catalog.Code("method", "theirs", "no.such.module", "theirs 1.0")
    monkeypatch.setattr(catalog, "methods", lambda: {"theirs": foreign})
    (listed,) = list_methods(Home(tmp_path), "tiny", console)
    assert listed.counted is None and listed.place == "theirs 1.0"
