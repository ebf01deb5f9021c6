"""Published and exact answers first, then properties, then simulated studies."""

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from analysis.stats.effects import (
    ALPHA,
    detectable,
    exact_rate,
    holm,
    one_sample_effect,
    paired_effect,
    power_of_t,
    sign_flip_p,
    smallest_n,
    student_half_width,
)

# R's `sleep` (Cushny & Peebles 1905; Student 1908): extra hours of sleep under two drugs, ten patients.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]

# Darwin 1876: crossed less self-fertilised maize, eighths of an inch, as in Fisher 1935, section 17.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]

numbers = st.floats(-1e3, 1e3, allow_subnormal=False)
fast = settings(deadline=None, max_examples=60)


# Published answers -----------------------------------------------------------------------------------------


def test_sleep():
    effect = paired_effect(DRUG_1, DRUG_2)
    assert effect.t == pytest.approx(-4.0621, abs=5e-5)
    assert effect.p == pytest.approx(0.0028329, abs=5e-8)
    assert effect.p_sign_flip == 0.00390625
    interval = effect.interval()
    assert (interval.low, interval.high) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)  # R's t.test


def test_darwin():
    effect = one_sample_effect(DARWIN)
    assert effect.p_sign_flip == 1726 / 32768  # Fisher 1935, section 21: 863 of 32,768 on either side
    assert effect.t == pytest.approx(2.148, abs=5e-4)  # Fisher 1935, section 17
    wilcoxon = stats.wilcoxon(DARWIN, method="exact")
    assert wilcoxon.statistic == 24
    assert wilcoxon.pvalue == pytest.approx(0.0412598, abs=5e-8)


@pytest.mark.parametrize(
    ("d", "n", "alpha", "power"),  # R's pwr.t.test, one-sample, "greater", as in statsmodels' own tests
    [(1, 30, 0.05, 0.999892010204909), (0.05, 20, 0.05, 0.0764888785042198)],
)
def test_power_as_in_r(d, n, alpha, power):
    assert power_of_t(d, n, 2 * alpha) == pytest.approx(power, abs=1e-12)


@pytest.mark.parametrize(("count", "n", "low", "high"), [(0, 10, 0, 0.3084971), (5, 10, 0.1870860, 0.8129140)])
def test_clopper_pearson_as_in_r(count, n, low, high):
    interval = exact_rate(count, n).interval
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-8)  # R's binom.test


@pytest.mark.parametrize("n", [2, 10])
def test_half_width_as_scipys_interval_of_a_mean(n):
    values = np.array(DRUG_1[:n])
    interval, half = (
        stats.ttest_1samp(values, 0).confidence_interval(0.9),
        student_half_width(values.std(ddof=1), n, 0.9),
    )
    assert (values.mean() - half, values.mean() + half) == pytest.approx((interval.low, interval.high))


def test_half_width_of_many_means_and_without_degrees_of_freedom():
    widths = student_half_width(np.array([1.0, 2.0, 1.0]), np.array([4, 4, 1]))
    assert widths[1] == 2 * widths[0] == 2 * student_half_width(1.0, 4) and np.isnan(widths[2])
    assert student_half_width(0.5, 1, df=3) == student_half_width(1.0, 4)  # a standard error in place of sd / √n


# "Seeds needed" --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "n"), [(0.05, 6), (0.05 / 11, 9)])
def test_seeds_for_a_sign_flip(alpha, n):
    assert sign_flip_p(np.arange(1, n + 1)) < alpha <= sign_flip_p(np.arange(1, n))


@pytest.mark.parametrize(("d", "n"), [(1, 10), (0.8, 15), (0.5, 34)])
def test_seeds_for_a_paired_t(d, n):
    assert smallest_n(lambda n: power_of_t(d, n) >= 0.8) == n


def test_ten_seeds_of_eleven_claims():
    alpha = 0.05 / 11
    assert power_of_t(1, 10, alpha) == pytest.approx(0.36, abs=0.005)
    assert detectable(lambda d: power_of_t(d, 10, alpha)) == pytest.approx(1.5, abs=0.05)


# Effects ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("difference", [0.0, 0.1])
def test_equal_differences_have_no_t(difference):
    control = np.linspace(0.3, 0.9, 8)  # the differences of these vary by rounding
    effect = paired_effect(control + difference, control)
    assert effect.t is None and effect.p is None and effect.interval() is None
    assert effect.p_sign_flip == (1.0 if difference == 0 else 2 / 2**8)


def test_one_seed_has_no_t():
    effect = paired_effect([2.0], [1.0])
    assert (effect.n, effect.t, effect.p_sign_flip) == (1, None, 1.0)


def test_one_sample_is_paired_against_a_constant():
    assert one_sample_effect(DRUG_2, 0.5) == paired_effect(DRUG_2, [0.5] * 10)


@fast
@given(arrays(float, st.integers(2, 12), elements=numbers), st.integers(1, 40))
def test_adjusted_p_agrees_with_the_simultaneous_interval(differences, judged):
    effect = one_sample_effect(differences)
    assume(effect.t is not None)
    adjusted, interval = judged * effect.p, effect.interval(1 - ALPHA / judged)
    assume(abs(adjusted - ALPHA) > 1e-9)
    assert (adjusted < ALPHA) == (interval.low > 0 or interval.high < 0)


def test_holm_as_in_r():
    """R: p.adjust(c(.01, .02, .03, .04, .05), "holm"), and the same p in another order."""
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.04, 0.01, 0.05, 0.03, 0.02]) == pytest.approx([0.09, 0.05, 0.09, 0.09, 0.08])
    assert holm([]) == [] and holm([0.02]) == [0.02]


@fast
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_steps_down(ps):
    """The rule as written: the smallest p is tested at alpha / m, the next at alpha / (m − 1), up to a failure."""
    adjusted = holm(ps)
    assert all(p <= a <= len(ps) * p + 1e-12 for p, a in zip(ps, adjusted, strict=True))
    for alpha in (0.05, 0.3):
        assume(all(abs(k * p - alpha) > 1e-9 for p in ps for k in range(1, len(ps) + 1)))
        rejected, order = set(), np.argsort(ps, kind="stable")
        for k, i in enumerate(order):
            if ps[i] > alpha / (len(ps) - k):
                break
            rejected.add(int(i))
        assert rejected == {i for i, a in enumerate(adjusted) if a <= alpha}


@settings(deadline=None, max_examples=10)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(ps):
    assert holm(ps) == pytest.approx(list(multipletests(ps, method="holm")[1]), abs=1e-15)


def test_holm_rejects_more_than_bonferroni():
    ps = [0.001, 0.02, 0.03]
    assert holm(ps)[1] < ALPHA < 3 * ps[1]


@fast
@given(st.integers(0, 10_000), st.integers(3, 15), st.floats(0.05, 3), st.sampled_from([0.05, 0.05 / 11]))
def test_equivalence_is_the_interval_within_bounds(seed, n, smallest, alpha):
    """Two one-sided tests at alpha: the interval at level 1 − 2 alpha is inside (−s, s) (Schuirmann 1987)."""
    a, b = np.random.default_rng(seed).normal(size=(2, n))
    interval = paired_effect(0.3 * a + b, b).interval(1 - 2 * alpha)
    p = ttost_paired(0.3 * a + b, b, -smallest, smallest)[0]
    assume(abs(p - alpha) > 1e-9)
    assert (p < alpha) == (-smallest < interval.low and interval.high < smallest)


def test_adjusted_p_against_a_plain_interval_would_disagree():
    effect = one_sample_effect([1.0, 2.0, 3.0, 4.0, 0.5])
    assert effect.interval().low > 0 and 11 * effect.p > ALPHA


@fast
@given(arrays(float, st.integers(1, 8), elements=numbers), st.randoms(use_true_random=False))
def test_sign_flip_knows_neither_sign_nor_order_nor_unit(differences, random):
    p = sign_flip_p(differences)
    order = list(differences)
    random.shuffle(order)
    assert sign_flip_p(-differences) == sign_flip_p(order) == sign_flip_p(4 * differences) == p
    assert 2 ** (1 - len(differences)) <= p <= 1


@settings(deadline=None, max_examples=15)
@given(arrays(float, st.integers(2, 7), elements=st.integers(-9, 9)))
def test_sign_flip_is_scipys_permutation_test(differences):
    found = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(differences) == found.pvalue


def test_drawn_flips_come_near_counted_ones():
    rng = np.random.default_rng(0)
    values = rng.normal(0.4, 1, 20)
    exact, drawn = sign_flip_p(values), sign_flip_p([*values, 0.0], rng)  # a 0 changes no share
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact / 100_000))
    assert drawn == sign_flip_p([*values, 0.0], _after(np.random.default_rng(0), 20))


def _after(rng, draws):
    rng.normal(0.4, 1, draws)
    return rng


# Power -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 11])
def test_power_is_statsmodels_where_that_is_a_number(alpha):
    cases = list(product([0.2, 0.5, 1, 1.5, 3], [2, 3, 5, 10, 34, 100]))
    theirs = np.array([TTestPower().power(d, n, alpha / 2, alternative="larger") for d, n in cases])
    ours = np.array([power_of_t(d, n, alpha) for d, n in cases])
    known = np.isfinite(theirs)
    assert known.sum() > 20
    np.testing.assert_allclose(ours[known], theirs[known], atol=1e-12)


def test_power_is_a_number_everywhere_and_rises():
    for alpha, n in product([0.05, 0.05 / 11, 0.05 / 44], [2, 3, 5, 10, 40, 1000]):
        power = [power_of_t(d, n, alpha) for d in np.geomspace(1e-3, 60, 80)]
        assert np.isfinite(power).all() and (np.diff(power) > -1e-9).all()
    assert power_of_t(10, 3, 0.05 / 11) == pytest.approx(0.745, abs=0.002)  # simulated, 400,000 studies


def test_smallest_n_ends():
    assert smallest_n(lambda n: n >= 7) == 7
    assert smallest_n(lambda n: True, least=3) == 3
    assert smallest_n(lambda n: power_of_t(1e-3, n) >= 0.8) is None


# Bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: paired_effect([1.0, 2.0], [1.0]), r"treatment and control must be .*got \(2,\), \(1,\)"),
        (lambda: paired_effect([1.0, np.nan], [1.0, 2.0]), "treatment must be finite numbers .got nan"),
        (lambda: one_sample_effect([]), "values must be a non-empty array"),
        (lambda: sign_flip_p(np.arange(21)), "rng must be a numpy Generator for more than 20 seeds"),
        (lambda: exact_rate(3, 2), "got 3 of 2"),
        (lambda: exact_rate(0, 0), "got 0 of 0"),
        (lambda: power_of_t(1, 1), "n must be"),
        (lambda: holm([0.1, 1.1]), "ps must be between 0 and 1 .got 1.1"),
        (lambda: holm([0.1, np.nan]), "ps must be finite numbers"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# Simulated studies -----------------------------------------------------------------------------------------


def _normal(rng, studies, n):
    return rng.normal(size=(studies, n))


def _skewed(rng, studies, n):
    """Lognormal, skewness 1.75: the noise of one arm."""
    return rng.lognormal(0, 0.5, (studies, n))


def _coverage(noise, studies, n=10, level=0.95):
    """Share of simulated studies of two arms, 2 apart on paired seeds, whose interval holds 2."""
    rng = np.random.default_rng(0)
    seed = rng.normal(0, 2, (studies, n))
    treatment, control = seed + 2 + noise(rng, studies, n), seed + noise(rng, studies, n)
    intervals = (paired_effect(a, b).interval(level) for a, b in zip(treatment, control, strict=True))
    return np.mean([i.low <= 2 <= i.high for i in intervals])


@pytest.mark.parametrize("noise", [_normal, _skewed])
def test_coverage_at_ten_seeds(noise):
    assert 0.93 <= _coverage(noise, 2000) <= 0.97


@pytest.mark.long
@pytest.mark.parametrize("noise", [_normal, _skewed])
def test_coverage_at_ten_seeds_in_many_studies(noise):
    assert 0.945 <= _coverage(noise, 20_000) <= 0.965
    assert _coverage(noise, 20_000, level=1 - ALPHA / 11) >= 1 - 0.05 / 11 - 0.0015


def test_coverage_can_fail():
    """Differences that are skewed themselves, or z in place of Student's t, cover too little."""
    rng = np.random.default_rng(0)
    skewed = [one_sample_effect(d, 1.0).interval() for d in rng.exponential(size=(2000, 10))]
    assert np.mean([i.low <= 0 <= i.high for i in skewed]) < 0.93
    d = rng.normal(size=(2000, 10))
    assert np.mean(np.abs(d.mean(1)) < 1.96 * d.std(1, ddof=1) / np.sqrt(10)) < 0.93
