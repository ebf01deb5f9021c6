"""Cross-fitted tuning, the expected best of k trials, and the edge of a grid."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.stats.effects import paired_effect
from analysis.stats.tuning import beyond_edge, cross_fitted, expected_best

values = arrays(float, (5, 4), elements=st.floats(-10, 10))


def test_no_bias_where_all_points_are_equal_and_the_naive_best_has_one():
    """Both arms have the same accuracy at each point; the treatment has five points, the control one."""
    rng, fair, naive, own = np.random.default_rng(0), [], [], []
    for _ in range(2000):
        level = rng.normal(0, 0.5, (10, 1))
        validation, test = (level + rng.normal(size=(10, 5)) for _ in range(2))
        control = level[:, 0] + rng.normal(size=10)
        fair.append((cross_fitted(validation, test, maximise=True).values - control).mean())
        naive.append((test[:, test.mean(axis=0).argmax()] - control).mean())
        own.append((validation[np.arange(10), validation.argmax(axis=1)] - control).mean())
    error = np.std(fair) / np.sqrt(len(fair))
    assert abs(np.mean(fair)) < 3 * error
    assert np.mean(naive) > 0.3 and np.mean(own) > 0.5  # the test can fail


def test_a_t_test_of_tuned_arms_rejects_a_true_null_at_its_level():
    rng, rejected = np.random.default_rng(1), []
    for _ in range(1500):
        level = rng.normal(0, 0.5, (8, 1))
        arms = [cross_fitted(*(level + rng.normal(size=(8, 4)) for _ in range(2)), maximise=True) for _ in range(2)]
        rejected.append(paired_effect(arms[0].values, arms[1].values).p < 0.05)
    assert np.mean(rejected) < 0.07


def test_the_better_point_is_found():
    rng = np.random.default_rng(2)
    gain = np.array([0.0, 2.0, 0.0])
    fit = cross_fitted(gain + 0.1 * rng.normal(size=(6, 3)), gain + 0.1 * rng.normal(size=(6, 3)), maximise=True)
    assert fit.usual == 1 and (fit.chosen == 1).all() and fit.values.mean() == pytest.approx(2, abs=0.2)


@settings(deadline=None, max_examples=80)
@given(values, values, st.integers(0, 4))
def test_a_seed_takes_no_part_in_the_choice_of_its_point(validation, test, seed):
    fit = cross_fitted(validation, test, maximise=True)
    changed = validation.copy()
    changed[seed] = np.arange(4) * 100
    assert cross_fitted(changed, test, maximise=True).chosen[seed] == fit.chosen[seed]
    least = cross_fitted(-validation, test, maximise=False)
    np.testing.assert_array_equal(least.chosen, fit.chosen)
    np.testing.assert_array_equal(fit.values, test[np.arange(5), fit.chosen])


def test_the_expected_best_by_counting_all_draws():
    trials, k = [0.5, 0.7, 0.7, 0.9], 3
    draws = list(product(trials, repeat=k))
    assert expected_best(trials, k) == pytest.approx(np.mean([max(draw) for draw in draws]))
    assert expected_best(trials, k, maximise=False) == pytest.approx(np.mean([min(draw) for draw in draws]))
    assert expected_best(trials, 1) == pytest.approx(0.7)
    assert expected_best(trials, 500) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cross_fitted([[1.0, 2.0]], [[1.0, 2.0]], True), "seeds must be at least 2"),
        (lambda: cross_fitted(np.ones((3, 2)), np.ones((3, 3)), True), "arrays of the same shape"),
        (lambda: cross_fitted([[np.nan, 1.0]] * 2, np.ones((2, 2)), True), "finite numbers"),
        (lambda: expected_best([1.0], 0), "k must be"),
        (lambda: beyond_edge([0.0, 0.1], 0.1), "above 0"),
        (lambda: beyond_edge([0.1, 0.1], 0.1), "two different numbers"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
