"""Welch's effect against scipy and statsmodels, and its error rate by simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower

from analysis.stats.unpaired import UnpairedEffect, unpaired_effect


def test_p_and_interval_are_those_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 12), rng.normal(0, 4, 7)
    effect, expected = unpaired_effect(a, b), stats.ttest_ind(a, b, equal_var=False)
    interval, own = expected.confidence_interval(0.9), effect.interval(0.9)
    assert (own.low, own.high) == pytest.approx((interval.low, interval.high))
    assert effect.p == pytest.approx(expected.pvalue)
    assert effect.p_against(own.low) == pytest.approx(0.1)
    assert effect.p_against(0.0) == pytest.approx(effect.p)
    assert effect.n == 7


def test_power_is_that_of_statsmodels_where_the_arms_vary_alike():
    effect = UnpairedEffect(0.0, (10, 10), (2.0, 2.0), 1.0)
    expected = TTestIndPower().power(1.5 / 2, 25, 0.025, alternative="larger")
    assert effect.power(1.5, 25) == pytest.approx(expected, rel=1e-6)


def test_more_runs_keep_the_ratio_of_the_arms():
    effect = UnpairedEffect(0.0, (20, 10), (2.0, 1.0), 1.0)
    more = UnpairedEffect(0.0, (40, 20), (2.0, 1.0), 1.0)
    assert effect.half_width(0.95, 20) == pytest.approx(more.half_width(0.95, 20))


@pytest.mark.parametrize(("a", "b"), [([1.0], [0.0, 1.0]), ([2.0, 2.0], [1.0, 1.0, 1.0])])
def test_without_a_spread_there_is_no_p(a, b):
    effect = unpaired_effect(a, b)
    assert effect.p is None
    assert effect.interval() is None
    assert effect.estimate == np.mean(a) - np.mean(b)


def test_the_interval_covers_with_unequal_arms_where_the_pooled_one_does_not():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 4, (2000, 5)), rng.normal(0, 1, (2000, 15))
    welch = np.mean([unpaired_effect(x, y).p > 0.05 for x, y in zip(a, b, strict=True)])
    pooled = np.mean(stats.ttest_ind(a, b, axis=1).pvalue > 0.05)
    assert welch == pytest.approx(0.95, abs=0.015)
    assert pooled < 0.85, "the negative control"
