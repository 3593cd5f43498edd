"""The budget at which an error falls to a reference's: crossings by hand, curves of known law, and its interval."""

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from mdebench.results.probes import budget, packed, unpacked

ALONE = np.full(40, -1)


def flat(*means):
    return [np.full(40, mean, float) for mean in means]


def test_between_two_probes_the_error_is_linear_in_the_logarithm_of_updates():
    *errors, pixels = flat(20, 14, 10, 12)
    found = budget([0, 100, 10_000], errors, pixels, ALONE)
    assert found.how == "crossed" and found.value == pytest.approx(1000) and found.low == found.high == found.value


def test_a_code_that_begins_no_worse_is_said_to():
    *errors, pixels = flat(10, 14, 12)
    found = budget([0, 100], errors, pixels, ALONE)
    assert (found.value, found.how) == (0, "from the start")


def test_beyond_the_last_probe_a_power_law_goes_on():
    """Its own law is found again, and where noise is on it scipy's fit of the same curve agrees."""
    steps = np.array([0, 100, 300, 1000, 3000, 10000])

    def law(n, a, b, c):
        return a + b * n**-c

    means = np.array([30, *law(steps[1:], 8.0, 20.0, 0.3)])
    found = budget(steps.tolist(), flat(*means), np.full(40, 8.6), ALONE)
    assert found.how == "extrapolated" and found.value == pytest.approx((20 / 0.6) ** (1 / 0.3), rel=0.1)
    noisy = means + np.array([0, 0.05, -0.05, 0.03, -0.02, 0.01])
    fitted, _ = curve_fit(law, steps[1:], noisy[1:], (8, 20, 0.3))
    theirs = (fitted[1] / (9 - fitted[0])) ** (1 / fitted[2])
    assert budget(steps.tolist(), flat(*noisy), np.full(40, 9.0), ALONE).value == pytest.approx(theirs, rel=0.15)


@pytest.mark.parametrize("means", [(20, 14, 14, 14), (20, 13, 14, 15), (20, 14, 12)])
def test_what_does_not_fall_so_far_is_out_of_reach(means):
    """It stands still, it rises, or there are too few probes to say."""
    steps = [0, 100, 1000, 10000][: len(means)]
    found = budget(steps, flat(*means), np.full(40, 9.0), ALONE)
    assert found.how == "out of reach" and found.value == math.inf == found.high


def test_the_interval_is_over_people(rng):
    """All pictures of a person are drawn together: fewer people, a wider interval."""
    ability = rng.normal(0, 4, 20)
    people = np.repeat(np.arange(20), 10)
    errors = [20 + 0 * people, *(level + ability[people] + rng.normal(0, 0.5, 200) for level in (14.0, 10.0))]
    pixels = np.full(200, 12.0)
    together, alone = (budget([0, 100, 10_000], errors, pixels, who) for who in (people, np.full(200, -1)))
    assert together.value == alone.value and together.low < together.value < together.high
    assert math.log(together.high / together.low) > 1.5 * math.log(alone.high / alone.low)


def test_values_come_back_in_half_precision(rng):
    values = rng.uniform(0, 60, 500)
    np.testing.assert_allclose(unpacked(packed(values)), values, rtol=5e-4)
    people = rng.integers(-1, 10_000, 500)
    assert (unpacked(packed(people, "<i4"), "<i4") == people).all()
