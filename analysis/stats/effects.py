"""Effects over seeds: one number per seed in, an estimate with its interval, tests and power out.

Arms are paired by seed: position i of every array belongs to the same seed. Values are on the claim's scale
(`analysis.stats.scales`) before anything is computed; effects, intervals and smallest effects of interest are
differences on that scale. All tests are two-sided at `ALPHA`; m judged claims are tested at ALPHA / m (Bonferroni).

Most of the statistics come from scipy. The sign-flip enumeration, a power that is finite everywhere and a fast Holm
are our own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from ablate.config.checks import refusal
from analysis.stats.interval import Interval

Array = NDArray[np.float64]

ALPHA = 0.05
POWER = 0.8
EXACT_FLIPS = 20  # up to this number of seeds, all 2^n sign flips are counted
MONTE_CARLO_FLIPS = 100_000
MOST_SEEDS = 100_000  # no study is planned with more
EQUAL = 1e-12  # differences whose range is below this part of the values differ only by rounding


def finite(name: str, values: ArrayLike, dimensions: int) -> Array:
    """Values as an array of finite numbers. Raises ValueError for other shapes and values."""
    array = np.asarray(values, dtype=float)
    if array.ndim != dimensions or array.size == 0:
        raise refusal(name, f"shape {array.shape}", f"a non-empty array with {dimensions} dimensions")
    if not np.isfinite(array).all():
        raise refusal(name, array[~np.isfinite(array)][0], "finite numbers")
    return array


def paired(dimensions: int, **arms: ArrayLike) -> list[Array]:
    """Values of several arms as arrays of one shape. Raises ValueError as `finite` does, and for unequal shapes."""
    arrays = [finite(name, values, dimensions) for name, values in arms.items()]
    if len({array.shape for array in arrays}) > 1:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise refusal(" and ".join(arms), shapes, "arrays of the same shape")
    return arrays


# Intervals and many claims ---------------------------------------------------------------------------------


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p of each of the judged claims (Holm 1979, Scand. J. Stat. 6:65), in the order of `ps`.

    With the m claims sorted by p, the k-th smallest is multiplied by m − k + 1, then no adjusted p is below that of a
    smaller p, and none is above 1. The chance that any true null has an adjusted p below ALPHA is at most ALPHA, as
    with Bonferroni's, m p, which is never smaller. It is statsmodels' multipletests(ps, method="holm"), which needs
    0.1 s per call as it collects garbage. [] for no claims. Raises ValueError for a p outside [0, 1].

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    if not len(ps):
        return []
    array = finite("ps", ps, 1)
    outside = array[(array < 0) | (array > 1)]
    if outside.size:
        raise refusal("ps", outside[0], "between 0 and 1")
    order = np.argsort(array)
    adjusted = np.empty_like(array)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(array[order] * np.arange(array.size, 0, -1)))
    return adjusted.tolist()


def student_half_width(sd: ArrayLike, n: ArrayLike, level: float = 1 - ALPHA, df: ArrayLike | None = None) -> Array:
    """Half the width of Student's interval for a mean of n values: t_{(1 + level)/2, df} · sd / √n.

    Args: `sd` of the values (ddof 1); `df` degrees of freedom, n − 1 by default. NaN without degrees of freedom.

    >>> round(float(student_half_width(sd=2.0, n=10)), 3)
    1.431
    """
    return stats.t.isf((1 - level) / 2, n - 1 if df is None else df) * sd / np.sqrt(n)


# Effects: a mean over seeds --------------------------------------------------------------------------------


class Estimate(Protocol):
    """An effect over n seeds on the claim's scale, with its uncertainty: what a verdict needs to know.

    p             two-sided p of the null that the effect is 0; None where there is no spread to test it with
    p_against     two-sided p of the null that the effect is `value`
    interval      all values with p_against above 1 − level; None where p is None
    half_width    half the width of the interval for n seeds that vary as the present ones do
    power         chance that n such seeds put the interval at level 1 − alpha above 0 for a true effect `size` > 0
    least_n       fewest seeds for an interval
    """

    least_n: ClassVar[int]

    @property
    def estimate(self) -> float: ...

    @property
    def n(self) -> int: ...

    @property
    def p(self) -> float | None: ...

    def p_against(self, value: float) -> float | None: ...

    def interval(self, level: float = 1 - ALPHA) -> Interval | None: ...

    def half_width(self, level: float, n: int) -> float: ...

    def power(self, size: float, n: int, alpha: float = ALPHA) -> float: ...


@dataclass(frozen=True)
class Effect:
    """Mean of n differences on the claim's scale, one per seed, with its t test and sign-flip test.

    estimate      the mean
    sd            standard deviation of the differences (ddof 1)
    t, p          estimate / (sd / √n), n − 1 degrees of freedom, and its two-sided p; None where all differences are
                  equal, as with a single seed
    p_sign_flip   two-sided p of the sign flips
    differences   the n differences
    """

    least_n: ClassVar[int] = 2

    estimate: float
    sd: float
    n: int
    t: float | None
    p: float | None
    p_sign_flip: float
    differences: tuple[float, ...] = field(repr=False, compare=False)

    def half_width(self, level: float, n: int) -> float:
        """Half the width of the interval for n seeds with the same sd."""
        return float(student_half_width(self.sd, n, level))

    def interval(self, level: float = 1 - ALPHA) -> Interval | None:
        """Student's interval of the mean; None where there is no t."""
        if self.t is None:
            return None
        half = self.half_width(level, self.n)
        return Interval(self.estimate - half, self.estimate + half, level)

    def p_against(self, value: float) -> float | None:
        """Two-sided p of Student's test that the mean is `value`; None where there is no t."""
        if self.t is None:
            return None
        t = (self.estimate - value) / (self.sd / np.sqrt(self.n))
        return float(2 * stats.t.sf(abs(t), self.n - 1))

    def power(self, size: float, n: int, alpha: float = ALPHA) -> float:
        """Power of n seeds with the same sd to detect a true effect `size` (`power_of_t`)."""
        return power_of_t(size / self.sd, n, alpha)


def paired_effect(treatment: ArrayLike, control: ArrayLike, rng: np.random.Generator | None = None) -> Effect:
    """Paired effect treatment − control; both (seeds,), with the same seeds in the same order.

    Raises ValueError for other shapes, for numbers that are not finite, and for more than 20 seeds without `rng`.
    Student 1908, Biometrika 6:1.

    >>> effect = paired_effect([3.1, 2.9, 3.6, 3.3], [2.8, 2.8, 3.1, 3.2])
    >>> round(effect.estimate, 3), round(effect.t, 3), effect.p_sign_flip
    (0.25, 2.611, 0.125)
    """
    a, b = paired(1, treatment=treatment, control=control)
    return _effect(a - b, float(max(np.abs(a).max(), np.abs(b).max())), rng)


def one_sample_effect(values: ArrayLike, reference: float = 0.0, rng: np.random.Generator | None = None) -> Effect:
    """Effect values − reference; values (seeds,), e.g. one contrast per seed.

    Raises ValueError as `paired_effect` does.
    """
    array = finite("values", values, 1)
    return _effect(array - reference, float(max(np.abs(array).max(), abs(reference))), rng)


def _effect(differences: Array, magnitude: float, rng: np.random.Generator | None) -> Effect:
    n, estimate = differences.size, float(differences.mean())
    p_flip = sign_flip_p(differences, rng)
    if np.ptp(differences) <= EQUAL * magnitude:
        return Effect(estimate, 0.0, n, None, None, p_flip, tuple(differences))
    student = stats.ttest_1samp(differences, 0.0)
    sd, t, p = float(differences.std(ddof=1)), float(student.statistic), float(student.pvalue)
    return Effect(estimate, sd, n, t, p, p_flip, tuple(differences))


def sign_flip_p(differences: ArrayLike, rng: np.random.Generator | None = None) -> float:
    """Two-sided p: the share of sign flips of the differences, (seeds,), whose |sum| is at least the observed one.

    Up to 20 seeds it is exact over all 2^n flips, and at least 2^(1 − n). With more seeds it is
    (1 + hits) / (1 + flips) over 100,000 flips drawn from `rng`; without `rng` it raises ValueError.
    Fisher 1935, The Design of Experiments, section 21; the added 1: Phipson & Smyth 2010, Stat. Appl. Genet. Mol.
    Biol. 9:39.

    >>> sign_flip_p([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    0.03125
    """
    values = finite("differences", differences, 1)
    # Sums that are mathematically equal differ by rounding: they count as equal.
    seen = abs(values.sum()) - EQUAL * np.abs(values).sum()
    if values.size <= EXACT_FLIPS:
        # |sum| is the same for a flip and its opposite, so the first sign is fixed. The p is that of
        # scipy.stats.permutation_test, which makes the 2^n flips one by one in Python.
        sums = values[:1]
        for value in values[1:]:
            sums = np.concatenate([sums - value, sums + value])
        return float(np.mean(np.abs(sums) >= seen))
    if rng is None:
        raise refusal("rng", rng, f"a numpy Generator for more than {EXACT_FLIPS} seeds")
    sums = np.zeros(MONTE_CARLO_FLIPS)
    for value in values:
        sums += np.where(rng.random(MONTE_CARLO_FLIPS) < 0.5, value, -value)
    return float((1 + np.count_nonzero(np.abs(sums) >= seen)) / (1 + MONTE_CARLO_FLIPS))


# Power -----------------------------------------------------------------------------------------------------


def power_of_t(d: float, n: int, alpha: float = ALPHA, df: int | None = None) -> float:
    """Power of the paired t: the chance that the interval at level 1 − `alpha` over n seeds is all above 0.

    d = true mean of the differences / their sd. The power is P(t > t_{1 − alpha/2}), where t is noncentral with
    `df` degrees of freedom, n − 1 by default, and noncentrality d √n. statsmodels' TTestPower (alpha / 2, "larger") is
    the same, but gives NaN at some large d (statsmodels 0.15: d = 10, n = 3, alpha = .05/11), so we use scipy's
    noncentral t. Raises ValueError without a degree of freedom.

    >>> round(power_of_t(1.0, 10), 3)
    0.803
    """
    df = n - 1 if df is None else df
    if df < 1:
        raise refusal("n", n, "a number of seeds that leaves at least 1 degree of freedom")
    return float(stats.nct.sf(stats.t.isf(alpha / 2, df), df, d * np.sqrt(n)))


def smallest_n(reached: Callable[[int], bool], least: int = 2) -> int | None:
    """Smallest n ≥ `least` for which `reached` holds, which must hold for all larger n too; None above MOST_SEEDS.

    >>> smallest_n(lambda n: power_of_t(0.5, n) >= 0.8)
    34
    >>> smallest_n(lambda n: 2.0 ** (1 - n) < ALPHA)  # two-sided sign flips
    6
    """
    candidates = range(least, MOST_SEEDS + 1)
    place = bisect_left(candidates, True, key=lambda n: bool(reached(n)))
    return candidates[place] if place < len(candidates) else None


def detectable(power: Callable[[float], float], target: float = POWER) -> float:
    """Smallest effect that is detected with power `target`; `power` increases with the effect, from 0 on.

    >>> round(detectable(lambda d: power_of_t(d, 10, ALPHA / 11)), 2)
    1.51
    """
    top = 1.0
    while power(top) < target:
        top *= 2
    return float(optimize.brentq(lambda size: power(size) - target, 0.0, top))


# Rates -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """`count` of `n` runs, with the exact interval of the share."""

    count: int
    n: int
    interval: Interval


def exact_rate(count: int, n: int, level: float = 1 - ALPHA) -> Rate:
    """Share of runs (that learn, that diverge) with its exact interval.

    Raises ValueError unless 0 ≤ count ≤ n and n ≥ 1. Clopper & Pearson 1934, Biometrika 26:404.

    >>> round(exact_rate(10, 10).interval.low, 4)
    0.6915
    """
    if not 0 <= count <= n or n < 1:
        raise refusal("count of n", f"{count} of {n}", "between 0 and n, with n at least 1")
    exact = stats.binomtest(count, n).proportion_ci(level, method="exact")
    return Rate(count, n, Interval(float(exact.low), float(exact.high), level))
