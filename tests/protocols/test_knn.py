"""Neighbours: the same answers as scikit-learn, unknown targets, and a choice that validation images make."""

import numpy as np
import pytest
import torch
from mocks import COUNT, Oracle, make_pack, measured, numbered
from sklearn.neighbors import KNeighborsRegressor

from mdebench.protocols import knn

CPU = torch.device("cpu")
RNG = np.random.default_rng(3)
TRAIN, QUERIES = (RNG.normal(size=(n, 6)).astype(np.float32) * [1, 2, 3, 4, 5, 6] for n in (60, 20))
TRAIN, QUERIES = TRAIN.astype(np.float32), QUERIES.astype(np.float32)
TARGETS = RNG.random((60, 2)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 5, 60])
@pytest.mark.parametrize("weighting", knn.WEIGHTINGS)
@pytest.mark.parametrize("distance", knn.DISTANCES)
def test_answers_are_those_of_scikit_learn(distance, weighting, k):
    train, queries, options = TRAIN, QUERIES, {"metric": "cosine"}
    if distance == "Euclidean":
        train, queries = ((codes - TRAIN.mean(0)) / TRAIN.std(0) for codes in (TRAIN, QUERIES))
        options = {"metric": "euclidean"}
    similarity = (lambda d: 1 - d) if distance == "cosine" else (lambda d: 1 - d**2 / 12)
    weights = "uniform" if weighting == "uniform" else lambda d: np.exp(similarity(d) / 0.07)
    theirs = KNeighborsRegressor(k, weights=weights, algorithm="brute", **options).fit(train, TARGETS)
    ours = knn.vote(TRAIN, TARGETS, QUERIES, distance, ((k, weighting),), CPU)[k, weighting]
    np.testing.assert_allclose(ours, theirs.predict(queries), atol=1e-4)


def test_unknown_targets_do_not_vote():
    targets = np.array([[1], [np.nan], [0], [0]], np.float32)
    codes = np.array([[1, 0], [1, 0.1], [0, 1], [-1, 0]], np.float32)
    asked = np.array([[1, 0.05], [1, 0.11]], np.float32)
    votes = knn.vote(codes, targets, asked, "cosine", ((1, "uniform"), (2, "uniform")), CPU)
    np.testing.assert_allclose(votes[2, "uniform"].ravel(), [1, 1])
    assert votes[1, "uniform"][1, 0] == pytest.approx(1 / 3)  # its only neighbour does not know: the mean of all


def test_a_code_of_the_labels_is_read_without_error_and_the_choice_is_told(tmp_path):
    labels = np.random.default_rng(5).random((COUNT, 2)) < 0.5
    pack = make_pack(numbered(), labels=labels, classes=labels @ [1, 2])
    rows = measured(knn, Oracle(labels * 2.0 - 1), pack, tmp_path)
    assert rows["knn", "test", "attribute_error"].value == 0
    assert rows["knn", "test", "accuracy"].value == 100
    assert "chosen on 20 validation images" in rows["knn", "test", "attribute_error"].note


def test_test_images_choose_nothing(tmp_path):
    """Test labels turned around leave k, distance and weighting as they are."""
    labels = np.random.default_rng(5).random((COUNT, 1)) < 0.5
    codes = labels + np.random.default_rng(6).normal(size=(COUNT, 3))
    turned = labels.copy()
    turned[80:] = ~turned[80:]
    told = [
        measured(knn, Oracle(codes), make_pack(numbered(), labels=given), tmp_path)["knn", "test", "attribute_error"]
        for given in (labels, turned)
    ]
    assert told[0].note == told[1].note
    assert told[0].value + told[1].value == pytest.approx(100)
