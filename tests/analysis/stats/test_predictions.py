"""Errors of accuracy over seeds and examples, and churn."""

from itertools import combinations

import numpy as np
import pytest
from scipy import special

from analysis.stats.factorials import blocked_anova
from analysis.stats.predictions import accuracy_difference, churn_pseudo_values


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
    assert min(seed, example) > rest > 0  # so no component is cut at 0
    assert found.estimate == pytest.approx(a.mean())
    assert found.standard_error**2 == pytest.approx((seed + example - rest) / (5 * 40))


def test_churn_by_counting_pairs():
    predictions = np.random.default_rng(0).integers(0, 3, (5, 30))

    def share(rows):
        return np.mean([(a != b).mean() for a, b in combinations(rows, 2)])

    found = churn_pseudo_values(predictions)
    left_out = np.array([share(np.delete(predictions, i, axis=0)) for i in range(5)])
    assert found.mean() == pytest.approx(share(predictions))
    jackknife = np.sqrt(4 / 5 * ((left_out - left_out.mean()) ** 2).sum())
    assert found.std(ddof=1) / np.sqrt(5) == pytest.approx(jackknife)
    assert not churn_pseudo_values(np.ones((4, 9))).any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: accuracy_difference(np.ones((1, 5)), np.ones((1, 5))), "1 seeds × 5 examples"),
        (lambda: churn_pseudo_values(np.ones((2, 5))), "2 seeds"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
