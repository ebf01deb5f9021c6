"""What a study's numbers say, seeds being the unit: one number a seed in, an estimate with its error out.

Arms are paired by seed: position i of every array belongs to the same seed. Values stand on the claim's
stated scale (`Log`, `Logit`, `Points`, `Raw`) before anything is computed, and effects, intervals and
smallest effects of interest are differences on that scale. All tests are two-sided at `ALPHA`; a file of m
judged claims is read at ALPHA / m (Bonferroni).

scipy and statsmodels do what they can do; by hand are the sign-flip enumeration, Pitman-Morgan, Shapley,
the crossed variance components and the jackknife of churn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from math import factorial
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

Array = NDArray[np.float64]

ALPHA = 0.05
POWER = 0.8
EXACT_FLIPS = 20  # seeds up to which all 2^n sign flips are counted
MONTE_CARLO_FLIPS = 100_000
MOST_SEEDS = 100_000  # no study is planned beyond this
EQUAL = 1e-12  # differences that vary by less than this part of the values differ by rounding alone


def _finite(name: str, values: ArrayLike, dimensions: int) -> Array:
    array = np.asarray(values, dtype=float)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; {dimensions} dimensions, none empty, are allowed")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds {array[~np.isfinite(array)][0]}; only finite numbers are allowed")
    return array


def _paired(dimensions: int, **arms: ArrayLike) -> list[Array]:
    arrays = [_finite(name, values, dimensions) for name, values in arms.items()]
    if len({array.shape for array in arrays}) > 1:
        shapes = ", ".join(f"{name} has shape {a.shape}" for name, a in zip(arms, arrays, strict=True))
        raise ValueError(f"{shapes}; paired values need one shape")
    return arrays


# Scales ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raw:
    """x as it is: slopes, contrasts that are differences already."""

    def forward(self, values: ArrayLike) -> Array:
        return np.asarray(values, dtype=float)

    def back(self, values: ArrayLike) -> Array:
        return np.asarray(values, dtype=float)


@dataclass(frozen=True)
class Points:
    """Shares in percentage points, 100 x: accuracies."""

    def forward(self, values: ArrayLike) -> Array:
        return 100 * np.asarray(values, dtype=float)

    def back(self, values: ArrayLike) -> Array:
        return np.asarray(values, dtype=float) / 100


@dataclass(frozen=True)
class Log:
    """ln x, x > 0: variances, norms, losses. A difference goes back as the ratio of geometric means.

    >>> float(Log().back(Log().forward(3.0) - Log().forward(1.5)))
    2.0
    """

    def forward(self, values: ArrayLike) -> Array:
        values = np.asarray(values, dtype=float)
        if not (values > 0).all():
            raise ValueError(f"log scale: {values[~(values > 0)].flat[0]} has no logarithm; x > 0 is allowed")
        return np.log(values)

    def back(self, values: ArrayLike) -> Array:
        return np.exp(np.asarray(values, dtype=float))


@dataclass(frozen=True)
class Logit:
    """ln(p / (1 − p)) of shares p of `observations`; 0 and 1 are first moved in by half an observation.

    >>> float(Logit(300).back(Logit(300).forward(1.0))) * 300
    299.5
    """

    observations: int

    def __post_init__(self) -> None:
        if self.observations < 1:
            raise ValueError(f"observations = {self.observations}; at least 1 is allowed")

    def forward(self, values: ArrayLike) -> Array:
        shares = np.asarray(values, dtype=float)
        allowed = (shares >= 0) & (shares <= 1)
        if not allowed.all():
            raise ValueError(f"logit scale: {shares[~allowed].flat[0]} is no share; 0 ≤ p ≤ 1 is allowed")
        half = 0.5 / self.observations
        return special.logit(np.where(shares == 0, half, np.where(shares == 1, 1 - half, shares)))

    def back(self, values: ArrayLike) -> Array:
        return special.expit(np.asarray(values, dtype=float))


# Intervals and many claims ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """`low` to `high`, which holds the true value in a share `level` of studies."""

    low: float
    high: float
    level: float


def simultaneous_level(judged: int) -> float:
    """Level 1 − ALPHA / m of the intervals of m judged claims (Bonferroni).

    It agrees with `p_adjusted`: the interval excludes 0 if and only if the adjusted p is below ALPHA.
    """
    if judged < 1:
        raise ValueError(f"judged = {judged} claims; at least 1 is allowed")
    return 1 - ALPHA / judged


def p_adjusted(p: float, judged: int) -> float:
    """min(1, m p) for one of m judged claims (Bonferroni).

    >>> p_adjusted(0.004, 11), p_adjusted(0.2, 11)
    (0.044, 1.0)
    """
    if judged < 1:
        raise ValueError(f"judged = {judged} claims; at least 1 is allowed")
    return min(1.0, judged * p)


# Effects: a mean over seeds --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """Mean of n differences, one a seed, on the stated scale, and what t and sign flips say of it.

    `sd` is that of the differences (ddof 1). `t` = estimate / (sd / √n), n − 1 degrees of freedom, and its
    two-sided `p` are None where all differences are equal, one seed included: `p_sign_flip` alone is left.
    """

    least_n: ClassVar[int] = 2

    estimate: float
    sd: float
    n: int
    t: float | None
    p: float | None
    p_sign_flip: float

    def half_width(self, level: float, n: int) -> float:
        """Half the interval, t_{(1 + level)/2, n − 1} sd / √n, for n seeds that vary as these do."""
        return float(stats.t.isf((1 - level) / 2, n - 1) * self.sd / np.sqrt(n))

    def interval(self, level: float = 1 - ALPHA) -> Interval | None:
        """Student's interval for the true mean; None where there is no t."""
        if self.t is None:
            return None
        half = self.half_width(level, self.n)
        return Interval(self.estimate - half, self.estimate + half, level)

    def power(self, size: float, n: int, alpha: float = ALPHA) -> float:
        """Chance that n seeds that vary as these do find a true effect `size` (`power_of_t`)."""
        return power_of_t(size / self.sd, n, alpha)


def paired_effect(treatment: ArrayLike, control: ArrayLike, rng: np.random.Generator | None = None) -> Effect:
    """Paired t and sign flips of treatment − control; both (seeds,), same seeds in the same order.

    Raises ValueError for other shapes, numbers that are not finite, and more than 20 seeds without `rng`.
    Student 1908, Biometrika 6:1.

    >>> effect = paired_effect([3.1, 2.9, 3.6, 3.3], [2.8, 2.8, 3.1, 3.2])
    >>> round(effect.estimate, 3), round(effect.t, 3), effect.p_sign_flip
    (0.25, 2.611, 0.125)
    """
    a, b = _paired(1, treatment=treatment, control=control)
    return _effect(a - b, float(max(np.abs(a).max(), np.abs(b).max())), rng)


def one_sample_effect(
    values: ArrayLike, reference: float = 0.0, rng: np.random.Generator | None = None
) -> Effect:
    """One-sample t and sign flips of values − reference; values (seeds,), e.g. one contrast a seed.

    Raises ValueError as `paired_effect` does.
    """
    array = _finite("values", values, 1)
    return _effect(array - reference, float(max(np.abs(array).max(), abs(reference))), rng)


def _effect(differences: Array, magnitude: float, rng: np.random.Generator | None) -> Effect:
    n, estimate = differences.size, float(differences.mean())
    p_flip = sign_flip_p(differences, rng)
    if np.ptp(differences) <= EQUAL * magnitude:
        return Effect(estimate, 0.0, n, None, None, p_flip)
    student = stats.ttest_1samp(differences, 0.0)
    return Effect(
        estimate, float(differences.std(ddof=1)), n, float(student.statistic), float(student.pvalue), p_flip
    )


def sign_flip_p(differences: ArrayLike, rng: np.random.Generator | None = None) -> float:
    """Two-sided p: the share of sign flips of the differences (seeds,) whose |sum| is at least the one seen.

    Exact over all 2^n flips up to 20 seeds, at best 2^(1 − n); beyond, (1 + hits) / (1 + flips) over 100,000
    flips drawn from `rng` (ValueError without it). Fisher 1935, The Design of Experiments, §21; the added 1:
    Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39.

    >>> sign_flip_p([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    0.03125
    """
    values = _finite("differences", differences, 1)
    # Sums that are equal on paper differ by rounding: they count as equal.
    seen = abs(values.sum()) - EQUAL * np.abs(values).sum()
    if values.size <= EXACT_FLIPS:
        # |sum| is the same for a flip and its opposite, so the first sign is held. The same p as that of
        # scipy.stats.permutation_test, which makes its 2^n flips one by one in Python.
        sums = values[:1]
        for value in values[1:]:
            sums = np.concatenate([sums - value, sums + value])
        return float(np.mean(np.abs(sums) >= seen))
    if rng is None:
        raise ValueError(
            f"{values.size} seeds: more than {EXACT_FLIPS} need rng, a numpy Generator, to draw flips"
        )
    sums = np.zeros(MONTE_CARLO_FLIPS)
    for value in values:
        sums += np.where(rng.random(MONTE_CARLO_FLIPS) < 0.5, value, -value)
    return float((1 + np.count_nonzero(np.abs(sums) >= seen)) / (1 + MONTE_CARLO_FLIPS))


# Power -----------------------------------------------------------------------------------------------------


def power_of_t(d: float, n: int, alpha: float = ALPHA) -> float:
    """Chance that the two-sided paired t at `alpha` over n seeds puts the whole interval above 0.

    d = true mean of the differences / their sd. P(t > t_{1 − alpha/2}), t noncentral with n − 1 degrees of
    freedom and noncentrality d √n. That is statsmodels' TTestPower (alpha / 2, "larger"), taken from scipy's
    noncentral t because TTestPower gives NaN at scattered large d (statsmodels 0.15: d = 10, n = 3,
    alpha = .05/11).

    >>> round(power_of_t(1.0, 10), 3)
    0.803
    """
    if n < 2:
        raise ValueError(f"n = {n} seeds have no t; at least 2 are allowed")
    return float(stats.nct.sf(stats.t.isf(alpha / 2, n - 1), n - 1, d * np.sqrt(n)))


def smallest_n(reached: Callable[[int], bool], least: int = 2) -> int | None:
    """Smallest n from `least` on from which `reached` holds for good; None beyond MOST_SEEDS.

    >>> smallest_n(lambda n: power_of_t(0.5, n) >= 0.8)
    34
    >>> smallest_n(lambda n: 2.0 ** (1 - n) < ALPHA)  # two-sided sign flips
    6
    """
    candidates = range(least, MOST_SEEDS + 1)
    place = bisect_left(candidates, True, key=lambda n: bool(reached(n)))
    return candidates[place] if place < len(candidates) else None


def detectable(power: Callable[[float], float], target: float = POWER) -> float:
    """Smallest effect found with chance `target`, `power` being a rising function of the effect from 0 on.

    >>> round(detectable(lambda d: power_of_t(d, 10, ALPHA / 11)), 2)
    1.51
    """
    top = 1.0
    while power(top) < target:
        top *= 2
    return float(optimize.brentq(lambda size: power(size) - target, 0.0, top))


# Variances -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VarianceRatio:
    """Across-seed variance of a first arm over that of a second, paired by seed; F = s₁² / s₂².

    `estimate` = ln F, so that intervals, sizes and directions read as those of an `Effect` on the log scale;
    `correlation` r between the arms; `t` and its two-sided `p` with n − 2 degrees of freedom.
    """

    least_n: ClassVar[int] = 3

    estimate: float
    correlation: float
    n: int
    t: float
    p: float

    def half_width(self, level: float, n: int) -> float:
        """Half the interval of ln F for n seeds: F · (K ± √(K² − 1)) is ln F ± arcosh K."""
        t = stats.t.isf((1 - level) / 2, n - 2)
        return float(np.arccosh(1 + 2 * (1 - self.correlation**2) * t**2 / (n - 2)))

    def interval(self, level: float = 1 - ALPHA) -> Interval:
        """Interval of ln(σ₁² / σ₂²): all ratios that the test at 1 − level does not reject."""
        half = self.half_width(level, self.n)
        return Interval(self.estimate - half, self.estimate + half, level)

    def power(self, size: float, n: int, alpha: float = ALPHA) -> float:
        """Chance that n seeds so correlated find a true ln ratio `size` (`power_of_pitman_morgan`)."""
        return power_of_pitman_morgan(float(np.exp(size)), self.correlation, n, alpha)


def pitman_morgan(first: ArrayLike, second: ArrayLike) -> VarianceRatio | None:
    """Pitman-Morgan test of equal variances of two paired arms, both (seeds,).

    The sum and the difference of the pairs correlate if and only if the variances differ:
    t = (F − 1) √(n − 2) / (2 √(F (1 − r²))), n − 2 degrees of freedom, for normal pairs; its inversion is
    F · (K ± √(K² − 1)), K = 1 + 2 (1 − r²) t² / (n − 2). None below 3 seeds and where an arm does not vary or
    one arm is a linear function of the other: nothing can be told then.
    Pitman 1939, Biometrika 31:9; Morgan 1939, Biometrika 31:13.

    >>> ratio = pitman_morgan([80.1, 83.0, 78.2, 85.5, 81.9], [82.0, 81.9, 82.8, 83.1, 82.4])
    >>> round(float(np.exp(ratio.estimate)), 1), round(ratio.p, 4)
    (29.4, 0.0187)
    """
    a, b = _paired(1, first=first, second=second)
    if a.size < 3 or any(np.ptp(x) <= EQUAL * np.abs(x).max() for x in (a, b)):
        return None
    f, r = a.var(ddof=1) / b.var(ddof=1), float(np.corrcoef(a, b)[0, 1])
    if 1 - r**2 <= EQUAL:
        return None
    t = float((f - 1) * np.sqrt(a.size - 2) / (2 * np.sqrt(f * (1 - r**2))))
    return VarianceRatio(float(np.log(f)), r, a.size, t, float(2 * stats.t.sf(abs(t), a.size - 2)))


def power_of_pitman_morgan(ratio: float, correlation: float, n: int, alpha: float = ALPHA) -> float:
    """Chance that the two-sided test at `alpha` over n seeds finds a true variance ratio above 1.

    Given the sums of the pairs, t is noncentral with n − 2 degrees of freedom and noncentrality
    λ / √(1 − λ²) · √q, λ = (ratio − 1) / √((ratio + 1)² − 4 ρ² ratio) the correlation of sum and difference,
    and q chi-squared with n − 1: the mean over q, to 1e-6. Exact for normal pairs (regression with a random
    predictor: Sampson 1974, J. Am. Stat. Assoc. 69:682).
    """
    if n < 3:
        raise ValueError(f"n = {n} seeds have no Pitman-Morgan test; at least 3 are allowed")
    if not -1 < correlation < 1:
        raise ValueError(f"correlation = {correlation}; only −1 < ρ < 1 is allowed")
    slope = (ratio - 1) / (2 * np.sqrt(ratio * (1 - correlation**2)))  # λ / √(1 − λ²)
    critical, q = stats.t.isf(alpha / 2, n - 2), stats.chi2(n - 1)
    return float(
        q.expect(
            lambda x: stats.nct.sf(critical, n - 2, slope * np.sqrt(x)), lb=q.ppf(1e-10), ub=q.isf(1e-10)
        )
    )


# Rates and resampling --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """`count` of `n` runs, their `share`, and its exact interval."""

    count: int
    n: int
    share: float
    interval: Interval


def exact_rate(count: int, n: int, level: float = 1 - ALPHA) -> Rate:
    """Share of runs (that learn, that diverge) with its exact interval.

    Raises ValueError unless 0 ≤ count ≤ n and n ≥ 1. Clopper & Pearson 1934, Biometrika 26:404.

    >>> round(exact_rate(10, 10).interval.low, 4)
    0.6915
    """
    if not 0 <= count <= n or n < 1:
        raise ValueError(f"count = {count} of n = {n}; 0 ≤ count ≤ n, n ≥ 1 are allowed")
    exact = stats.binomtest(count, n).proportion_ci(level, method="exact")
    return Rate(count, n, count / n, Interval(float(exact.low), float(exact.high), level))


def bca_interval(
    values: ArrayLike,
    rng: np.random.Generator,
    statistic: Callable[..., Array] = np.mean,
    level: float = 1 - ALPHA,
) -> Interval:
    """Bias-corrected, accelerated bootstrap interval of `statistic` over values (seeds,), 9,999 resamples.

    Raises ValueError below 20 seeds, where it covers too little, and where all values are equal.
    Efron 1987, J. Am. Stat. Assoc. 82:171.
    """
    array = _finite("values", values, 1)
    if array.size < 20:
        raise ValueError(f"{array.size} seeds; a BCa interval is allowed from 20 on")
    if np.ptp(array) <= EQUAL * np.abs(array).max():
        raise ValueError(f"all {array.size} values are {array[0]}; a BCa interval needs values that differ")
    found = stats.bootstrap((array,), statistic, confidence_level=level, method="BCa", rng=rng)
    return Interval(float(found.confidence_interval.low), float(found.confidence_interval.high), level)


# Factorials ------------------------------------------------------------------------------------------------


def _factorial(values: ArrayLike, factors: Sequence[str]) -> Array:
    """(seeds, levels of factor 1, levels of factor 2, …), complete."""
    array = _finite("values", values, 1 + len(factors))
    if array.shape[0] < 2 or min(array.shape[1:]) < 2 or len(set(factors)) < len(factors):
        raise ValueError(
            f"values of shape {array.shape} for factors {tuple(factors)}; at least 2 seeds, and 2 levels of "
            "each of the factors, whose names differ, are allowed"
        )
    return array


def _two_levels(values: ArrayLike, factors: Sequence[str]) -> Array:
    array = _factorial(values, factors)
    if set(array.shape[1:]) != {2}:
        raise ValueError(f"values of shape {array.shape}; only 2 levels a factor, off and on, are allowed")
    return array


@dataclass(frozen=True)
class AnovaRow:
    """A line of the table; `f`, `p`, `partial_omega_squared` are None for the residual, and where it is 0."""

    term: str
    df: int
    sum_of_squares: float
    f: float | None
    p: float | None
    partial_omega_squared: float | None


def blocked_anova(values: ArrayLike, factors: Sequence[str], block: str = "seed") -> tuple[AnovaRow, ...]:
    """Analysis of variance of a complete factorial with the seed as block; all factors fixed.

    values (seeds, levels of factor 1, levels of factor 2, …). Rows: block, factors, interactions of factors
    ("freeze×clip"), "residual" (all of block × cells, (seeds − 1)(cells − 1) degrees of freedom). Partial
    ω² = df (F − 1) / (df (F − 1) + N), N all values; not cut at 0, so noise alone gives about 0 on average.
    Raises ValueError for an incomplete factorial. Olejnik & Algina 2003, Psychol. Methods 8:434.
    """
    array = _factorial(values, factors)
    # Names of ours: in a formula a factor called C, Q or I would be taken for the function of that name.
    columns = ["f0", *(f"f{i}" for i in range(1, array.ndim))]
    frame = pd.DataFrame(dict(zip(columns, (i.ravel() for i in np.indices(array.shape)), strict=True)))
    # The grand mean takes no part in any row but the digits of every one.
    frame["y"] = (array - array.mean()).ravel()
    terms = {"C(f0)": block}
    for size in range(1, array.ndim):
        for chosen in combinations(range(1, array.ndim), size):
            terms[":".join(f"C(f{i})" for i in chosen)] = "×".join(factors[i - 1] for i in chosen)
    table = anova_lm(ols("y ~ " + " + ".join(terms), frame).fit()).rename(
        index=terms | {"Residual": "residual"}
    )
    noise = float(table.loc["residual", "sum_sq"]) > array.size * (EQUAL * np.abs(array).max()) ** 2
    return tuple(_anova_row(term, line, array.size, noise) for term, line in table.iterrows())


def _anova_row(term: str, line: pd.Series, size: int, noise: bool) -> AnovaRow:
    df, squares, f, p = int(line["df"]), float(line["sum_sq"]), float(line["F"]), float(line["PR(>F)"])
    if term == "residual" or not noise:
        return AnovaRow(term, df, squares, None, None, None)
    return AnovaRow(term, df, squares, f, p, df * (f - 1) / (df * (f - 1) + size))


def interaction_contrasts(values: ArrayLike, factors: Sequence[str]) -> dict[str, Array]:
    """Every interaction of a two-level factorial as one contrast a seed, (seeds,), keyed "freeze×clip".

    values (seeds, 2, …, 2), off before on. F×C: by how much the effect of C is larger with F on than with F
    off (a difference of differences), averaged over the other factors; F×C×S: by how much F×C is larger with
    S on. In the units of the values.

    >>> cells = np.zeros((2, 2, 2))
    >>> cells[:, 1, 1] = [3.0, 5.0]
    >>> interaction_contrasts(cells, ("freeze", "clip"))
    {'freeze×clip': array([3., 5.])}
    """
    array = _two_levels(values, factors)
    contrasts = {}
    for size in range(2, array.ndim):
        for chosen in combinations(range(1, array.ndim), size):
            cells = array
            for axis in reversed(range(1, array.ndim)):
                cells = cells[..., 1] - cells[..., 0] if axis in chosen else cells.mean(axis=-1)
            contrasts["×".join(factors[axis - 1] for axis in chosen)] = cells
    return contrasts


def shapley(values: ArrayLike, factors: Sequence[str]) -> dict[str, Array]:
    """Each factor's part, (seeds,), of the gain from all off to all on in a two-level factorial, per seed.

    values (seeds, 2, …, 2), off before on. A part is what switching the factor on adds, averaged over all
    orders of switching on; the parts sum to the gain. In the units of the values.
    Shapley 1953, Contributions to the Theory of Games II, 307.

    >>> shapley([[[0.0, 1.0], [2.0, 5.0]], [[0.0, 1.0], [1.0, 2.0]]], ("freeze", "clip"))
    {'freeze': array([3., 1.]), 'clip': array([2., 1.])}
    """
    cells = np.moveaxis(_two_levels(values, factors), 0, -1)
    parts = {factor: np.zeros(cells.shape[-1]) for factor in factors}
    for order in permutations(range(len(factors))):
        cell = [0] * len(factors)
        for i in order:
            before = cells[tuple(cell)]
            cell[i] = 1
            parts[factors[i]] += (cells[tuple(cell)] - before) / factorial(len(factors))
    return parts


# Predictions on the same test examples ---------------------------------------------------------------------


@dataclass(frozen=True)
class AccuracyDifference:
    """Difference of two arms' accuracy, a share, with its error over seeds *and* examples.

    Variances of one example's difference: between seeds, between examples, and the rest (seed × example).
    `standard_error` is that for new seeds and new examples.
    """

    estimate: float
    seed_variance: float
    example_variance: float
    residual_variance: float
    standard_error: float


def accuracy_difference(treatment: ArrayLike, control: ArrayLike) -> AccuracyDifference:
    """Variance components of treatment − control; both (seeds, examples), 1 where the prediction is right.

    With d_ij = μ + s_i + e_j + r_ij, seeds and examples crossed at random, one value each: r = MS_rest,
    s = (MS_seeds − MS_rest) / examples, e = (MS_examples − MS_rest) / seeds, none below 0;
    Var(mean) = s / seeds + e / examples + r / (seeds · examples).
    Searle, Casella & McCulloch 1992, Variance Components, §4. Raises ValueError below 2 seeds or 2 examples.
    """
    a, b = _paired(2, treatment=treatment, control=control)
    d = a - b
    seeds, examples = d.shape
    if seeds < 2 or examples < 2:
        raise ValueError(f"{seeds} seeds × {examples} examples; at least 2 of each are allowed")
    by_seed, by_example, mean = d.mean(axis=1), d.mean(axis=0), d.mean()
    rest = d - by_seed[:, None] - by_example[None, :] + mean
    residual = (rest**2).sum() / ((seeds - 1) * (examples - 1))
    seed = max(0.0, by_seed.var(ddof=1) - residual / examples)
    example = max(0.0, by_example.var(ddof=1) - residual / seeds)
    error = np.sqrt(seed / seeds + example / examples + residual / (seeds * examples))
    return AccuracyDifference(float(mean), float(seed), float(example), float(residual), float(error))


@dataclass(frozen=True)
class Churn:
    """Share of test predictions on which two seeds differ, averaged over pairs of seeds.

    `pseudo_values` (seeds,) have `share` as their mean: a t over them, paired or not, is the jackknife's.
    """

    share: float
    standard_error: float
    pseudo_values: Array


def churn(predictions: ArrayLike) -> Churn:
    """Churn of one arm with its jackknife error over seeds; predictions (seeds, examples), class numbers.

    Pseudo-value i = n · churn − (n − 1) · churn without seed i; standard error = their sd / √n.
    Raises ValueError below 3 seeds. Milani Fard et al. 2016, NeurIPS, "Launch and iterate"; the jackknife of
    means over pairs: Arvesen 1969, Ann. Math. Stat. 40:2076.

    >>> churn([[0, 1, 1, 0], [0, 1, 1, 1], [0, 1, 1, 0]]).share
    0.16666666666666666
    """
    classes = _finite("predictions", predictions, 2)
    n = classes.shape[0]
    if n < 3:
        raise ValueError(f"{n} seeds; churn with its error is allowed from 3 on")
    differ = np.array([(classes != one).mean(axis=1) for one in classes])
    total, of_seed = differ.sum() / 2, differ.sum(axis=1)
    share = total / (n * (n - 1) / 2)
    without = (total - of_seed) / ((n - 1) * (n - 2) / 2)
    pseudo = n * share - (n - 1) * without
    return Churn(float(share), float(pseudo.std(ddof=1) / np.sqrt(n)), pseudo)
