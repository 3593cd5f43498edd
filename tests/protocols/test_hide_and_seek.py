"""Hide and seek: the seeker finds what is not hidden and, where nothing is, does as well as a blind guess."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from completing import Painter, colours, make_pack
from scipy.optimize import minimize

from mdebench.data import prepare
from mdebench.data.pack import open_pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Subject
from mdebench.methods.masks import draw
from mdebench.protocols import hide_and_seek as protocol

SEEK, BLIND, SHARE = "seek_error", "blind_error", "seek_share"


@pytest.fixture(scope="module")
def faces32(tmp_path_factory):
    packs = tmp_path_factory.mktemp("packs")
    prepare("toyfaces", root=None, size=32, packs_dir=packs, count=600)
    return open_pack(packs / "toyfaces32")


class Original(Subject):
    """Completes everything perfectly: what comes back is the original, and no box leaves a trace."""

    def complete(self, images, seen):
        return images


def grey(images, seen):
    return seen * images + (1 - seen) * 0.5


def measured(pack, tmp_path, rule=grey, subject=Subject, **settings):
    found = protocol.evaluate(
        subject("mock", Painter(rule), tmp_path, 0, "ab" * 32), pack, protocol.Settings(**settings)
    )
    return {m.metric: m for m in found}


def test_a_grey_fill_is_found(faces32, tmp_path):
    rows = measured(faces32, tmp_path, scenario="re 0.1", updates=120, learning_rate=0.01)
    assert rows[SHARE].value < 10 and rows[SHARE].high < 13
    assert rows[SHARE].unit == "% of a blind guess" and rows[SEEK].unit == rows[BLIND].unit == "of the side"


def test_untouched_originals_hide_no_worse_than_a_blind_guess(faces32, tmp_path):
    rows = measured(faces32, tmp_path, subject=Original, scenario="re 0.1", updates=120, learning_rate=0.01)
    assert 97 < rows[SHARE].value < 106


def test_the_blind_guess_is_the_best_constant_one():
    boxes = draw("rec", 0.2, 200, 1, torch.Generator().manual_seed(0))[1].float()
    guess = protocol.best_guess(boxes)
    for channel in range(3):
        points = boxes[:, channel].double().numpy()
        best = minimize(lambda p, points=points: np.linalg.norm(points - p, axis=1).mean(), points.mean(axis=0))
        np.testing.assert_allclose(guess[channel], best.x, atol=2e-3)
    torch.testing.assert_close(protocol.best_guess(boxes[:1].expand(5, 3, 4)), boxes[0])


def test_distance_is_the_norm_over_four_coordinates_and_the_mean_over_channels():
    boxes, guess = torch.zeros(2, 3, 4), torch.zeros(3, 4)
    boxes[1, 0] = torch.tensor([0.3, 0.0, 0.4, 0.0])  # norm 0.5, of one channel in three
    np.testing.assert_allclose(protocol.distance(boxes, guess), [0, 0.5 / 3])


def test_share_is_the_ratio_of_the_means_and_its_interval_that_of_the_ratio():
    blind = torch.rand(50, generator=torch.Generator().manual_seed(0))
    half = {m.metric: m for m in protocol._measure(blind / 2, blind, "re 0.1", [])}
    assert (half[SHARE].value, half[SHARE].low, half[SHARE].high) == pytest.approx((50, 50, 50))
    assert half[SEEK].value == pytest.approx(blind.mean().item() / 2)
    assert half[SEEK].low < half[SEEK].value < half[SEEK].high
    np.testing.assert_allclose(half[BLIND].values, blind)
    assert half[SHARE].values == pytest.approx(50) and half[SHARE].n == 50
    seek = blind + 0.2 * torch.rand(50, generator=torch.Generator().manual_seed(1))
    share = {m.metric: m for m in protocol._measure(seek, blind, "re 0.1", [])}[SHARE]
    assert share.value == pytest.approx((100 * seek.mean() / blind.mean()).item())
    drawn = torch.randint(50, (4000, 50), generator=torch.Generator().manual_seed(2))  # an independent bootstrap
    spread = (100 * seek[drawn].mean(1) / blind[drawn].mean(1)).std().item()
    assert (share.high - share.low) / 2 == pytest.approx(2.01 * spread, rel=0.05)


def test_the_seeker_learns_from_training_images_with_fresh_boxes_and_costs_what_was_said(tmp_path):
    pack, settings = make_pack(), protocol.Settings(updates=7, batch=10, images=15)
    painter = Painter(grey)
    rows = protocol.evaluate(Subject("mock", painter, tmp_path, 0, ""), pack, settings)
    images = np.concatenate([shown.amax(dim=(1, 2, 3)).numpy() for shown, _ in painter.shown])
    places = np.abs(images[:, None] - colours()).argmin(axis=1)
    assert len(places) == protocol.cost(pack, settings).completed == 7 * 10 + 15
    assert set(places[:60]) == set(pack.indices("train"))  # every one of the 60 once, then from the start again
    assert set(places[:70]) <= set(pack.indices("train")) and set(places[70:]) <= set(pack.indices("test"))
    seen = torch.cat([seen.expand(len(shown), 3, 16, 16) for shown, seen in painter.shown]).flatten(1)
    assert len(torch.unique(seen, dim=0)) > 80  # boxes that differ by less than a pixel look alike
    assert all("7 updates on 10 raw" in m.note and "15 of 40 test images" in m.note and m.n == 15 for m in rows)


def test_same_seed_same_numbers_whatever_was_drawn_before(tmp_path):
    pack = make_pack()
    before = torch.random.get_rng_state()
    first = measured(pack, tmp_path, updates=3, batch=8)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    again, other = (measured(pack, tmp_path, updates=3, batch=8, seed=seed) for seed in (0, 1))
    assert first == again and first[SEEK] != other[SEEK] and first[BLIND] != other[BLIND]


def test_every_run_is_sought_on_the_same_boxes(tmp_path):
    pack = make_pack()
    one = measured(pack, tmp_path, updates=1, batch=8)
    two = measured(pack, tmp_path, rule=lambda images, seen: 0 * images, updates=1, batch=8)
    np.testing.assert_array_equal(one[BLIND].values, two[BLIND].values)


def test_cases_are_scenarios_by_their_names():
    cases = protocol.cases(protocol.Settings(scenario="re,rec 0.10", updates=2))
    assert [(case.scenario, case.updates) for case in cases] == [("re 0.33", 2), ("rec 0.1", 2)]
    assert all(protocol.cases(case) == [case] for case in cases)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scenario": "inpainting 0.25"}, "box never moves; choose re or rec"),
        ({"scenario": "rec 0.1,c1"}, "nothing to seek in colorization1"),
        ({"scenario": "rex"}, "no test scenario"),
        ({"updates": 0}, "above 0"),
        ({"images": 0}, "above 0"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(UserError, match=words):
        protocol.Settings(**settings)


def test_packs_without_test_images_or_of_an_odd_size_are_refused():
    assert protocol.requires(make_pack()) is None
    assert "no test" in protocol.requires(make_pack(test=0))
    assert "15 pixels" in protocol.requires(replace(make_pack(), images=np.zeros((100, 3, 15, 15), np.uint8)))


@pytest.mark.parametrize("size", [16, 64, 96])
def test_the_seeker_takes_every_size(size):
    guess = protocol.Seeker(size)(torch.rand(2, 3, size, size))
    assert guess.shape == (2, 3, 4) and ((guess > 0) & (guess < 1)).all()
