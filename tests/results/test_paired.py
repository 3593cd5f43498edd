"""Differences: against SciPy's tests on the same numbers; pairing only where the images are the same."""

import numpy as np
import pytest
from madeup import FACTS, measured
from scipy import stats

from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.results.cells import cell_from_rows
from mdebench.results.paired import contrast, difference, seed_difference
from mdebench.results.rows import Row, keep_values, values_path


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def kept(home, key, values, **facts):
    """A row whose per-image values are kept; its interval is ± 1, far wider than the difference needs."""
    values = np.asarray(values, np.float32)
    mean = float(values.mean())
    measurement = measured(mean, low=mean - 1, high=mean + 1, n=len(values), values=values)
    keep_values(home, key, [measurement])
    return vars(Row(key=key, **{**FACTS, **facts}, **measurement.plain()))


@pytest.fixture
def runs(home, rng):
    """Two runs on 60 images: hard images are hard for both, and the second is 0.1 worse."""
    hard = rng.normal(2, 0.5, 60)
    return [kept(home, key * 16, hard + more + rng.normal(0, 0.05, 60)) for key, more in (("a", 0), ("b", 0.1))]


def test_paired_is_the_one_sample_interval_of_the_differences(home, runs):
    a, b = (np.load(values_path(home, row["key"]))["frozen-probe|landmark_distance|test"] for row in runs)
    expected = stats.ttest_rel(a.astype(float), b.astype(float)).confidence_interval()
    found = difference(home, *runs)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(runs[0]["value"] - runs[1]["value"], abs=1e-6)
    assert found.paired and found.n == 60


def test_pairing_finds_what_two_intervals_hide(home, runs):
    cells = [cell_from_rows([row], 2) for row in runs]
    found = contrast(home, *cells, higher_is_better=False)
    assert (found.verdict, found.rule) == ("better", "paired")
    assert contrast(home, *cells, higher_is_better=True).verdict == "worse"
    values_path(home, runs[1]["key"]).unlink()
    found = contrast(home, *cells, higher_is_better=False)
    assert (found.verdict, found.rule) == ("overlap", "intervals")


def test_equal_values_are_not_distinguishable(home):
    rows = [kept(home, key * 16, [1.0, 2.0, 3.0]) for key in "ab"]
    found = contrast(home, *(cell_from_rows([row], 2) for row in rows), higher_is_better=True)
    assert (found.verdict, found.difference.half) == ("overlap", 0)


def test_independent_intervals_add_as_squares(home):
    """2 − 1 with half-widths 0.3 and 0.4: 1 ± 0.5."""
    a = {**FACTS, **vars(measured(2.0, low=1.7, high=2.3)), "key": "a" * 16}
    b = {**FACTS, **vars(measured(1.0, low=0.6, high=1.4)), "key": "b" * 16}
    found = difference(home, a, b)
    assert (found.mean, found.low, found.high) == pytest.approx((1.0, 0.5, 1.5)) and not found.paired


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
    assert not difference(home, runs[0], {**runs[1], **change}).paired


def test_images_without_a_value_are_left_out_of_both(home):
    a = kept(home, "a" * 16, [1.0, 2.0, 4.0])
    b = kept(home, "b" * 16, [0.0, np.nan, 1.0])
    found = difference(home, a, b)
    assert (found.mean, found.n) == (2.0, 2)


def rows_of(method, *values):
    return [{**FACTS, "method": method, "value": value, "seed": seed} for seed, value in enumerate(values)]


def test_seeds_are_welchs_interval():
    a, b = (1.0, 1.2, 1.7), (2.0, 2.1, 2.3, 2.2)
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    found = seed_difference(rows_of("rec", *a), rows_of("re", *b))
    assert (found.low, found.high, found.n) == (pytest.approx(expected.low), pytest.approx(expected.high), 7)


def test_a_side_that_no_seed_changes_has_no_spread():
    values = (1.0, 1.2, 1.7)
    expected = stats.ttest_1samp(values, 0.9).confidence_interval()
    found = seed_difference(rows_of("rec", *values), rows_of("pixels", 0.9))
    assert (found.low + 0.9, found.high + 0.9) == pytest.approx((expected.low, expected.high))
    wide = seed_difference(rows_of("rec", *values), rows_of("random", 0.9))
    assert wide.half == pytest.approx(found.half * 2)  # s²/3 + s² is four times s²/3


def test_one_of_several_seeds_is_compared_over_seeds(home):
    cell = cell_from_rows([{**vars(measured(v)), **FACTS, "seed": i, "key": "k"} for i, v in enumerate((1, 1.1))], 2)
    other = cell_from_rows([{**vars(measured(3.0)), **FACTS, "key": "k"}], 2)
    assert contrast(home, cell, other, higher_is_better=False).rule == "seeds"


def test_a_damaged_file_is_named(home, runs):
    values_path(home, runs[0]["key"]).write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(UserError, match=r"a{16}\.npz is damaged"):
        difference(home, *runs)
