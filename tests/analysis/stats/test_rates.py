"""Paired rates against libraries, enumeration and published values; the probability of improvement."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from statsmodels.stats.contingency_tables import mcnemar

from analysis.stats.effects import ALPHA
from analysis.stats.rates import RateDifference, improvement, power_of_mcnemar, rate_difference

counts = st.integers(0, 12)
TRUTHS = [(0.0, 0.0), (0.1, 0.1), (0.4, 0.0), (0.3, 0.1), (0.4, 0.05), (0.7, 0.05), (0.2, 0.2)]


@settings(deadline=None, max_examples=60)
@given(counts, counts, counts)
def test_p_is_that_of_statsmodels(only_treatment, only_control, agreeing):
    found = RateDifference(only_treatment, only_control, only_treatment + only_control + agreeing + 1)
    expected = (
        mcnemar([[0, only_treatment], [only_control, 0]], exact=True).pvalue if found.estimate or found.p < 1 else 1
    )
    assert found.p == pytest.approx(min(1.0, float(expected)))


@pytest.mark.parametrize(("only_treatment", "only_control", "n"), [(0, 1, 44), (8, 0, 20), (3, 5, 12), (0, 0, 10)])
def test_the_interval_solves_tangos_equation(only_treatment, only_control, n):
    """The limits are the differences d with (b − c − n d)² = z² n (2 q + d (1 − d)), q by maximum likelihood."""
    found = RateDifference(only_treatment, only_control, n)
    interval, z = found.interval(), stats.norm.isf(0.025)
    for d in (interval.low, interval.high):
        assert found.p_against(d) == pytest.approx(0.05, rel=1e-4)
        shares = np.linspace(max(0.0, -d), (1 - abs(d)) / 2 + max(0.0, -d), 200_001)[1:-1]  # of the second kind
        with np.errstate(invalid="ignore", divide="ignore"):
            rest = 1 - 2 * shares - d
            likelihood = special.xlogy(only_treatment, shares + d) + special.xlogy(only_control, shares)
            likelihood += special.xlogy(n - only_treatment - only_control, rest)
        q = shares[np.nanargmax(np.where((rest >= 0) & (shares + d >= 0), likelihood, np.nan))]
        deviation = (only_treatment - only_control - n * d) ** 2
        assert deviation == pytest.approx(z**2 * n * (2 * q + d * (1 - d)), rel=0.01)


@settings(deadline=None, max_examples=80)
@given(counts, counts, counts, st.sampled_from([0.9, 0.95, 0.995]), st.sampled_from([1.0, 100.0]))
def test_properties_of_the_interval(only_treatment, only_control, agreeing, level, unit):
    n = only_treatment + only_control + agreeing + 2
    found = RateDifference(only_treatment, only_control, n, unit)
    interval = found.interval(level)
    assert -unit <= interval.low <= found.estimate <= interval.high <= unit
    assert (interval.low <= 0 <= interval.high) == (found.p >= 1 - level)
    turned = RateDifference(only_control, only_treatment, n, unit).interval(level)
    assert (turned.low, turned.high) == pytest.approx((-interval.high, -interval.low), abs=1e-6 * unit)
    wider = found.interval(0.999)
    assert wider.low <= interval.low + 1e-9 and interval.high <= wider.high + 1e-9
    assert found.half_width(level, 50 * n) < found.half_width(level, n) or agreeing == 0


@pytest.mark.parametrize("n", [10, 20])
@pytest.mark.parametrize("alpha", [ALPHA, ALPHA / 4])
def test_coverage_and_level_by_enumeration(n, alpha):
    tables = [(a, b) for a, b in product(range(n + 1), repeat=2) if a + b <= n]
    found = {table: RateDifference(*table, n) for table in tables}
    intervals = {table: effect.interval(1 - alpha) for table, effect in found.items()}
    for first, second in TRUTHS:
        chance = {t: stats.multinomial.pmf([*t, n - sum(t)], n, [first, second, 1 - first - second]) for t in tables}
        held = sum(
            p for t, p in chance.items() if intervals[t].low <= first - second + 1e-9 <= intervals[t].high + 2e-9
        )
        assert held >= 1 - 1.2 * alpha
        if first == second:
            assert sum(p for t, p in chance.items() if found[t].p < alpha) <= alpha
        wins = sum(p for t, p in chance.items() if intervals[t].low > 0)
        assert power_of_mcnemar(first, second, n, alpha) == pytest.approx(wins, abs=1e-9)


def test_a_rescue_from_40_percent_failures_can_be_shown():
    """Power of the exact test where the treatment fails never: the table of the documentation."""
    table = {m: [round(power_of_mcnemar(0.4, 0.0, n, ALPHA / m), 2) for n in (10, 15, 20, 30)] for m in (1, 2, 4)}
    assert table == {1: [0.17, 0.6, 0.87, 0.99], 2: [0.05, 0.39, 0.75, 0.98], 4: [0.01, 0.21, 0.58, 0.96]}


def test_power_of_an_effect_uses_its_rarer_discordant_pairs():
    found = RateDifference(8, 1, 20, unit=100.0)
    assert found.power(35, 40) == pytest.approx(power_of_mcnemar(0.40, 0.05, 40, ALPHA))
    assert found.power(200, 3) == 1 and RateDifference(0, 0, 10).power(1e-9, 10) == pytest.approx(0)
    assert found.power(35, 5000) == pytest.approx(1)


def test_no_discordant_pairs_still_have_an_interval():
    found = rate_difference([1, 0, 1, 1, 1], [1, 0, 1, 1, 1], unit=100)
    assert (found.estimate, found.p) == (0, 1)
    interval = found.interval()
    assert interval.low == pytest.approx(-interval.high) and 40 < interval.high < 50


def test_improvement_by_counting_and_its_interval_by_resampling():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.4, 1, 12).round(1), rng.normal(0, 1, 12).round(1)
    y[0] = x[0]
    found = improvement(x, y, np.random.default_rng(1))
    wins = np.where(x > y, 1.0, np.where(x == y, 0.5, 0.0))
    assert found.estimate == wins.mean() and found.n == 12
    means = rng.choice(wins, (20_000, 12)).mean(axis=1)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        tuple(np.quantile(means, [0.025, 0.975])), abs=0.05
    )
    turned = improvement(y, x, np.random.default_rng(1))
    assert turned.estimate == pytest.approx(1 - found.estimate)


def test_improvement_on_all_seeds_is_not_certain():
    found = improvement([2] * 10, [1] * 10, np.random.default_rng(0))
    assert found.estimate == 1 and found.interval.low == pytest.approx(0.6915, abs=1e-4)
    lost = improvement([1] * 10, [2] * 10, np.random.default_rng(0))
    assert lost.estimate == 0 and lost.interval.high == pytest.approx(1 - 0.6915, abs=1e-4)


def test_paired_seeds_show_what_all_pairs_hide():
    """Seeds differ much more than arms: treatment wins on each seed, but only in about half of all pairs."""
    level = 10.0 * np.arange(8)
    found = improvement(level + 1, level, np.random.default_rng(0))
    assert found.estimate == 1
    assert np.mean((level + 1)[:, None] > level) < 0.6


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rate_difference([0.5, 1], [1, 1]), "1 or 0 for each seed"),
        (lambda: rate_difference([1, 1], [1]), "arrays of the same shape"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
