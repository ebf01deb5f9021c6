"""What a study's numbers say, seeds being the unit: one number a seed in, an estimate with its error out.

Arms are paired by seed: position i of every array belongs to the same seed. Values stand on the claim's
stated scale (`analysis.stats.scales`) before anything is computed, and effects, intervals and smallest effects of
interest are differences on that scale. All tests are two-sided at `ALPHA`; a file of m judged claims is read
at ALPHA / m (Bonferroni).

scipy does what it can do; by hand are the sign-flip enumeration and a power that is finite everywhere.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Array = NDArray[np.float64]

ALPHA = 0.05
POWER = 0.8
EXACT_FLIPS = 20  # seeds up to which all 2^n sign flips are counted
MONTE_CARLO_FLIPS = 100_000
MOST_SEEDS = 100_000  # no study is planned beyond this
EQUAL = 1e-12  # differences that vary by less than this part of the values differ by rounding alone


def finite(name: str, values: ArrayLike, dimensions: int) -> Array:
    array = np.asarray(values, dtype=float)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; {dimensions} dimensions, none empty, are allowed")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds {array[~np.isfinite(array)][0]}; only finite numbers are allowed")
    return array


def paired(dimensions: int, **arms: ArrayLike) -> list[Array]:
    arrays = [finite(name, values, dimensions) for name, values in arms.items()]
    if len({array.shape for array in arrays}) > 1:
        shapes = ", ".join(f"{name} has shape {a.shape}" for name, a in zip(arms, arrays, strict=True))
        raise ValueError(f"{shapes}; paired values need one shape")
    return arrays


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
    a, b = paired(1, treatment=treatment, control=control)
    return _effect(a - b, float(max(np.abs(a).max(), np.abs(b).max())), rng)


def one_sample_effect(values: ArrayLike, reference: float = 0.0, rng: np.random.Generator | None = None) -> Effect:
    """One-sample t and sign flips of values − reference; values (seeds,), e.g. one contrast a seed.

    Raises ValueError as `paired_effect` does.
    """
    array = finite("values", values, 1)
    return _effect(array - reference, float(max(np.abs(array).max(), abs(reference))), rng)


def _effect(differences: Array, magnitude: float, rng: np.random.Generator | None) -> Effect:
    n, estimate = differences.size, float(differences.mean())
    p_flip = sign_flip_p(differences, rng)
    if np.ptp(differences) <= EQUAL * magnitude:
        return Effect(estimate, 0.0, n, None, None, p_flip)
    student = stats.ttest_1samp(differences, 0.0)
    return Effect(estimate, float(differences.std(ddof=1)), n, float(student.statistic), float(student.pvalue), p_flip)


def sign_flip_p(differences: ArrayLike, rng: np.random.Generator | None = None) -> float:
    """Two-sided p: the share of sign flips of the differences (seeds,) whose |sum| is at least the one seen.

    Exact over all 2^n flips up to 20 seeds, at best 2^(1 − n); beyond, (1 + hits) / (1 + flips) over 100,000
    flips drawn from `rng` (ValueError without it). Fisher 1935, The Design of Experiments, §21; the added 1:
    Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39.

    >>> sign_flip_p([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    0.03125
    """
    values = finite("differences", differences, 1)
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
        raise ValueError(f"{values.size} seeds: more than {EXACT_FLIPS} need rng, a numpy Generator, to draw flips")
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
    array = finite("values", values, 1)
    if array.size < 20:
        raise ValueError(f"{array.size} seeds; a BCa interval is allowed from 20 on")
    if np.ptp(array) <= EQUAL * np.abs(array).max():
        raise ValueError(f"all {array.size} values are {array[0]}; a BCa interval needs values that differ")
    found = stats.bootstrap((array,), statistic, confidence_level=level, method="BCa", rng=rng)
    return Interval(float(found.confidence_interval.low), float(found.confidence_interval.high), level)
