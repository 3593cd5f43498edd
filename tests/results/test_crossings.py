"""Where one line overtakes another: levels worked out by hand, and intervals that hold what they should."""

import math

import numpy as np
import pytest
from madeup import measured, row

from mdebench.home import Home
from mdebench.results.cells import cell_from_rows
from mdebench.results.crossings import DRAWS, bootstrapped, crossing, overtaking
from mdebench.results.intervals import spread
from mdebench.results.rows import keep_values

LEVELS = (0, 5, 10, 20)


@pytest.mark.parametrize(
    ("gains", "level"),
    [
        ([-1, -0.5, 0.5, 1], 7.5),
        ([-1, -3, -3, 1], 17.5),
        ([-1, 0, 1, 2], 5),
        ([0.1, 0.2, 0.3, 0.4], 0),  # at once
        ([1, -1, 1, 1], 7.5),  # what is lost again does not count
        ([1, 1, 1, 0], math.inf),  # as much as the other is not better
        ([-1, -2, -3, -4], math.inf),
    ],
)
def test_levels_worked_out_by_hand(gains, level):
    assert crossing(LEVELS, gains) == pytest.approx(level)


def test_behind_the_crossing_the_line_between_the_levels_is_above_zero_and_before_it_not(rng):
    gains = rng.normal(size=(200, 4))
    found, fine = crossing(LEVELS, gains), np.linspace(0, 20, 20001)
    for level, own in zip(found, gains):
        ahead = np.interp(fine, LEVELS, own) > 0
        last_behind = fine[~ahead].max(initial=0)
        assert math.isinf(level) if not ahead[-1] else level == pytest.approx(last_behind, abs=0.002)


def test_the_bootstrap_draws_people_with_all_their_images(rng):
    """Its spread is the jackknife's over people, which images that say the same do not make smaller."""
    people = np.repeat(np.arange(300), rng.integers(1, 6, 300))
    values = (rng.normal(size=300)[people] + 0.1 * rng.normal(size=len(people)))[:, None]
    drawn = bootstrapped(values, people)
    assert drawn.shape == (DRAWS, 1)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.02)
    assert drawn.std() == pytest.approx(spread(values[:, 0], people).error, rel=0.1)
    assert drawn.std() > 1.4 * spread(values[:, 0]).error


def test_an_image_without_a_value_at_one_level_counts_at_none(rng):
    values = rng.normal(size=(50, 2))
    some = np.vstack([values, [[100, np.nan]]])
    np.testing.assert_array_equal(bootstrapped(some, None), bootstrapped(values, None))


def test_intervals_hold_the_true_level_as_often_as_they_say(rng):
    """In 300 worlds of 120 people whose line truly overtakes at 7.5: 95 % ± 3 standard errors of that share."""
    held = 0
    for _ in range(300):
        own = rng.normal(0, 1, (120, 1)) + rng.normal(0, 1, (120, 4))
        drawn = crossing(LEVELS, bootstrapped(own + np.array([-0.5, -0.25, 0.25, 0.5]), None))
        low, high = (np.quantile(drawn, q, method=m) for q, m in ((0.025, "lower"), (0.975, "higher")))
        held += bool(low <= 7.5 <= high)
    assert 0.91 < held / 300 <= 1


def _cells(home, label, columns, keep=True):
    """A cell for each level, of values (n,) on the same images."""
    points = [
        measured(float(numbers.mean()), setting=f"{level} %", n=len(numbers), values=np.float32(numbers))
        for level, numbers in zip(LEVELS, columns.T)
    ]
    if keep:
        keep_values(home, label, points)
    return [cell_from_rows([row(label, point, label=label).__dict__], 2) for point in points]


def test_lines_are_drawn_together_so_that_what_is_hard_for_both_cancels(tmp_path, rng):
    home, hard = Home(tmp_path), rng.normal(0, 10, (100, 1))
    pixels = _cells(home, "pixels", hard + np.array([12, 14, 16, 18]) + rng.normal(0, 0.1, (100, 4)))
    code = _cells(home, "code", hard + np.array([13, 14.5, 15.5, 17]) + rng.normal(0, 0.1, (100, 4)))
    found = overtaking(home, code, pixels, LEVELS, higher_is_better=False)
    assert 7 < found.low < found.level < found.high < 8
    turned = overtaking(home, code, pixels, LEVELS, higher_is_better=True)
    assert turned.level == turned.high == math.inf
    assert overtaking(home, pixels, code, LEVELS, higher_is_better=True).level == pytest.approx(found.level)


def test_what_was_not_kept_or_not_measured_is_not_made_up(tmp_path, rng):
    home = Home(tmp_path)
    pixels = _cells(home, "pixels", rng.normal(0, 1, (50, 4)) + np.array([12, 14, 16, 18]))
    code = _cells(home, "code", rng.normal(0, 1, (50, 4)) + np.array([13, 14.5, 15.5, 17]), keep=False)
    found = overtaking(home, code, pixels, LEVELS, higher_is_better=False)
    assert 0 < found.level < 20 and math.isnan(found.low) and math.isnan(found.high)
    gap = [*code[:-1], cell_from_rows([row(measurement=measured(math.nan)).__dict__], 2)]
    assert overtaking(home, gap, pixels, LEVELS, higher_is_better=False) is None
