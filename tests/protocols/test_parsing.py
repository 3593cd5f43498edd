"""Parsing: maps that know everything or nothing, scores against scikit-learn's, and pixels between a map's places."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mocks import COUNT, Oracle, make_pack, measured, numbered
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import accuracy_score, jaccard_score
from torch.nn.functional import interpolate, one_hot

from mdebench.errors import UserError
from mdebench.evaluation.contract import Subject
from mdebench.protocols import parsing

RNG = np.random.default_rng(4)
CPU = torch.device("cpu")
SIZE, NAMES = 16, ("background", "skin", "eyes", "hat")
# Blocks of 4×4 pixels, of which each picture has its own; one picture in ten wears a hat.
BLOCKS = np.minimum(RNG.integers(0, 30, (COUNT, 4, 4)) // 10, 2)
BLOCKS[::10, 0] = 3
SEGMENTS = BLOCKS.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)


class Staged(Oracle):
    """Stage 1 tells the class of each pixel, stage 2 of each block, stage 3 nothing."""

    def __init__(self):
        super().__init__(np.ones((COUNT, 1)))
        self.modes = torch.nn.Dropout(0.5)

    def stages(self, images):
        number = (images[:, 0, 0, 0] * 255).round().long()
        known = one_hot(torch.tensor(SEGMENTS[number.numpy()]).long(), 4).permute(0, 3, 1, 2).float()
        return {
            "stage1": self.modes(known),
            "stage2": known[:, :, ::4, ::4],
            "stage3": torch.ones(len(images), 3, 2, 2),
        }


def pack(segments=SEGMENTS, names=NAMES):
    made = make_pack(numbered()[:, :, :SIZE, :SIZE])
    return replace(made, segments=segments, info={**made.info, "segment_names": list(names)})


def read(tmp_path, of, **settings):
    rows = measured(parsing, Staged(), of, tmp_path, **settings)
    assert {split for _, split, _ in rows} == {"test"}
    return {(setting, metric): row for (setting, _, metric), row in rows.items()}


def test_maps_that_know_the_classes_are_right_and_those_that_know_nothing_say_the_most_frequent(tmp_path):
    rows = read(tmp_path, pack())
    assert list(dict.fromkeys(setting for setting, _ in rows)) == [
        "stage1",
        "stage2",
        "stage3",
        "every stage",
        "layout",
    ]
    for stage in ("stage1", "every stage"):
        assert rows[stage, "mean_iou"].value == rows[stage, "pixel_accuracy"].value == pytest.approx(100)
    truth = SEGMENTS[80:]
    most = np.bincount(SEGMENTS[:60].ravel()).argmax()
    share = (truth == most).mean()
    assert rows["stage3", "pixel_accuracy"].value == pytest.approx(100 * share)
    assert rows["stage3", "mean_iou"].value == pytest.approx(100 * share / 4)
    assert rows["every stage", "iou/hat"].value == pytest.approx(100) and ("stage1", "iou/hat") not in rows
    assert 50 < rows["stage2", "mean_iou"].value < 100  # the blocks' borders are smeared
    assert all(row.n == len(row.values) == 20 and row.unit == "%" for row in rows.values())
    assert "11 channels" in rows["every stage", "mean_iou"].note


def test_the_layout_answers_with_the_most_frequent_class_of_each_place(tmp_path):
    rows = read(tmp_path, pack())
    layout = np.stack([(SEGMENTS[:60] == kind).sum(axis=0) for kind in range(4)]).argmax(axis=0)
    said = np.broadcast_to(layout, (20, SIZE, SIZE)).ravel()
    truth = SEGMENTS[80:].ravel()
    expected = jaccard_score(truth, said, average="macro", zero_division=0)
    assert rows["layout", "mean_iou"].value == pytest.approx(100 * expected)
    assert rows["layout", "pixel_accuracy"].value == pytest.approx(100 * accuracy_score(truth, said))


def test_counts_give_scikit_learns_scores_and_influences_that_cancel():
    truth, said = RNG.integers(0, 4, (7, 5, 5), np.uint8), RNG.integers(0, 4, (7, 5, 5))
    truth[RNG.random(truth.shape) < 0.2] = 255
    counts, known = parsing.count(said, truth, 4), truth != 255
    expected = jaccard_score(truth[known], said[known], average=None)
    for kind in range(4):
        assert counts.iou(kind).mean() == pytest.approx(100 * expected[kind])
    assert counts.accuracy().mean() == pytest.approx(100 * (truth == said)[known].mean())
    # An influence is the derivative of the score by the weight of an image.
    weights = 1 + 1e-6 * np.eye(7)[2]
    moved = (weights @ counts.both)[1] / (weights @ counts.either)[1]
    slope = 100 * (moved - expected[1]) / 1e-6
    assert (counts.iou(1)[2] - 100 * expected[1]) / 7 == pytest.approx(slope, rel=1e-3)


def test_pixels_between_the_places_of_a_map_are_those_of_the_stretched_map():
    maps = torch.randn(3, 5, 6, 4, generator=torch.Generator().manual_seed(0))
    places = torch.arange(SIZE**2).expand(3, -1)
    stretched = interpolate(maps, (SIZE, SIZE), mode="bilinear", align_corners=False)
    found = parsing.at(maps, places, SIZE)
    torch.testing.assert_close(found, stretched.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_test_pixels_are_answered_as_the_probe_answers_the_stretched_maps(tmp_path):
    """The 1×1 map is applied before the stretching, and part by part; that must be the same."""
    subject = Subject("mock", Staged().eval(), tmp_path, 0, "ab" * 32)
    of, rows = pack(), np.array([3, 50, 99])
    maps = parsing._maps(subject, of, rows)
    probes, widths = {}, {stage: each.shape[1] for stage, each in maps.items()} | {parsing.EVERY: 11}
    for name, width in widths.items():
        x, y = RNG.normal(size=(50, width)).astype(np.float32), RNG.integers(0, 4, 50)
        (probes[name],) = parsing.discriminants(x, y, 4, (1e-3,), CPU)
    whole = {name: interpolate(each, (SIZE, SIZE), mode="bilinear") for name, each in maps.items()}
    whole[parsing.EVERY] = torch.cat(list(whole.values()), dim=1)
    for name, answer in parsing._answers(subject, of, rows, probes):
        slow = probes[name](whole[name].permute(0, 2, 3, 1).reshape(-1, widths[name]).numpy()).argmax(axis=1)
        assert (answer.ravel() == slow).mean() > 0.999  # ties may fall either way


def test_unknown_pixels_and_images_train_and_count_nothing(tmp_path):
    segments = SEGMENTS.copy()
    segments[:, :, 8:] = 255
    segments[85] = 255
    rows = read(tmp_path, pack(segments))
    assert rows["stage1", "mean_iou"].value == pytest.approx(100) and rows["stage1", "mean_iou"].n == 19
    assert "1 test images without segments left out" in rows["stage1", "mean_iou"].note


def test_classes_that_no_test_image_has_are_left_out_and_named(tmp_path):
    segments = SEGMENTS.copy()
    segments[80:][segments[80:] == 3] = 0
    row = read(tmp_path, pack(segments))["layout", "mean_iou"]
    assert "on no test image, left out: hat" in row.note


def pixels(kinds=3, count=400, width=5):
    truth = RNG.choice(kinds, count, p=[0.9, 0.07, 0.03])
    centres = RNG.normal(0, 2, (kinds, width))
    return (centres[truth] + RNG.normal(0, 1, (count, width)) @ RNG.normal(0, 1, (width, width))).astype(
        np.float32
    ), truth


def test_the_probe_is_scikit_learns_discriminant_analysis_which_a_small_class_survives():
    x, truth = pixels()
    (probe,) = parsing.discriminants(x, truth, 3, (1e-9,), CPU)
    reference = LinearDiscriminantAnalysis().fit(x, truth)
    assert (probe(x).argmax(axis=1) == reference.predict(x)).all() and set(probe(x).argmax(axis=1)) == {0, 1, 2}
    theirs = reference.decision_function(x) + 0.0
    ours = probe(x).astype(np.float64)
    # scikit-learn divides the covariance by n, too; scores are equal up to a number that all classes share
    np.testing.assert_allclose(ours - ours[:, :1], theirs - theirs[:, :1], atol=2e-2)


def test_the_ridge_is_added_to_the_covariance_within_classes():
    x, truth = pixels()
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    means = np.stack([z[truth == k].mean(axis=0) for k in range(3)])
    within = sum((z[truth == k] - means[k]).T @ (z[truth == k] - means[k]) for k in range(3)) / len(z)
    inverse = np.linalg.inv(within + 0.3 * np.eye(5))
    share = np.bincount(truth) / len(truth)
    expected = z @ inverse @ means.T - np.einsum("kd,de,ke->k", means, inverse, means) / 2 + np.log(share)
    (probe,) = parsing.discriminants(x, truth, 3, (0.3,), CPU)
    np.testing.assert_allclose(probe(x), expected, rtol=1e-4, atol=1e-4)


def test_a_class_without_pixels_is_never_the_answer_and_a_constant_feature_has_no_weight():
    x, truth = pixels()
    x[:, 2] = 7
    (probe,) = parsing.discriminants(x, truth, 6, (1e-6,), CPU)
    assert set(probe(x).argmax(axis=1)) <= {0, 1, 2}
    assert np.isfinite(probe.bias).all() and (probe.weight[2] == 0).all() and (probe.weight[:, 3:] == 0).all()


def test_the_images_that_train_are_spread_and_no_more_than_asked_for():
    pixels = parsing.drawn(pack(), np.arange(60), 7, 5)
    assert pixels.rows.tolist() == [0, 10, 20, 30, 39, 49, 59] and pixels.classes.shape == (7, 5)
    assert pixels.classes[2, 3] == SEGMENTS[20].ravel()[pixels.places[2, 3]]
    assert len(parsing.drawn(pack(), np.arange(60), 1000, 5).rows) == 60
    again = parsing.drawn(pack(), np.arange(60), 7, 5)
    assert (again.places == pixels.places).all()


def test_what_cannot_be_measured_is_said(tmp_path):
    assert "has no segments" in parsing.requires(make_pack())
    blank = np.where(np.arange(COUNT)[:, None, None] < 80, SEGMENTS, 255).astype(np.uint8)
    assert "fewer than two classes of segments in its test partition" in parsing.requires(pack(blank))
    assert parsing.requires(pack()) is None
    with pytest.raises(UserError, match="mock-run has no stages"):
        measured(parsing, Oracle(np.ones((COUNT, 1))), pack(), tmp_path)
    with pytest.raises(UserError, match="at least one image"):
        parsing.Settings(images=0)
