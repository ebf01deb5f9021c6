"""Complete factorials over seeds: repeated-measures analysis of variance, interactions, Shapley values of a gain.

Values are (seeds, levels of factor 1, levels of factor 2, …), one number per run, on the claim's scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from math import factorial

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, stats

from ablate.config.checks import refusal
from analysis.stats.effects import EQUAL, Array, finite


def _factorial(values: ArrayLike, factors: Sequence[str]) -> Array:
    """Values of a complete factorial as an array. Raises ValueError for other shapes and numbers."""
    array = finite("values", values, 1 + len(factors))
    if array.shape[0] < 2 or min(array.shape[1:]) < 2 or len(set(factors)) < len(factors):
        got = f"shape {array.shape} for the factors {', '.join(factors)}"
        raise refusal("values", got, "of at least 2 seeds and 2 levels of each factor, with different factor names")
    return array


def _two_levels(values: ArrayLike, factors: Sequence[str]) -> Array:
    array = _factorial(values, factors)
    if set(array.shape[1:]) != {2}:
        raise refusal("values", f"shape {array.shape}", "of 2 levels per factor, off and on")
    return array


@dataclass(frozen=True)
class AnovaRow:
    """A term of the table with its test against term × seed; fields are None for the seed, and where that error is 0.

    df, df_error       of the term and its error, before the correction
    epsilon            Greenhouse & Geisser's: both df of the F distribution are multiplied by it; 1 for two levels
    """

    term: str
    df: int
    sum_of_squares: float
    df_error: int | None
    error_sum_of_squares: float | None
    f: float | None
    epsilon: float | None
    p: float | None
    partial_omega_squared: float | None


def repeated_measures_anova(values: ArrayLike, factors: Sequence[str], block: str = "seed") -> tuple[AnovaRow, ...]:
    """Analysis of variance of a complete factorial in which each seed has all cells; each term has its own error.

    values (seeds, levels of factor 1, levels of factor 2, …). The rows are the block, the factors and their
    interactions ("freeze×clip"). A term of k degrees of freedom is k orthonormal contrasts, one value each per seed:
    F = (SS / k) / (SS of term × seed / (k (seeds − 1))). With two levels per factor this is t² of the contrast, with
    1 and seeds − 1 degrees of freedom; with more, p corrects both degrees of freedom by Greenhouse & Geisser's ε. One
    residual for all terms would reject too often where seeds react to a factor differently. Sums of squares of all
    terms and errors add up to the total. Partial ω² = k (F − 1) / (k (F − 1) + N), where N counts all values; it is
    not cut at 0, so that it averages about 0 for pure noise. Raises ValueError for an incomplete factorial.
    F equals that of statsmodels' AnovaRM, which has no ε.
    Greenhouse & Geisser 1959, Psychometrika 24:95; Olejnik & Algina 2003, Psychol. Methods 8:434.
    """
    array = _factorial(values, factors)
    centred = array - array.mean()  # changes no row, but keeps digits
    of_seeds = (array[0].size * centred.reshape(len(array), -1).mean(axis=1) ** 2).sum()
    rows = [AnovaRow(block, len(array) - 1, float(of_seeds), None, None, None, None, None, None)]
    for size in range(1, array.ndim):
        for chosen in combinations(range(1, array.ndim), size):
            term = "×".join(factors[axis - 1] for axis in chosen)
            rows.append(_anova_row(term, _orthonormal_contrasts(centred, chosen), array))
    return tuple(rows)


def _orthonormal_contrasts(values: Array, chosen: Sequence[int]) -> Array:
    """The contrasts of the term of some axes, (seeds, degrees of freedom); over other axes, the scaled mean."""
    for axis in range(1, values.ndim):
        levels = values.shape[axis]
        helmert = linalg.helmert(levels) if axis in chosen else np.full((1, levels), levels**-0.5)
        values = np.moveaxis(np.tensordot(values, helmert, axes=(axis, 1)), -1, axis)
    return values.reshape(len(values), -1)


def _anova_row(term: str, contrasts: Array, array: Array) -> AnovaRow:
    n, df = contrasts.shape
    squares, errors = float(n * (contrasts.mean(axis=0) ** 2).sum()), float(n * contrasts.var(axis=0).sum())
    row = AnovaRow(term, df, squares, df * (n - 1), errors, None, None, None, None)
    if errors <= array.size * (EQUAL * np.abs(array).max()) ** 2:
        return row
    f = (squares / df) / (errors / row.df_error)
    covariance = np.atleast_2d(np.cov(contrasts, rowvar=False))
    epsilon = float(np.trace(covariance) ** 2 / (df * (covariance**2).sum()))
    p = float(stats.f.sf(f, epsilon * df, epsilon * row.df_error))
    return replace(row, f=f, epsilon=epsilon, p=p, partial_omega_squared=df * (f - 1) / (df * (f - 1) + array.size))


def interaction_contrasts(values: ArrayLike, factors: Sequence[str]) -> dict[str, Array]:
    """Every interaction of a two-level factorial as a contrast with one value per seed, (seeds,), keyed "freeze×clip".

    values (seeds, 2, …, 2), off before on. F×C is the effect of C with F on minus its effect with F off, averaged over
    the other factors; F×C×S is F×C with S on minus F×C with S off. Contrasts have the unit of the values.

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
    """Each factor's Shapley value, (seeds,): its part of the gain from all off to all on in a two-level factorial.

    values (seeds, 2, …, 2), off before on. A part is the gain when the factor is switched on, averaged over all orders
    of switching on; the parts sum to the total gain. Parts have the unit of the values.
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
