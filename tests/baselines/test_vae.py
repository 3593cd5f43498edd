"""Variational autoencoder: the evidence lower bound against torch's distributions, and a bound on the likelihood."""

import math
from dataclasses import asdict

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from mdebench.baselines.vae import Method, Settings
from mdebench.methods.contract import Batch
from mdebench.runs import Recipe
from mdebench.training.trainer import Trainer

SIGMA, CODE = 0.2, 3


def method(**values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 2, "code": CODE, "deviation": SIGMA} | values)), 8).double().eval()


def batch(n=4, seed=1):
    images = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Batch(images, torch.arange(n), 0, 0, 0, torch.Generator().manual_seed(seed), 10)


def prior():
    return Independent(Normal(torch.zeros(CODE, dtype=torch.float64), 1.0), 1)


def posterior(m, images):
    mean, log_variance = m.posterior(images)
    return Independent(Normal(mean, (log_variance / 2).exp()), 1)


def pixels(m, codes):
    return Independent(Normal(m.generator.decoder(codes, []), SIGMA), 3)


def test_its_loss_is_the_bound_of_torchs_distributions():
    m, b = method(), batch()
    loss = m.loss("network", b)
    drawn = torch.randn(4, CODE, generator=batch().generator)  # what the loss drew
    with torch.no_grad():
        q = posterior(m, b.images)
        codes = q.base_dist.loc + q.base_dist.scale * drawn
        constant = 3 * 8 * 8 * math.log(SIGMA * math.sqrt(2 * math.pi))
        told = (-pixels(m, codes).log_prob(b.images)).mean() - constant
        divergence = kl_divergence(q.base_dist, Normal(0.0, 1.0)).sum(dim=1).mean()
    torch.testing.assert_close(loss.parts["code"], divergence)
    torch.testing.assert_close(loss.parts["pixels"], told)
    torch.testing.assert_close(loss.total * 192, told + divergence)


def test_the_bound_lies_below_the_likelihood():
    """As importance sampling over many codes estimates it, which itself lies below in the mean."""
    m, images = method(), batch(1).images
    with torch.no_grad():
        bound = -192 * torch.stack([m.loss("network", batch(1, seed)).total for seed in range(100)]).mean()
        q = posterior(m, images)
        torch.manual_seed(1)
        codes = q.sample((4000,))[:, 0]
        joint = pixels(m, codes).log_prob(images) + prior().log_prob(codes)
        likelihood = (joint - q.log_prob(codes)).logsumexp(dim=0) - math.log(4000)
    assert bound < likelihood + 192 * math.log(SIGMA * math.sqrt(2 * math.pi)) < bound + 10


def test_the_mean_is_the_representation_and_nothing_is_rectified():
    m, images = method(code=64), batch(8).images
    with torch.no_grad():
        code = m.encode(images)
    assert code.shape == (8, 64) and m.feature_dim == 64
    assert torch.equal(code, m.posterior(images)[0]) and (code < 0).any() and (code > 0).any()


@pytest.mark.parametrize("deviation", [0.05, 50.0])
def test_sure_pixels_fill_the_code_and_unsure_ones_leave_it_empty(deviation):
    """Where pixels vary by more than an image has, a code is not worth its nats: the posterior becomes the prior."""
    torch.manual_seed(0)
    m = Method(Settings(width=2, code=CODE, deviation=deviation, lr=5e-3), 8)
    recipe = Recipe("vae", "vae", asdict(m.settings), "test", 8, "pack", "", 0, 150, 8, "fp32", {})
    trainer, images = Trainer(m, recipe, torch.device("cpu")), batch(8).images.float()
    for step in range(150):
        generator = torch.Generator().manual_seed(step)
        parts = trainer.update(Batch(images, torch.arange(8), step, 0, 0, generator, 150))
    code = parts["network/code"].item()
    assert code > 1.0 if deviation < 1 else code < 0.1
