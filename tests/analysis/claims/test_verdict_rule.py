"""Every verdict is reached where it should be, and simulated studies reach a wrong one no more often than α."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.claims.verdict_rule import Direction, Verdict, agreed, all_of, any_of, judge, seeds_needed
from analysis.stats.effects import ALPHA, one_sample_effect, p_adjusted, power_of_t, simultaneous_level
from analysis.stats.interval import Interval
from analysis.stats.variances import jackknifed_variance_ratio

S, M, U, R, I, N = (  # noqa: E741
    Verdict.SUPPORTED,
    Verdict.SMALLER,
    Verdict.UNDECIDED,
    Verdict.REFUTED,
    Verdict.INCONCLUSIVE,
    Verdict.NOT_TESTED,
)

numbers = st.floats(-10, 10, allow_subnormal=False)
sizes = st.none() | st.floats(0.01, 10)


def _interval(low, high):
    return Interval(low, high, 0.95)


# One effect ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "smallest", "word"),  # the effect is the middle
    [
        (1, 5, None, S),
        (1, 5, 3, S),  # Δ = s
        (1, 3, 1.5, S),
        (0.5, 2, 3, M),
        (1, 3, 3, U),  # hi = s
        (1, 4, 3, U),
        (-4, -1, None, R),
        (-4, -1, 3, R),
        (-1, 2, 3, R),  # 0 within, s not
        (0, 2, 3, R),  # lo = 0 is not above it
        (-1, 5, None, I),
        (-4, 0, None, I),
        (-1, 5, 3, I),
        (-1, 3, 3, I),
        (0, 5, None, I),
    ],
)
def test_every_verdict_on_a_tested_effect(low, high, smallest, word):
    middle = (low + high) / 2
    assert judge(middle, _interval(low, high), smallest, Direction.ABOVE, 10, 10) is word
    assert judge(-middle, _interval(-high, -low), smallest, Direction.BELOW, 10, 10) is word


def test_verdicts_in_words():
    assert [v.value for v in (S, M, U, R, I, N)] == [
        "supported",
        "smaller than claimed",
        "real, size undecided",
        "refuted",
        "inconclusive",
        "not tested",
    ]
    assert len(Verdict) == 6


def test_not_tested_where_arms_or_seeds_are_missing():
    assert judge(None, None, 3, Direction.ABOVE, 0, 10) is N
    assert judge(5.0, _interval(4, 6), 3, Direction.ABOVE, 7, 10) is N
    assert judge(5.0, _interval(4, 6), 3, Direction.ABOVE, 10, 7) is S  # more than planned


def test_equal_differences_decide_nothing():
    effect = one_sample_effect([0.5] * 10)
    assert judge(effect.estimate, effect.interval(), 3, Direction.ABOVE, 10, 10) is I


@settings(deadline=None)
@given(numbers, st.floats(0, 5), sizes)
def test_either_side_is_the_side_of_the_estimate(middle, half, smallest):
    found = judge(middle, _interval(middle - half, middle + half), smallest, Direction.EITHER, 10, 10)
    side = Direction.BELOW if middle < 0 else Direction.ABOVE
    assert found is judge(middle, _interval(middle - half, middle + half), smallest, side, 10, 10)
    if smallest is None:
        assert found is (S if abs(middle) > half else I)


@settings(deadline=None)
@given(numbers, st.floats(0, 5), sizes, st.sampled_from([Direction.ABOVE, Direction.BELOW]))
def test_real_effects_and_only_they_are_called_real(middle, half, smallest, direction):
    low, high = middle - half, middle + half
    word = judge(middle, _interval(low, high), smallest, direction, 10, 10)
    real = low > 0 if direction is Direction.ABOVE else high < 0
    assert (word in {S, M, U}) == real
    assert word is not N


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: judge(1.0, _interval(0, 2), 0, Direction.ABOVE, 10, 10), "smallest effect must be .*got 0"),
        (lambda: judge(1.0, _interval(0, 2), float("nan"), Direction.ABOVE, 10, 10), "got nan"),
        (lambda: judge(1.0, _interval(0, 2), 1, Direction.ABOVE, 10, 0), "planned must be"),
        (lambda: seeds_needed(one_sample_effect([1, 2]), -1, Direction.ABOVE, 1), "got -1"),
        (lambda: all_of([]), "parts"),
        (lambda: any_of([]), "parts"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# Parts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ([S, S], S),
        ([S, R], R),
        ([N, R], R),
        ([S, M], M),
        ([M, U], M),
        ([S, U], I),
        ([U, U], I),
        ([S, I], I),
        ([M, I], I),
        ([S, N], N),
        ([S], S),
    ],
)
def test_all_of(parts, word):
    assert all_of(parts) is word
    assert all_of(parts[::-1]) is word


@pytest.mark.parametrize(
    ("parts", "word"), [([I, S, I, I], S), ([N, S], S), ([I, I], I), ([I, N], N), ([R, R], I), ([M, U], I)]
)
def test_any_of(parts, word):
    assert any_of(parts) is word


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_any_of_agrees_with_the_smallest_p(seed, judged):
    """Four two-sided contrasts, their intervals simultaneous over 4 m: p = 4 · the smallest."""
    effects = [one_sample_effect(d) for d in np.random.default_rng(seed).normal(0.8, 1, (4, 10))]
    level = simultaneous_level(4 * judged)
    words = [judge(e.estimate, e.interval(level), None, Direction.EITHER, 10, 10) for e in effects]
    p = p_adjusted(min(1.0, 4 * min(e.p for e in effects)), judged)
    assert any_of(words) is (S if p < ALPHA else I)


def test_agreed():
    assert agreed(S, S) is S
    assert agreed(S, U) is I
    assert agreed(R, I) is I


# More seeds ------------------------------------------------------------------------------------------------

NEAR = np.array([1.0, 2.0, 1.5, 2.5, 1.2, 1.8, 2.2, 0.9, 1.6, 2.3])  # mean 1.7, clear of 0


def test_seeds_needed_for_a_real_effect_separate_it_from_the_smallest():
    effect, level = one_sample_effect(NEAR), simultaneous_level(11)
    found = seeds_needed(effect, 1.5, Direction.ABOVE, 11)
    gap = effect.estimate - 1.5
    assert effect.half_width(level, found.total) < gap <= effect.half_width(level, found.total - 1)
    assert found.more == found.total - 10
    assert found.detectable is None
    assert seeds_needed(one_sample_effect(-NEAR), 1.5, Direction.BELOW, 11) == found
    assert seeds_needed(one_sample_effect(-NEAR), 1.5, Direction.EITHER, 11) == found


def test_seeds_needed_for_an_effect_not_seen_have_power_at_the_smallest():
    effect = one_sample_effect(NEAR - 1.5)
    found = seeds_needed(effect, 0.5, Direction.ABOVE, 11)
    assert power_of_t(0.5 / effect.sd, found.total, ALPHA / 11) >= 0.8
    assert power_of_t(0.5 / effect.sd, found.total - 1, ALPHA / 11) < 0.8
    assert "80% power" in found.note and f"about {found.more} more seeds are needed" in found.note


def test_where_power_suffices_without_a_decision_the_interval_sets_the_seeds():
    effect = one_sample_effect(0.157 + 0.239 * (NEAR - NEAR.mean()) / NEAR.std(ddof=1))
    smallest, level = 0.4, simultaneous_level(11)
    assert power_of_t(smallest / effect.sd, 10, ALPHA / 11) >= 0.8
    assert judge(effect.estimate, effect.interval(level), smallest, Direction.ABOVE, 10, 10) is I
    found, gap = seeds_needed(effect, smallest, Direction.ABOVE, 11), smallest - 0.157
    assert effect.half_width(level, found.total) < gap <= effect.half_width(level, found.total - 1)
    assert found.more == found.total - 10 > 0
    assert (
        seeds_needed(effect, 0.5, Direction.ABOVE, 11).more == 0
    )  # the negative control: refuted, so no seeds are needed


def test_without_a_smallest_effect_the_detectable_one_is_given():
    effect = one_sample_effect(NEAR - 1.5)
    found = seeds_needed(effect, None, Direction.ABOVE, 11)
    assert (found.total, found.more) == (None, None)
    assert effect.power(found.detectable, 10, ALPHA / 11) == pytest.approx(0.8)
    assert found.detectable == pytest.approx(1.505 * effect.sd, rel=1e-3)


def test_no_more_seeds_where_there_are_enough_or_none_would_do():
    enough = seeds_needed(one_sample_effect(NEAR), 0.1, Direction.ABOVE, 1)
    assert enough.total <= 10 and enough.more == 0
    effect = one_sample_effect(NEAR)
    beyond = seeds_needed(effect, effect.estimate, Direction.ABOVE, 1)
    assert beyond.total is None and beyond.note.startswith("a decision needs more than 100,000 seeds")
    alike = seeds_needed(one_sample_effect([0.5] * 10), 1.0, Direction.ABOVE, 1)
    assert alike.total is None and "differences are equal" in alike.note


def test_seeds_needed_for_a_variance_ratio():
    a, b = np.random.default_rng(0).normal(size=(2, 10))
    ratio = jackknifed_variance_ratio(a + b, b)
    found = seeds_needed(ratio, np.log(2), Direction.ABOVE, 11)
    assert ratio.power(np.log(2), found.total, ALPHA / 11) >= 0.8
    assert ratio.power(np.log(2), found.total - 1, ALPHA / 11) < 0.8
    detectable = seeds_needed(ratio, None, Direction.ABOVE, 11).detectable
    assert ratio.power(detectable, 10, ALPHA / 11) == pytest.approx(0.8, abs=1e-6)


# Simulated studies: ten seeds, differences of sd 1 ---------------------------------------------------------


def _normal(rng, studies, n):
    return rng.normal(size=(studies, n))


def _skewed_arms(rng, studies, n):
    """Difference of two lognormal arms, scaled to sd 1."""
    a, b = rng.lognormal(0, 0.5, (2, studies, n))
    return (a - b) / np.sqrt(2 * np.expm1(0.25) * np.exp(0.25))


@cache
def _studies(effect, noise, studies):
    return [one_sample_effect(d) for d in effect + noise(np.random.default_rng(0), studies, 10)]


def _shares(effect, smallest, judged, noise=_normal, studies=2000, level=None):
    """Share of each verdict over simulated studies with that true effect."""
    level = level or simultaneous_level(judged)
    words = [
        judge(e.estimate, e.interval(level), smallest, Direction.ABOVE, 10, 10)
        for e in _studies(effect, noise, studies)
    ]
    return {word: words.count(word) / studies for word in Verdict}


@pytest.mark.parametrize("noise", [_normal, _skewed_arms])
def test_supported_is_rare_without_an_effect(noise):
    for smallest in (None, 0.5):
        assert _shares(0, smallest, 1, noise)[S] <= ALPHA


@pytest.mark.parametrize("noise", [_normal, _skewed_arms])
def test_refuted_is_rare_at_the_smallest_effect_and_above(noise):
    for effect in (1.0, 1.5):
        assert _shares(effect, 1.0, 1, noise)[R] <= ALPHA


def test_wrong_verdicts_can_be_frequent():
    """With intervals of level 1/2 both error rates are far above α: the tests above can fail."""
    assert _shares(0, None, 1, level=0.5)[S] > 3 * ALPHA
    assert _shares(0.5, 0.5, 1, level=0.5)[R] > 2 * ALPHA


@pytest.mark.parametrize(("d", "judged"), [(1.0, 1), (1.505, 11)])
def test_power_as_planned(d, judged):
    planned = power_of_t(d, 10, ALPHA / judged)
    assert planned >= 0.799
    assert _shares(d, None, judged)[S] == pytest.approx(planned, abs=3 * np.sqrt(0.16 / 2000))


def test_every_verdict_but_not_tested_occurs_in_studies():
    shares = [_shares(effect, 1.6, 1) for effect in (0, 1.0, 1.5)]
    assert {word for of in shares for word in of if of[word] > 0} == {S, M, U, R, I}


@pytest.mark.long
@pytest.mark.parametrize("noise", [_normal, _skewed_arms])
def test_error_rates_in_many_studies(noise):
    """Each error is in one tail of the interval: α / 2."""
    assert _shares(0, None, 1, noise, 20_000)[S] == pytest.approx(ALPHA / 2, abs=0.006)
    assert _shares(1, 1, 1, noise, 20_000)[R] <= ALPHA / 2 + 0.004
    assert _shares(0, None, 11, noise, 20_000)[S] <= ALPHA / 11
