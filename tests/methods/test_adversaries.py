"""Each game against a slow float64 reference written from its equation, or where its value is known in closed form."""

import math

import pytest
import torch
from torch import nn

from mdebench.methods import adversaries as A


@pytest.fixture
def scores():
    g = torch.Generator().manual_seed(0)
    real, fake = 2 * torch.randn(2, 3, 4, 2, 2, generator=g, dtype=torch.float64)
    return real, fake, real.flatten().tolist(), fake.flatten().tolist()


def test_hinge_losses_are_those_of_the_definition(scores):
    real, fake, r, f = scores
    expected = sum(max(0, 1 - v) for v in r) / len(r) + sum(max(0, 1 + v) for v in f) / len(f)
    assert A.hinge_discriminator(real, fake).item() == pytest.approx(expected, rel=1e-12)
    assert A.hinge_generator(fake).item() == pytest.approx(-sum(f) / len(f), rel=1e-12)


def test_wasserstein_losses_are_those_of_the_definition(scores):
    real, fake, r, f = scores
    expected = sum(f) / len(f) - sum(r) / len(r)
    assert A.wasserstein_critic(real, fake).item() == pytest.approx(expected, rel=1e-12)
    assert A.wasserstein_generator(fake).item() == pytest.approx(-sum(f) / len(f), rel=1e-12)


def test_games_are_computed_in_float32_on_bfloat16_scores():
    """Of 1024 scores of 1 + 2^-7 and a real one of 1: in bf16 the mean of 1025 numbers could not be told from it."""
    fake = torch.full((1025,), 1 + 2**-7, dtype=torch.bfloat16)
    fake[0] = 1
    exact = -(1 + 2**-7 * 1024 / 1025)
    for found in (A.hinge_generator(fake), A.wasserstein_generator(fake), -A.wasserstein_critic(0 * fake, fake)):
        assert found.dtype == torch.float32 and found.item() == pytest.approx(exact, rel=1e-6)


def images(n=3, shape=(2, 4, 5)):
    g = torch.Generator().manual_seed(1)
    real, fake, mix = (torch.rand(n, *s, generator=g, dtype=torch.float64) for s in (shape, shape, (1, 1, 1)))
    where = (torch.rand(n, 1, *shape[1:], generator=g) < 0.5).double()
    return real, fake, mix, where


def test_the_penalty_of_a_linear_critic_is_known_in_closed_form():
    """Its gradient is its weight, whatever the images: (‖w‖ − 1)², and (‖w ⊙ where‖ − 1)² inside a region."""
    real, fake, mix, where = images()
    critic = nn.Sequential(nn.Flatten(), nn.Linear(40, 1)).double()
    weight = critic[1].weight.detach().flatten()
    found = A.gradient_penalty(critic, real, fake, mix)
    assert found.item() == pytest.approx((math.sqrt(sum(v * v for v in weight.tolist())) - 1) ** 2, rel=1e-12)
    found.backward()
    norm = weight.norm()
    torch.testing.assert_close(critic[1].weight.grad.flatten(), 2 * (norm - 1) * weight / norm)
    norms = [(weight * each.expand(2, 4, 5).flatten()).norm().item() for each in where]
    inside = A.gradient_penalty(critic, real, fake, mix, where)
    assert inside.item() == pytest.approx(sum((v - 1) ** 2 for v in norms) / 3, rel=1e-12)


def test_the_penalty_is_taken_between_the_images_each_at_its_own_mix():
    """D(x) = Σ x²/2 has the gradient x: the penalty tells the point where it was taken. Sums of patch scores, too."""
    real, fake, mix, _ = images()
    expected = 0.0
    for r, f, m in zip(real, fake, mix.flatten().tolist()):
        point = [m * a + (1 - m) * b for a, b in zip(r.flatten().tolist(), f.flatten().tolist())]
        expected += (math.sqrt(sum(v * v for v in point)) - 1) ** 2 / 3
    found = A.gradient_penalty(lambda x: x.square() / 2, real, fake, mix)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_the_penalty_of_a_critic_that_does_not_care_is_one_and_has_finite_gradients():
    real, fake, mix, _ = images()
    critic = nn.Sequential(nn.Flatten(), nn.Linear(40, 1)).double()
    nn.init.zeros_(critic[1].weight)
    found = A.gradient_penalty(critic, real, fake, mix)
    found.backward()
    assert found.item() == 1 and critic[1].weight.grad.isfinite().all()


def test_the_penalty_in_bf16_moves_the_critic_and_leaves_the_images_alone():
    torch.manual_seed(0)
    real, fake, mix, _ = (each.float() for each in images(shape=(3, 8, 8)))
    fake.requires_grad_()
    critic = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))
    exact = A.gradient_penalty(critic, real, fake, mix)
    with torch.autocast("cpu", torch.bfloat16):
        found = A.gradient_penalty(critic, real, fake, mix)
    assert found.dtype == torch.float32 and found.item() == pytest.approx(exact.item(), rel=0.05)
    found.backward()
    assert fake.grad is None and critic[0].weight.grad.abs().sum() > 0


def test_feature_matching_adds_up_the_layers_means_and_moves_the_fake_maps_only():
    g = torch.Generator().manual_seed(2)
    shapes = [(2, 3, 4, 4), (2, 5, 2, 2)]
    fake = [torch.randn(s, generator=g, dtype=torch.float64, requires_grad=True) for s in shapes]
    real = [torch.randn(s, generator=g, dtype=torch.float64, requires_grad=True) for s in shapes]
    expected = 0.0
    for a, b in zip(fake, real):
        pairs = list(zip(a.flatten().tolist(), b.flatten().tolist()))
        expected += sum(abs(x - y) for x, y in pairs) / len(pairs)
    found = A.feature_matching(fake, real)
    assert found.item() == pytest.approx(expected, rel=1e-12)
    found.backward()
    assert all(each.grad is None for each in real) and all(each.grad is not None for each in fake)
    with pytest.raises(ValueError, match="shorter"):
        A.feature_matching(fake, real[:1])
