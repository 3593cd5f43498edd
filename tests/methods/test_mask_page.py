"""The page of masks says what masks hide: by formula, and as other draws of them have it."""

import io
import re

import mask_page
import numpy as np
import pytest
from PIL import Image

LINE = re.compile(r"\| (\S+(?: [\d.]+)?) +\| [^|]+\| ([\d.]+) +\| ([\d.]+) +\| ([\d.]+) to ([\d.]+) +\|")
STATED = {
    name: tuple(map(float, numbers)) for name, *numbers in LINE.findall((mask_page.RESULTS / "masks.md").read_text())
}
KINDS = {kind.name: kind for kind in mask_page.kinds()}


def test_every_kind_is_on_the_page():
    assert list(STATED) == list(KINDS), "another kind of mask: make masks"


@pytest.mark.parametrize("name", KINDS)
def test_what_is_stated_is_what_other_draws_hide(name):
    count, (mean, sd, least, most) = 100, STATED[name]
    found = mask_page.shares(KINDS[name], count, seed=7)
    error = 4 * sd * np.sqrt(1 / count + 1 / mask_page.COUNT) + 0.05  # as rounded
    assert found.mean() == pytest.approx(mean, abs=error)
    assert (found.std() > 0.05) == (sd > 0)
    assert least - sd - 0.05 <= found.min() <= found.max() <= most + sd + 0.05


@pytest.mark.parametrize("name", [kind.name for kind in KINDS.values() if kind.by_hand is not None])
def test_a_formula_holds_but_for_whole_pixels(name):
    assert STATED[name][0] == pytest.approx(100 * KINDS[name].by_hand, abs=0.15)


def test_the_picture_has_a_row_for_each_kind():
    data = (mask_page.RESULTS / "masks.png").read_bytes()
    assert len(data) < 300_000
    height = Image.open(io.BytesIO(data)).height
    assert height == len(KINDS) * (mask_page.SIZE + 4) + 4
