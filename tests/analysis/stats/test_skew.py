"""Skewness, bootstrap-t and Yuen: answers worked by hand and enumerated, then simulated coverage."""

from itertools import product
from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from analysis.stats.effects import ALPHA, one_sample_effect
from analysis.stats.skew import bootstrap_t, is_skewed, skewness, yuen

SKEWED = [0.1, 0.3, 0.2, 0.2, 0.4, 2.0]
EVEN = [-1.3, -0.8, -0.4, -0.1, 0.1, 0.4, 0.8, 1.3]

fast = settings(deadline=None, max_examples=40)
several = arrays(float, st.integers(5, 12), elements=st.integers(-50, 50).map(float))


# Answers by hand -------------------------------------------------------------------------------------------


def test_skewness_by_hand():
    """Deviations −1/4 three times and 3/4: m₂ = 3/16, m₃ = 3/32, g₁ = 2/√3, G₁ = √12 / 2 · g₁ = 2."""
    assert skewness([0, 0, 0, 1]) == pytest.approx(2)
    assert skewness([0, 0, 0, -1]) == pytest.approx(-2)
    assert skewness(EVEN) == pytest.approx(0, abs=1e-12)


def test_yuen_by_hand():
    """One of six is trimmed on either side: .2 .2 .3 .4 are left; winsorised .2 .2 .2 .3 .4 .4, squares .0483333."""
    found = yuen(SKEWED)
    half = stats.t.isf(0.025, 3) * sqrt(0.29 / 6 / (4 * 3))
    assert found.estimate == pytest.approx(0.275)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.275 - half, 0.275 + half))


@fast
@given(several)
def test_yuen_is_scipys_trimmed_test(differences):
    """Welch's form of scipy's test against seeds without any spread is the one-sample test."""
    differences = differences + np.linspace(0, 0.5, differences.size)  # no ties
    theirs = stats.ttest_ind(differences, np.zeros(9), equal_var=False, trim=0.2)
    assume(1e-6 < theirs.pvalue < 0.999)
    found = yuen(differences, 1 - theirs.pvalue)
    nearest = min(abs(found.interval.low), abs(found.interval.high))
    assert nearest == pytest.approx(0, abs=1e-6 * (found.interval.high - found.interval.low))
    assert found.estimate == pytest.approx(stats.trim_mean(differences, 0.2))


def test_bootstrap_t_is_that_of_all_resamples():
    """All 5⁵ resamples of five differences, in place of drawn ones."""
    values = np.array([0.0, 1.0, 2.5, 3.0, 7.0])
    error = values.std(ddof=1) / sqrt(5)
    with np.errstate(divide="ignore"):  # resamples of one value, all of them at another mean
        ts = [(b.mean() - 2.7) / (b.std(ddof=1) / sqrt(5)) for b in map(np.array, product(values, repeat=5))]
    low, high = np.sort(ts)[[int(0.05 * 3125), 3124 - int(0.05 * 3125)]]
    found = bootstrap_t(values, level=0.9)
    assert found.estimate == pytest.approx(2.7)
    assert found.interval.low == pytest.approx(2.7 - high * error, rel=0.02)
    assert found.interval.high == pytest.approx(2.7 - low * error, rel=0.02)


def test_bootstrap_t_of_many_even_differences_is_students():
    values = stats.norm.ppf((np.arange(200) + 0.5) / 200)
    found, student = bootstrap_t(values, resamples=19_999).interval, one_sample_effect(values, 0.0, rng()).interval()
    assert (found.low, found.high) == pytest.approx((student.low, student.high), rel=0.05)


def rng():
    return np.random.default_rng(0)


# Edges -----------------------------------------------------------------------------------------------------


def test_few_or_equal_differences():
    for differences in ([1.0], [1.0, 2.0], [3.0] * 8, [0.3 + 1e-16, 0.3, 0.3]):
        assert skewness(differences) is None and not is_skewed(differences)
    for differences in ([1.0, 2.0, 3.0, 9.0], [3.0] * 8):
        assert bootstrap_t(differences) is None and yuen(differences) is None
    assert yuen([1.0, 1, 1, 1, 1, 1, 7, 8, 0, -3]) is None  # the central differences are equal
    assert yuen([1.0, 2, 3, 4, 9]) is not None


def test_an_end_without_a_bound_is_infinite():
    found = bootstrap_t([0.0] * 9 + [1.0])  # .9¹⁰ of the resamples are all 0
    assert found.interval.high == inf and -inf < found.interval.low
    five, level = [0.0, 0.1, 0.2, 0.3, 5.0], 1 - ALPHA / 24  # 4 of 5⁵ resamples are equal and below the mean
    assert bootstrap_t(five, level).interval.high == inf
    assert bootstrap_t(five).interval.high < inf
    assert bootstrap_t([*five, 0.4], level).interval.high < inf


@pytest.mark.parametrize("level", [0.95, 1 - ALPHA / 24])
def test_bootstrap_t_repeats_itself_and_hardly_depends_on_its_seed(level):
    values = rng().normal(size=10)
    assert bootstrap_t(values, level) == bootstrap_t(values, level)
    widths = [np.ptp([f.low, f.high]) for f in (bootstrap_t(values, level, seed).interval for seed in range(5))]
    assert 0 < np.std(widths) < 0.05 * np.mean(widths)


@fast
@given(several, st.sampled_from([0.5, 2.0, 8.0]), st.integers(-20, 20))
def test_intervals_move_with_the_differences(differences, factor, shift):
    assume(np.unique(differences).size >= 4)
    for method in (lambda x: bootstrap_t(x, resamples=199), yuen):
        before, after, mirrored = method(differences), method(factor * differences + shift), method(-differences)
        if before is None:
            assert after is None and mirrored is None
            continue
        ends = np.array([before.estimate, before.interval.low, before.interval.high])
        moved = [after.estimate, after.interval.low, after.interval.high]
        np.testing.assert_allclose(moved, factor * ends + shift, rtol=1e-6, atol=1e-6 * factor * np.ptp(differences))
        np.testing.assert_allclose(mirrored.estimate, -before.estimate, atol=1e-9)


@fast
@given(several)
def test_skewness_changes_sign_with_the_differences(differences):
    found = skewness(differences)
    assume(found is not None)
    assert skewness(-differences) == pytest.approx(-found, abs=1e-9)
    assert skewness(4 * differences + 3) == pytest.approx(found, abs=1e-9)
    assert is_skewed(differences) or abs(found) <= 1


def test_is_skewed_for_either_reason():
    assert is_skewed(SKEWED) and not is_skewed(EVEN)
    heavy = [-9.0, *np.linspace(-0.5, 0.5, 9), 9.0]  # not skewed, and not normal
    assert abs(skewness(heavy)) < 1e-9 and is_skewed(heavy)


def test_bad_input_is_named():
    for method in (skewness, is_skewed, bootstrap_t, yuen):
        with pytest.raises(ValueError, match="differences must be finite numbers"):
            method([1.0, np.nan, 2.0, 3.0, 4.0])


# Simulated studies -----------------------------------------------------------------------------------------


def _normal(generator, shape):
    return generator.normal(size=shape), 0.0, 0.0


def _lognormal(generator, shape):
    """Differences that are lognormal (σ = 1, skewness 6.2), with their mean and 20 % trimmed mean."""
    middle = np.exp(stats.norm.ppf(0.2 + 0.6 * (np.arange(10_000) + 0.5) / 10_000))
    return generator.lognormal(size=shape), np.exp(0.5), middle.mean()


def _bad_runs(generator, shape):
    """Normal differences, but one in ten runs of the treatment is bad and loses 6 standard deviations."""
    bad = generator.random(shape) < 0.1
    grid = np.linspace(-12, 6, 200_001)
    cdf = 0.9 * stats.norm.cdf(grid) + 0.1 * stats.norm.cdf(grid, -6)
    middle = np.interp(0.2 + 0.6 * (np.arange(10_000) + 0.5) / 10_000, cdf, grid)
    return generator.normal(size=shape) - 6 * bad, -0.6, middle.mean()


def _coverage(kind, n, studies, resamples=1999):
    """Share of simulated studies whose interval holds its target: Student, bootstrap-t, Yuen; last, of skewed ones."""
    values, mean, trimmed = kind(rng(), (studies, n))
    held = np.zeros(4)
    for x in values:
        student = one_sample_effect(x, 0.0, np.random.default_rng(0)).interval()
        for i, (interval, truth) in enumerate(
            [(student, mean), (bootstrap_t(x, resamples=resamples).interval, mean), (yuen(x).interval, trimmed)]
        ):
            held[i] += interval.low <= truth <= interval.high
        held[3] += is_skewed(x)
    return held / studies


def test_coverage_of_lognormal_differences():
    student, bootstrap, _, skewed = _coverage(_lognormal, 10, 400, 999)
    assert student < 0.87 < bootstrap - 0.02 and skewed > 0.7


def test_coverage_of_normal_differences():
    student, bootstrap, trimmed, skewed = _coverage(_normal, 10, 400, 999)
    assert min(student, bootstrap, trimmed) > 0.91 and skewed < 0.25


@pytest.mark.long
@pytest.mark.parametrize("kind", [_normal, _lognormal, _bad_runs])
@pytest.mark.parametrize("n", [5, 10, 20])
def test_coverage_in_many_studies(kind, n):
    student, bootstrap, trimmed, skewed = _coverage(kind, n, 2000)
    print(
        f"{kind.__name__} n={n}: t {student:.3f}, bootstrap-t {bootstrap:.3f}, Yuen {trimmed:.3f}, skewed {skewed:.2f}"
    )
    assert bootstrap > student - 0.015
    assert kind is not _normal or min(student, bootstrap, trimmed) > 0.93
