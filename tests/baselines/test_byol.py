"""BYOL: the loss against a slow one, what learns and what only follows, by how much, and that codes stay apart."""

import copy
import math

import pytest
import torch

from mdebench.baselines.byol import Method, Settings, distance
from mdebench.methods.contract import Batch
from mdebench.runs import Recipe
from mdebench.training.trainer import Trainer

UPDATES = 10


def batch(images, step=0):
    return Batch(images, torch.arange(len(images)), step, 0, 0, torch.Generator().manual_seed(step), UPDATES)


def method(size=16, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 2, "code": 8} | values)), size)


def pictures(n=4, size=16):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def slow_distance(prediction, target):
    """‖p/|p| − t/|t|‖² of each image, the mean."""
    total = 0.0
    for p, t in zip(prediction.tolist(), target.tolist()):
        total += sum((a / math.hypot(*p) - b / math.hypot(*t)) ** 2 for a, b in zip(p, t))
    return total / len(prediction)


def test_the_distance_is_that_of_directions():
    prediction, target = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert distance(prediction, target).item() == pytest.approx(slow_distance(prediction, target), rel=1e-12)
    assert distance(target, 3 * target).item() == pytest.approx(0, abs=1e-12)
    assert distance(target, -target).item() == pytest.approx(4)


def test_either_view_is_predicted_from_the_other():
    m = method().double()
    predicted, targets, seen = [], [], []
    m.predictor.register_forward_hook(lambda _, __, found: predicted.append(found))
    m.target.register_forward_hook(lambda _, views, found: targets.append(found) or seen.append(views[0]))
    m.online.register_forward_hook(lambda _, views, found: seen.append(views[0]))
    total = m.loss("network", batch(pictures())).total
    expected = slow_distance(predicted[0], targets[1]) + slow_distance(predicted[1], targets[0])
    assert total.item() == pytest.approx(expected, rel=1e-9)
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3]) and not torch.equal(seen[0], seen[1])


def test_the_target_learns_nothing_and_starts_as_the_network():
    m = method().double()
    players = m.players()
    moved = {id(p) for p in players["network"].parameters}
    assert all(torch.equal(a, b) for a, b in zip(m.online.parameters(), m.target.parameters(), strict=True))
    m.loss("network", batch(pictures())).total.backward()
    assert all(p.grad is None and id(p) not in moved for p in m.target.parameters())
    assert all(p.grad is not None and id(p) in moved for p in [*m.online.parameters(), *m.predictor.parameters()])


def test_the_target_follows_as_a_slow_version_does():
    m = method(momentum=0.7, lr=0.01)
    recipe = Recipe("byol", "byol", {}, "", 16, "", "", 0, UPDATES, 4, "fp64", {})
    trainer = Trainer(m, recipe, torch.device("cpu"))
    slow = {name: p.detach().clone() for name, p in m.online.named_parameters()}
    for step in range(4):
        fast = {name: p.detach().clone() for name, p in m.online.named_parameters()}
        if step:  # the network of after the last update, whose number is step − 1
            momentum = 1 - (1 - 0.7) * (math.cos(math.pi * (step - 1) / UPDATES) + 1) / 2
            slow = {name: momentum * slow[name] + (1 - momentum) * fast[name] for name in slow}
        trainer.update(batch(pictures(), step))
        for name, value in m.target.named_parameters():
            torch.testing.assert_close(value.detach(), slow[name], rtol=0, atol=1e-12)
    assert any((value - fast[name]).abs().max() > 1e-3 for name, value in slow.items())


def test_heads_have_the_papers_size_at_width_64():
    m = method(16, width=64, code=2048)
    assert sum(p.numel() for p in m.online.head.parameters()) == 2048 * 4096 + 2 * 4096 + 4096 * 256
    assert sum(p.numel() for p in m.predictor.parameters()) == 256 * 4096 + 2 * 4096 + 4096 * 256


def test_the_networks_code_is_kept_not_the_targets():
    m = method().double()
    for p in m.target.parameters():
        p.detach().zero_()
    images = pictures()
    expected = copy.deepcopy(m.online.backbone).eval()(images)
    assert torch.equal(m.eval().encode(images), expected) and expected.abs().sum() > 0


def test_images_without_anything_in_them_have_a_finite_loss_and_gradient():
    for value in (0.0, 0.5, 1.0):
        m = method()
        m.loss("network", batch(torch.full((2, 3, 16, 16), value))).total.backward()
        assert all(p.grad.isfinite().all() for p in m.players()["network"].parameters)


def test_a_fixed_batch_is_learned_and_its_codes_stay_apart():
    images = (torch.rand(8, 3, 1, 1, generator=torch.Generator().manual_seed(0)) * torch.ones(16, 16)).double()
    m = method(width=4, code=32, lr=3e-3)
    recipe = Recipe("byol", "byol", {}, "", 16, "", "", 0, UPDATES, 8, "fp64", {})
    trainer = Trainer(m, recipe, torch.device("cpu"))
    losses = [trainer.update(batch(images, step % UPDATES))["network/cosine"].item() for step in range(40)]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    codes = m.eval().encode(images)
    assert codes.std(dim=0).norm() > 0.1 * codes.norm(dim=1).mean()
