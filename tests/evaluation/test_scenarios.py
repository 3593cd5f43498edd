"""Test scenarios: names, and masks that depend on nothing but pack, scenario, seed and draw."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from completing import SIZE, TEST, make_pack

from mdebench.errors import UserError
from mdebench.evaluation.scenarios import test_images, test_masks
from mdebench.variants import SCENARIOS, Scenario, parse, parse_all

test_images.__test__ = test_masks.__test__ = False  # named after test images, not tests
MANY = 600  # more than are drawn at once


def test_the_ten_of_figure_8():
    assert [scenario.name for scenario in SCENARIOS] == [
        *("inpainting 0.25", "reverse_inpainting 0.25", "colorization1", "colorization2"),
        *("re 0.25", "re 0.33", "re 0.5", "rec 0.1", "rec 0.3", "rec 0.5"),
    ]
    assert all(parse(scenario.name) == scenario for scenario in SCENARIOS)


@pytest.mark.parametrize(
    ("text", "scenario", "slug"),
    [
        ("rec 0.2", ("rec", 0.2), "rec-S0.2"),
        (" ri ", ("reverse_inpainting", 0.25), "reverse_inpainting-S0.25"),
        ("i 0.5", ("inpainting", 0.5), "inpainting-S0.5"),
        ("c1", ("colorization1", None), "colorization1"),
        ("re", ("re", 0.33), "re-S0.33"),
    ],
)
def test_a_name_is_a_variant_and_a_ratio(text, scenario, slug):
    assert parse(text) == scenario
    assert parse(text).slug == slug
    assert parse(parse(text).name) == scenario


def test_a_list_has_each_once():
    assert parse_all("all") == list(SCENARIOS)
    assert parse_all("rec 0.2, c1,rec 0.20") == [("rec", 0.2), ("colorization1", None)]
    assert parse_all("rec 0.1,all")[0].name == "rec 0.1"
    assert len(parse_all("rec 0.1,all")) == 10


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("recc 0.1", "no test scenario 'recc 0.1'. Did you mean 'rec'"),
        ("rec x", "no number"),
        ("rec 1.5", "in (0, 1), not 1.5"),
        ("c1 0.5", "has no ratio S"),
        ("rec nan", "in (0, 1), not nan"),
        ("", "no test scenario ''"),
    ],
)
def test_a_wrong_name_is_one_sentence(text, sentence):
    with pytest.raises(UserError) as caught:
        parse_all(text)
    assert sentence in str(caught.value)


def test_names_need_no_torch():
    code = "import sys, mdebench.variants as s; s.parse_all('all,rec 0.2'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.slug)
def test_masks_are_the_same_for_all_and_for_fewer_images(scenario):
    pack = make_pack()
    seen, boxes = test_masks(pack, scenario, MANY, 0)
    again, some = test_masks(pack, scenario, MANY, 0), test_masks(pack, scenario, 8, 0)
    assert seen.dtype == torch.bool
    assert seen.shape == (MANY, 3, SIZE, SIZE)
    assert boxes.shape == (MANY, 3, 4)
    for one, other in ((seen, again[0]), (boxes, again[1]), (seen[:8], some[0]), (boxes[:8], some[1])):
        assert torch.equal(one, other)


def test_masks_are_others_for_another_seed_draw_pack_or_scenario():
    rec = Scenario("rec", 0.1)
    drawn = [
        test_masks(make_pack(), rec, 50, 0),
        test_masks(make_pack(), rec, 50, 1),
        test_masks(make_pack(), rec, 50, 0, draw=1),
        test_masks(make_pack(salt="other"), rec, 50, 0),
        test_masks(make_pack(), Scenario("rec", 0.1001), 50, 0),
    ]
    corners = [boxes[:, :, :2] for _, boxes in drawn]
    for i, one in enumerate(corners):
        for other in corners[:i]:
            assert not torch.isclose(one, other, rtol=0, atol=1e-3).all(dim=2).any(dim=1).sum() > 2
    assert len(np.unique(drawn[0][1].numpy().reshape(50, -1), axis=0)) == 50


def test_masks_have_the_shapes_of_figure_3():
    pack, area = make_pack(), {}
    for scenario in SCENARIOS:
        seen, boxes = test_masks(pack, scenario, MANY, 0)
        area[scenario.name] = seen.float().mean().item()
        x = np.arange(1, SIZE + 1) / SIZE  # equation (6), last line, pixel by pixel
        x1, y1, x2, y2 = (boxes[..., i, None].numpy() for i in range(4))
        inside = ((x > y1) & (x <= y2))[..., :, None] & ((x > x1) & (x <= x2))[..., None, :]
        assert np.array_equal(inside != (scenario.variant == "inpainting"), seen.numpy())
        same = (seen[:, 0] == seen[:, 1]).all() and (seen[:, 0] == seen[:, 2]).all()
        assert same == (scenario.variant in ("inpainting", "reverse_inpainting", "re"))
    expected = {
        "inpainting 0.25": 0.75,
        "reverse_inpainting 0.25": 0.25,
        "colorization1": 2 / 3,
        "colorization2": 1 / 3,
    }
    expected |= {scenario.name: scenario.S for scenario in SCENARIOS[4:]}
    assert area == pytest.approx(expected, abs=0.02)


def test_all_test_images_in_order_or_the_first_of_a_drawn_order():
    pack = make_pack()
    test = pack.indices("test")
    assert np.array_equal(test_images(pack, TEST, 0), test)
    few, fewer, other = test_images(pack, 20, 0), test_images(pack, 8, 0), test_images(pack, 20, 1)
    assert len(set(few) & set(test)) == 20
    assert np.array_equal(few[:8], fewer)
    assert not np.array_equal(few, other)
