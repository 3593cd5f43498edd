"""Classification: k-NN and ridge against scikit-learn's, and codes that know everything or nothing."""

import numpy as np
import pytest
import torch
from mocks import COUNT, TEST, Oracle, make_pack, measured, numbered
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from mdebench.errors import UserError
from mdebench.protocols import classes
from mdebench.results.displays import CONTROLS

CPU = torch.device("cpu")
LABELS = np.random.default_rng(4).permutation(np.arange(COUNT) % 3 % 2 + 2 * (np.arange(COUNT) % 5 == 0))


def noisy_codes():
    """Codes in which a class is half visible."""
    return (np.eye(4)[LABELS] + np.random.default_rng(8).normal(0, 0.7, (COUNT, 4))).astype(np.float32)


def accuracies(code, tmp_path, **settings):
    rows = measured(classes, Oracle(code), make_pack(numbered(), classes=LABELS), tmp_path, **settings)
    assert {(split, metric) for _, split, metric in rows} == {("test", "accuracy")}
    return {setting: row for (setting, _, _), row in rows.items()}


def test_a_code_that_is_the_class_is_always_right(tmp_path):
    rows = accuracies(np.eye(4)[LABELS], tmp_path)
    majority = 100 * (LABELS[TEST] == np.bincount(LABELS[:60]).argmax()).mean()
    assert all(abs(rows.pop(control).value - majority) <= 25 for control in CONTROLS)
    assert list(rows) == ["probe", "knn", "probe-1%", "probe-10%"]
    for row in rows.values():
        assert (row.value, row.high, row.unit, row.n) == (100, 100, "%", 20)
        assert row.low == pytest.approx(100 * 0.025 ** (1 / 20))  # what 20 without an exception allow
        assert (row.values == 100).all()
    assert "labels of 4 of 60 training images (at least one of each class)" in rows["probe-1%"].note


def test_a_constant_code_is_right_at_the_majority_rate(tmp_path):
    majority = np.bincount(LABELS[:60]).argmax()
    row = accuracies(np.ones((COUNT, 1)), tmp_path, setting="probe")["probe"]
    assert row.value == pytest.approx(100 * (LABELS[TEST] == majority).mean())


@pytest.mark.parametrize("k", [1, 5, 20])
def test_votes_are_scikit_learns(k):
    codes = noisy_codes()
    votes = classes.votes(codes[:80], LABELS[:80], codes[80:], (1, k), 4, CPU)[k]
    reference = KNeighborsClassifier(k, metric="cosine").fit(codes[:80], LABELS[:80])
    np.testing.assert_allclose(votes, reference.predict_proba(codes[80:]) @ np.eye(4)[reference.classes_])
    np.testing.assert_array_equal(votes.argmax(axis=1), reference.predict(codes[80:]))


def test_more_neighbours_than_there_are_images_are_all_of_them():
    codes = noisy_codes()
    votes = classes.votes(codes[:9], LABELS[:9], codes[80:], classes.KS, 4, CPU)[50]
    np.testing.assert_allclose(votes, np.tile(np.bincount(LABELS[:9], minlength=4) / 9, (20, 1)), rtol=1e-6)


def test_k_is_the_best_on_validation_and_the_test_images_are_read_with_it(tmp_path):
    codes = noisy_codes()
    row = accuracies(codes, tmp_path, setting="knn")["knn"]

    fitted = {k: KNeighborsClassifier(k, metric="cosine").fit(codes[:60], LABELS[:60]) for k in classes.KS}
    right = {k: model.score(codes[60:80], LABELS[60:80]) for k, model in fitted.items()}
    spread = {
        k: np.square(model.predict_proba(codes[60:80]) - np.eye(4)[LABELS[60:80]]).mean() for k, model in fitted.items()
    }
    best = min(classes.KS, key=lambda k: (-right[k], spread[k]))
    assert f"k = {best} by cosine" in row.note
    assert row.value == pytest.approx(100 * fitted[best].score(codes[TEST], LABELS[TEST]))


def test_the_probe_is_scikit_learns_ridge_with_the_alpha_of_the_note(tmp_path):
    codes = noisy_codes()
    row = accuracies(codes, tmp_path, setting="probe")["probe"]
    alpha = float(row.note.split()[1])
    scaler = StandardScaler().fit(codes[:60])
    reference = RidgeClassifier(alpha=60 * alpha).fit(scaler.transform(codes[:60]), LABELS[:60])
    assert row.value == pytest.approx(100 * reference.score(scaler.transform(codes[TEST]), LABELS[TEST]))
    assert 30 < row.value < 100


def test_identities_that_do_not_recur_are_held_out_and_the_notes_say_it(tmp_path):
    names = np.concatenate([np.arange(60) % 3, np.arange(60, 100)])
    code = np.eye(3)[names % 3]
    rows = measured(classes, Oracle(code), make_pack(numbered(), identities=names), tmp_path)
    assert {split for _, split, _ in rows} == {"held-out"}
    for (setting, _, _), row in rows.items():
        assert (row.value == 100) == (setting not in CONTROLS) and row.n == 12
        assert "test has other identities" in row.note


def test_what_cannot_be_measured_is_said():
    assert "neither classes nor identities" in classes.requires(make_pack())
    assert classes.requires(make_pack(classes=LABELS)) is None
    with pytest.raises(UserError, match=r"no setting 'prob'.*Did you mean 'probe'"):
        classes.Settings("prob")
