"""The difference of two arms whose runs do not belong together in pairs: Welch's t test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from analysis.stats.effects import ALPHA, EQUAL, finite
from analysis.stats.interval import Interval


@dataclass(frozen=True)
class UnpairedEffect:
    """Mean of treatment − mean of control over runs that are all independent. An `Estimate`.

    ns, sds   number of runs and standard deviation (ddof 1) of treatment and control
    p         two-sided p of Welch's t; None where neither arm has a spread, or one has a single run

    `half_width` and `power` are for n runs of the smaller arm, with the same ratio of the arms' numbers of runs.
    Welch 1947, Biometrika 34:28.
    """

    least_n: ClassVar[int] = 2

    estimate: float
    ns: tuple[int, int]
    sds: tuple[float, float]
    p: float | None

    @property
    def n(self) -> int:
        """Number of runs of the smaller arm."""
        return min(self.ns)

    def p_against(self, value: float) -> float | None:
        """Two-sided p of Welch's test that the difference is `value`."""
        if self.p is None:
            return None
        error, df = self._error_and_df(self.n)
        return float(2 * stats.t.sf(abs(self.estimate - value) / error, df))

    def interval(self, level: float = 1 - ALPHA) -> Interval | None:
        """Welch's interval; None where there is no p."""
        if self.p is None:
            return None
        half = self.half_width(level, self.n)
        return Interval(self.estimate - half, self.estimate + half, level)

    def half_width(self, level: float, n: int) -> float:
        error, df = self._error_and_df(n)
        return float(stats.t.isf((1 - level) / 2, df) * error)

    def power(self, size: float, n: int, alpha: float = ALPHA) -> float:
        error, df = self._error_and_df(n)
        return float(stats.nct.sf(stats.t.isf(alpha / 2, df), df, size / error))

    def _error_and_df(self, n: int) -> tuple[float, float]:
        """Standard error and Satterthwaite's degrees of freedom with n runs of the smaller arm."""
        ns = np.array(self.ns) * n / self.n
        parts = np.square(self.sds) / ns
        return float(np.sqrt(parts.sum())), float(parts.sum() ** 2 / (parts**2 / (ns - 1)).sum())


def unpaired_effect(treatment: ArrayLike, control: ArrayLike) -> UnpairedEffect:
    """Effect treatment − control of independent runs, (runs,) each. Raises ValueError for numbers that are not finite.

    >>> effect = unpaired_effect([3.1, 2.9, 3.6, 3.3], [2.8, 2.8, 3.1])
    >>> round(effect.estimate, 3), round(effect.p, 3)
    (0.325, 0.132)
    """
    arms = finite("treatment", treatment, 1), finite("control", control, 1)
    estimate = float(arms[0].mean() - arms[1].mean())
    ns = arms[0].size, arms[1].size
    if min(ns) < 2:
        return UnpairedEffect(estimate, ns, (0.0, 0.0), None)
    sds = tuple(float(arm.std(ddof=1)) for arm in arms)
    magnitude = max(float(np.abs(arm).max()) for arm in arms)
    if max(sds) <= EQUAL * magnitude:
        return UnpairedEffect(estimate, ns, (0.0, 0.0), None)
    return UnpairedEffect(estimate, ns, (sds[0], sds[1]), float(stats.ttest_ind(*arms, equal_var=False).pvalue))
