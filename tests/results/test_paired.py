"""Comparisons: against SciPy's tests on the same numbers; pairing only where the images are the same."""

import math

import numpy as np
import pytest
from madeup import FACTS, measured
from scipy import stats

from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.results.cells import cell_from_rows
from mdebench.results.paired import (
    Family,
    Seeds,
    cell_interval,
    contrast,
    damaged_values,
    pooled_seeds,
    remade,
    stored_values,
)
from mdebench.results.rows import Row, keep_values, values_path

UNKNOWN = Seeds(math.nan, 0)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def kept(home, key, values, people=None, **facts):
    """A row whose values are kept; its interval is ± 1, far wider than the difference needs."""
    values = np.asarray(values, np.float32)
    mean = float(values.mean())
    measurement = measured(mean, low=mean - 1, high=mean + 1, n=len(values), values=values)
    keep_values(home, key, [measurement], [people])
    return vars(Row(key=key, **{**FACTS, **facts}, **measurement.plain()))


def cell(*rows):
    return cell_from_rows(rows, 2)


def judged(home, a, b, seeds=UNKNOWN, higher_is_better=False):
    family = Family(home)
    family.ask(a, b, seeds)
    return family.settle().read(a, b, higher_is_better)


@pytest.fixture
def runs(home, rng):
    """Two runs on 60 images: hard images are hard for both, and the second is 0.1 worse."""
    hard = rng.normal(2, 0.5, 60)
    return [kept(home, key * 16, hard + more + rng.normal(0, 0.05, 60)) for key, more in (("a", 0), ("b", 0.1))]


def values_of(home, row):
    return np.load(values_path(home, row["key"]))["frozen-probe|landmark_distance|test"].astype(float)


def test_paired_is_the_one_sample_test_of_the_differences(home, runs):
    expected = stats.ttest_rel(*(values_of(home, row) for row in runs))
    found = contrast(home, *map(cell, runs), UNKNOWN)
    assert found.p("runs") == pytest.approx(expected.pvalue) and (found.rule, found.groups) == ("paired", 60)
    assert found.difference == pytest.approx(runs[0]["value"] - runs[1]["value"], abs=1e-6)
    assert judged(home, *map(cell, runs)).half == pytest.approx(
        (expected.confidence_interval().high - expected.confidence_interval().low) / 2
    )  # alone in its table


def test_over_people_it_is_the_test_of_their_means(home, rng):
    people = np.repeat(np.arange(10), 6)
    rows = [kept(home, key * 16, rng.normal(0, 1, 60), people) for key in "ab"]
    means = [values_of(home, row).reshape(10, 6).mean(axis=1) for row in rows]
    found = contrast(home, *map(cell, rows), UNKNOWN)
    assert found.p("runs") == pytest.approx(stats.ttest_rel(*means).pvalue) and found.groups == 10


def test_pairing_finds_what_two_intervals_hide(home, runs):
    a, b = map(cell, runs)
    assert (judged(home, a, b).verdict, judged(home, a, b).scope) == ("better", "runs")
    assert judged(home, b, a).verdict == judged(home, a, b, higher_is_better=True).verdict == "worse"
    values_path(home, runs[1]["key"]).unlink()
    found = judged(home, a, b)
    assert (found.verdict, found.rule) == ("overlap", "unpaired")


def test_a_comparison_is_the_same_in_both_directions(home, runs):
    a, b = map(cell, runs)
    family = Family(home)
    family.ask(a, b, UNKNOWN)
    family.ask(b, a, UNKNOWN)
    assert len(family.settle()) == 1
    assert family.read(a, b, True).difference == -family.read(b, a, True).difference


def test_equal_values_are_not_distinguishable(home):
    rows = [kept(home, key * 16, [1.0, 2.0, 3.0]) for key in "ab"]
    found = judged(home, *map(cell, rows))
    assert (found.verdict, found.half) == ("overlap", 0)


def test_without_values_the_errors_of_two_intervals_add_as_squares(home):
    """2 − 1 with half-widths 0.3 and 0.4: 1 ± 0.5."""
    rows = [
        {**FACTS, **vars(measured(value, low=value - half, high=value + half)), "key": key * 16}
        for value, half, key in ((2.0, 0.3, "a"), (1.0, 0.4, "b"))
    ]
    found = judged(home, *map(cell, rows))
    assert (found.difference, found.half, found.rule) == (pytest.approx(1.0), pytest.approx(0.5), "unpaired")


def test_of_uneven_intervals_the_sides_that_face_each_other_count(home):
    rows = [
        {**FACTS, **vars(measured(value, low=value - below, high=value + above)), "key": key * 16}
        for value, below, above, key in ((2.0, 0.3, 9.0, "a"), (1.0, 9.0, 0.4, "b"))
    ]
    assert judged(home, *map(cell, rows)).half == pytest.approx(0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"pack_hash": "ef" * 32},
        {"dataset": "other"},
        {"protocol_settings": {"mask_seed": 1}},
        {"split": "annotated"},
        {"n": 59},
        {"metric": "psnr"},
        {"setting": "unknown"},
    ],
)
def test_other_images_are_never_paired(home, runs, change):
    assert contrast(home, cell(runs[0]), cell({**runs[1], **change}), UNKNOWN).rule == "unpaired"


def test_images_without_a_value_are_left_out_of_both(home):
    a = kept(home, "a" * 16, [1.0, 2.0, 4.0])
    b = kept(home, "b" * 16, [0.0, np.nan, 1.0])
    found = contrast(home, cell({**a, "n": 3}), cell({**b, "n": 3}), UNKNOWN)
    assert (found.difference, found.groups) == (2.0, 2)


def seeded(home, method, runs, key):
    """A cell of several runs on the same images."""
    rows = [
        kept(home, f"{key}{seed}" * 8, values, method=method, run=f"{method}{seed}", seed=seed)
        for seed, values in enumerate(runs)
    ]
    return cell(*rows)


def test_the_spread_over_seeds_is_pooled_over_lines_and_its_degrees_add(home):
    lines = [seeded(home, "rec", [[1, 1], [1.2, 1.2], [1.7, 1.7]], "a"), seeded(home, "re", [[5, 5], [5.4, 5.4]], "b")]
    lines += [seeded(home, "ri", [[2, 2]], "c"), seeded(home, "pixels", [[3, 3], [3, 3]], "d")]
    found = pooled_seeds(lines)
    assert found == (pytest.approx((2 * np.var([1, 1.2, 1.7], ddof=1) + np.var([5, 5.4], ddof=1)) / 3), 3)


def test_where_images_agree_it_is_the_two_sample_test_over_seeds(home):
    """Student's test of equal variances, when no image differs from another."""
    a, b = ([[v, v, v] for v in values] for values in ((1.0, 1.2, 1.7), (2.0, 2.1, 2.3)))
    cells = [seeded(home, "rec", a, "a"), seeded(home, "re", b, "b")]
    found = contrast(home, *cells, pooled_seeds(cells))
    expected = stats.ttest_ind([1.0, 1.2, 1.7], [2.0, 2.1, 2.3])
    assert found.p("methods") == pytest.approx(expected.pvalue, rel=1e-4) and found.p("runs") < 1e-9


def test_a_line_that_no_seed_changes_brings_no_spread(home):
    """Student's test of one sample."""
    several = seeded(home, "rec", [[v, v] for v in (1.0, 1.2, 1.7)], "a")
    fixed = seeded(home, "pixels", [[0.5, 0.5]], "b")
    found = contrast(home, several, fixed, pooled_seeds([several, fixed]))
    assert found.p("methods") == pytest.approx(stats.ttest_1samp([1.0, 1.2, 1.7], 0.5).pvalue, rel=1e-4)


def test_lines_that_no_seed_changes_need_no_seeds(home, rng):
    hard = rng.normal(2, 0.5, 60)
    one, other = (
        kept(home, key * 16, hard + more + rng.normal(0, 0.05, 60), method=method, run=method)
        for key, more, method in (("a", 0, "pixels"), ("b", 1, "constant"))
    )
    found = judged(home, cell(one), cell(other))
    assert (found.verdict, found.scope) == ("better", "methods")


def test_two_seeds_do_not_hide_a_difference_that_each_of_them_shows(home, rng):
    """As in the occlusion of both eyes: 18.7 and 20.5 dB are less than 26.4, however badly two runs tell the spread."""
    hard = rng.normal(0, 1, 300)
    runs = [hard + mean + rng.normal(0, 0.5, 300) for mean in (18.97, 20.47)]
    fill = kept(home, "f" * 16, hard + 26.44, method="biharmonic", run="fill")
    line = seeded(home, "rec", runs, "a")
    assert judged(home, line, cell(fill), pooled_seeds([line]), higher_is_better=True).verdict == "worse"


def test_the_interval_of_several_runs_knows_images_and_seeds(home, rng):
    line = seeded(home, "rec", [rng.normal(mean, 1, 200) for mean in (1.0, 1.1, 0.9)], "a")
    means = [row["value"] for row in line.rows]
    low, high = cell_interval(home, line, pooled_seeds([line]))
    of_images = np.mean([values_of(home, row) for row in line.rows], axis=0).var(ddof=1) / 200
    error = math.sqrt(of_images + np.var(means, ddof=1) / 3)
    degrees = error**4 / (of_images**2 / 199 + (np.var(means, ddof=1) / 3) ** 2 / 2)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, degrees) * error, rel=1e-4)
    alone = cell(line.rows[0])
    assert cell_interval(home, alone, UNKNOWN) == (line.rows[0]["low"], line.rows[0]["high"])


def test_rows_can_be_remade_from_their_values(home, rng):
    people = np.repeat(np.arange(8), 5)
    row = kept(home, "a" * 16, rng.normal(3, 1, 40), people)
    expected = stats.ttest_1samp(values_of(home, row).reshape(8, 5).mean(axis=1), 0).confidence_interval()
    assert remade(home, row)[1:] == pytest.approx((expected.low, expected.high))
    values_path(home, row["key"]).unlink()
    assert remade(home, row) is None


def test_a_damaged_file_is_named_and_comparisons_do_without_it(home, runs):
    path = values_path(home, runs[0]["key"])
    whole = path.read_bytes()
    middle = len(whole) // 2
    for damaged in (b"PK\x03\x04 no archive", whole[:middle] + bytes([whole[middle] ^ 64]) + whole[middle + 1 :]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"a{16}\.npz is damaged"):
            stored_values(home, runs[0])
        assert list(damaged_values(home, runs)) == [path.name]
        assert contrast(home, *map(cell, runs), UNKNOWN).rule == "unpaired"
