"""Comparisons of tuned arms: each arm at its own best grid point, and the best of k trials by budget.

The best point of a grid is chosen by noisy numbers. Judged by the same numbers, it looks better than it is, and the
more so the more points an arm has; so the point is chosen by validation on other seeds than the one that is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ablate.config.checks import refusal
from analysis.stats.effects import Array, finite, paired


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """`values` (seeds,): the test value of each seed at its `chosen` point of the grid, (seeds,) as its number."""

    values: Array
    chosen: NDArray[np.intp]

    @property
    def usual(self) -> int:
        """The point that most seeds choose; of several, the first in the grid."""
        return int(np.bincount(self.chosen).argmax())


def cross_fitted(validation: ArrayLike, test: ArrayLike, maximise: bool) -> CrossFitted:
    """One arm's test values at its best point of a grid; for each seed, the other seeds choose the point.

    Args: validation and test values, both (seeds, points); `maximise`: whether more is better. Each seed's point has
    the best mean validation value over all other seeds (the first of equal ones), so that neither the seed's own
    validation nor any test value takes part in the choice. Raises ValueError below 2 seeds, and as `paired` does.
    Cross-fitting: Chernozhukov et al. 2018, Econom. J. 21:C1; tuning with equal budgets: Dodge et al. 2019,
    arXiv 1909.03004.

    >>> fit = cross_fitted([[0.8, 0.9], [0.7, 0.9], [0.9, 0.5]], [[1, 2], [3, 4], [5, 6]], maximise=True)
    >>> fit.values, fit.chosen
    (array([1., 3., 6.]), array([0, 0, 1]))
    """
    by_validation, by_test = paired(2, validation=validation, test=test)
    n = len(by_test)
    if n < 2:
        raise refusal("seeds", n, "at least 2: the other seeds choose a seed's grid point")
    of_others = np.array([np.delete(by_validation, seed, axis=0).mean(axis=0) for seed in range(n)])
    chosen = (of_others if maximise else -of_others).argmax(axis=1)
    return CrossFitted(by_test[np.arange(n), chosen], chosen)


def expected_best(values: ArrayLike, k: int, maximise: bool = True) -> float:
    """Expected best validation value of k trials, drawn with replacement from the trials made, (trials,).

    Σ_v v (P(V ≤ v)^k − P(V < v)^k) over the distinct values v, with P from the trials made; for minima the same of
    −V. Raises ValueError for k below 1. Dodge et al. 2019, arXiv 1909.03004 (expected validation performance).

    >>> [round(expected_best([0.6, 0.8, 0.9], k), 3) for k in (1, 2, 3)]
    [0.767, 0.833, 0.863]
    """
    if k < 1:
        raise refusal("k", k, "a number of trials, at least 1")
    signed = np.sort(finite("values", values, 1) * (1 if maximise else -1))
    at_most = (np.arange(signed.size + 1) / signed.size) ** k  # equal values share their steps
    return float((signed * np.diff(at_most)).sum()) * (1 if maximise else -1)


def beyond_edge(points: Sequence[float], chosen: float) -> float | None:
    """The next value of a geometric grid beyond its edge where `chosen` is the first or last value; otherwise None.

    Raises ValueError unless there are at least two points, all above 0.

    >>> beyond_edge([1e-4, 2e-4, 4e-4], 4e-4), beyond_edge([1e-4, 2e-4, 4e-4], 1e-4)
    (0.0008, 5e-05)
    >>> beyond_edge([1e-4, 2e-4, 4e-4], 2e-4) is None
    True
    """
    ordered = sorted(set(points))
    if len(ordered) < 2 or ordered[0] <= 0:
        raise refusal("points", list(points), "at least two different numbers above 0")
    if chosen == ordered[0]:
        return float(f"{ordered[0] ** 2 / ordered[1]:.6g}")
    return float(f"{ordered[-1] ** 2 / ordered[-2]:.6g}") if chosen == ordered[-1] else None


def best_value(grid: Sequence[float], values: ArrayLike, maximise: bool = True) -> float:
    """Where on a grid of numbers above 0 a quantity is best, between its points too.

    It is the extremum of the parabola through the best point and its two neighbours, over ln of the grid: one step of
    successive parabolic interpolation (Brent 1973, Algorithms for Minimization without Derivatives, chapter 5). A best
    point at the edge of the grid, and one with equal neighbours, is returned as it is. Args: `values` of the quantity
    at the points, (points,). Raises ValueError unless all are finite.

    >>> round(best_value([1e-4, 1e-3, 1e-2], [0.5, 0.8, 0.7]), 6)
    0.001778
    >>> best_value([1e-4, 1e-3, 1e-2], [0.5, 0.8, 0.9])
    0.01
    """
    order = np.argsort(grid)
    x, y = np.log(np.asarray(grid, float)[order]), finite("values", values, 1)[order] * (1 if maximise else -1)
    best = int(y.argmax())
    if best in (0, len(y) - 1):
        return float(grid[order[best]])
    near = slice(best - 1, best + 2)
    square, slope, _ = np.polyfit(x[near] - x[best], y[near], deg=2)
    return float(np.exp(x[best] - (slope / (2 * square) if square else 0)))
