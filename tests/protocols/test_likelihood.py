"""Bits per dimension of models whose probabilities are known, and of a histogram counted by hand."""

import math

import numpy as np
import pytest
import torch
from mocks import COUNT, TEST, Oracle, make_pack, measured

from mdebench.errors import UserError
from mdebench.methods.contract import Method
from mdebench.protocols import likelihood

SIZE = 8
VALUES = 3 * SIZE**2


class Model(Method):
    """Gives each image as many bits a value as its first value says, in tenths."""

    def likelihood(self, images):
        return -(images[:, 0, 0, 0] * 255).round() / 10 * VALUES * math.log(2)


def drawn(high=256):
    return np.random.default_rng(0).integers(0, high, (COUNT, 3, SIZE, SIZE), dtype=np.uint8)


def rows(model, pack, tmp_path, **settings):
    return {metric: row for (_, _, metric), row in measured(likelihood, model, pack, tmp_path, **settings).items()}


def test_bits_are_the_models_divided_by_the_values(tmp_path):
    images = drawn()
    found = rows(Model(None, SIZE), make_pack(images, size=SIZE), tmp_path)["bits_per_dimension"]
    each = images[TEST, 0, 0, 0] / 10
    np.testing.assert_allclose(found.values, each, rtol=1e-5)
    assert found.value == pytest.approx(each.mean()) and found.low < found.value < found.high
    assert (found.unit, found.setting, found.n) == ("bits", "whole images", 20)
    few = rows(Model(None, SIZE), make_pack(images, size=SIZE), tmp_path, images=5)["bits_per_dimension"]
    assert few.n == 5 and few.value == pytest.approx(each[:5].mean())


def test_the_histogram_counts_training_images_by_colour_and_each_level_once_more(tmp_path):
    images = drawn(4)
    images[:, 1] = 7  # green is always the same
    images[TEST.start, 1, 0, 0] = 9  # but once, where it never was in training
    found = rows(Model(None, SIZE), make_pack(images, size=SIZE), tmp_path)["bits_per_dimension/histogram"]
    train, total = images[:60].astype(int), 60 * SIZE**2 + 256
    for n, image in enumerate(images[TEST][:3].astype(int)):
        bits = [
            -math.log2(((train[:, c] == level).sum() + 1) / total) for c in range(3) for level in image[c].flatten()
        ]
        assert found.values[n] == pytest.approx(np.mean(bits), rel=1e-5)
    assert found.values[0] > found.values[1]


def test_the_histogram_of_noise_takes_about_eight_bits_and_is_of_a_thousand_images(tmp_path, monkeypatch):
    images = drawn()
    monkeypatch.setattr(likelihood, "COUNTED", 7)
    bits = likelihood.by_histogram(make_pack(images, size=SIZE), np.arange(80, 100))
    assert 7.9 < bits.mean() < 8.2
    images[1:9] = 0  # the second of seven among sixty is the tenth
    np.testing.assert_array_equal(likelihood.by_histogram(make_pack(images, size=SIZE), np.arange(80, 100)), bits)


def test_what_cannot_be_measured_is_said(tmp_path):
    pack = make_pack(drawn(), size=SIZE)
    with pytest.raises(UserError, match="cannot tell how likely"):
        rows(Oracle(np.ones((COUNT, 1))), pack, tmp_path)

    class Broken(Model):
        def likelihood(self, images):
            return super().likelihood(images) * torch.inf

    with pytest.raises(UserError, match="not finite"):
        rows(Broken(None, SIZE), pack, tmp_path)
    assert "test" in likelihood.requires(make_pack(drawn(), size=SIZE, split=np.zeros(COUNT)))
    with pytest.raises(UserError, match="at least one"):
        likelihood.Settings(images=0)
