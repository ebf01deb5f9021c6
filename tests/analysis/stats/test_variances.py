"""Pitman-Morgan: its formula, its inversion, its power."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.stats.effects import smallest_n
from analysis.stats.variances import pitman_morgan, power_of_pitman_morgan

fast = settings(deadline=None, max_examples=60)


@pytest.mark.parametrize(("correlation", "planned", "least"), [(0, 70, 68), (0.5, 53, 52), (0.8, 28, 28)])
def test_seeds_for_a_variance_ratio_of_two(correlation, planned, least):
    """`planned` is enough; the exact smallest number is at most two below."""
    assert power_of_pitman_morgan(2, correlation, planned) >= 0.8
    assert smallest_n(lambda n: power_of_pitman_morgan(2, correlation, n) >= 0.8, 3) == least


@fast
@given(st.integers(0, 10_000), st.integers(4, 15), st.floats(0.2, 5))
def test_pitman_morgan_is_the_correlation_of_sum_and_difference(seed, n, scale):
    a, b = np.random.default_rng(seed).normal(size=(2, n))
    a = scale * a + b
    ratio, pearson = pitman_morgan(a, b), stats.pearsonr(a + b, a - b)
    assert ratio.p == pytest.approx(pearson.pvalue, rel=1e-6)
    assert np.exp(ratio.estimate) == pytest.approx(a.var() / b.var())
    assert pitman_morgan(b, a).estimate == pytest.approx(-ratio.estimate)


@fast
@given(st.integers(0, 10_000), st.integers(4, 15), st.floats(0.5, 0.999))
def test_pitman_morgan_interval_inverts_the_test(seed, n, level):
    a, b = np.random.default_rng(seed).normal(size=(2, n))
    interval = pitman_morgan(a, b).interval(level)
    for end in (interval.low, interval.high):  # b scaled so that this end is the ratio of 1
        assert pitman_morgan(a, b * np.exp(end / 2)).p == pytest.approx(1 - level, rel=1e-6)


def test_pitman_morgan_formula_as_written():
    a, b = np.random.default_rng(3).normal(size=(2, 10))
    f, r, t = a.var() / b.var(), np.corrcoef(a, b)[0, 1], stats.t.isf(0.025, 8)
    k = 1 + 2 * (1 - r**2) * t**2 / 8
    ends = f * (k - np.sqrt(k**2 - 1)), f * (k + np.sqrt(k**2 - 1))
    interval = pitman_morgan(a, b).interval()
    assert np.exp([interval.low, interval.high]) == pytest.approx(ends)


def test_no_variance_ratio_where_the_test_is_undefined():
    a = np.array([1.0, 2.0, 4.0, 7.0])
    assert pitman_morgan(a[:2], a[1:3]) is None
    assert pitman_morgan(a, np.ones(4)) is None
    assert pitman_morgan(a, 3 * a + 1) is None


def test_power_of_pitman_morgan_at_equal_variances_is_half_alpha():
    assert power_of_pitman_morgan(1, 0.5, 10) == pytest.approx(0.025, abs=1e-6)


def test_coverage_of_a_variance_ratio():
    rng = np.random.default_rng(0)
    seed = rng.normal(size=(2000, 10))
    a, b = np.sqrt(2) * (seed + rng.normal(size=(2000, 10))), seed + rng.normal(size=(2000, 10))
    intervals = (pitman_morgan(x, y).interval() for x, y in zip(a, b, strict=True))
    assert 0.93 <= np.mean([i.low <= np.log(2) <= i.high for i in intervals]) <= 0.97


def test_power_of_pitman_morgan_is_that_of_simulated_studies():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 2000, 53))
    b = 0.5 * a + np.sqrt(0.75) * b
    found = [pitman_morgan(np.sqrt(2) * x, y).interval().low > 0 for x, y in zip(a, b, strict=True)]
    assert np.mean(found) == pytest.approx(power_of_pitman_morgan(2, 0.5, 53), abs=0.03)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: power_of_pitman_morgan(2, 0, 2), "n must be"),
        (lambda: power_of_pitman_morgan(2, 1, 9), "correlation must be"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
