"""The contract over every method that the catalog finds: one new file is held to it without anybody listing it."""

import re
from dataclasses import asdict, fields, is_dataclass

import pytest
import torch

from mdebench import catalog
from mdebench.methods.contract import Batch, Completes, Encodes, Stages
from mdebench.runs import Recipe
from mdebench.settings import Scale
from mdebench.training.operations import Operations
from mdebench.training.trainer import Trainer, build_method, step_seed

SIZE = 32
SCALE = Scale(SIZE, 4, 8, "compl+adv+hns_coord", "none", 4, 10)
NAMES = list(catalog.methods())


def settings(name):
    return asdict(catalog.method(name).settings(SCALE, {}))


def recipe(name, precision="fp32"):
    return Recipe(name, name, settings(name), "test", SIZE, "pack", "", 0, 10, 4, precision, {})


def batch(step):
    generator = torch.Generator().manual_seed(step_seed(0, step))
    return Batch(torch.rand(4, 3, SIZE, SIZE, generator=generator), torch.arange(4), step, 0, 0, generator, 10)


def trainer(name, precision="fp32"):
    return Trainer(build_method(name, settings(name), SIZE, 0), recipe(name, precision), torch.device("cpu"))


def run(t, steps):
    parts = {}
    for step in steps:
        parts = t.update(batch(step))
    return parts


@pytest.mark.parametrize("name", NAMES)
def test_a_trained_method_names_its_paper(name):
    method = build_method(name, settings(name), SIZE, 0)
    assert not method.players() or re.search(r"\d{4}$", method.PAPER)


TRAINED = [name for name in NAMES if build_method(name, settings(name), SIZE, 0).players()]


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_a_frozen_dataclass_and_the_docstring_tells_the_story(name):
    module = catalog.method(name).load()
    assert is_dataclass(module.Settings) and module.Settings.__dataclass_params__.frozen
    assert all(f.default is not None or "None" in str(f.type) for f in fields(module.Settings))
    for word in ("Command:", "Expected"):
        assert word in module.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_it_can_do_something(name):
    method = build_method(name, settings(name), SIZE, 0)
    assert isinstance(method, Encodes | Completes)


@pytest.mark.parametrize("name", TRAINED)
def test_two_updates_move_every_player_and_reach_the_encoder(name):
    t = trainer(name)
    before = {k: v.clone() for k, v in t.method.state_dict().items()}
    parts = run(t, range(2))
    assert parts and all(v.isfinite() for v in parts.values())
    for player in t.players.values():
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in player.parameters)
    moved = [k for k, v in t.method.state_dict().items() if not torch.equal(v, before[k])]
    images = torch.rand(2, 3, SIZE, SIZE, requires_grad=True)
    code = t.method.eval().encode(images)
    touched = torch.autograd.grad(code.sum(), list(t.method.parameters()), allow_unused=True)
    encoder = [k for (k, _), g in zip(t.method.named_parameters(), touched) if g is not None]
    assert set(encoder) & set(moved)


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_same_numbers_and_a_saved_state_goes_on_to_the_same_bits(name):
    unbroken, broken = trainer(name), trainer(name)
    run(unbroken, range(4))
    run(broken, range(2))
    resumed = trainer(name)
    resumed.restore(broken.state(), "here")
    run(resumed, range(2, 4))
    for key, value in unbroken.method.state_dict().items():
        assert torch.equal(value, resumed.method.state_dict()[key]), key


@pytest.mark.parametrize("name", TRAINED)
def test_counting_operations_changes_no_bit(name):
    """In bf16, where the kernels that run under the counter round otherwise than those that run without it."""
    ours, theirs = (trainer(name, "bf16") for _ in range(2))
    counts = Operations()
    for step in (0, 5, 9):  # of ten, so that the phases of a run have other turns
        counts.update(ours, batch(step))
        theirs.update(batch(step))
    assert all(gflop > 0 for gflop in counts.gflop.values())
    state, other = ours.method.state_dict(), theirs.method.state_dict()
    assert all(torch.equal(state[key], other[key]) for key in other)


@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(catalog.method(n).load().Method, "encode")])
def test_encode_has_the_promised_shape_and_does_not_look_at_its_neighbours(name):
    method = build_method(name, settings(name), SIZE, 0).eval()
    images = torch.rand(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        codes = method.encode(images)
        assert codes.shape == (5, method.feature_dim)
        torch.testing.assert_close(method.encode(images[2:3])[0], codes[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(catalog.method(n).load().Method, "stages")])
def test_stages_are_maps_that_shrink_in_order_and_do_not_look_at_their_neighbours(name):
    method = build_method(name, settings(name), SIZE, 0).eval()
    assert isinstance(method, Stages) and isinstance(method, Encodes)
    images = torch.rand(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = method.stages(images)
        alone = method.stages(images[2:3])
    assert list(maps) == [f"stage{i}" for i in range(1, len(maps) + 1)] and len(maps) > 1
    areas = [m.shape[-2] * m.shape[-1] for m in maps.values()]
    assert all(m.ndim == 4 and len(m) == 5 for m in maps.values())
    assert areas == sorted(areas, reverse=True) and areas[0] < SIZE * SIZE
    for stage, each in maps.items():
        torch.testing.assert_close(alone[stage][0], each[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(catalog.method(n).load().Method, "complete")])
def test_completions_are_images_and_depend_on_seen_pixels_only(name):
    method = build_method(name, settings(name), SIZE, 0).eval()
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    seen = torch.ones(2, 3, SIZE, SIZE)
    seen[:, :, 8:20, 10:22] = 0
    with torch.no_grad():
        output = method.complete(images, seen)
        assert output.shape == images.shape and output.min() >= 0 and output.max() <= 1
        torch.testing.assert_close(method.complete(images * seen, seen), output)
