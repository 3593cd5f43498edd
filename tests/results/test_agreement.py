"""Agreement of two orders: against scipy, and intervals on made rows whose order is known."""

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from mdebench.results.agreement import agreements, kendall, spearman
from mdebench.results.cells import cell_from_rows
from mdebench.results.rows import Measurement, keep_values


def test_coefficients_are_scipys(rng):
    for _ in range(20):
        lists, other = rng.integers(0, 6, (5, 10)).astype(float), rng.integers(0, 6, 10).astype(float)
        for ours, theirs in ((kendall, kendalltau), (spearman, spearmanr)):
            assert ours(lists, other) == pytest.approx([theirs(each, other).statistic for each in lists])
    assert (
        np.isnan(kendall(np.ones((1, 4)), np.arange(4.0))).all()
        and np.isnan(spearman(np.ones((1, 4)), np.arange(4.0))).all()
    )


def cells(home, means, noise=0.0, seeds=1, seed_noise=0.0, people=60, rng=None):
    """A cell for each mean: every person has four images, and a difficulty of their own that all methods share."""
    found = []
    difficulty = rng.normal(0, 5, people).repeat(4)
    who = np.arange(people).repeat(4)
    for k, mean in enumerate(means):
        rows = []
        for seed in range(seeds):
            own = mean + seed_noise * rng.normal() + difficulty + noise * rng.normal(0, 1, people).repeat(4)
            key = f"{k:02}{seed:02}" * 16
            each = Measurement("e", "%", float(own.mean()), 0.0, 100.0, len(own), "p", values=own.astype(np.float32))
            keep_values(home, key, [each], [who])
            facts = {"dataset": "d", "pack_hash": "h", "protocol_settings": {}, "run": f"{k}-{seed}", "method": "m"}
            rows.append({**each.plain(), **facts, "key": key, "seed": seed})
        found.append(cell_from_rows(rows, 2))
    return found


def test_a_clear_order_is_sure_and_a_difficulty_that_all_share_takes_nothing_from_it(home, rng):
    tau, rho = agreements(home, cells(home, [20, 21, 22, 23, 24], noise=0.5, rng=rng), [1, 2, 3, 4, 5])
    assert (tau.value, rho.value, *tau.over_people, *rho.over_people) == pytest.approx((1,) * 6)
    assert np.isnan(tau.over_seeds).all()  # one seed of each says nothing of others
    tau, _ = agreements(home, cells(home, [20, 21, 22, 23, 24], noise=0.5, rng=rng), [5, 4, 3, 2, 1])
    assert tau.value == -1


def test_what_is_noise_is_unsure(home, rng):
    tau, rho = agreements(home, cells(home, [20] * 6, noise=3, rng=rng), [1, 2, 3, 4, 5, 6])
    for found in (tau, rho):
        low, high = found.over_people
        assert low <= found.value <= high and high - low > 0.5


def test_seeds_that_disagree_widen_the_interval_over_seeds_alone(home, rng):
    steady = cells(home, [20, 21, 22, 23, 24], noise=0.1, seeds=3, seed_noise=0.01, rng=rng)
    tau, _ = agreements(home, steady, [1, 2, 3, 4, 5])
    assert tau.over_people == (1, 1) and tau.over_seeds == (1, 1)
    restless = cells(home, [20, 21, 22, 23, 24], noise=0.1, seeds=3, seed_noise=3, rng=rng)
    tau, _ = agreements(home, restless, [1, 2, 3, 4, 5])
    assert tau.over_seeds[1] - tau.over_seeds[0] > 0.3 > tau.over_people[1] - tau.over_people[0]
