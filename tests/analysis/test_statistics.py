"""Published and exact answers first, then properties, then simulated studies."""

import doctest
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special, stats
from statsmodels.stats.power import TTestPower

from analysis import statistics
from analysis.statistics import (
    ALPHA,
    Log,
    Logit,
    Points,
    Raw,
    accuracy_difference,
    bca_interval,
    blocked_anova,
    churn,
    detectable,
    exact_rate,
    interaction_contrasts,
    one_sample_effect,
    p_adjusted,
    paired_effect,
    pitman_morgan,
    power_of_pitman_morgan,
    power_of_t,
    shapley,
    sign_flip_p,
    simultaneous_level,
    smallest_n,
)

# R's `sleep` (Cushny & Peebles 1905; Student 1908): extra hours of sleep under two drugs, ten patients.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]

# Darwin 1876: crossed less self-fertilised maize, eighths of an inch, as in Fisher 1935, §17.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]

# NIST StRD, SiRstv: resistance of silicon, five instruments (rows), five replicates.
SIRSTV = [
    [196.3052, 196.1240, 196.1890, 196.2569, 196.3403],
    [196.3042, 196.3825, 196.1669, 196.3257, 196.0422],
    [196.1303, 196.2005, 196.2889, 196.0343, 196.1811],
    [196.2795, 196.1748, 196.1494, 196.1485, 195.9885],
    [196.2119, 196.1051, 196.1850, 196.0052, 196.2090],
]

FACTORS = ("freeze", "clip", "scheduler")
numbers = st.floats(-1e3, 1e3, allow_subnormal=False)
cube = arrays(float, (3, 2, 2, 2), elements=numbers)
fast = settings(deadline=None, max_examples=60)


def test_examples_in_docstrings():
    assert doctest.testmod(statistics).failed == 0


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
    assert effect.p_sign_flip == 1726 / 32768  # Fisher 1935, §21: 863 of 32,768 on either side
    assert effect.t == pytest.approx(2.148, abs=5e-4)  # Fisher 1935, §17
    wilcoxon = stats.wilcoxon(DARWIN, method="exact")
    assert wilcoxon.statistic == 24
    assert wilcoxon.pvalue == pytest.approx(0.0412598, abs=5e-8)


@pytest.mark.parametrize(("shift", "digits"), [(0, 1e-12), (196, 3e-15)])
def test_nist_one_way_f(shift, digits):
    """The certified "within" is our block and residual together: the replicates are no blocks.

    No double holds 196.3052 to more than 1e-14, so the last digits of F come out only with 196 taken off.
    """
    values = np.round(np.transpose(SIRSTV) - shift, 4)
    block, between, residual = blocked_anova(values, ("instrument",))
    within, df = block.sum_of_squares + residual.sum_of_squares, block.df + residual.df
    assert between.sum_of_squares == pytest.approx(5.11462616000000e-02, rel=digits)
    assert within == pytest.approx(2.16636560000000e-01, rel=digits)
    f = (between.sum_of_squares / between.df) / (within / df)
    assert f == pytest.approx(1.18046237440255, rel=digits)


@pytest.mark.parametrize(
    ("d", "n", "alpha", "power"),  # R's pwr.t.test, one-sample, "greater", as in statsmodels' own tests
    [(1, 30, 0.05, 0.999892010204909), (0.05, 20, 0.05, 0.0764888785042198)],
)
def test_power_as_in_r(d, n, alpha, power):
    assert power_of_t(d, n, 2 * alpha) == pytest.approx(power, abs=1e-12)


@pytest.mark.parametrize(
    ("count", "n", "low", "high"), [(0, 10, 0, 0.3084971), (5, 10, 0.1870860, 0.8129140)]
)
def test_clopper_pearson_as_in_r(count, n, low, high):
    interval = exact_rate(count, n).interval
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-8)  # R's binom.test


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


@pytest.mark.parametrize(("correlation", "planned", "least"), [(0, 70, 68), (0.5, 53, 52), (0.8, 28, 28)])
def test_seeds_for_a_variance_ratio_of_two(correlation, planned, least):
    """`planned` is enough; the exact smallest number is at most two below."""
    assert power_of_pitman_morgan(2, correlation, planned) >= 0.8
    assert smallest_n(lambda n: power_of_pitman_morgan(2, correlation, n) >= 0.8, 3) == least


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
    adjusted, interval = p_adjusted(effect.p, judged), effect.interval(simultaneous_level(judged))
    assume(abs(adjusted - ALPHA) > 1e-9)
    assert (adjusted < ALPHA) == (interval.low > 0 or interval.high < 0)


def test_adjusted_p_against_a_plain_interval_would_disagree():
    effect = one_sample_effect([1.0, 2.0, 3.0, 4.0, 0.5])
    assert effect.interval().low > 0 and p_adjusted(effect.p, 11) > ALPHA


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


# Variances -------------------------------------------------------------------------------------------------


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


def test_no_variance_ratio_where_nothing_can_be_told():
    a = np.array([1.0, 2.0, 4.0, 7.0])
    assert pitman_morgan(a[:2], a[1:3]) is None
    assert pitman_morgan(a, np.ones(4)) is None
    assert pitman_morgan(a, 3 * a + 1) is None


def test_power_of_pitman_morgan_at_equal_variances_is_half_alpha():
    assert power_of_pitman_morgan(1, 0.5, 10) == pytest.approx(0.025, abs=1e-6)


# Factorials ------------------------------------------------------------------------------------------------


def test_blocked_anova_of_two_arms_is_the_paired_t():
    effect = paired_effect(DRUG_1, DRUG_2)
    _, drug, residual = blocked_anova(np.transpose([DRUG_1, DRUG_2]), ("C",))
    assert (drug.term, drug.df, residual.df) == ("C", 1, 9)
    assert drug.f == pytest.approx(effect.t**2)
    assert drug.p == pytest.approx(effect.p)


def test_blocked_anova_takes_any_factor_name_and_number_of_levels():
    values = np.random.default_rng(0).normal(size=(5, 2, 2, 3))
    rows = {row.term: row for row in blocked_anova(values, ("F", "C", "I"))}
    assert list(rows) == ["seed", "F", "C", "I", "F×C", "F×I", "C×I", "F×C×I", "residual"]
    assert [row.df for row in rows.values()] == [4, 1, 1, 2, 1, 2, 2, 2, 44]
    total = ((values - values.mean()) ** 2).sum()
    assert sum(row.sum_of_squares for row in rows.values()) == pytest.approx(total)


@fast
@given(st.integers(0, 10_000))
def test_blocked_anova_agrees_with_the_contrasts(seed):
    values = np.random.default_rng(seed).normal(size=(4, 2, 2, 2))
    rows = {row.term: row for row in blocked_anova(values, FACTORS)}
    for term, contrast in interaction_contrasts(values, FACTORS).items():
        coefficient = contrast.mean() / 2 ** len(term.split("×"))
        assert rows[term].sum_of_squares == pytest.approx(values.size * coefficient**2)


def test_partial_omega_squared():
    values = np.random.default_rng(1).normal(size=(6, 2, 2)) + np.array([[0, 1], [1, 3]])
    *rows, residual = blocked_anova(values, ("F", "C"))
    error = residual.sum_of_squares / residual.df
    for row in rows:
        upper, lower = row.sum_of_squares - row.df * error, row.sum_of_squares + (24 - row.df) * error
        assert row.partial_omega_squared == pytest.approx(upper / lower)


def test_blocked_anova_of_runs_that_are_all_alike_has_no_f():
    assert all(row.f is None and row.p is None for row in blocked_anova(np.full((3, 2, 2), 0.5), ("F", "C")))


def test_interaction_contrasts_as_written_out():
    v = np.random.default_rng(2).normal(size=(4, 2, 2, 2))
    found = interaction_contrasts(v, FACTORS)
    freeze_clip = v[:, 1, 1] - v[:, 0, 1] - v[:, 1, 0] + v[:, 0, 0]  # (seeds, scheduler)
    clip_scheduler = v[:, :, 1, 1] - v[:, :, 0, 1] - v[:, :, 1, 0] + v[:, :, 0, 0]  # (seeds, freeze)
    assert list(found) == ["freeze×clip", "freeze×scheduler", "clip×scheduler", "freeze×clip×scheduler"]
    np.testing.assert_allclose(found["freeze×clip"], freeze_clip.mean(axis=1))
    np.testing.assert_allclose(found["clip×scheduler"], clip_scheduler.mean(axis=1))
    np.testing.assert_allclose(found["freeze×clip×scheduler"], freeze_clip[:, 1] - freeze_clip[:, 0])


@fast
@given(cube)
def test_shapley_parts_sum_to_the_gain(values):
    total = sum(shapley(values, FACTORS).values())
    np.testing.assert_allclose(total, values[:, 1, 1, 1] - values[:, 0, 0, 0], atol=1e-9)


@fast
@given(cube, st.permutations(range(3)))
def test_shapley_does_not_care_for_the_order_of_factors(values, order):
    names = [FACTORS[i] for i in order]
    moved = shapley(np.transpose(values, (0, *(i + 1 for i in order))), names)
    for factor, part in shapley(values, FACTORS).items():
        np.testing.assert_allclose(moved[factor], part, atol=1e-9)


@fast
@given(cube)
def test_shapley_gives_equals_the_same_and_idlers_nothing(values):
    alike = (values + np.swapaxes(values, 1, 2)) / 2  # freeze and clip are exchangeable
    parts = shapley(alike, FACTORS)
    np.testing.assert_allclose(parts["freeze"], parts["clip"], atol=1e-9)
    idle = np.repeat(values[..., :1], 2, axis=-1)  # the scheduler changes nothing
    np.testing.assert_allclose(shapley(idle, FACTORS)["scheduler"], 0, atol=1e-9)


@fast
@given(cube, cube)
def test_shapley_is_linear(a, b):
    both, of_a, of_b = (shapley(v, FACTORS) for v in (2 * a + b, a, b))
    for factor in FACTORS:
        np.testing.assert_allclose(both[factor], 2 * of_a[factor] + of_b[factor], atol=1e-8)


def test_shapley_by_the_textbook_weights():
    v = np.random.default_rng(5).normal(size=(2, 2, 2, 2))
    freeze = (
        (v[:, 1, 0, 0] - v[:, 0, 0, 0]) / 3
        + (v[:, 1, 1, 0] - v[:, 0, 1, 0] + v[:, 1, 0, 1] - v[:, 0, 0, 1]) / 6
        + (v[:, 1, 1, 1] - v[:, 0, 1, 1]) / 3
    )
    np.testing.assert_allclose(shapley(v, FACTORS)["freeze"], freeze)


# Predictions -----------------------------------------------------------------------------------------------


def _correct(rng, studies, seeds, examples):
    """(studies, seeds, examples) of right and wrong; the error of a study holds both seeds and examples."""
    logit = rng.normal(0.5, 0.3, (studies, seeds, 1)) + rng.normal(0, 1, (studies, 1, examples))
    return (rng.random((studies, seeds, examples)) < special.expit(logit)).astype(float)


def test_error_of_an_accuracy_difference_is_that_of_repeated_studies():
    rng = np.random.default_rng(0)
    a, b = _correct(rng, 1000, 6, 80), _correct(rng, 1000, 6, 80)
    found = [accuracy_difference(x, y) for x, y in zip(a, b, strict=True)]
    spread = np.std([f.estimate for f in found])
    claimed = np.sqrt(np.mean([f.standard_error**2 for f in found]))
    naive = np.sqrt(np.mean((a - b).var(axis=(1, 2)) / (6 * 80)))
    assert claimed == pytest.approx(spread, rel=0.1)
    assert naive < 0.85 * spread  # as if every prediction were a study of its own: the test can fail


def test_variance_components_are_those_of_the_anova():
    rng = np.random.default_rng(1)
    a, b = _correct(rng, 1, 5, 40)[0], np.zeros((5, 40))
    seed, example, rest = (r.sum_of_squares / r.df for r in blocked_anova(a - b, ("example",)))
    found = accuracy_difference(a, b)
    assert min(found.seed_variance, found.example_variance) > 0
    assert found.estimate == pytest.approx(a.mean())
    assert found.residual_variance == pytest.approx(rest)
    assert found.standard_error**2 == pytest.approx((seed + example - rest) / (5 * 40))


def test_churn_by_counting_pairs():
    predictions = np.random.default_rng(0).integers(0, 3, (5, 30))

    def share(rows):
        return np.mean([(a != b).mean() for a, b in combinations(rows, 2)])

    found = churn(predictions)
    left_out = np.array([share(np.delete(predictions, i, axis=0)) for i in range(5)])
    assert found.share == pytest.approx(share(predictions))
    assert found.pseudo_values.mean() == pytest.approx(found.share)
    jackknife = np.sqrt(4 / 5 * ((left_out - left_out.mean()) ** 2).sum())
    assert found.standard_error == pytest.approx(jackknife)
    assert churn(np.ones((4, 9))).standard_error == 0


def test_bca_interval_is_the_generators_and_covers_the_mean():
    values = np.random.default_rng(0).exponential(size=25)
    first, second = (bca_interval(values, np.random.default_rng(1)) for _ in range(2))
    assert first == second
    assert first.low < values.mean() < first.high
    assert values.mean() - first.low < first.high - values.mean()  # skewed to the right, so is the interval


# Scales ----------------------------------------------------------------------------------------------------


@fast
@given(arrays(float, 5, elements=st.floats(1e-3, 0.999)))
def test_scales_go_there_and_back(values):
    for scale in (Raw(), Points(), Log(), Logit(1000)):
        np.testing.assert_allclose(scale.back(scale.forward(values)), values, rtol=1e-10)


def test_scales():
    assert Points().forward(0.853) == pytest.approx(85.3)
    assert Log().forward(0.67) == pytest.approx(np.log(0.67))
    low, middle, high = Logit(300).forward([0.0, 0.5, 1.0])
    assert (low, middle, high) == pytest.approx((-np.log(599), 0, np.log(599)))


# Bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: paired_effect([1.0, 2.0], [1.0]), r"treatment has shape \(2,\), control has shape \(1,\)"),
        (lambda: paired_effect([1.0, np.nan], [1.0, 2.0]), "treatment holds nan"),
        (lambda: one_sample_effect([]), "values has shape"),
        (lambda: sign_flip_p(np.arange(21)), "21 seeds: more than 20 need rng"),
        (lambda: bca_interval(np.arange(19), np.random.default_rng(0)), "19 seeds"),
        (lambda: bca_interval(np.ones(20), np.random.default_rng(0)), "values that differ"),
        (lambda: exact_rate(3, 2), "count = 3 of n = 2"),
        (lambda: exact_rate(0, 0), "count = 0 of n = 0"),
        (lambda: p_adjusted(0.1, 0), "judged = 0"),
        (lambda: simultaneous_level(0), "judged = 0"),
        (lambda: power_of_t(1, 1), "n = 1"),
        (lambda: power_of_pitman_morgan(2, 0, 2), "n = 2"),
        (lambda: power_of_pitman_morgan(2, 1, 9), "correlation = 1"),
        (lambda: blocked_anova(np.ones((3, 2)), ("F", "C")), "values has shape"),
        (lambda: blocked_anova(np.arange(6).reshape(3, 2, 1), ("F", "C")), "2 levels"),
        (lambda: blocked_anova([[[1.0, np.nan], [1.0, 2.0]]] * 2, ("F", "C")), "values holds nan"),
        (lambda: interaction_contrasts(np.ones((3, 2, 3)), ("F", "C")), "only 2 levels"),
        (lambda: shapley(np.ones((3, 2, 2)), ("F", "F")), "names differ"),
        (lambda: accuracy_difference(np.ones((1, 5)), np.ones((1, 5))), "1 seeds × 5 examples"),
        (lambda: churn(np.ones((2, 5))), "2 seeds"),
        (lambda: Log().forward([1.0, 0.0]), "0.0 has no logarithm"),
        (lambda: Logit(10).forward(1.1), "1.1 is no share"),
        (lambda: Logit(0), "observations = 0"),
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
    assert _coverage(noise, 20_000, level=simultaneous_level(11)) >= 1 - 0.05 / 11 - 0.0015


def test_coverage_can_fail():
    """Differences that are skewed themselves, or z in place of Student's t, cover too little."""
    rng = np.random.default_rng(0)
    skewed = [one_sample_effect(d, 1.0).interval() for d in rng.exponential(size=(2000, 10))]
    assert np.mean([i.low <= 0 <= i.high for i in skewed]) < 0.93
    d = rng.normal(size=(2000, 10))
    assert np.mean(np.abs(d.mean(1)) < 1.96 * d.std(1, ddof=1) / np.sqrt(10)) < 0.93


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
