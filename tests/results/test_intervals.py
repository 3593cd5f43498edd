"""Intervals over people: against SciPy where everybody is alone, by hand, and by coverage where truth is known."""

import numpy as np
import pytest
from scipy import stats

from mdebench.results.intervals import holm, interval, known_people, p_value, spread


def test_without_people_it_is_students_interval(rng):
    values = rng.normal(3, 2, 40)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert interval(values, None, "dB") == pytest.approx((values.mean(), expected.low, expected.high))
    assert interval(values, np.full(40, -1), "dB") == pytest.approx((values.mean(), expected.low, expected.high))
    assert p_value(*spread(values)[:3]) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_people_of_equal_many_images_are_their_means(rng):
    """n people with m images each: Student's interval of the n means."""
    values, people = rng.normal(0, 1, (12, 5)), np.repeat(np.arange(12), 5)
    expected = stats.ttest_1samp(values.mean(axis=1), 0).confidence_interval()
    order = rng.permutation(60)
    found = interval(values.ravel()[order], people[order], "dB")
    assert found == pytest.approx((values.mean(), expected.low, expected.high))
    assert known_people(people[order]) == 12 and known_people(np.full(3, -1)) == known_people(None) == 0


def test_unequal_people_by_hand():
    """Without A the mean is 4, without B 1, without C 1.75: the jackknife about the mean 2 has 2/3 (4 + 1 + 1/16)."""
    found = spread([1, 1, 4, 3], np.array([7, 7, 9, 8]))
    left_out = np.array([(4 + 3) / 2, (1 + 1 + 3) / 3, (1 + 1 + 4) / 3]) - 9 / 4
    assert found.mean == 9 / 4 and found.groups == 3
    assert found.error == pytest.approx(np.sqrt(2 / 3 * np.square(left_out).sum()))
    assert found.degrees == pytest.approx(16 / (4 + 1 + 1) - 1)


def _population(kind: str, people: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """Values, who is on each image, and the true mean; people have 2 to 30 images each."""
    who = np.repeat(np.arange(people), rng.integers(2, 31, people))
    if kind == "normal":
        return rng.normal(0, 1, people)[who] + rng.normal(0, 1.5, len(who)), who, 0.0
    if kind == "errors":  # each person is mistaken at a rate of its own, in % of the images
        return 100.0 * (rng.random(len(who)) < rng.beta(2, 6, people)[who]), who, 25.0
    return rng.exponential(1, len(who)), who, 1.0  # images that have nothing to do with people


@pytest.mark.parametrize(("people", "draws"), [(10, 3000), (50, 2000), (1000, 1000)])
@pytest.mark.parametrize("kind", ["normal", "errors", "images"])
def test_95_percent_intervals_cover_93_to_97_percent(kind, people, draws, rng):
    hits = 0
    for _ in range(draws):
        values, who, truth = _population(kind, people, rng)
        _, low, high = interval(values, who, "dB")
        hits += low <= truth <= high
    assert 0.93 <= hits / draws <= 0.97


def test_images_as_if_independent_would_cover_far_less(rng):
    hits = 0
    for _ in range(500):
        values, _, truth = _population("errors", 10, rng)
        _, low, high = interval(values, None, "dB")
        hits += low <= truth <= high
    assert hits / 500 < 0.75


def test_an_interval_ends_where_its_unit_does():
    values = np.array([0.0, 0.0, 0.0, 10.0])
    assert interval(values, None, "%")[1] == 0 and interval(100 - values, None, "%")[2] == 100
    assert interval(values, None, "px of 96")[1] == 0 and interval(values, None, "dB")[1] < 0
    assert interval(100 + values, None, "%")[2] > 110  # no share, whatever its unit


def test_no_mistake_among_twenty_is_not_a_promise():
    """Clopper and Pearson's bound for 0 of 20, from SciPy."""
    bound = 100 * stats.binomtest(0, 20).proportion_ci(method="exact").high
    assert interval(np.zeros(20), None, "%") == pytest.approx((0, 0, bound))
    people = np.repeat(np.arange(20), 3)
    assert interval(np.full(60, 100.0), people, "%") == pytest.approx((100, 100 - bound, 100))


def test_one_person_or_image_tells_nothing():
    assert np.isnan(interval([1.0, 2.0], np.zeros(2, int), "dB")[1:]).all() and np.isnan(interval([1.0], None, "")[1])
    assert np.isnan(interval([], None, "")).all()


def test_holms_p_values_are_adjusted_in_steps():
    """By hand, after Holm (1979): 4 · 0.005, 3 · 0.01, 2 · 0.03, then 0.04 not below what came before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, np.nan, 0.9])[1] != holm([0.6, np.nan, 0.9])[1] and holm([0.6, 0.9]).max() == 1
