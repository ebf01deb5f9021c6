"""Levels by Holm's procedure agree with statsmodels, and the p values of claims with parts keep their error rates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from analysis.claims.multiplicity import Ps, all_required, best_of, ps_of, sharing_claims
from analysis.claims.verdict_rule import Direction
from analysis.stats.effects import holm, one_sample_effect

p_values = st.lists(st.floats(1e-6, 1), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(p_values)
def test_the_same_claims_are_rejected_as_by_adjusted_p_values(ps):
    sharing = sharing_claims(ps, lambda i, j: 0.05 / j)
    rejected = [p < 0.05 / j for p, j in zip(ps, sharing, strict=True)]
    at_the_edge = any(np.isclose(p * j, 0.05) for p in ps for j in range(1, len(ps) + 1))
    assert at_the_edge or rejected == [p < 0.05 for p in holm(ps)]
    assert all(1 <= j <= len(ps) for j in sharing)


@pytest.mark.parametrize("ps", [[0.01, 0.02, 0.03, 0.04], [0.001, 0.5, 0.02], [0.012, 0.013, 0.014, 0.9], [0.2]])
def test_the_same_claims_are_rejected_as_by_statsmodels(ps):
    """Few cases: `multipletests` collects garbage at each call."""
    sharing = sharing_claims(ps, lambda i, j: 0.05 / j)
    rejected = [p < 0.05 / j for p, j in zip(ps, sharing, strict=True)]
    assert rejected == multipletests(ps, 0.05, "holm")[0].tolist()


def test_a_later_look_has_its_own_level():
    """The second claim's look has a tenth of the level: the first claim's rejection does not make up for it."""
    levels = [1.0, 0.1]
    assert sharing_claims([0.02, 0.004], lambda i, j: levels[i] * 0.05 / j) == [2, 1]
    assert sharing_claims([0.02, 0.006], lambda i, j: levels[i] * 0.05 / j) == [2, 1]
    assert sharing_claims([0.03, 0.006], lambda i, j: levels[i] * 0.05 / j) == [2, 2]


@pytest.mark.parametrize("direction", [Direction.ABOVE, Direction.BELOW])
def test_p_values_of_one_effect(direction):
    sign = 1 if direction is Direction.ABOVE else -1
    effect = one_sample_effect(sign * np.array([0.5, 1.5, 1.0, 0.8, 1.2]))
    ps = ps_of(effect, 3.0, direction)
    assert ps.real == effect.p and ps.opposite == 1.0
    assert ps.size == effect.p_against(sign * 3.0) < 0.05
    assert ps_of(effect, 0.5, direction).size == 1.0  # it is above the smallest effect
    turned = ps_of(effect, None, Direction.BELOW if sign > 0 else Direction.ABOVE)
    assert turned == Ps(1.0, effect.p, 1.0)
    assert ps_of(one_sample_effect([0.5] * 5), 1.0, direction) == Ps()


def test_claims_with_parts():
    a, b = Ps(0.01, 0.9, 0.02), Ps(0.2, 0.04, 0.5)
    assert all_required([a, b]) == Ps(0.2, 0.08, 0.04)
    assert best_of([a, b]) == Ps(0.02, 1.0, 0.5)
    assert all_required([a]) == a
