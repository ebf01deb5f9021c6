"""Complete factorials over seeds: blocked analysis of variance, interaction contrasts, Shapley values of a gain.

Values are (seeds, levels of factor 1, levels of factor 2, …), one number per run, on the claim's scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from math import factorial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

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
    """A row of the table; `f`, `p` and `partial_omega_squared` are None for the residual, and where that is 0."""

    term: str
    df: int
    sum_of_squares: float
    f: float | None
    p: float | None
    partial_omega_squared: float | None


def blocked_anova(values: ArrayLike, factors: Sequence[str], block: str = "seed") -> tuple[AnovaRow, ...]:
    """Analysis of variance of a complete factorial with the seed as block and fixed factors.

    values (seeds, levels of factor 1, levels of factor 2, …). The rows are the block, the factors, their interactions
    ("freeze×clip") and "residual" (block × cells, with (seeds − 1)(cells − 1) degrees of freedom). Partial
    ω² = df (F − 1) / (df (F − 1) + N), where N counts all values; it is not cut at 0, so that it averages about 0
    for pure noise. Raises ValueError for an incomplete factorial. Olejnik & Algina 2003, Psychol. Methods 8:434.
    """
    array = _factorial(values, factors)
    # Columns get names of our own: in a formula, a factor called C, Q or I would be read as the function of that name.
    columns = ["f0", *(f"f{i}" for i in range(1, array.ndim))]
    frame = pd.DataFrame(dict(zip(columns, (i.ravel() for i in np.indices(array.shape)), strict=True)))
    # The grand mean changes no row, but subtracting it keeps digits of precision.
    frame["y"] = (array - array.mean()).ravel()
    terms = {"C(f0)": block}
    for size in range(1, array.ndim):
        for chosen in combinations(range(1, array.ndim), size):
            terms[":".join(f"C(f{i})" for i in chosen)] = "×".join(factors[i - 1] for i in chosen)
    table = anova_lm(ols("y ~ " + " + ".join(terms), frame).fit()).rename(index=terms | {"Residual": "residual"})
    noise = float(table.loc["residual", "sum_sq"]) > array.size * (EQUAL * np.abs(array).max()) ** 2
    return tuple(_anova_row(term, line, array.size, noise) for term, line in table.iterrows())


def _anova_row(term: str, line: pd.Series, size: int, noise: bool) -> AnovaRow:
    df, squares, f, p = int(line["df"]), float(line["sum_sq"]), float(line["F"]), float(line["PR(>F)"])
    if term == "residual" or not noise:
        return AnovaRow(term, df, squares, None, None, None)
    return AnovaRow(term, df, squares, f, p, df * (f - 1) / (df * (f - 1) + size))


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
