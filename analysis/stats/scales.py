"""The scales on which claims are stated: differences, intervals and smallest effects stand on them.

`forward` takes values as they were recorded onto the scale, `back` undoes it, `size` takes an effect as
people tell it (3 points; a ratio of 0.67, or of 1.5) to a size > 0 on the scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from analysis.stats.effects import Array


class Scale(Protocol):
    def forward(self, values: ArrayLike) -> Array: ...

    def back(self, values: ArrayLike) -> Array: ...

    def size(self, told: float) -> float: ...


def _difference(told: float) -> float:
    if not told > 0:
        raise ValueError(f"{told} is no size; a difference > 0 is allowed")
    return float(told)


def _ratio(told: float) -> float:
    if not 0 < told < math.inf or told == 1:
        raise ValueError(f"{told} is no size; a ratio > 0, other than 1, is allowed")
    return abs(math.log(told))


@dataclass(frozen=True)
class Raw:
    """x as it is: slopes, contrasts that are differences already."""

    def forward(self, values: ArrayLike) -> Array:
        return np.asarray(values, dtype=float)

    def back(self, values: ArrayLike) -> Array:
        return np.asarray(values, dtype=float)

    def size(self, told: float) -> float:
        return _difference(told)


@dataclass(frozen=True)
class Points:
    """Shares in percentage points, 100 x: accuracies."""

    def forward(self, values: ArrayLike) -> Array:
        return 100 * np.asarray(values, dtype=float)

    def back(self, values: ArrayLike) -> Array:
        return np.asarray(values, dtype=float) / 100

    def size(self, told: float) -> float:
        return _difference(told)


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

    def size(self, told: float) -> float:
        """|ln r| of a ratio r: 0.5 and 2 are the same size.

        >>> Log().size(0.5) == Log().size(2) == math.log(2)
        True
        """
        return _ratio(told)


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

    def size(self, told: float) -> float:
        """|ln r| of a ratio r of odds."""
        return _ratio(told)


SCALES: dict[str, Callable[[int], Scale]] = {
    "raw": lambda observations: Raw(),
    "points": lambda observations: Points(),
    "log": lambda observations: Log(),
    "logit": Logit,
}
"""Name -> the scale of quantities that are made of so many observations each (the steps of a run)."""
