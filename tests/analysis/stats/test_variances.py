"""Variance ratios: the jackknife by hand, its properties, and what it rejects next to the Pitman-Morgan test."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.stats.effects import ALPHA, smallest_n
from analysis.stats.variances import jackknifed_variance_ratio

fast = settings(deadline=None, max_examples=60)
A, B = np.array([1.0, 3.0, 2.0, 7.0]), np.array([2.0, 2.5, 4.0, 3.0])


# Answers by hand -------------------------------------------------------------------------------------------


def test_pseudo_values_by_hand():
    """Sums of squares of all four seeds: 83/4 and 35/16; without each: 14, 62/3, 56/3, 2 and 7/6, 2, 1/2, 13/6."""
    all_four, without = np.log(83 / 4 / (35 / 16)), np.log([14 / (7 / 6), 62 / 3 / 2, 56 / 3 / 0.5, 2 / (13 / 6)])
    assert all_four == pytest.approx(np.log(A.var() / B.var()))
    pseudo = 4 * all_four - 3 * without
    found = jackknifed_variance_ratio(A, B)
    assert found.estimate == pytest.approx(all_four) and found.n == 4
    assert found.sd == pytest.approx(pseudo.std(ddof=1))
    assert found.t == pytest.approx(all_four / (pseudo.std(ddof=1) / 2))
    assert found.p == pytest.approx(2 * stats.t.sf(found.t, 2))
    half = stats.t.isf(0.025, 2) * pseudo.std(ddof=1) / 2
    assert (found.interval().low, found.interval().high) == pytest.approx((all_four - half, all_four + half))


def test_sign_flips_by_hand():
    """Deviations from the medians 2.5 and 2.75: 1.5 .5 .5 4.5 less .75 .25 1.25 .25 are .75 .25 −.75 4.25, sum 4.5.

    Of the 8 flips that keep the sign of 4.25, four add at least .25: 1.75, 1.25, .25 and .25.
    """
    assert jackknifed_variance_ratio(A, B).p_sign_flip == 4 / 8


def test_many_seeds_are_the_delta_method():
    """For many seeds the variance of ln F is that of z₁² − z₂², over n: kurtoses and the covariance of squares."""
    rng = np.random.default_rng(0)
    seed = rng.standard_t(9, 300)
    a, b = seed + rng.normal(size=300), 2 * seed + rng.exponential(size=300)
    squares = [((x - x.mean()) / x.std()) ** 2 for x in (a, b)]
    assert jackknifed_variance_ratio(a, b).sd == pytest.approx((squares[0] - squares[1]).std(ddof=1), rel=0.05)


# Properties ------------------------------------------------------------------------------------------------


@fast
@given(st.integers(0, 10_000), st.integers(3, 15), st.floats(0.1, 10), st.floats(-5, 5))
def test_swaps_units_and_shifts(seed, n, factor, shift):
    a, b = np.random.default_rng(seed).normal(size=(2, n))
    found, scaled = jackknifed_variance_ratio(a, b), jackknifed_variance_ratio(factor * a + shift, b)
    assume(found is not None and scaled is not None)
    swapped = jackknifed_variance_ratio(b, a)
    assert (swapped.estimate, swapped.p) == pytest.approx((-found.estimate, found.p))
    assert swapped.p_sign_flip == found.p_sign_flip
    assert scaled.estimate == pytest.approx(found.estimate + 2 * np.log(factor))
    assert scaled.sd == pytest.approx(found.sd)


@fast
@given(st.integers(0, 10_000), st.integers(4, 15), st.floats(0.5, 0.999))
def test_interval_inverts_the_test(seed, n, level):
    a, b = np.random.default_rng(seed).normal(size=(2, n))
    found = jackknifed_variance_ratio(a, b)
    interval = found.interval(level)
    assert found.p_against(0.0) == pytest.approx(found.p)
    for end in (interval.low, interval.high):
        assert found.p_against(end) == pytest.approx(1 - level, rel=1e-6)
        # b scaled so that this end is the ratio of 1
        assert jackknifed_variance_ratio(a, b * np.exp(end / 2)).p == pytest.approx(1 - level, rel=1e-6)


def test_no_variance_ratio_where_the_test_is_undefined():
    assert jackknifed_variance_ratio(A[:2], A[1:3]) is None
    assert jackknifed_variance_ratio(A, np.ones(4)) is None and jackknifed_variance_ratio(np.ones(4), B) is None
    assert jackknifed_variance_ratio(A, 3 * A + 1) is None and jackknifed_variance_ratio(A, A) is None
    assert jackknifed_variance_ratio(A, [0.1, 0.1, 0.1, 9.0]) is None  # without the last seed, nothing varies
    assert jackknifed_variance_ratio(A[:3], B[:3]) is not None


def test_many_seeds_draw_the_same_flips_without_a_generator():
    a, b = np.random.default_rng(0).normal(size=(2, 25))
    found = jackknifed_variance_ratio(a, b)
    assert found == jackknifed_variance_ratio(a, b)
    assert found.p_sign_flip == jackknifed_variance_ratio(a, b, np.random.default_rng(0)).p_sign_flip


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="first and second must be arrays of the same shape"):
        jackknifed_variance_ratio(A, B[:3])
    with pytest.raises(ValueError, match="n must be a number of seeds that leaves at least 1 degree of freedom"):
        jackknifed_variance_ratio(A, B).power(1.0, 2)


# Simulated studies -----------------------------------------------------------------------------------------


def _normal(rng, shape):
    return rng.normal(size=shape)


def _t5(rng, shape):
    return rng.standard_t(5, shape)


def _arms(noise, n, studies, shared=0.5):
    """Two arms, (studies, n) each, of equal variance; `shared` is the part of it that comes from the seed."""
    rng = np.random.default_rng(0)
    seed, first, second = (noise(rng, (studies, n)) for _ in range(3))
    return tuple(np.sqrt(shared) * seed + np.sqrt(1 - shared) * own for own in (first, second))


def _pitman_morgan(a, b):
    """p of each study: the sum and the difference of the pairs correlate if and only if the variances differ."""
    s, d = (x - x.mean(axis=1, keepdims=True) for x in (a + b, a - b))
    r = (s * d).sum(axis=1) / np.sqrt((s**2).sum(axis=1) * (d**2).sum(axis=1))
    df = a.shape[1] - 2
    return 2 * stats.t.sf(np.abs(r) * np.sqrt(df / (1 - r**2)), df)


def _jackknife(a, b):
    """p of each study by `jackknifed_variance_ratio`, all studies at once."""
    n = a.shape[1]
    squares = [(x - x.mean(axis=1, keepdims=True)) ** 2 for x in (a, b)]
    first, second = (np.log(q.sum(axis=1, keepdims=True) - n / (n - 1) * q) for q in squares)
    estimate = np.log(squares[0].sum(axis=1) / squares[1].sum(axis=1))
    pseudo = n * estimate[:, None] - (n - 1) * (first - second)
    return 2 * stats.t.sf(np.abs(estimate) / (pseudo.std(axis=1, ddof=1) / np.sqrt(n)), n - 2)


def test_the_simulated_tests_are_the_real_ones():
    a, b = _arms(_t5, 9, 5)
    assert _jackknife(a, b) == pytest.approx([jackknifed_variance_ratio(x, y).p for x, y in zip(a, b, strict=True)])
    pearson = [stats.pearsonr(x + y, x - y).pvalue for x, y in zip(a, b, strict=True)]
    assert _pitman_morgan(a, b) == pytest.approx(pearson)


@pytest.mark.parametrize("n", [5, 10, 20, 50])
def test_false_positives(n):
    for noise in (_normal, _t5):
        assert 0.02 < np.mean(_jackknife(*_arms(noise, n, 4000)) < ALPHA) < 0.07


def test_pitman_morgan_rejects_more_true_nulls_the_more_seeds_there_are():
    few, many = (np.mean(_pitman_morgan(*_arms(_t5, n, 4000)) < ALPHA) for n in (5, 50))
    assert few < 0.075 < 0.095 < many


@pytest.mark.long
@pytest.mark.parametrize("shared", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("noise", [_normal, _t5])
@pytest.mark.parametrize("n", [5, 10, 20, 50])
def test_false_positives_in_many_studies(noise, n, shared):
    a, b = _arms(noise, n, 50_000, shared)
    rates = {test.__name__: [np.mean(test(a, b) < level) for level in (ALPHA, ALPHA / 12)] for test in TESTS}
    print(f"{noise.__name__} n={n} shared={shared}: {rates}")
    assert rates["_jackknife"][0] < 0.07
    assert rates["_jackknife"][1] < 0.012


TESTS = (_jackknife, _pitman_morgan)


def test_coverage_of_a_variance_ratio():
    """The variances differ by a factor of 4; the interval is for its ln."""
    for noise in (_normal, _t5):
        a, b = _arms(noise, 10, 600)
        intervals = (jackknifed_variance_ratio(2 * x, y).interval() for x, y in zip(a, b, strict=True))
        assert 0.92 <= np.mean([i.low <= np.log(4) <= i.high for i in intervals]) <= 0.97


def test_power_is_that_of_simulated_studies():
    a, b = _arms(_normal, 20, 500)
    found = [jackknifed_variance_ratio(2 * x, y) for x, y in zip(a[:, :12], b[:, :12], strict=True)]
    power = np.mean([ratio.power(np.log(4), 12) for ratio in found])
    assert power == pytest.approx(np.mean([ratio.interval().low > 0 for ratio in found]), abs=0.06)
    assert found[0].power(np.log(4), 200) > 0.99 and found[0].power(1e-9, 12) == pytest.approx(0.025, abs=1e-6)


def test_seeds_for_a_variance_ratio_of_two():
    """With normal values and no correlation, sd is near 2, and 2 (1.96 + .84) / ln 2 squared is 65."""
    a, b = _arms(_normal, 400, 1, shared=0.0)
    ratio = jackknifed_variance_ratio(a[0], b[0])
    assert smallest_n(lambda n: ratio.power(np.log(2), n) >= 0.8, ratio.least_n) == pytest.approx(67, abs=12)
