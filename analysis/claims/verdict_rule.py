"""The rule that turns an effect and its intervals into a verdict.

Estimates, intervals and smallest effects are differences on the claim's scale (`analysis.stats.effects`). The levels
at which an effect is compared with 0 and with the smallest effect come from `analysis.claims.multiplicity`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum

from ablate.config.checks import refusal
from analysis.stats.interval import Interval


class Verdict(Enum):
    SUPPORTED = "supported"
    SMALLER = "smaller than claimed"
    UNDECIDED = "real, size undecided"
    EQUIVALENT = "equivalent"
    RULED_OUT = "ruled out"
    OPPOSITE = "opposite"
    INCONCLUSIVE = "inconclusive"
    NOT_TESTED = "not tested"


REAL = frozenset({Verdict.SUPPORTED, Verdict.SMALLER, Verdict.UNDECIDED})
"""Verdicts of an effect that is there, in the claimed direction."""

NEGATIVE = (Verdict.OPPOSITE, Verdict.RULED_OUT, Verdict.EQUIVALENT)
"""Verdicts of an effect as large as claimed that is not there, the strongest first."""


class Direction(Enum):
    """The claimed sign of an effect: above 0, below 0, or either."""

    ABOVE = ">"
    BELOW = "<"
    EITHER = "≠"

    def sign(self, estimate: float) -> int:
        """1 where the claimed direction is up, −1 where it is down; EITHER claims the estimate's own direction."""
        return -1 if self is Direction.BELOW or (self is Direction.EITHER and estimate < 0) else 1

    def turn(self, estimate: float, interval: Interval) -> tuple[float, float, float]:
        """Δ, lo and hi with the claimed direction as the positive one."""
        if self.sign(estimate) < 0:
            return -estimate, -interval.high, -interval.low
        return estimate, interval.low, interval.high


@dataclass(frozen=True)
class Alphas:
    """Two-sided levels at which the word on an effect is chosen.

    real      for lo > 0: the effect is there
    opposite  for hi < 0: the effect goes the other way
    size      for hi < s and lo > −s: an effect as large as s is not there
    """

    real: float
    opposite: float
    size: float

    @classmethod
    def all_at(cls, alpha: float) -> Alphas:
        return cls(alpha, alpha, alpha)


def judge(
    estimate: float,
    interval: Callable[[float], Interval | None],
    smallest: float | None,
    direction: Direction,
    alphas: Alphas,
) -> Verdict:
    """The verdict on an effect Δ, where s is the `smallest` effect of interest and `interval` gives [lo, hi] by level.

    supported              lo > 0 and Δ ≥ s; without s, lo > 0
    smaller than claimed   lo > 0 and hi < s
    real, size undecided   lo > 0 and Δ < s ≤ hi
    opposite               hi < 0
    equivalent             −s < lo ≤ 0 ≤ hi < s
    ruled out              lo ≤ −s and 0 ≤ hi < s
    inconclusive           otherwise, and for an estimate without an interval (all differences are equal)

    Δ, lo and hi are positive in the claimed direction, and s > 0 is a size in that direction. Without s a claim is
    never equivalent and never ruled out. Each comparison has its own level (`Alphas`): two one-sided tests of
    −s < Δ < s are those of Lakens 2017 (Soc. Psychol. Personal. Sci. 8:355). Raises ValueError for s ≤ 0.

    >>> at = lambda level: Interval(-0.9, -0.3, level)
    >>> judge(-0.6, at, 0.4, Direction.BELOW, Alphas.all_at(0.05)).value
    'supported'
    """
    if smallest is not None and not smallest > 0:
        raise refusal("smallest effect", smallest, "a size above 0 in the claimed direction")
    found = [interval(1 - alpha) for alpha in (alphas.real, alphas.opposite, alphas.size)]
    if None in found:
        return Verdict.INCONCLUSIVE
    (delta, low, _), (_, _, high), (_, floor, ceiling) = (direction.turn(estimate, each) for each in found)
    if low > 0:
        if smallest is None or delta >= smallest:
            return Verdict.SUPPORTED
        return Verdict.SMALLER if ceiling < smallest else Verdict.UNDECIDED
    if high < 0:
        return Verdict.OPPOSITE
    if smallest is None or ceiling >= smallest:
        return Verdict.INCONCLUSIVE
    return Verdict.EQUIVALENT if floor > -smallest else Verdict.RULED_OUT


def all_of(parts: Collection[Verdict]) -> Verdict:
    """The verdict on a claim that requires all of its parts.

    It is opposite, ruled out or equivalent if any part is, not tested if a part is not, and supported if all are.
    Where all effects are there it is smaller than claimed if one is, else of undecided size.
    """
    _check_parts(parts)
    for word in (*NEGATIVE, Verdict.NOT_TESTED):
        if word in parts:
            return word
    if not set(parts) <= REAL:
        return Verdict.INCONCLUSIVE
    return next(word for word in (Verdict.SMALLER, Verdict.UNDECIDED, Verdict.SUPPORTED) if word in parts)


def any_of(parts: Collection[Verdict]) -> Verdict:
    """The verdict on a claim that requires at least one of k parts, each judged at 1/k of the level.

    It is supported if one part is, of undecided size if one effect is there, and equivalent only if all parts are.
    """
    _check_parts(parts)
    if Verdict.SUPPORTED in parts:
        return Verdict.SUPPORTED
    if Verdict.NOT_TESTED in parts:
        return Verdict.NOT_TESTED
    if REAL & set(parts):
        small = {Verdict.SMALLER, *NEGATIVE}
        return Verdict.SMALLER if set(parts) <= small else Verdict.UNDECIDED
    return Verdict.EQUIVALENT if set(parts) == {Verdict.EQUIVALENT} else Verdict.INCONCLUSIVE


def _check_parts(parts: Collection[Verdict]) -> None:
    if not parts:
        raise refusal("parts", "none", "at least one verdict")
