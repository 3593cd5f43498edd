"""Resampling on mock methods and a mock judge: what is left after each step is known by hand."""

import numpy as np
import pytest
import torch
from completing import COUNT, TEST, TRAIN, MockJudge, Painter, colours, grey, make_pack, measured, own_colour, subject

from mdebench.errors import UserError
from mdebench.evaluation.scenarios import test_masks
from mdebench.home import Home
from mdebench.protocols import resampling
from mdebench.results.galleries import RESAMPLING, list_galleries, open_gallery
from mdebench.variants import Scenario

test_masks.__test__ = False
STEPS = [f"step {k}" for k in range(1, 11)]
AGREEMENTS = ("judge_agreement", "attribute_agreement")


def labels():
    """Four attributes, each a threshold on the image's colour: a linear map of it gets near."""
    return (colours()[:, None] > [0.3, 0.4, 0.45, 0.5]).astype(np.int8)


def test_perfect_completions_lose_nothing(tmp_path):
    rows = measured(resampling, Painter(own_colour), make_pack(labels()), tmp_path, MockJudge())
    assert set(rows) == {(step, metric) for step in STEPS for metric in ("psnr/raw/image", *AGREEMENTS)} | {
        ("chance", f"{metric}/chance") for metric in AGREEMENTS
    }
    for (_, metric), row in rows.items():
        if "chance" not in metric:
            surely = 100 * 0.025 ** (1 / TEST) if row.unit == "%" else 100  # so many without an exception allow
            assert row.value == row.high == 100 and row.low == pytest.approx(surely)
        assert row.n == len(row.values) == TEST
        assert row.unit == ("dB" if metric.startswith("psnr") else "%")


def test_each_step_completes_the_raw_output_of_the_one_before(tmp_path):
    drift = lambda images, seen: own_colour(images, seen) + 0.0213  # noqa: E731
    judge = MockJudge(classes=10)
    rows = measured(resampling, Painter(drift), make_pack(), tmp_path, judge)
    test = colours()[-TEST:]
    for k, step in enumerate(STEPS, start=1):
        np.testing.assert_allclose(rows[step, "psnr/raw/image"].values, -20 * np.log10(0.0213 * k), rtol=1e-4)
        same = 100.0 * (judge.says(test + 0.0213 * k) == judge.says(test)).numpy()
        assert np.array_equal(rows[step, "judge_agreement"].values, same)
        assert rows[step, "judge_agreement"].value == pytest.approx(same.mean())
    assert rows["step 10", "judge_agreement"].value < 10 < rows["step 1", "judge_agreement"].value


def test_attributes_are_compared_with_what_the_predictor_says_of_the_original(tmp_path):
    truth = labels()
    truth[TRAIN:] = 1 - truth[TRAIN:]  # the test labels are all wrong: agreement does not care, the note tells
    pack = make_pack(truth)
    perfect = measured(resampling, Painter(own_colour), pack, tmp_path, MockJudge(name="flipped"))
    row = perfect["step 3", "attribute_agreement"]
    assert row.value == 100
    wrong = float(row.note.split("wrong in ")[1].split(" %")[0])
    assert wrong > 80
    dull = measured(resampling, Painter(grey), pack, tmp_path, MockJudge(name="flipped"))
    witness = resampling.Witness.of(MockJudge(name="flipped"), pack)
    said = witness.predictor(np.stack([colours()[TRAIN:], np.zeros(TEST)], axis=1).astype(np.float32)) > 0.5
    of_grey = witness.predictor(np.array([[0.5, 0]], np.float32)) > 0.5
    for step in ("step 1", "step 10"):
        values = dull[step, "attribute_agreement"].values
        np.testing.assert_allclose(values, 100 * (said == of_grey).mean(axis=1), rtol=1e-6)
    assert len(set(values.tolist())) > 2


def test_the_predictor_is_trained_on_training_images_once_for_all_runs(tmp_path):
    judge, pack = MockJudge(name="once"), make_pack(labels())
    resampling.Witness.of(judge, pack)
    assert judge.looked == TRAIN  # a tenth of them chose alpha
    resampling.Witness.of(judge, pack)
    assert judge.looked == TRAIN
    resampling.Witness.of(judge, make_pack(labels(), salt="other"))
    assert judge.looked == 2 * TRAIN


def test_chance_compares_different_images(tmp_path):
    def chance(classes):
        rows = measured(resampling, Painter(own_colour), make_pack(), tmp_path, MockJudge(classes), steps=1)
        return rows["chance", "judge_agreement/chance"]

    assert chance(1).value == 100
    assert chance(255).value == 0  # each image its own class: none is compared with itself
    share = np.bincount(MockJudge(4).says(colours()[-TEST:])) / TEST
    by_chance = chance(4)
    assert by_chance.low <= 100 * (share**2).sum() <= by_chance.high


def test_what_cannot_be_had_is_left_out_and_said(tmp_path):
    def metrics(pack, judge):
        rows = measured(resampling, Painter(own_colour), pack, tmp_path, judge, steps=2)
        return {metric for _, metric in rows}, rows["step 1", "psnr/raw/image"].note

    left, note = metrics(make_pack(labels()), None)
    assert left == {"psnr/raw/image"}
    assert "no judge" in note
    left, note = metrics(make_pack(), MockJudge())
    assert left == {"psnr/raw/image", "judge_agreement", "judge_agreement/chance"}
    assert "no attributes" in note
    left, note = metrics(make_pack(labels()), MockJudge(classes=0))
    assert left == {"psnr/raw/image", "attribute_agreement", "attribute_agreement/chance"}
    assert "without classes" in note


def test_all_runs_see_the_same_fresh_fragments_the_first_being_that_of_completion(tmp_path):
    pack, one, other = make_pack(), Painter(own_colour), Painter(grey)
    for painter in (one, other):
        measured(resampling, painter, pack, tmp_path, S=0.3)
    for (_, seen), (_, others_seen) in zip(one.shown, other.shown, strict=True):
        assert torch.equal(seen, others_seen)
    masks = [seen for _, seen in one.shown[:10]]
    assert torch.equal(masks[0].bool(), test_masks(pack, Scenario("rec", 0.3), TEST, 0)[0])
    assert all(not torch.equal(a, b) for i, a in enumerate(masks) for b in masks[:i])
    assert all(not images[seen == 0].any() for images, seen in one.shown)
    assert torch.stack(masks).mean() == pytest.approx(0.3, abs=0.02)


def test_the_gallery_holds_the_steps(tmp_path):
    drift = lambda images, seen: own_colour(images, seen) + 4 / 255  # noqa: E731
    pack = make_pack()
    measured(resampling, Painter(drift), pack, tmp_path / "runs" / "mock-run", steps=5)
    (found,) = list_galleries(Home(tmp_path))
    assert (found.run, found.pack, found.scenario) == ("mock-run", "mock16", RESAMPLING)
    shown = open_gallery(found.path)
    first = np.rint(255 * colours()[-TEST:][:8])
    assert np.array_equal(shown.originals[:, 7, 7, 2], first)
    assert np.array_equal(shown.completed[:, :, 7, 7, 2], first[:, None] + 4 * np.arange(1, 6))
    seen, boxes = test_masks(pack, Scenario("rec", 0.1), 8, 0, draw=4)
    assert np.array_equal(shown.seen[:, 4], seen.permute(0, 2, 3, 1))
    np.testing.assert_allclose(shown.boxes[:, 4], boxes, rtol=1e-6)


def test_the_cost_counts_what_the_method_is_shown(tmp_path):
    pack, painter = make_pack(), Painter(grey)
    for settings in (resampling.Settings(), resampling.Settings(steps=3, images=5)):
        painter.shown.clear()
        resampling.evaluate(subject(painter, tmp_path), pack, settings)
        assert resampling.cost(pack, settings).completed == sum(len(images) for images, _ in painter.shown)


def test_one_unit_and_wrong_settings_said_at_once():
    assert resampling.cases(resampling.Settings(S=0.2)) == [resampling.Settings(S=0.2)]
    for wrong in ({"S": 1.0}, {"steps": 0}, {"images": 1}, {"mask_seed": -1}):
        with pytest.raises(UserError):
            resampling.Settings(**wrong)
    assert "fewer than two" in resampling.requires(make_pack(test=1))
    assert COUNT == TRAIN + TEST
