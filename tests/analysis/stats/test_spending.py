"""Levels of looks: published bounds, the joint normal distribution, and what simulated studies spend."""

from math import sqrt
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.stats import spending
from analysis.stats.spending import SPENDINGS, alphas, first_rejections, open_alpha

# Bounds of the Lan-DeMets spending functions at two-sided alpha .05 and equally spaced looks: for five looks those of
# R's ldbounds, ldBounds(seq(.2, 1, .2), iuse=1 and 2), after Reboussin, DeMets, Kim & Lan 2000, Control. Clin. Trials
# 21:190; for two and three those of R's gsDesign, sfLDOF and sfLDPocock at one-sided alpha .025.
LAN_DEMETS = {
    ("obrien_fleming", 2): [2.963, 1.969],
    ("obrien_fleming", 3): [3.710, 2.511, 1.993],
    ("obrien_fleming", 5): [4.8769, 3.3569, 2.6803, 2.2898, 2.0310],
    ("pocock", 2): [2.157, 2.201],
    ("pocock", 3): [2.279, 2.295, 2.296],
    ("pocock", 5): [2.4380, 2.4268, 2.4101, 2.3966, 2.3859],
}

# The classic constants, from which the spending functions' bounds differ: Pocock 1977 rejects at |Z| > C at all looks,
# O'Brien & Fleming 1979 at |Z_k| > C √(K / k). Jennison & Turnbull 2000, tables 2.1 and 2.3, two-sided alpha .05.
POCOCK = {2: 2.178, 3: 2.289, 5: 2.413}
OBRIEN_FLEMING = {2: 1.977, 3: 2.004, 5: 2.040}

fast = settings(deadline=None, max_examples=40)
schedules = st.lists(st.integers(2, 60), min_size=1, max_size=5, unique=True).map(sorted)
levels_in_use = st.sampled_from([0.05, 0.05 / 2, 0.05 / 12, 0.05 / 24])


def _bounds(levels):
    return stats.norm.isf(np.array(levels) / 2)


# Published answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spending", "looks"), LAN_DEMETS)
def test_bounds_of_the_spending_functions_as_published(spending, looks):
    published = LAN_DEMETS[spending, looks]
    rounding = 1.5e-4 if looks == 5 else 6e-4  # R's grid is a little coarser than ours
    assert _bounds(alphas([10 * k for k in range(1, looks + 1)], spending)) == pytest.approx(published, abs=rounding)


def test_bounds_of_looks_that_are_not_equally_spaced():
    """Zhu & Hu 2010, Ann. Stat. 38:2218: looks at .2, .5 and 1 of the information."""
    assert _bounds(alphas([2, 5, 10], "obrien_fleming")) == pytest.approx([4.877, 2.963, 1.969], abs=6e-4)
    assert _bounds(alphas([2, 5, 10], "pocock")) == pytest.approx([2.438, 2.333, 2.225], abs=6e-4)


def test_bounds_of_four_looks_at_another_alpha():
    """The README of SeqBounds.jl: one-sided alpha .05, which differs from two-sided .1 by crossings of both sides."""
    assert _bounds(alphas([1, 2, 3, 4], "obrien_fleming", 0.1)) == pytest.approx(
        [3.74955, 2.53993, 2.01604, 1.72014], abs=5e-4
    )


@pytest.mark.parametrize("looks", POCOCK)
def test_classic_constants_spend_alpha(looks):
    each = range(1, looks + 1)
    for bounds in ([POCOCK[looks]] * looks, [OBRIEN_FLEMING[looks] * sqrt(looks / k) for k in each]):
        assert sum(first_rejections(each, 2 * stats.norm.sf(bounds))) == pytest.approx(0.05, abs=1.2e-4)


def test_spending_functions_are_not_the_classic_constants():
    assert abs(_bounds(alphas([1, 2, 3], "pocock"))[0] - POCOCK[3]) > 5e-3
    assert abs(_bounds(alphas([1, 2, 3], "obrien_fleming"))[0] - OBRIEN_FLEMING[3] * sqrt(3)) > 0.2


# Properties ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 24])
def test_looks_spend_alpha_by_the_joint_normal_distribution(spending, alpha):
    looks = np.array([5, 10, 20])
    bounds = _bounds(alphas(looks, spending, alpha))
    correlation = np.sqrt(np.minimum.outer(looks, looks) / np.maximum.outer(looks, looks))
    joint = stats.multivariate_normal(np.zeros(3), correlation, maxpts=200_000, abseps=1e-8, releps=1e-8)
    assert 1 - joint.cdf(bounds, lower_limit=-bounds) == pytest.approx(alpha, abs=2e-6)


@fast
@given(schedules, st.sampled_from(SPENDINGS), levels_in_use)
def test_looks_together_spend_at_most_alpha(looks, spending, alpha):
    levels = alphas(looks, spending, alpha)
    spent = sum(first_rejections(looks, levels))
    assert len(levels) == len(looks) and all(0 <= level <= alpha for level in levels)
    assert spent <= alpha * (1 + 1e-9) and sum(levels) >= alpha * (1 - 1e-9)
    assert spending == "equal" or spent == pytest.approx(alpha, rel=1e-9)


@fast
@given(schedules, st.sampled_from(SPENDINGS), levels_in_use, st.integers(2, 9))
def test_only_the_shares_of_seeds_matter(looks, spending, alpha, factor):
    assert alphas([factor * n for n in looks], spending, alpha) == pytest.approx(
        alphas(looks, spending, alpha), rel=1e-7, abs=1e-300
    )


def test_levels_are_accurate(monkeypatch):
    levels = {s: alphas([5, 10, 20], s, 0.05 / 24) for s in SPENDINGS}
    points, weights = np.polynomial.legendre.leggauss(40)
    monkeypatch.setattr(spending, "_POINTS", points)
    monkeypatch.setattr(spending, "_WEIGHTS", weights)
    spending._alphas.cache_clear()
    try:
        for name, found in levels.items():
            assert alphas([5, 10, 20], name, 0.05 / 24) == pytest.approx(found, rel=1e-8)
    finally:
        spending._alphas.cache_clear()


@pytest.mark.parametrize("spending", SPENDINGS)
def test_one_look_spends_all_at_once(spending):
    assert alphas([10], spending) == pytest.approx((0.05,), rel=1e-12)


def test_equal_levels():
    assert alphas([5, 10, 20], "equal", 0.03) == pytest.approx((0.01, 0.01, 0.01))
    assert sum(first_rejections([5, 10, 20], [0.01] * 3)) < 0.028  # less than alpha: the looks share seeds


def test_a_look_too_early_to_spend_anything():
    early, late = alphas([2, 2000], "obrien_fleming")
    assert early < 1e-290 and late == pytest.approx(0.05)


def test_open_looks():
    assert open_alpha(1) == 0.025 and open_alpha(3, 0.01) == 0.00125
    assert sum(open_alpha(k) for k in range(1, 60)) <= 0.05
    looks = [10 * k for k in range(1, 21)]
    assert sum(first_rejections(looks, [open_alpha(k) for k in range(1, 21)])) < 0.05


def test_three_looks_are_fast():
    def seconds():
        spending._alphas.cache_clear()
        start = process_time()
        alphas([5, 10, 20], "obrien_fleming", 0.05 / 24)
        return process_time() - start

    assert min(seconds() for _ in range(5)) < 0.05


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: alphas([], "pocock"), "looks must be numbers of seeds above 0"),
        (lambda: alphas([10, 10], "pocock"), r"each larger than the one before \(got \[10, 10\]\)"),
        (lambda: alphas([0, 10], "equal"), "looks must be"),
        (lambda: alphas([10], "haybittle"), "spending must be one of obrien_fleming, pocock, equal"),
        (lambda: alphas([10], "pocock", 0.0), "alpha must be"),
        (lambda: open_alpha(0), "k must be the number of a look"),
        (lambda: first_rejections([5, 10], [0.05]), "levels must be as many as looks, 2"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# Simulated studies -----------------------------------------------------------------------------------------


def _spent(looks, levels, studies, seed=0):
    """Share of simulated studies without an effect that Student's test rejects at one of the looks."""
    rng, wrong = np.random.default_rng(seed), []
    for _ in range(studies // 10_000):
        x = rng.normal(size=(10_000, looks[-1]))
        rejected = np.zeros(len(x), dtype=bool)
        for n, level in zip(looks, levels, strict=True):
            t = x[:, :n].mean(axis=1) / (x[:, :n].std(axis=1, ddof=1) / sqrt(n))
            rejected |= np.abs(t) > stats.t.isf(level / 2, n - 1)
        wrong.append(rejected.mean())
    return np.mean(wrong)


@pytest.mark.parametrize("spending", SPENDINGS)
def test_t_tests_spend_about_alpha(spending):
    assert 0.035 < _spent([5, 10, 20], alphas([5, 10, 20], spending), 40_000) < 0.054


def test_looks_that_spend_alpha_each_spend_too_much():
    assert _spent([5, 10, 20], [0.05] * 3, 20_000) > 0.09


@pytest.mark.long
@pytest.mark.parametrize("looks", [[3, 5, 10], [5, 10, 20], [10, 20, 40], [10, 12, 14, 16, 18, 20]])
@pytest.mark.parametrize("spending", SPENDINGS)
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 12])
def test_t_tests_spend_about_alpha_at_many_schedules(looks, spending, alpha):
    spent = _spent(looks, alphas(looks, spending, alpha), 1_000_000)
    print(f"{looks} {spending} {alpha:.5f}: {spent / alpha:.3f} alpha")
    assert spent < 1.12 * alpha  # 1.07 without looks at 3 seeds or after 2 more


@pytest.mark.long
def test_open_looks_spend_less_than_alpha():
    looks = [5 * k for k in range(1, 11)]
    spent = _spent(looks, [open_alpha(k) for k in range(1, 11)], 400_000)
    print(f"ten open looks: {spent / 0.05:.3f} alpha")
    assert spent < 0.05
