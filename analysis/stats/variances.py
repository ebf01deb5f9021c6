"""Variance across seeds: the Pitman-Morgan test of two arms with the same seeds, and its power."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ablate.config.checks import refusal
from analysis.stats.effects import ALPHA, EQUAL, paired
from analysis.stats.interval import Interval


@dataclass(frozen=True)
class VarianceRatio:
    """Ratio F = s₁² / s₂² of the across-seed variances of two arms, paired by seed.

    estimate      ln F, so that intervals, sizes and directions read like those of an `Effect` on the log scale
    correlation   r between the arms
    t, p          the test with n − 2 degrees of freedom and its two-sided p
    """

    least_n: ClassVar[int] = 3

    estimate: float
    correlation: float
    n: int
    t: float
    p: float

    def half_width(self, level: float, n: int) -> float:
        """Half the width of the interval of ln F for n seeds: F · (K ± √(K² − 1)) is ln F ± arcosh K."""
        t = stats.t.isf((1 - level) / 2, n - 2)
        return float(np.arccosh(1 + 2 * (1 - self.correlation**2) * t**2 / (n - 2)))

    def interval(self, level: float = 1 - ALPHA) -> Interval:
        """Interval of ln(σ₁² / σ₂²): all values that the test at 1 − level does not reject."""
        half = self.half_width(level, self.n)
        return Interval(self.estimate - half, self.estimate + half, level)

    def power(self, size: float, n: int, alpha: float = ALPHA) -> float:
        """Power of n seeds with the same correlation to detect a true ln ratio `size` (`power_of_pitman_morgan`)."""
        return power_of_pitman_morgan(float(np.exp(size)), self.correlation, n, alpha)


def pitman_morgan(first: ArrayLike, second: ArrayLike) -> VarianceRatio | None:
    """Pitman-Morgan test of equal variances of two paired arms, both (seeds,).

    The sum and the difference of the pairs correlate if and only if the variances differ. For normal pairs,
    t = (F − 1) √(n − 2) / (2 √(F (1 − r²))) has n − 2 degrees of freedom; inverted, it gives the interval
    F · (K ± √(K² − 1)), K = 1 + 2 (1 − r²) t² / (n − 2). Returns None where the test is undefined: below 3 seeds,
    where an arm does not vary, and where one arm is a linear function of the other.
    Pitman 1939, Biometrika 31:9; Morgan 1939, Biometrika 31:13.

    >>> ratio = pitman_morgan([80.1, 83.0, 78.2, 85.5, 81.9], [82.0, 81.9, 82.8, 83.1, 82.4])
    >>> round(float(np.exp(ratio.estimate)), 1), round(ratio.p, 4)
    (29.4, 0.0187)
    """
    a, b = paired(1, first=first, second=second)
    if a.size < 3 or any(np.ptp(x) <= EQUAL * np.abs(x).max() for x in (a, b)):
        return None
    f, r = a.var(ddof=1) / b.var(ddof=1), float(np.corrcoef(a, b)[0, 1])
    if 1 - r**2 <= EQUAL:
        return None
    t = float((f - 1) * np.sqrt(a.size - 2) / (2 * np.sqrt(f * (1 - r**2))))
    return VarianceRatio(float(np.log(f)), r, a.size, t, float(2 * stats.t.sf(abs(t), a.size - 2)))


def power_of_pitman_morgan(ratio: float, correlation: float, n: int, alpha: float = ALPHA) -> float:
    """Power of the two-sided test at `alpha` over n seeds to detect a true variance ratio above 1.

    Given the sums of the pairs, t is noncentral with n − 2 degrees of freedom and noncentrality
    λ / √(1 − λ²) · √q. Here λ = (ratio − 1) / √((ratio + 1)² − 4 ρ² ratio) is the correlation of sum and difference,
    and q is chi-squared with n − 1 degrees of freedom; the power is the mean over q, to 1e-6. It is exact for normal
    pairs (regression with a random predictor: Sampson 1974, J. Am. Stat. Assoc. 69:682).
    Raises ValueError below 3 seeds, and unless −1 < correlation < 1.
    """
    if n < 3:
        raise refusal("n", n, "a number of seeds, at least 3")
    if not -1 < correlation < 1:
        raise refusal("correlation", correlation, "between −1 and 1, both excluded")
    slope = (ratio - 1) / (2 * np.sqrt(ratio * (1 - correlation**2)))  # λ / √(1 − λ²)
    critical, q = stats.t.isf(alpha / 2, n - 2), stats.chi2(n - 1)
    return float(
        q.expect(lambda x: stats.nct.sf(critical, n - 2, slope * np.sqrt(x)), lb=q.ppf(1e-10), ub=q.isf(1e-10))
    )
