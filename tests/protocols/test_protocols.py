"""Protocols on mock methods and mock packs whose scores are known exactly."""

import math

import numpy as np
import pytest
import torch
from mocks import COUNT, SPLIT, TEST, Oracle, make_pack, measured, numbered
from PIL import Image
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from mdebench.data.pack import ANNOTATED, PSEUDO
from mdebench.errors import UserError
from mdebench.evaluation.readouts import converged
from mdebench.evaluation.tasks import Attributes
from mdebench.methods import masks
from mdebench.methods.contract import Method
from mdebench.protocols import (
    age,
    attributes,
    classes,
    landmarks,
    layers,
    likelihood,
    occlusion,
    parsing,
    robustness,
    verification,
)

BY_PACK = [attributes, landmarks, occlusion, classes, layers, likelihood, robustness, age, parsing]


@pytest.mark.parametrize("protocol", [*BY_PACK, verification])
def test_every_protocol_has_the_promised_names(protocol):
    assert protocol.VERSION >= 1
    assert protocol.NEEDS in ("encode", "complete", "stages", "likelihood")
    assert protocol.FEATURES in (True, False)
    cases = protocol.cases(protocol.Settings())
    assert all(protocol.cases(case) == [case] for case in cases)


@pytest.mark.parametrize("protocol", BY_PACK)
def test_a_cost_is_that_of_its_cases_and_grows_with_the_pack(protocol):
    def total(pack):
        costs = [protocol.cost(pack, case) for case in protocol.cases(protocol.Settings())]
        return np.array([(c.encoded, c.completed, c.seconds) for c in costs]).sum(axis=0)

    small, large = (
        total(make_pack(labels=labels(), points=points(), classes=np.arange(COUNT) % 4, split=split))
        for split in (np.repeat([0, 1, 2, 3], [20, 10, 10, 60]), SPLIT)
    )
    assert (small >= 0).all() and small.any()
    assert (large >= small).all() and (large > small).any()


# --- attributes


def labels():
    rng = np.random.default_rng(5)
    return (rng.random((COUNT, 4)) < [0.5, 0.3, 0.8, 0.4]).astype(np.int8)


def test_a_code_that_is_the_label_makes_no_error(tmp_path):
    truth = labels()
    rows = measured(attributes, Oracle(truth), make_pack(numbered(), truth), tmp_path, updates=10)
    probe = rows["frozen-probe", "test", "attribute_error"]
    assert (probe.value, probe.low, probe.unit, probe.n) == (0, 0, "%", 20)
    assert rows["frozen-probe", "test", "balanced_accuracy"].value == 100
    assert rows["frozen-probe", "test", "attribute_error/A2"].value == 0
    for metric, best in (("auc", 100), ("average_precision", 100), ("balanced_accuracy", 100), ("attribute_error", 0)):
        for name in (metric, f"{metric}/A2"):
            assert rows["frozen-probe", "test", name].value == pytest.approx(best)
            assert (("frozen-head-10", "test", name) in rows) == (name == metric)
    assert ("frozen-head-10", "test", "calibration_error") in rows


def test_a_constant_code_has_exactly_the_majority_rate(tmp_path):
    truth = labels()
    rows = measured(attributes, Oracle(np.ones((COUNT, 1))), make_pack(numbered(), truth), tmp_path, updates=1)
    majority = truth[:60].mean(axis=0) > 0.5
    each = 100 * (truth[TEST] != majority).mean(axis=0)
    assert rows["frozen-probe", "test", "attribute_error"].value == pytest.approx(each.mean())
    assert rows["frozen-probe", "test", "attribute_error/A1"].value == pytest.approx(each[1])
    assert rows["frozen-probe", "test", "balanced_accuracy"].value == pytest.approx(50)
    assert rows["frozen-probe", "test", "auc"].value == pytest.approx(50)
    assert rows["frozen-probe", "test", "average_precision"].value == pytest.approx(100 * truth[TEST].mean())
    off = 100 * np.abs(truth[TEST].mean(axis=0) - truth[:60].mean(axis=0))  # one bin with all images
    assert rows["frozen-probe", "test", "calibration_error"].value == pytest.approx(off.mean(), abs=1e-4)
    assert "edge of the grid" not in rows["frozen-probe", "test", "attribute_error"].note


def test_every_statistic_is_the_mean_over_attributes_and_the_mean_of_its_values(tmp_path):
    rng, truth = np.random.default_rng(2), labels()
    code = truth + rng.normal(0, 0.7, truth.shape)
    rows = measured(attributes, Oracle(code), make_pack(numbered(), truth), tmp_path, setting="frozen-probe")
    features = np.concatenate([code[:60], code[TEST]]).astype(np.float32)
    task = Attributes.of(make_pack(numbered(), truth)).task
    probe, _ = converged(lambda rows: code[rows].astype(np.float32), task, task.partition, torch.device("cpu"))
    scores, known = probe(features[60:]), truth[TEST]
    expected = {
        "attribute_error": ((scores > 0.5) != known).mean(),
        "balanced_accuracy": np.mean([balanced_accuracy_score(known[:, a], scores[:, a] > 0.5) for a in range(4)]),
        "auc": np.mean([roc_auc_score(known[:, a], scores[:, a]) for a in range(4)]),
        "average_precision": np.mean([average_precision_score(known[:, a], scores[:, a]) for a in range(4)]),
    }
    for metric, value in expected.items():
        row = rows["frozen-probe", "test", metric]
        assert row.value == pytest.approx(100 * value, abs=1e-9)
        assert row.values.shape == (20,) and row.values.mean() == pytest.approx(100 * value, rel=1e-5)
        each = [rows["frozen-probe", "test", f"{metric}/A{a}"] for a in range(4)]
        np.testing.assert_allclose(row.values, np.mean([one.values for one in each], axis=0), rtol=1e-4)


def test_unknown_values_and_one_sided_attributes_are_left_out_and_named(tmp_path):
    truth = labels()
    truth[:60, 0] = -1  # never known in train
    truth[TEST, 1] = 1  # one value only in test
    truth[85:90, 2] = -1
    code = np.where(truth < 0, 0, truth)
    rows = measured(attributes, Oracle(code), make_pack(numbered(), truth), tmp_path, updates=1)
    error, balanced = (rows["frozen-probe", "test", metric] for metric in ("attribute_error", "balanced_accuracy"))
    assert error.value == 0
    assert "unknown in train or test, left out: A0" in error.note
    assert "one value only in test, left out: A1" in balanced.note
    assert ("frozen-probe", "test", "auc/A1") not in rows and ("frozen-probe", "test", "calibration_error/A1") in rows
    for metric in ("auc", "average_precision", "balanced_accuracy", "attribute_error/A2"):
        row = rows["frozen-probe", "test", metric]
        assert len(row.values) == 20 and np.isfinite(row.values).all()
    assert "A1" not in error.note
    assert ("frozen-probe", "test", "attribute_error/A0") not in rows
    assert rows["frozen-probe", "test", "attribute_error/A2"].n == 15


def test_attributes_of_a_pack_without_any_are_refused():
    assert "has no attribute" in attributes.requires(make_pack())
    assert attributes.requires(make_pack(labels=labels())) is None


# --- landmarks


def points():
    rng = np.random.default_rng(6)
    mean = np.array([[0.35, 0.42], [0.65, 0.42], [0.5, 0.55], [0.4, 0.73], [0.6, 0.73]])
    return mean + rng.normal(0, 0.02, (COUNT, 5, 2))


def test_a_code_that_is_the_shape_is_at_no_distance(tmp_path):
    truth = points()
    rows = measured(
        landmarks, Oracle(truth.reshape(COUNT, 10)), make_pack(numbered(), points=truth), tmp_path, updates=1
    )
    row = rows["frozen-probe", "test", "landmark_distance"]
    assert row.value == pytest.approx(0, abs=1e-3)
    assert (row.unit, row.n) == ("px of 96", 20)
    assert {split for _, split, _ in rows} == {"test"}


def test_a_constant_code_is_the_mean_shape(tmp_path):
    truth = points()
    pack = make_pack(numbered(), points=truth)
    rows = measured(landmarks, Oracle(np.ones((COUNT, 1))), pack, tmp_path, updates=1)
    distance = 96 * np.linalg.norm(truth[TEST] - truth[:60].mean(axis=0), axis=2).mean(axis=1)
    eyes = 96 * np.linalg.norm(truth[TEST, 0] - truth[TEST, 1], axis=1)
    pixels, relative = (
        rows["frozen-probe", "test", metric] for metric in ("landmark_distance", "landmark_distance_iod")
    )
    assert pixels.value == pytest.approx(distance.mean(), rel=1e-5)
    assert pixels.low < pixels.value < pixels.high
    assert relative.value == pytest.approx(100 * (distance / eyes).mean(), rel=1e-5)
    assert relative.unit == "% of inter-ocular"


def test_annotated_images_among_predicted_ones_train_nothing_and_have_their_own_rows(tmp_path):
    truth, source = points(), np.full(COUNT, PSEUDO)
    source[[*range(0, 24, 2), 95]] = ANNOTATED
    truth[0:24:2] += 0.1  # would move the mean shape, were they trained on
    pack = make_pack(numbered(), points=truth, source=source)
    rows = measured(landmarks, Oracle(np.ones((COUNT, 1))), pack, tmp_path, updates=1)
    mean = truth[:60][source[:60] == PSEUDO].mean(axis=0)
    distance = 96 * np.linalg.norm(truth - mean, axis=2).mean(axis=1)
    annotated, test = (rows["frozen-probe", split, "landmark_distance"] for split in ("annotated", "test"))
    assert annotated.n == 13
    assert annotated.value == pytest.approx(distance[source == ANNOTATED].mean(), rel=1e-5)
    assert test.value == pytest.approx(distance[TEST].mean(), rel=1e-5)
    assert "19 of 20 images have predicted landmarks" in test.note
    assert "none of which trained" in annotated.note


def test_a_handful_of_annotated_images_is_not_set_apart(tmp_path):
    source = np.full(COUNT, PSEUDO)
    source[:9] = ANNOTATED
    pack = make_pack(numbered(), points=points(), source=source)
    rows = measured(landmarks, Oracle(np.ones((COUNT, 1))), pack, tmp_path, updates=1)
    assert {split for _, split, _ in rows} == {"test"}


def test_images_without_landmarks_or_with_both_eyes_at_one_point(tmp_path):
    truth = points()
    truth[[3, 81]] = np.nan
    truth[82, 4, 1] = np.nan
    truth[83, 1] = truth[83, 0]
    pack = make_pack(numbered(), points=truth)
    rows = measured(landmarks, Oracle(np.nan_to_num(truth).reshape(COUNT, 10)), pack, tmp_path, updates=1)
    assert rows["frozen-probe", "test", "landmark_distance"].n == 18
    relative = rows["frozen-probe", "test", "landmark_distance_iod"]
    assert relative.n == 17
    assert "1 with both eyes at one point left out" in relative.note


def test_landmarks_of_a_pack_without_any_are_refused():
    assert "train and test" in landmarks.requires(make_pack())
    assert landmarks.requires(make_pack(points=points())) is None


# --- occlusion


class Painter(Method):
    """Completes with a rule, and remembers what it was shown."""

    def __init__(self, rule):
        super().__init__(None, 64)
        self.rule = rule
        self.shown = []

    def complete(self, images, seen):
        self.shown.append((images, seen))
        return self.rule(images, seen)


def flat():
    return np.broadcast_to(np.arange(COUNT, dtype=np.uint8)[:, None, None, None] + 60, (COUNT, 3, 64, 64)).copy()


def own_colour(images, seen):
    return images.amax(dim=(2, 3), keepdim=True).expand_as(images)


def test_a_perfect_completion_is_an_exact_copy(tmp_path):
    rows = measured(occlusion, Painter(own_colour), make_pack(flat()), tmp_path, preset="mouth")
    assert len(rows) == 8
    for (_, _, metric), row in rows.items():
        assert row.value == pytest.approx(100 if metric.startswith("psnr") else 1)
        assert ("20 exact copies counted as 100 dB" in row.note) == metric.startswith("psnr")
        assert (row.unit, row.n, row.setting) == ("dB" if metric.startswith("psnr") else "", 20, "mouth")


@pytest.mark.parametrize("name", masks.PRESETS)
def test_the_readings_differ_as_they_must(tmp_path, name):
    """Off by 0.1 everywhere: the raw output is at 20 dB, and pasting the rest back gains by the share of the hole."""
    rows = measured(
        occlusion, Painter(lambda x, seen: own_colour(x, seen) + 0.1), make_pack(flat()), tmp_path, preset=name
    )
    value = {metric: row.value for (_, _, metric), row in rows.items()}
    hole = 1 - masks.preset(name, 64).mean().item()
    for metric in ("psnr/raw/image", "psnr/raw/hole", "psnr/composite/hole"):
        assert value[metric] == pytest.approx(20, abs=1e-3)
    assert value["psnr/composite/image"] == pytest.approx(20 - 10 * math.log10(hole), abs=1e-3)
    colour = (np.arange(80, 100) + 60) / 255
    flat_ssim = ((2 * colour * (colour + 0.1) + 1e-4) / (colour**2 + (colour + 0.1) ** 2 + 1e-4)).mean()
    assert value["ssim/raw/image"] == pytest.approx(flat_ssim, abs=1e-6)
    assert value["ssim/raw/hole"] == pytest.approx(flat_ssim, abs=1e-6)
    assert value["ssim/composite/hole"] < flat_ssim  # the seam around the hole


def test_a_method_is_never_shown_the_hole(tmp_path):
    painter, pack = Painter(own_colour), make_pack(flat())
    measured(occlusion, painter, pack, tmp_path, preset="both_eyes")
    for images, seen in painter.shown:
        assert seen.shape == images.shape
        assert (images[seen == 0] == 0).all()
        assert torch.equal(seen[:1, :1], masks.preset("both_eyes", 64))


def test_all_is_one_unit_for_each_preset_and_an_unknown_one_is_named():
    assert [case.preset for case in occlusion.cases(occlusion.Settings())] == list(masks.PRESETS)
    with pytest.raises(UserError, match=r"no occlusion preset 'left_eyes'.*left_eye"):
        occlusion.Settings(preset="left_eyes")


def test_a_method_that_cannot_complete_is_refused(tmp_path):
    with pytest.raises(UserError, match="mock-run cannot complete images"):
        measured(occlusion, Oracle(np.ones((COUNT, 1))), make_pack(flat()), tmp_path, preset="mouth")


def test_a_rectangle_that_misses_the_face_is_said(tmp_path):
    def note(truth):
        rows = measured(occlusion, Painter(own_colour), make_pack(flat(), points=truth), tmp_path, preset="both_eyes")
        return rows["both_eyes", "test", "ssim/raw/hole"].note

    assert note(points()) == ""
    assert "hides lefteye, righteye in only 0% of the images" in note(np.add(points(), [0, 0.3]))
    assert "no landmarks in test" in note(np.full((COUNT, 5, 2), np.nan))


def test_the_sheet_shows_input_raw_composite_and_original(tmp_path):
    rule = lambda images, seen: torch.full_like(images, 0.5)  # noqa: E731
    measured(occlusion, Painter(rule), make_pack(flat()), tmp_path, preset="mouth")
    (file,) = (tmp_path / "sheets").iterdir()
    assert file.name == "mock64-occlusion-mouth.png"
    sheet = np.asarray(Image.open(file))
    cell = 2 * 64 + 4  # zoomed, with the gap between cells
    assert sheet.shape == (4 * cell + 4, 8 * cell + 4, 3)
    centre = (masks.preset("mouth", 64)[0, 0] == 0).nonzero().float().mean(0)
    y, x = (int(4 + 2 * length) for length in centre)
    inside, outside = (sheet[y : 4 * cell : cell, x, 0].tolist(), sheet[8 : 4 * cell : cell, 8, 0].tolist())
    assert inside == [0, 128, 128, 140]  # image 80 is of colour 140
    assert outside == [140, 128, 140, 140]
