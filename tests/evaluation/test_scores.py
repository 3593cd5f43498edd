"""Inception score, FID and KID: by hand in float64, by torchmetrics fed with images and a network, and their limits."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.special import log_softmax
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from mdebench.evaluation.judging.scores import fid, inception_score, kid


class Network(nn.Module):
    """Images (N, 3, 4, 4) → (N, 6), as a feature module of torchmetrics."""

    num_features = 6

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(48, 6).double()

    def forward(self, images):
        return self.linear(images.flatten(1))


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network().requires_grad_(False)


@pytest.fixture
def images(rng):
    """Two sets of pictures of different brightness, 60 and 50."""
    return torch.from_numpy(rng.random((60, 3, 4, 4))), torch.from_numpy(rng.random((50, 3, 4, 4)) ** 2)


def by_torchmetrics(metric, *sets):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for update in sets:
            metric.update(*update)
        result = metric.compute()
    return tuple(map(float, result)) if isinstance(result, tuple) else float(result)


@pytest.mark.filterwarnings("ignore:Metric")
def test_all_three_agree_with_torchmetrics_on_the_images(network, images):
    real, fake = images
    mean, sd, splits = inception_score(network(real))
    told = by_torchmetrics(InceptionScore(network, splits=10), (real,))  # its deviation divides by nine
    assert (mean, sd * math.sqrt(10 / 9), splits) == pytest.approx((*told, 10), rel=1e-9)
    both = ((real, True), (fake, False))
    metric = FrechetInceptionDistance(network, normalize=True, input_img_size=(3, 4, 4))
    assert fid(network(real), network(fake)) == pytest.approx(by_torchmetrics(metric, *both), rel=1e-9)
    metric = KernelInceptionDistance(network, subsets=100, subset_size=25)
    assert kid(network(real), network(fake)) == pytest.approx(by_torchmetrics(metric, *both), rel=1e-9)


def original_score(preds, splits):
    """Salimans et al. 2016, github.com/openai/improved-gan, inception_score/model.py, from the predictions on."""
    scores = []
    for i in range(splits):
        part = preds[(i * preds.shape[0] // splits) : ((i + 1) * preds.shape[0] // splits), :]
        kl = part * (np.log(part) - np.log(np.expand_dims(np.mean(part, 0), 0)))
        kl = np.mean(np.sum(kl, 1))
        scores.append(np.exp(kl))
    return np.mean(scores), np.std(scores)


@pytest.mark.parametrize("count", [90, 91, 99, 20, 1000])
def test_inception_score_is_that_of_the_original_code_at_any_count(rng, count):
    logits = rng.normal(0, 2, (count, 5))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).numpy()
    mean, sd, splits = inception_score(torch.from_numpy(logits))
    assert (mean, sd) == pytest.approx(original_score(np.exp(log_softmax(logits, axis=1))[order], 10), rel=1e-9)
    assert splits == 10


def test_one_image_more_than_fits_ten_splits_hardly_moves_the_score(rng):
    logits = torch.from_numpy(rng.normal(0, 3, (91, 8)))
    few, many = inception_score(logits[:90]), inception_score(logits)
    assert many.mean == pytest.approx(few.mean, rel=0.05) and many.sd < 1.5 * few.sd  # no split of one, which scores 1


def test_no_split_has_a_single_image_and_their_number_is_told():
    sure = 400 * torch.eye(19)  # each image is of another class: a split scores as many as it has images
    for count, splits, mean in ((19, 9, 19 / 9), (11, 5, 11 / 5), (4, 2, 2), (3, 1, 3), (1, 1, 1)):
        score = inception_score(sure[:count])
        assert (score.splits, score.mean) == pytest.approx((splits, mean))
        assert math.isnan(score.sd) == (splits == 1)


def test_inception_score_by_hand(rng):
    logits = rng.normal(0, 2, (40, 5))
    log_p = log_softmax(logits, axis=1)
    log_marginal = np.log(np.exp(log_p).mean(axis=0))
    expected = np.exp((np.exp(log_p) * (log_p - log_marginal)).sum(axis=1).mean())
    mean, sd, _ = inception_score(torch.from_numpy(logits), splits=1)
    assert mean == pytest.approx(expected, rel=1e-12) and math.isnan(sd)


def test_inception_score_goes_from_one_to_the_number_of_classes():
    alike = torch.randn(1, 9, generator=torch.Generator().manual_seed(0)).repeat(30, 1)
    assert inception_score(alike) == pytest.approx((1, 0, 10), abs=1e-12)
    sure = 4000 * torch.eye(9).repeat(4, 1)  # so sure that float64 has only zeros and ones
    assert inception_score(sure, splits=1).mean == pytest.approx(9)


def test_fid_by_hand(rng):
    a, b = rng.normal(0, 1, (70, 4)), rng.normal(0.5, 2, (50, 4))
    s, t = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert fid(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-9)
    assert fid(torch.from_numpy(a), torch.from_numpy(a)) == pytest.approx(0, abs=1e-6)
    assert math.isnan(fid(torch.zeros(1, 4), torch.zeros(5, 4)))


def test_kid_by_hand(rng):
    a, b = rng.normal(0, 1, (30, 4)), rng.normal(0.5, 2, (22, 4))
    draws, size, scores = torch.Generator().manual_seed(7), 11, []
    for _ in range(100):
        x = a[torch.randperm(30, generator=draws)[:size].numpy()]
        y = b[torch.randperm(22, generator=draws)[:size].numpy()]
        xx, yy, xy = ((p @ q.T / 4 + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
        pairs = size * (size - 1)
        scores.append((xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / pairs - 2 * xy.mean())
    mean, sd = kid(torch.from_numpy(a), torch.from_numpy(b), seed=7)
    assert (mean, sd) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-9)
    assert all(map(math.isnan, kid(torch.zeros(3, 4), torch.zeros(5, 4))))


def test_nothing_is_drawn_from_the_global_generator(rng):
    features = torch.from_numpy(rng.normal(0, 1, (20, 4)))
    before = torch.random.get_rng_state()
    for _ in range(2):
        first = inception_score(features, seed=1), fid(features, features + 1), kid(features, features + 1)
        torch.rand(3)
        assert first == (inception_score(features, seed=1), fid(features, features + 1), kid(features, features + 1))
        torch.random.set_rng_state(before)
        inception_score(features, seed=2), kid(features, features, seed=2)
        assert torch.equal(torch.random.get_rng_state(), before)
    assert inception_score(features, seed=1) != inception_score(features, seed=2)  # the seed decides the splits
