"""Scales on which claims are stated: differences, intervals and smallest effects are on the claim's scale.

`forward` converts recorded values to the scale, `back` inverts it, and `size` converts an effect as it is usually
stated (3 points; a ratio of 0.67 or 1.5) to a size > 0 on the scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ablate.config.checks import refusal
from analysis.stats.effects import Array


class Scale(Protocol):
    def forward(self, values: ArrayLike) -> Array: ...

    def back(self, values: ArrayLike) -> Array: ...

    def size(self, stated: float) -> float: ...


def _difference(stated: float) -> float:
    if not stated > 0:
        raise refusal("an effect", stated, "a difference above 0")
    return float(stated)


def _ratio(stated: float) -> float:
    if not 0 < stated < math.inf or stated == 1:
        raise refusal("an effect", stated, "a ratio above 0 other than 1")
    return abs(math.log(stated))


@dataclass(frozen=True)
class Raw:
    """Values as recorded: for slopes, and for contrasts that are differences already."""

    def forward(self, values: ArrayLike) -> Array:
        return np.asarray(values, dtype=float)

    def back(self, values: ArrayLike) -> Array:
        return np.asarray(values, dtype=float)

    def size(self, stated: float) -> float:
        return _difference(stated)


@dataclass(frozen=True)
class Points:
    """Shares in percentage points, 100 x."""

    def forward(self, values: ArrayLike) -> Array:
        return 100 * np.asarray(values, dtype=float)

    def back(self, values: ArrayLike) -> Array:
        return np.asarray(values, dtype=float) / 100

    def size(self, stated: float) -> float:
        return _difference(stated)


@dataclass(frozen=True)
class Log:
    """ln x of values x > 0: for variances, norms and losses. `back` of a difference is a ratio of geometric means.

    >>> float(Log().back(Log().forward(3.0) - Log().forward(1.5)))
    2.0
    """

    def forward(self, values: ArrayLike) -> Array:
        values = np.asarray(values, dtype=float)
        if not (values > 0).all():
            raise refusal("values on the log scale", values[~(values > 0)].flat[0], "above 0")
        return np.log(values)

    def back(self, values: ArrayLike) -> Array:
        return np.exp(np.asarray(values, dtype=float))

    def size(self, stated: float) -> float:
        """|ln r| of a ratio r, so that 0.5 and 2 are the same size.

        >>> Log().size(0.5) == Log().size(2) == math.log(2)
        True
        """
        return _ratio(stated)


@dataclass(frozen=True)
class Logit:
    """ln(p / (1 − p)) of shares p of `observations`; shares of 0 and 1 are first moved by half an observation.

    >>> float(Logit(300).back(Logit(300).forward(1.0))) * 300
    299.5
    """

    observations: int

    def __post_init__(self) -> None:
        if self.observations < 1:
            raise refusal("observations", self.observations, "at least 1")

    def forward(self, values: ArrayLike) -> Array:
        shares = np.asarray(values, dtype=float)
        allowed = (shares >= 0) & (shares <= 1)
        if not allowed.all():
            raise refusal("values on the logit scale", shares[~allowed].flat[0], "shares from 0 to 1")
        half = 0.5 / self.observations
        return special.logit(np.where(shares == 0, half, np.where(shares == 1, 1 - half, shares)))

    def back(self, values: ArrayLike) -> Array:
        return special.expit(np.asarray(values, dtype=float))

    def size(self, stated: float) -> float:
        """|ln r| of an odds ratio r."""
        return _ratio(stated)


SCALES: dict[str, Callable[[int], Scale]] = {
    "raw": lambda observations: Raw(),
    "points": lambda observations: Points(),
    "log": lambda observations: Log(),
    "logit": Logit,
}
"""Scales by name; each is made for the number of observations per value (the steps of a run)."""
