"""Verification: thresholds against trying them all, scores against scikit-learn's, and pairs that keep people apart."""

from dataclasses import replace

import numpy as np
import pytest
from mocks import COUNT, Oracle, make_pack, measured, numbered
from sklearn.metrics import roc_auc_score

from mdebench.errors import UserError
from mdebench.protocols import verification

RNG = np.random.default_rng(5)
SPLIT = np.repeat(np.arange(3, dtype=np.uint8), [10, 10, 80])
PEOPLE = np.arange(COUNT) // 4  # 20 of them in test, with four pictures each


def pack(pairs=None, people=PEOPLE):
    made = make_pack(numbered(), identities=people, split=SPLIT)
    return made if pairs is None else replace(made, pairs=np.asarray(pairs, np.int32))


def codes(noise):
    return (np.eye(25)[PEOPLE] + RNG.normal(0, noise, (COUNT, 25))).astype(np.float32)


def read(code, tmp_path, of, **settings):
    rows = measured(verification, Oracle(code), of, tmp_path, **settings)
    assert set(rows) == {("cosine", "test", "accuracy"), ("cosine", "test", "auc")}
    return {metric: row for (_, _, metric), row in rows.items()}


def test_a_code_that_is_the_person_is_always_right_at_any_length(tmp_path):
    code = np.eye(25)[PEOPLE] * RNG.uniform(0.1, 9, (COUNT, 1))
    for of in (pack(), pack(some_pairs())):
        rows = read(code, tmp_path, of)
        assert rows["accuracy"].value == rows["auc"].value == pytest.approx(100)


def test_a_constant_code_is_a_coin(tmp_path):
    rows = read(np.ones((COUNT, 3)), tmp_path, pack())
    assert rows["accuracy"].value == rows["auc"].value == pytest.approx(50)


def some_pairs():
    """Folds of eight pairs each, half of one person."""
    found = []
    for fold in range(10):
        first = 20 + 8 * fold
        found += [(first + i, first + j, 1, fold) for i, j in ((0, 1), (1, 2), (4, 5), (6, 7))]
        found += [(first + i, first + 4 + i, 0, fold) for i in range(4)]
    return found


def test_accuracy_and_area_are_those_of_the_cosines_fold_by_fold(tmp_path):
    code, pairs = codes(0.5), np.array(some_pairs())
    rows = read(code, tmp_path, pack(pairs))
    unit = code / np.linalg.norm(code, axis=1, keepdims=True)
    cosine = np.array([unit[a].astype(float) @ unit[b] for a, b, _, _ in pairs])
    same, fold = pairs[:, 2] == 1, pairs[:, 3]
    right = np.empty(len(pairs), bool)
    for each in range(10):
        others = fold != each
        tried = np.sort(np.concatenate([cosine[others] + 1e-9, cosine[others] - 1e-9]))
        scores = [((cosine[others] > t) == same[others]).sum() for t in tried]
        best = [t for t, score in zip(tried, scores) if score == max(scores)]
        chosen = verification.threshold(cosine[others], same[others])
        assert ((cosine[others] > chosen) == same[others]).sum() == max(scores)
        assert best[0] - 1 <= chosen <= best[-1] + 1
        right[fold == each] = (cosine[fold == each] > chosen) == same[fold == each]
    assert rows["accuracy"].value == pytest.approx(100 * right.mean()) and 50 < rows["accuracy"].value < 100
    assert rows["accuracy"].value == pytest.approx(100 * np.mean([right[fold == k].mean() for k in range(10)]))
    assert rows["auc"].value == pytest.approx(100 * roc_auc_score(same, cosine))
    assert rows["accuracy"].n == 80 and (rows["accuracy"].images == pairs[:, 0]).all()


def test_a_fold_is_answered_by_the_threshold_of_the_others():
    same = np.tile([True, False], 20)
    fold = np.repeat([0, 1], 20)
    scores = np.where(same, 1.0, 0.0) + 10 * fold  # its own threshold would be right
    assert (verification.answers(scores, same, fold) == (fold == 1)).all()


@pytest.mark.parametrize("count", range(2, 40, 3))
def test_the_threshold_is_right_most_often(count):
    scores, same = RNG.integers(0, 8, count) / 8, RNG.random(count) < 0.5
    chosen = verification.threshold(scores, same)
    best = max(((scores > t) == same).sum() for t in np.arange(-1, 10) / 8 + 1e-3)
    assert ((scores > chosen) == same).sum() == best and chosen not in scores


def test_the_middle_of_equal_thresholds_is_taken():
    assert verification.threshold(np.array([0.0, 1, 2, 3]), np.array([False] * 2 + [True] * 2)) == 1.5
    # nothing is ever of one person: above all scores, or between those that are not
    assert verification.threshold(np.array([0.0, 1]), np.array([False, False])) == 2


def test_pairs_of_train_are_left_out_and_told(tmp_path):
    pairs = [*some_pairs(), (0, 25, 0, 0), (1, 2, 1, 3)]
    row = read(codes(0.3), tmp_path, pack(pairs))["accuracy"]
    assert row.n == 80 and "2 pairs with an image outside of test left out" in row.note


def test_drawn_pairs_are_balanced_of_test_people_and_nobody_is_in_two_folds():
    people = PEOPLE.copy()
    people[90:] = -1
    people[88], people[89] = 300, 301  # people with one picture
    of = pack(people=people)
    pairs = verification.drawn(of, 200)
    assert (pairs.same == (people[pairs.first] == people[pairs.second])).all()
    assert pairs.first.min() >= 20 and (people[pairs.first] >= 0).all() and (people[pairs.second] >= 0).all()
    assert not np.isin([88, 89], np.concatenate([pairs.first, pairs.second])).any()
    where: dict[int, set[int]] = {}
    for first, second, fold in zip(pairs.first, pairs.second, pairs.fold):
        for row in (first, second):
            where.setdefault(int(people[row]), set()).add(int(fold))
    assert all(len(folds) == 1 for folds in where.values()) and len(where) == 17
    for fold in range(8):
        here = pairs.fold == fold
        assert pairs.same[here].sum() == (~pairs.same[here]).sum() == 12  # 200 // (2 · 8)
        counts = np.bincount(people[pairs.first[here & pairs.same]])
        assert counts[counts > 0].max() - counts[counts > 0].min() <= 1  # everybody as often
    unordered = {frozenset(pair) for pair in zip(pairs.first.tolist(), pairs.second.tolist())}
    assert len(unordered) == len(pairs.first)
    again = verification.drawn(of, 200)
    assert (again.first == pairs.first).all() and (again.second == pairs.second).all()
    assert len(verification.drawn(of, 80).first) == 80


def test_what_cannot_be_measured_is_said():
    assert "nobody with two pictures" in verification.requires(make_pack())
    assert "3 people with two pictures" in verification.requires(
        pack(people=np.where(np.arange(COUNT) < 88, -1, PEOPLE))
    )
    assert "too few of both kinds" in verification.requires(pack([(20, 21, 1, 0), (22, 23, 1, 1)]))
    assert "too few of both kinds" in verification.requires(pack([(1, 2, 1, 0), (2, 5, 0, 1)]))
    assert verification.requires(pack()) is None and verification.requires(pack(some_pairs())) is None
    with pytest.raises(UserError, match="at least 20"):
        verification.Settings(pairs=3)
