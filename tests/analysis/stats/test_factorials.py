"""The certified F, then properties of the table, the contrasts and the Shapley values."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.anova import AnovaRM

from analysis.stats.effects import one_sample_effect, paired_effect
from analysis.stats.factorials import interaction_contrasts, repeated_measures_anova, shapley
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
    """The certified "within" is our seeds and error together: the replicates are not the same seeds.

    No double holds 196.3052 to more than 1e-14, so the last digits of F come out only with 196 taken off.
    """
    values = np.round(np.transpose(SIRSTV) - shift, 4)
    block, between = repeated_measures_anova(values, ("instrument",))
    within, df = block.sum_of_squares + between.error_sum_of_squares, block.df + between.df_error
    assert between.sum_of_squares == pytest.approx(5.11462616000000e-02, rel=digits)
    assert within == pytest.approx(2.16636560000000e-01, rel=digits)
    f = (between.sum_of_squares / between.df) / (within / df)
    assert f == pytest.approx(1.18046237440255, rel=digits)


def test_the_anova_of_two_arms_is_the_paired_t():
    effect = paired_effect(DRUG_1, DRUG_2)
    _, drug = repeated_measures_anova(np.transpose([DRUG_1, DRUG_2]), ("C",))
    assert (drug.term, drug.df, drug.df_error, drug.epsilon) == ("C", 1, 9, 1)
    assert drug.f == pytest.approx(effect.t**2)
    assert drug.p == pytest.approx(effect.p)


def test_the_anova_has_any_factor_name_and_number_of_levels():
    values = np.random.default_rng(0).normal(size=(5, 2, 2, 3))
    rows = {row.term: row for row in repeated_measures_anova(values, ("F", "C", "I"))}
    assert list(rows) == ["seed", "F", "C", "I", "F×C", "F×I", "C×I", "F×C×I"]
    assert [row.df for row in rows.values()] == [4, 1, 1, 2, 1, 2, 2, 2]
    total = ((values - values.mean()) ** 2).sum()
    parts = sum(row.sum_of_squares + (row.error_sum_of_squares or 0) for row in rows.values())
    assert parts == pytest.approx(total)


@pytest.mark.parametrize("shape", [(10, 2, 2, 2), (6, 2, 3), (5, 4)])
def test_each_f_is_that_of_statsmodels(shape):
    """AnovaRM has the F and the degrees of freedom before the correction."""
    values, factors = np.random.default_rng(3).normal(size=shape), [f"f{i}" for i in range(1, len(shape))]
    frame = pd.DataFrame(dict(zip(["seed", *factors], (i.ravel() for i in np.indices(shape)), strict=True)))
    table = AnovaRM(frame.assign(y=values.ravel()), "y", "seed", within=factors).fit().anova_table
    _, *rows = repeated_measures_anova(values, factors)
    assert [row.term.replace("×", ":") for row in rows] == table.index.tolist()
    expected = table[["F Value", "Num DF", "Den DF"]].to_numpy()
    np.testing.assert_allclose([[row.f, row.df, row.df_error] for row in rows], expected)


@fast
@given(st.integers(0, 10_000))
def test_each_f_of_two_levels_is_t_squared_of_its_contrast(seed):
    values = np.random.default_rng(seed).normal(size=(4, 2, 2, 2))
    rows = {row.term: row for row in repeated_measures_anova(values, FACTORS)}
    for term, contrast in interaction_contrasts(values, FACTORS).items():
        effect = one_sample_effect(contrast)
        assert (rows[term].f, rows[term].p) == pytest.approx((effect.t**2, effect.p))
        coefficient = contrast.mean() / 2 ** len(term.split("×"))
        assert rows[term].sum_of_squares == pytest.approx(values.size * coefficient**2)


def test_greenhouse_geisser_epsilon_from_the_double_centred_covariance():
    """As Greenhouse & Geisser 1959 write it: of the covariance S of the levels, centred by rows and columns."""
    values = np.random.default_rng(4).normal(size=(8, 4)) * [1, 1, 2, 5]
    s, k = np.cov(values, rowvar=False), 4
    above = k**2 * (np.diag(s).mean() - s.mean()) ** 2
    below = (k - 1) * ((s**2).sum() - 2 * k * (s.mean(axis=1) ** 2).sum() + k**2 * s.mean() ** 2)
    _, row = repeated_measures_anova(values, ("C",))
    assert row.epsilon == pytest.approx(above / below)
    assert 1 / 3 < row.epsilon < 0.8
    assert row.p == pytest.approx(stats.f.sf(row.f, 3 * row.epsilon, 21 * row.epsilon))


@pytest.mark.parametrize("levels", [2, 3])
def test_a_null_factor_to_which_seeds_react_differently_is_rejected_at_its_level(levels):
    """With one residual for all terms, as before, the F of the first factor was too large in a third of studies."""
    rng, alone, pooled = np.random.default_rng(5), [], []
    for _ in range(1000):
        reacts = rng.normal(0, 1, (10, levels, 1, 1))
        values = reacts + rng.normal(0, 0.5, (10, levels, 2, 2))
        _, first, *others = repeated_measures_anova(values, FACTORS)
        rows = (first, *others)
        df = sum(row.df_error for row in rows)
        residual = sum(row.error_sum_of_squares for row in rows) / df
        alone.append(first.p < 0.05)
        pooled.append(stats.f.sf(first.sum_of_squares / first.df / residual, first.df, df) < 0.05)
    assert 0.02 < np.mean(alone) < 0.07  # Greenhouse & Geisser's correction errs on the safe side
    assert np.mean(pooled) > 0.3  # the test can fail


def test_partial_omega_squared():
    values = np.random.default_rng(1).normal(size=(6, 2, 2)) + np.array([[0, 1], [1, 3]])
    for row in repeated_measures_anova(values, ("F", "C"))[1:]:
        error = row.error_sum_of_squares / row.df_error
        upper, lower = row.sum_of_squares - row.df * error, row.sum_of_squares + (24 - row.df) * error
        assert row.partial_omega_squared == pytest.approx(upper / lower)


def test_runs_that_are_all_alike_have_no_f():
    rows = repeated_measures_anova(np.full((3, 2, 2), 0.5), ("F", "C"))
    assert all(row.f is None and row.p is None for row in rows)


def test_shapley_and_the_anova_share_their_errors():
    """With one or two factors a share is the factor's contrast of each seed, so its t² is F."""
    values = np.random.default_rng(6).normal(size=(7, 2))
    share = one_sample_effect(shapley(values, ("C",))["C"])
    assert share.t**2 == pytest.approx(repeated_measures_anova(values, ("C",))[1].f)
    cells = np.random.default_rng(7).normal(size=(7, 2, 2))
    share = one_sample_effect(shapley(cells, ("F", "C"))["F"])
    assert share.t**2 == pytest.approx(repeated_measures_anova(cells, ("F", "C"))[1].f)


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
        (lambda: repeated_measures_anova(np.ones((3, 2)), ("F", "C")), "values must be a non-empty array"),
        (lambda: repeated_measures_anova(np.arange(6).reshape(3, 2, 1), ("F", "C")), "2 levels"),
        (lambda: repeated_measures_anova([[[1.0, np.nan], [1.0, 2.0]]] * 2, ("F", "C")), "values must be finite"),
        (lambda: interaction_contrasts(np.ones((3, 2, 3)), ("F", "C")), "2 levels per factor"),
        (lambda: shapley(np.ones((3, 2, 2)), ("F", "F")), "different factor names"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
