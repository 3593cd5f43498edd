"""Age: known codes, the median beside them, and images of unknown age."""

from dataclasses import replace

import numpy as np
import pytest
from mocks import COUNT, TEST, Oracle, make_pack, measured, numbered
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from mdebench.protocols import age

RNG = np.random.default_rng(3)
YEARS = RNG.gamma(4, 9, COUNT).round().astype(np.float32)


def pack(years=YEARS):
    return replace(make_pack(numbered()), age=years)


def read(code, tmp_path, years=YEARS):
    rows = measured(age, Oracle(code), pack(years), tmp_path)
    assert {(setting, split) for setting, split, _ in rows} == {("frozen-probe", "test")}
    return {metric: row for (_, _, metric), row in rows.items()}


def test_a_code_that_is_the_age_is_at_no_distance(tmp_path):
    rows = read(YEARS[:, None], tmp_path)
    assert rows["age_error"].value == pytest.approx(0, abs=1e-3)
    assert (rows["age_error"].unit, rows["age_error"].n) == ("years", 20)
    assert rows["age_share_5"].value == 100


def test_the_probe_is_scikit_learns_ridge_with_the_alpha_of_least_absolute_error(tmp_path):
    code = np.stack([YEARS + RNG.normal(0, 8, COUNT), RNG.normal(0, 1, COUNT)], axis=1).astype(np.float32)
    rows = read(code, tmp_path)
    scaler = StandardScaler().fit(code[:60])
    x, best = scaler.transform(code), None
    for alpha in age.converged.__globals__["ALPHAS"]:
        model = Ridge(alpha=60 * alpha).fit(x[:60], YEARS[:60])
        error = np.abs(model.predict(x[60:80]) - YEARS[60:80]).mean()
        if best is None or error <= best[0] + 1e-6:
            best = error, np.abs(model.predict(x[TEST]) - YEARS[TEST])
    assert rows["age_error"].value == pytest.approx(best[1].mean(), rel=1e-4)
    assert rows["age_share_5"].value == pytest.approx(100 * (best[1] <= 5).mean())
    np.testing.assert_allclose(rows["age_error"].values, best[1], rtol=1e-3, atol=1e-3)


def test_the_median_stands_beside_and_a_constant_code_is_no_better(tmp_path):
    rows = read(np.ones((COUNT, 1)), tmp_path)
    assert rows["median_error"].value == pytest.approx(np.abs(YEARS[TEST] - np.median(YEARS[:60])).mean(), rel=1e-6)
    assert rows["age_error"].value == pytest.approx(np.abs(YEARS[TEST] - YEARS[:60].mean()).mean(), rel=1e-5)
    assert "the median of the training images" in rows["median_error"].note


def test_images_of_unknown_age_train_and_count_nothing(tmp_path):
    years = YEARS.copy()
    years[::2] = np.nan
    code = np.where(np.isnan(years), 999, years)[:, None]  # would mislead whoever looked at them
    rows = read(code, tmp_path, years)
    assert rows["age_error"].value == pytest.approx(0, abs=1e-3)
    assert rows["age_error"].n == 10 and "10 test images of unknown age left out" in rows["age_error"].note


def test_packs_without_ages_are_refused():
    assert "no ages in its train and test partition" in age.requires(make_pack())
    assert "no ages in its test partition" in age.requires(pack(np.where(np.arange(COUNT) < 80, YEARS, np.nan)))
    assert age.requires(pack()) is None
