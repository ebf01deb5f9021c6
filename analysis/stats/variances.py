"""Variance across seeds: the ratio of the variances of two arms with the same seeds, by the jackknife."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from analysis.stats.effects import ALPHA, EQUAL, Array, paired, power_of_t, sign_flip_p, student_half_width
from analysis.stats.interval import Interval


@dataclass(frozen=True)
class VarianceRatio:
    """Ratio F = s₁² / s₂² of the across-seed variances of two arms, paired by seed.

    estimate      ln F, so that intervals, sizes and directions read like those of an `Effect` on the log scale
    sd            standard deviation of the pseudo-values of ln F, one per seed (ddof 1)
    t, p          estimate / (sd / √n), n − 2 degrees of freedom, and its two-sided p
    p_sign_flip   two-sided p of swapping the arms' absolute deviations from their medians within seeds
    """

    least_n: ClassVar[int] = 3

    estimate: float
    sd: float
    n: int
    t: float
    p: float
    p_sign_flip: float

    def half_width(self, level: float, n: int) -> float:
        """Half the width of the interval of ln F for n seeds whose pseudo-values have the same sd."""
        return float(student_half_width(self.sd, n, level, df=n - 2))

    def interval(self, level: float = 1 - ALPHA) -> Interval:
        """Interval of ln(σ₁² / σ₂²)."""
        half = self.half_width(level, self.n)
        return Interval(self.estimate - half, self.estimate + half, level)

    def p_against(self, value: float) -> float:
        """Two-sided p of the null that ln(σ₁² / σ₂²) is `value`."""
        t = (self.estimate - value) / (self.sd / np.sqrt(self.n))
        return float(2 * stats.t.sf(abs(t), self.n - 2))

    def power(self, size: float, n: int, alpha: float = ALPHA) -> float:
        """Power of n seeds whose pseudo-values have the same sd to detect a true ln ratio `size`."""
        return power_of_t(size / self.sd, n, alpha, df=n - 2)


def jackknifed_variance_ratio(
    first: ArrayLike, second: ArrayLike, rng: np.random.Generator | None = None
) -> VarianceRatio | None:
    """Ratio of the variances of two paired arms, both (seeds,), with an interval that does not need normal values.

    Each seed i has a pseudo-value n ln F − (n − 1) ln F₋ᵢ, where F₋ᵢ is the ratio without this seed. As both arms lose
    the same seed, the spread of the pseudo-values includes the kurtosis of each arm and the covariance of their squared
    deviations. The interval is ln F ± t · sd / √n. Miller 1968, Ann. Math. Stat. 39:567, which has n − 1 degrees of
    freedom; with n − 2 (as in the Pitman-Morgan test) the test is not liberal at 5 seeds.

    We do not use Bonett 2006, Appl. Psychol. Meas. 30:432: it is for unpaired arms, and we know no paired version for
    variances (Bonett & Seier 2003, J. Educ. Behav. Stat. 28:21, compare paired mean absolute deviations). The
    Pitman-Morgan test is exact for normal values, but with heavy tails it rejects more true nulls the more seeds there
    are. Simulated (tests/analysis/stats/test_variances.py), the jackknife rejects 3 to 6.5 % of true nulls at alpha
    .05 for normal and t₅ values, and 0.3 to 0.9 % at .05 / 12; for independent arms of which one is exponential, up to
    10 % at .05.

    The sign flips of |first − median| − |second − median| are exact where swapping the arms of a seed changes nothing,
    but for the medians, which are estimated; `rng` is needed above 20 seeds (`sign_flip_p`), by default the same draws.

    Returns None below 3 seeds, where an arm does not vary or would not without one of the seeds, and where one arm is
    a linear function of the other.

    >>> ratio = jackknifed_variance_ratio([80.1, 83.0, 78.2, 85.5, 81.9], [82.0, 81.9, 82.8, 83.1, 82.4])
    >>> round(float(np.exp(ratio.estimate)), 1), round(ratio.p, 4)
    (29.4, 0.011)
    """
    a, b = paired(1, first=first, second=second)
    n = a.size
    if n < VarianceRatio.least_n:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float(np.log(a.var() / b.var()))
        pseudo = n * estimate - (n - 1) * (_log_variances_without(a) - _log_variances_without(b))
    if not np.isfinite(pseudo).all() or np.ptp(pseudo) <= n * 1e-9:  # equal but for rounding
        return None
    sd = float(pseudo.std(ddof=1))
    t = estimate / (sd / np.sqrt(n))
    p_flip = sign_flip_p(_deviations(a) - _deviations(b), rng or np.random.default_rng(0))
    return VarianceRatio(estimate, sd, n, float(t), float(2 * stats.t.sf(abs(t), n - 2)), p_flip)


def _log_variances_without(values: Array) -> Array:
    """The ln of the variance without each of the seeds, (seeds,); −∞ where the other values differ only by rounding."""
    n = values.size
    others = np.tile(values, (n, 1))[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    varies = np.ptp(others, axis=1) > EQUAL * np.abs(values).max()
    return np.log(np.where(varies, others.var(axis=1, ddof=1), 0.0))


def _deviations(values: Array) -> Array:
    return np.abs(values - np.median(values))
