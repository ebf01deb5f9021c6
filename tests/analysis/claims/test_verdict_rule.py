"""Every verdict is reached where it should be."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.claims.verdict_rule import Alphas, Direction, Verdict, all_of, any_of, judge
from analysis.stats.effects import one_sample_effect
from analysis.stats.interval import Interval

S, M, U, E, R, O, I, N = Verdict  # noqa: E741

numbers = st.floats(-10, 10, allow_subnormal=False)
sizes = st.none() | st.floats(0.01, 10)
ALL = Alphas.all_at(0.05)


def fixed(low, high):
    """An interval that is the same at every level."""
    return lambda level: Interval(low, high, level)


def word(low, high, smallest, direction=Direction.ABOVE, alphas=ALL):
    return judge((low + high) / 2, fixed(low, high), smallest, direction, alphas)


# One effect ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "smallest", "expected"),  # the effect is the middle
    [
        (1, 5, None, S),
        (1, 5, 3, S),  # Δ = s
        (1, 3, 1.5, S),
        (0.5, 2, 3, M),
        (1, 3, 3, U),  # hi = s
        (1, 4, 3, U),
        (-4, -1, None, O),
        (-4, -1, 3, O),
        (-2, 2, 3, E),
        (0, 2, 3, E),  # lo = 0 is not above it
        (-2.9, 0, 3, E),
        (-3, 2, 3, R),  # lo = −s is not above it
        (-8, 2, 3, R),
        (-1, 5, None, I),
        (-4, 0, None, I),
        (-1, 5, 3, I),
        (-1, 3, 3, I),
        (-9, 9, 3, I),
        (0, 5, None, I),
    ],
)
def test_every_verdict_on_a_tested_effect(low, high, smallest, expected):
    assert word(low, high, smallest) is expected
    assert word(-high, -low, smallest, Direction.BELOW) is expected


def test_verdicts_in_words():
    assert [v.value for v in (S, M, U, E, R, O, I, N)] == [
        "supported",
        "smaller than claimed",
        "real, size undecided",
        "equivalent",
        "ruled out",
        "opposite",
        "inconclusive",
        "not tested",
    ]
    assert len(Verdict) == 8


def test_each_comparison_has_its_level():
    """The interval is ±1 at level .95 and ±2 at .99, about 1.5."""
    found = {0.95: 1.0, 0.99: 2.0}

    def at(level):
        return Interval(1.5 - found[round(level, 2)], 1.5 + found[round(level, 2)], level)

    def of(real, size):
        return judge(1.5, at, 3.0, Direction.ABOVE, Alphas(real, 0.05, size))

    assert [of(0.05, 0.05), of(0.05, 0.01), of(0.01, 0.05), of(0.01, 0.01)] == [M, U, E, I]
    assert judge(-1.5, lambda level: Interval(-at(level).high, -at(level).low, level), None, Direction.ABOVE,
                 Alphas(0.05, 0.01, 0.05)) is I  # fmt: skip
    assert judge(-1.5, lambda level: Interval(-at(level).high, -at(level).low, level), None, Direction.ABOVE, ALL) is O


def test_equal_differences_decide_nothing():
    effect = one_sample_effect([0.5] * 10)
    assert judge(effect.estimate, effect.interval, 3, Direction.ABOVE, ALL) is I


@settings(deadline=None)
@given(numbers, st.floats(0, 5), sizes)
def test_either_side_is_the_side_of_the_estimate(middle, half, smallest):
    at = fixed(middle - half, middle + half)
    found = judge(middle, at, smallest, Direction.EITHER, ALL)
    side = Direction.BELOW if middle < 0 else Direction.ABOVE
    assert found is judge(middle, at, smallest, side, ALL)
    assert found is not O
    if smallest is None:
        assert found is (S if abs(middle) > half else I)


@settings(deadline=None)
@given(numbers, st.floats(0, 5), sizes, st.sampled_from([Direction.ABOVE, Direction.BELOW]))
def test_each_word_means_what_it_says(middle, half, smallest, direction):
    low, high = middle - half, middle + half
    found = judge(middle, fixed(low, high), smallest, direction, ALL)
    real = low > 0 if direction is Direction.ABOVE else high < 0
    assert (found in {S, M, U}) == real
    assert (found is O) == (high < 0 if direction is Direction.ABOVE else low > 0)
    if found in {M, E, R}:  # effects as large as s are outside the interval
        assert (high if direction is Direction.ABOVE else -low) < smallest
    if found is E:
        assert max(abs(low), abs(high)) < smallest


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: word(0, 2, 0), "smallest effect must be .*got 0"),
        (lambda: word(0, 2, float("nan")), "got nan"),
        (lambda: all_of([]), "parts"),
        (lambda: any_of([]), "parts"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# Parts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([S, S], S),
        ([S], S),
        ([S, R], R),
        ([N, R], R),
        ([S, E], E),
        ([E, R], R),
        ([R, O], O),
        ([N, O], O),
        ([S, M], M),
        ([M, U], M),
        ([S, U], U),
        ([U, U], U),
        ([S, I], I),
        ([M, I], I),
        ([S, N], N),
        ([I, N], N),
    ],
)
def test_all_of(parts, expected):
    assert all_of(parts) is expected
    assert all_of(parts[::-1]) is expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([I, S, I, I], S),
        ([N, S], S),
        ([I, I], I),
        ([I, N], N),
        ([O, O], I),
        ([E, E], E),
        ([E, I], I),
        ([M, E], M),
        ([M, I], U),
        ([M, U], U),
    ],
)
def test_any_of(parts, expected):
    assert any_of(parts) is expected
    assert any_of(parts[::-1]) is expected
