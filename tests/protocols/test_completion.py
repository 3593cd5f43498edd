"""The completion protocol on mock methods and a mock judge whose scores are known by hand."""

import math

import numpy as np
import pytest
import torch
from completing import SIZE, TEST, MockJudge, Painter, colours, grey, make_pack, measured, own_colour, subject
from scipy import stats

from mdebench.errors import UserError
from mdebench.evaluation.judging.scores import fid, inception_score, kid
from mdebench.evaluation.scenarios import test_masks
from mdebench.home import Home
from mdebench.protocols import completion
from mdebench.results.galleries import list_galleries, open_gallery
from mdebench.variants import parse

test_masks.__test__ = False
REC = "rec 0.1"
PIXELS = {f"psnr/{kind}/{region}" for kind in ("raw", "composite") for region in ("image", "hole")}
PIXELS |= {"ssim/raw/image", "ssim/composite/image"}
JUDGED = {"inception_score/raw", "inception_score/composite", "inception_score/originals", "fid/raw", "kid/raw"}


def lighter(images, seen):
    return own_colour(images, seen) + 0.1


def test_the_right_answer_is_as_good_as_the_originals(tmp_path):
    rows = measured(completion, Painter(own_colour), make_pack(), tmp_path, MockJudge(), scenario=REC)
    assert set(rows) == {(REC, metric) for metric in PIXELS | JUDGED}
    for metric in PIXELS:
        row = rows[REC, metric]
        assert row.value == pytest.approx(100 if metric.startswith("psnr") else 1)
        assert row.unit == ("dB" if metric.startswith("psnr") else "")
        assert ("40 exact copies counted as 100 dB" in row.note) == metric.startswith("psnr")
    scores = {rows[REC, f"inception_score/{kind}"].value for kind in ("raw", "composite", "originals")}
    assert len(scores) == 1
    assert rows[REC, "fid/raw"].value == pytest.approx(0, abs=1e-3)
    assert {row.n for row in rows.values()} == {TEST}


@pytest.mark.parametrize("scenario", ["rec 0.1", "inpainting 0.25", "colorization2"])
def test_off_by_a_tenth_is_twenty_decibels_and_pasting_gains_by_the_share_of_the_hole(tmp_path, scenario):
    pack = make_pack()
    rows = measured(completion, Painter(lighter), pack, tmp_path, scenario=scenario)
    seen, _ = test_masks(pack, parse(scenario), TEST, 0)
    hole = 1 - seen.double().mean(dim=(1, 2, 3)).numpy()
    expected = {"psnr/composite/image": 20 - 10 * np.log10(hole)}
    for metric in ("psnr/raw/image", "psnr/raw/hole", "psnr/composite/hole"):
        expected[metric] = np.full(TEST, 20.0)
    colour = colours()[-TEST:]
    flat = (2 * colour * (colour + 0.1) + 1e-4) / (colour**2 + (colour + 0.1) ** 2 + 1e-4)
    expected["ssim/raw/image"] = flat
    for metric, values in expected.items():
        np.testing.assert_allclose(rows[scenario, metric].values, values, rtol=1e-5)
        assert rows[scenario, metric].value == pytest.approx(values.mean(), rel=1e-6)
        assert rows[scenario, metric].low <= values.mean() * (1 + 1e-6)


def test_the_judged_numbers_are_the_judges_functions_of_what_it_sees(tmp_path):
    judge = MockJudge(sharpness=2.0)
    rows = measured(completion, Painter(lighter), make_pack(), tmp_path, judge, scenario="reverse_inpainting 0.25")
    rows = {metric: row for (_, metric), row in rows.items()}
    flat = torch.tensor(colours()[-TEST:]).float().view(-1, 1, 1, 1).expand(-1, 3, SIZE, SIZE)
    real, fake = judge.look(flat), judge.look(flat + 0.1)
    for metric, look in (("inception_score/raw", fake), ("inception_score/originals", real)):
        mean, sd, _ = inception_score(look.logits, 10)
        half = stats.t(df=9).interval(0.95)[1] * sd / math.sqrt(9)  # sd / √9 is the standard error: sd divides by 10
        assert (rows[metric].value, rows[metric].low, rows[metric].high) == pytest.approx(
            (mean, mean - half, mean + half), rel=1e-4
        )
        assert "over 10 splits" in rows[metric].note
    assert rows["fid/raw"].value == pytest.approx(fid(real.features, fake.features), rel=1e-3)
    assert math.isnan(rows["fid/raw"].low)
    assert math.isnan(rows["fid/raw"].high)
    mean, sd = kid(real.features, fake.features)
    assert (rows["kid/raw"].value, rows["kid/raw"].high - rows["kid/raw"].low) == pytest.approx(
        (mean, 2 * 1.96 * sd), rel=1e-3, abs=1e-6
    )


@pytest.mark.parametrize("count, splits", [(11, 5), (3, 1)])
def test_the_splits_of_an_inception_score_are_counted_where_images_are_few(tmp_path, count, splits):
    pack = make_pack(test=count)
    row = measured(completion, Painter(grey), pack, tmp_path, MockJudge(), scenario=REC)[REC, "inception_score/raw"]
    assert row.value == pytest.approx(1) and row.n == count
    assert ("over 5 splits" if splits > 1 else "too few images for two splits") in row.note
    assert math.isnan(row.low) == math.isnan(row.high) == (splits == 1)


def test_a_grey_answer_has_no_diversity(tmp_path):
    rows = measured(completion, Painter(grey), make_pack(), tmp_path, MockJudge(), scenario="c2")
    score = rows["colorization2", "inception_score/raw"]
    assert (score.value, score.low, score.high) == pytest.approx((1, 1, 1), abs=1e-5)
    assert rows["colorization2", "inception_score/originals"].value > 1.5


def test_without_a_judge_its_numbers_are_left_out_and_that_is_said(tmp_path):
    rows = measured(completion, Painter(grey), make_pack(), tmp_path, scenario=REC)
    assert {metric for _, metric in rows} == PIXELS
    assert all("no judge" in row.note for row in rows.values())


def test_a_judge_without_classes_gives_distances_alone(tmp_path):
    rows = measured(completion, Painter(grey), make_pack(), tmp_path, MockJudge(classes=0), scenario=REC)
    assert {metric for _, metric in rows} == PIXELS | {"fid/raw", "kid/raw"}
    assert "no Inception score" in rows[REC, "fid/raw"].note


def test_every_run_completes_the_same_fragments(tmp_path):
    pack, painters = make_pack(), (Painter(grey), Painter(own_colour))
    for painter in painters:
        measured(completion, painter, pack, tmp_path, scenario="all")
    for (images, seen), (others_images, others_seen) in zip(painters[0].shown, painters[1].shown, strict=True):
        assert torch.equal(seen, others_seen)
        assert torch.equal(images, others_images)
        assert not images[seen == 0].any()


def test_at_most_so_many_images_drawn_by_the_mask_seed(tmp_path):
    def run(**settings):
        painter = Painter(lambda images, seen: torch.full_like(images, 0.3))
        return measured(completion, painter, make_pack(), tmp_path, scenario="c2", **settings)

    def values(**settings):
        return run(**settings)["colorization2", "psnr/raw/image"].values

    few = values(images=12)
    assert len(few) == 12
    assert np.array_equal(few, values(images=12))
    assert np.array_equal(few[:8], values(images=8))
    assert not np.array_equal(few, values(images=12, mask_seed=1))
    everyone = -20 * np.log10(np.abs(colours()[-TEST:] - 0.3))
    np.testing.assert_allclose(values(images=TEST), everyone, rtol=1e-5)
    assert np.isclose(few[:, None], everyone, rtol=1e-5).any(axis=1).all()


def test_the_originals_are_looked_at_once(tmp_path):
    judge = MockJudge(name="counting")
    measured(completion, Painter(grey), make_pack(), tmp_path, judge, scenario="all")
    measured(completion, Painter(own_colour), make_pack(), tmp_path, judge, scenario=REC)
    assert judge.looked == TEST + 11 * 2 * TEST  # and raw and composite in each of 11 scenarios
    measured(completion, Painter(grey), make_pack(salt="other"), tmp_path, judge, scenario=REC)
    assert judge.looked == 2 * TEST + 12 * 2 * TEST


def test_the_gallery_shows_the_first_images_under_their_test_masks(tmp_path):
    pack, scenarios = make_pack(), ("rec 0.1", "colorization1")
    folder = tmp_path / "runs" / "mock-run"
    rule = lambda images, seen: own_colour(images, seen) + 0.2  # noqa: E731
    measured(completion, Painter(rule), pack, folder, scenario=",".join(scenarios))
    found = {f.scenario: open_gallery(f.path) for f in list_galleries(Home(tmp_path))}
    assert {name: g.completed.shape[:2] for name, g in found.items()} == {"rec 0.1": (8, 5), "colorization1": (8, 1)}
    colour = np.rint(colours()[-TEST:][:8] * 255)
    for name, shown in found.items():
        seen, boxes = test_masks(pack, parse(name), TEST, 0)
        assert np.array_equal(shown.seen[:, 0], seen[:8].permute(0, 2, 3, 1))
        np.testing.assert_allclose(shown.boxes[:, 0], boxes[:8], rtol=1e-6)
        assert np.array_equal(shown.originals[:, 3, 5, 1], colour)
        assert (shown.completed[:, :, 3, 5, 1] == colour[:, None] + 51).all()
    assert len(np.unique(found["rec 0.1"].boxes[0], axis=0)) == 5


def test_one_unit_for_each_scenario():
    names = [case.scenario for case in completion.cases(completion.Settings())]
    assert len(names) == 10
    several = completion.Settings(scenario="ri,rec 0.20", images=50, judge="none")
    assert [case.scenario for case in completion.cases(several)] == ["reverse_inpainting 0.25", "rec 0.2"]
    for case in completion.cases(several):
        assert completion.cases(case) == [case]
        assert (case.images, case.judge) == (50, "none")


@pytest.mark.parametrize("wrong", [{"scenario": "recc 0.1"}, {"images": 1}, {"mask_seed": -1}])
def test_wrong_settings_are_said_at_once(wrong):
    with pytest.raises(UserError):
        completion.Settings(**wrong)


def test_the_cost_counts_what_the_method_is_shown(tmp_path):
    pack, painter = make_pack(), Painter(grey)
    for scenario, galleries in (("rec 0.1", 40), ("c1", 8)):
        case = completion.Settings(scenario=scenario)
        painter.shown.clear()
        completion.evaluate(subject(painter, tmp_path), pack, case)
        assert completion.cost(pack, case).completed == sum(len(images) for images, _ in painter.shown)
        assert completion.cost(pack, case).completed == TEST + galleries


def test_a_pack_without_test_images_is_refused():
    assert completion.requires(make_pack()) is None
    assert "fewer than two test images" in completion.requires(make_pack(test=0))


def test_lpips_where_its_weights_are_given(tmp_path, monkeypatch):
    class Distance(torch.nn.Module):
        name = "mock weights"

        def forward(self, x, y):
            return (x - y).mean(dim=(1, 2, 3))

    asked = []
    monkeypatch.setattr(completion, "load_lpips", lambda folder: asked.append(folder) or Distance())
    rows = measured(completion, Painter(lighter), make_pack(), tmp_path, scenario=REC, lpips="some/folder")
    row = rows[REC, "lpips/raw/image"]
    np.testing.assert_allclose(row.values, np.full(TEST, 0.1), rtol=1e-5)
    assert "mock weights" in row.note
    assert [str(folder) for folder in asked] == ["some/folder"]
