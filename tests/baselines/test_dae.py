"""Denoising autoencoder: noise value by value at the level that is said, and the clean image as target."""

from dataclasses import replace

import pytest
import torch

from mdebench.baselines.dae import Method, Settings
from mdebench.errors import UserError
from mdebench.methods.contract import Batch


def method(**values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 4, "code": 8} | values)), 16)


def batch(n=40):
    generator = torch.Generator().manual_seed(0)
    images = 0.1 + 0.8 * torch.rand(n, 3, 16, 16, generator=generator)
    return Batch(images, torch.arange(n), 0, 0, 0, generator, 10)


def test_masking_sets_single_values_to_nought_and_leaves_the_others():
    b = batch()
    damaged = method(destroyed=0.4).damaged(b)
    lost = damaged == 0
    assert torch.equal(damaged[~lost], b.images[~lost])
    assert lost.float().mean().item() == pytest.approx(0.4, abs=5 * (0.24 / lost.numel()) ** 0.5)
    # Each by itself: neighbours in a row, and the channels of a pixel, are lost together by chance alone.
    for one, other in ((lost[..., 1:], lost[..., :-1]), (lost[:, 0], lost[:, 1])):
        assert (one & other).float().mean().item() == pytest.approx(0.16, abs=0.02)


def test_gaussian_noise_has_the_deviation_and_no_mean():
    b = batch()
    noise = method(noise="gaussian", deviation=0.2).damaged(b) - b.images
    assert noise.std().item() == pytest.approx(0.2, rel=0.02) and abs(noise.mean().item()) < 0.005


def test_the_clean_image_is_wanted_and_the_clean_image_is_encoded():
    m = method().eval()
    given = []
    m.generator.encoder.register_forward_hook(lambda _, inputs, __: given.append(inputs[0]))
    loss = m.loss("network", batch(4))
    assert torch.equal(given[0], m.damaged(batch(4)))
    expected = (m.generator(given[0]) - batch(4).images).square().mean()
    torch.testing.assert_close(loss.total, expected)
    m.encode(batch(4).images)
    assert torch.equal(given[-1], batch(4).images)


def test_without_noise_it_is_the_autoencoder():
    m = method(destroyed=0.0)
    assert torch.equal(m.damaged(batch()), batch().images)
    assert torch.equal(method(noise="gaussian", deviation=0.0).damaged(batch()), batch().images)


@pytest.mark.parametrize("noise", ["masking", "gaussian"])
def test_processes_that_share_a_batch_draw_what_one_would(noise):
    whole, m = batch(4), method(noise=noise)
    parts = [replace(batch(4), images=whole.images[2 * k : 2 * k + 2], part=k, parts=2) for k in range(2)]
    assert torch.equal(torch.cat([m.damaged(each) for each in parts]), m.damaged(whole))


def test_a_noise_that_is_not_there_is_told():
    with pytest.raises(UserError, match="Did you mean 'gaussian'"):
        Settings(noise="gausian")
