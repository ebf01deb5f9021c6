"""The certified F, then properties of the table, the contrasts and the Shapley values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.stats.effects import paired_effect
from analysis.stats.factorials import blocked_anova, interaction_contrasts, shapley
from tests.analysis.stats.test_effects import DRUG_1, DRUG_2

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


@pytest.mark.parametrize(("shift", "digits"), [(0, 1e-12), (196, 3e-15)])
def test_nist_one_way_f(shift, digits):
    """The certified "within" is our block and residual together: the replicates are not blocks.

    No double holds 196.3052 to more than 1e-14, so the last digits of F come out only with 196 taken off.
    """
    values = np.round(np.transpose(SIRSTV) - shift, 4)
    block, between, residual = blocked_anova(values, ("instrument",))
    within, df = block.sum_of_squares + residual.sum_of_squares, block.df + residual.df
    assert between.sum_of_squares == pytest.approx(5.11462616000000e-02, rel=digits)
    assert within == pytest.approx(2.16636560000000e-01, rel=digits)
    f = (between.sum_of_squares / between.df) / (within / df)
    assert f == pytest.approx(1.18046237440255, rel=digits)


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
def test_shapley_does_not_depend_on_the_order_of_factors(values, order):
    names = [FACTORS[i] for i in order]
    moved = shapley(np.transpose(values, (0, *(i + 1 for i in order))), names)
    for factor, part in shapley(values, FACTORS).items():
        np.testing.assert_allclose(moved[factor], part, atol=1e-9)


@fast
@given(cube)
def test_shapley_gives_equal_factors_the_same_and_idle_ones_nothing(values):
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


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: blocked_anova(np.ones((3, 2)), ("F", "C")), "values must be a non-empty array"),
        (lambda: blocked_anova(np.arange(6).reshape(3, 2, 1), ("F", "C")), "2 levels"),
        (lambda: blocked_anova([[[1.0, np.nan], [1.0, 2.0]]] * 2, ("F", "C")), "values must be finite"),
        (lambda: interaction_contrasts(np.ones((3, 2, 3)), ("F", "C")), "2 levels per factor"),
        (lambda: shapley(np.ones((3, 2, 2)), ("F", "F")), "different factor names"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
