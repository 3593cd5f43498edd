"""Statistics of a binary answer: each is scikit-learn's or torchmetrics', and the spread of its numbers is what a
bootstrap of the statistic says."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, roc_auc_score
from torchmetrics.functional.classification import binary_calibration_error

from mdebench.evaluation.tasks import binary


def calibration_error(truth, scores):
    probability = torch.tensor(scores).clamp(0, 1)
    return float(binary_calibration_error(probability, torch.tensor(truth).long(), n_bins=15, norm="l1"))


THEIRS = {
    "attribute_error": lambda truth, scores: 1 - accuracy_score(truth, scores > 0.5),
    "balanced_accuracy": lambda truth, scores: balanced_accuracy_score(truth, scores > 0.5),
    "auc": roc_auc_score,
    "average_precision": average_precision_score,
    "calibration_error": calibration_error,
}


def answers(n, seed=0, tied=False, share=0.3):
    """Scores around a probability that is too sure of itself, some outside [0, 1]; tied: on a grid of tenths."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < share
    scores = 0.2 + 0.4 * truth + rng.normal(0, 0.3, n)
    return truth, (np.round(scores, 1) + 0.003 if tied else scores)


def numbers(name, truth, scores):
    return binary.STATISTICS[name](scores, truth)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", THEIRS)
def test_the_mean_of_the_numbers_is_the_known_statistic(name, tied):
    for n, seed in ((12, 3), (50, 0), (400, 1)):
        truth, scores = answers(n, seed, tied)
        assert truth.any() and not truth.all()
        found = numbers(name, truth, scores)
        precise = 1e-4 if name == "calibration_error" else 1e-9  # torchmetrics computes in float32
        assert found.shape == (n,) and found.dtype == np.float64
        assert found.mean() == pytest.approx(100 * THEIRS[name](truth, scores), abs=precise)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", THEIRS)
def test_their_spread_is_the_uncertainty_of_the_statistic(name, tied):
    truth, scores = answers(1500, 5, tied)
    rng = np.random.default_rng(1)
    drawn = [rng.integers(0, len(truth), len(truth)) for _ in range(1500)]
    bootstrapped = np.std([numbers(name, truth[rows], scores[rows]).mean() for rows in drawn], ddof=1)
    error = numbers(name, truth, scores).std(ddof=1) / np.sqrt(len(truth))
    assert error == pytest.approx(bootstrapped, rel=0.06)


@pytest.mark.parametrize("name", THEIRS)
def test_an_influence_is_what_leaving_the_image_out_changes(name):
    """The jackknife: n − 1 times the statistic's fall without an image, to first order in 1 / n."""
    truth, scores = answers(600, 7)
    found, falls = numbers(name, truth, scores), []
    for i in range(600):
        others = np.arange(600) != i
        falls.append(599 * (found.mean() - numbers(name, truth[others], scores[others]).mean()))
    np.testing.assert_allclose(found - found.mean(), falls, atol=0.03 * max(np.abs(falls)))


def test_placements_are_de_longs():
    """Two positive and three negative images, one pair tied: 4.5 of 6 pairs in order."""
    truth, scores = np.array([1, 1, 0, 0, 0], bool), np.array([0.9, 0.4, 0.4, 0.1, 0.8])
    found = numbers("auc", truth, scores)
    placed = np.array([1, 0.5, 0.75, 1, 0.5])  # shares of the other class that each is on the right side of
    share = np.array([0.4, 0.4, 0.6, 0.6, 0.6])
    np.testing.assert_allclose(found, 100 * (0.75 + (placed - 0.75) / share))


def test_scores_beyond_certainty_are_certain_and_belong_to_the_last_bin():
    truth, scores = np.array([1, 1, 0, 0], bool), np.array([1.4, 1.0, -0.2, 0.0])
    np.testing.assert_array_equal(numbers("calibration_error", truth, scores), 0)
    assert numbers("calibration_error", ~truth, scores).mean() == 100


@pytest.mark.parametrize("name", THEIRS)
def test_an_image_of_unknown_truth_has_no_influence_and_the_others_have_more(name):
    truth, scores = answers(80, 2)
    targets = truth.astype(np.float32)
    targets[::5] = np.nan
    known = ~np.isnan(targets)
    found = binary.per_image(binary.STATISTICS[name], scores[None].astype(np.float32), targets)
    alone = numbers(name, truth[known], scores[known].astype(np.float32).astype(np.float64))
    assert found.mean() == pytest.approx(alone.mean(), abs=1e-9)
    np.testing.assert_allclose(found[~known], alone.mean())
    np.testing.assert_allclose(found[known] - alone.mean(), (alone - alone.mean()) * 80 / 64)


def test_of_several_draws_the_numbers_are_the_mean():
    truth, scores = answers(60, 4)
    draws = np.stack([scores, scores[::-1], scores**2]).astype(np.float32)
    each = [binary.per_image(binary.auc, draw[None], truth.astype(np.float32)) for draw in draws]
    np.testing.assert_allclose(binary.per_image(binary.auc, draws, truth.astype(np.float32)), np.mean(each, axis=0))
