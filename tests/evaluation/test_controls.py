"""Where there is nothing to learn a probe gives the majority answer, however much its code knows."""

import numpy as np
import pytest
from mocks import COUNT, Oracle, make_pack, measured, numbered

from mdebench.protocols import attributes, classes, landmarks
from mdebench.results.displays import CONTROLS

RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 2, (COUNT, 6))
POINTS = RNG.random((COUNT, 5, 2))


@pytest.mark.parametrize("control", CONTROLS)
def test_an_oracle_reads_nothing_from_what_was_shuffled(control, tmp_path):
    pack = make_pack(images=numbered(), labels=LABELS)
    knows = measured(attributes, Oracle(LABELS), pack, tmp_path, setting="frozen-probe")
    found = measured(attributes, Oracle(LABELS), pack, tmp_path / "controls", setting="controls")
    assert knows["frozen-probe", "test", "attribute_error"].value == 0
    assert 35 < found[control, "test", "balanced_accuracy"].value < 65
    assert {metric for setting, _, metric in found} == {"attribute_error", "balanced_accuracy", "auc"}


def test_shuffled_points_are_answered_by_the_mean_shape(tmp_path):
    points = 0.5 + 0.1 * POINTS
    pack = make_pack(images=numbered(), points=points, source=np.ones(COUNT))
    code = Oracle(np.concatenate([points.reshape(COUNT, -1), RNG.random((COUNT, 3))], axis=1))
    probe = measured(landmarks, code, pack, tmp_path, setting="frozen-probe")
    found = measured(landmarks, code, pack, tmp_path / "controls", setting="controls")
    rows = pack.indices("test")
    mean = points[pack.indices("train")].mean(axis=0)
    far = 96 * np.linalg.norm(points[rows] - mean, axis=2).mean()
    assert probe["frozen-probe", "test", "landmark_distance"].value < 0.05 * far
    for control in CONTROLS:
        assert found[control, "test", "landmark_distance"].value == pytest.approx(far, rel=0.15)


def test_shuffling_keeps_each_labels_share_and_is_the_same_for_every_encoder(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(
        "mdebench.evaluation.readouts.converged",
        lambda features, task, rows, device: (
            given.append(task.targets) or (lambda codes: np.zeros((len(codes), 6), np.float32)),
            "",
        ),
    )
    labels = LABELS.copy()
    labels[::7, 2] = -1
    pack = make_pack(images=numbered(), labels=labels)
    for answers in (LABELS, RNG.random((COUNT, 3))):
        measured(attributes, Oracle(answers), pack, tmp_path / str(len(given)), setting="controls")
    (first, images, again, _), train = given, pack.indices("train")
    assert np.array_equal(first, again, equal_nan=True) and not np.array_equal(first, images, equal_nan=True)
    truth = np.where(labels < 0, np.nan, labels)
    assert np.array_equal(images, truth, equal_nan=True)
    assert np.array_equal(np.isnan(first), np.isnan(truth))
    assert np.array_equal(np.nansum(first[train], axis=0), np.nansum(truth[train], axis=0))
    assert np.array_equal(first[pack.indices("test")], truth[pack.indices("test")], equal_nan=True)


def test_classes_have_controls_too(tmp_path):
    kinds = np.arange(COUNT) % 4
    pack = make_pack(images=numbered(), classes=kinds)
    found = measured(classes, Oracle(np.eye(4)[kinds]), pack, tmp_path, setting="controls")
    assert {setting for setting, _, _ in found} == set(CONTROLS)
    assert all(each.value < 60 for each in found.values())
