"""One word for what a study says of a claim, and how many seeds would say more.

Estimates, intervals and smallest effects are differences on the claim's stated scale (`analysis.stats.effects`);
the intervals are simultaneous over all judged claims.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from analysis.stats.effects import (
    ALPHA,
    MOST_SEEDS,
    POWER,
    Effect,
    Interval,
    detectable,
    simultaneous_level,
    smallest_n,
)
from analysis.stats.variances import VarianceRatio


class Verdict(Enum):
    SUPPORTED = "supported"
    SMALLER = "smaller than claimed"
    UNDECIDED = "real, size undecided"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    NOT_TESTED = "not tested"


class Direction(Enum):
    """Where a claim says that its effect lies: above 0, below 0, or on either side."""

    ABOVE = ">"
    BELOW = "<"
    EITHER = "≠"

    def turn(self, estimate: float, interval: Interval) -> tuple[float, float, float]:
        """Δ, lo, hi with the claimed direction as the positive one; for EITHER, that of the estimate."""
        if self is Direction.BELOW or (self is Direction.EITHER and estimate < 0):
            return -estimate, -interval.high, -interval.low
        return estimate, interval.low, interval.high


def judge(
    estimate: float | None,
    interval: Interval | None,
    smallest: float | None,
    direction: Direction,
    n: int,
    planned: int,
) -> Verdict:
    """The verdict on one effect Δ with its simultaneous interval [lo, hi], s = `smallest` effect of interest.

    supported              lo > 0 and Δ ≥ s; without s, lo > 0
    smaller than claimed   lo > 0 and hi < s
    real, size undecided   lo > 0 and Δ < s ≤ hi
    refuted                lo ≤ 0 and hi < s; without s, hi < 0
    not tested             no estimate (arms missing), or n < planned seeds
    inconclusive           the rest; also an estimate without an interval (all differences equal)

    Δ, lo and hi count in the claimed direction, s > 0 is a size in that direction. A claim on EITHER side
    without s is supported or inconclusive, never refuted. Raises ValueError for s ≤ 0 and planned < 1.

    >>> judge(-0.6, Interval(-0.9, -0.3, 0.95), 0.4, Direction.BELOW, n=10, planned=10).value
    'supported'
    """
    _check_size(smallest)
    if planned < 1:
        raise ValueError(f"planned = {planned} seeds; at least 1 is allowed")
    if estimate is None or n < planned:
        return Verdict.NOT_TESTED
    if interval is None:
        return Verdict.INCONCLUSIVE
    delta, low, high = direction.turn(estimate, interval)
    if low > 0:
        if smallest is None or delta >= smallest:
            return Verdict.SUPPORTED
        return Verdict.SMALLER if high < smallest else Verdict.UNDECIDED
    return Verdict.REFUTED if high < (smallest or 0.0) else Verdict.INCONCLUSIVE


def _check_size(smallest: float | None) -> None:
    if smallest is not None and not smallest > 0:
        raise ValueError(f"smallest effect = {smallest}; a size > 0 in the claimed direction is allowed")


def all_of(parts: Collection[Verdict]) -> Verdict:
    """A claim that says all of its required parts: refuted if any is, supported if all are.

    Smaller than claimed where all effects are real and any of them is smaller; not tested where a part is not
    and none is refuted; otherwise inconclusive.
    """
    _check_parts(parts)
    real = {Verdict.SUPPORTED, Verdict.SMALLER, Verdict.UNDECIDED}
    if Verdict.REFUTED in parts:
        return Verdict.REFUTED
    if Verdict.NOT_TESTED in parts:
        return Verdict.NOT_TESTED
    if set(parts) == {Verdict.SUPPORTED}:
        return Verdict.SUPPORTED
    if set(parts) <= real and Verdict.SMALLER in parts:
        return Verdict.SMALLER
    return Verdict.INCONCLUSIVE


def any_of(parts: Collection[Verdict]) -> Verdict:
    """A claim that says at least one of k parts: supported if one is, never refuted.

    The parts' intervals must be simultaneous over k times the judged claims: then this agrees with
    p = k · the smallest.
    """
    _check_parts(parts)
    if Verdict.SUPPORTED in parts:
        return Verdict.SUPPORTED
    return Verdict.NOT_TESTED if Verdict.NOT_TESTED in parts else Verdict.INCONCLUSIVE


def agreed(with_unlearned: Verdict, without: Verdict) -> Verdict:
    """The verdict on all runs if it is the same without those that did not learn, else inconclusive."""
    return with_unlearned if with_unlearned is without else Verdict.INCONCLUSIVE


def _check_parts(parts: Collection[Verdict]) -> None:
    if not parts:
        raise ValueError("parts = (); at least one part is allowed")


@dataclass(frozen=True)
class FurtherSeeds:
    """`needed` seeds in all, `further` of them still to run, and why.

    Both are None where no number of seeds is asked for or none would do; `reason` says which.
    `detectable`, for a claim without s: the effect, on its scale, that the present n finds with 80 % power.
    """

    needed: int | None
    further: int | None
    detectable: float | None
    reason: str


def further_seeds(
    effect: Effect | VarianceRatio, smallest: float | None, direction: Direction, judged: int
) -> FurtherSeeds:
    """How many seeds would settle one of `judged` claims, if they vary as the present ones do.

    lo > 0: the smallest n whose simultaneous half-width is below |Δ − s|. Otherwise the n for 80 % power of
    lo > 0 at a true effect s; where the present seeds have that already, the smallest n whose half-width tells Δ
    from 0 or from s, whichever is farther. Without s: the effect that could be detected. Raises ValueError for s ≤ 0.
    """
    _check_size(smallest)
    level, alpha = simultaneous_level(judged), ALPHA / judged
    interval = effect.interval(level)
    if interval is None:
        return FurtherSeeds(None, None, None, "all differences are equal: their spread is not known")
    if smallest is None:
        size = detectable(lambda size: effect.power(size, effect.n, alpha))
        found = f"{effect.n} seeds find {size:.3g}, on the claim's scale, with {POWER:.0%} power"
        return FurtherSeeds(None, None, size, f"no smallest effect is claimed: {found}")
    delta, low, high = direction.turn(effect.estimate, interval)
    if low > 0:
        gap = abs(delta - smallest)
        needed = smallest_n(lambda n: effect.half_width(level, n) < gap, effect.least_n)
        reason = "an interval that tells the effect from the smallest of interest"
    else:
        needed = smallest_n(lambda n: effect.power(smallest, n, alpha) >= POWER, effect.least_n)
        reason = f"{POWER:.0%} power to find the smallest effect of interest"
        if needed is not None and needed <= effect.n and high >= smallest:  # enough, had it been so large
            gap = max(abs(delta), abs(delta - smallest))
            needed = smallest_n(lambda n: effect.half_width(level, n) < gap, effect.least_n)
            reason = "an interval that tells the effect from none or from the smallest of interest"
    if needed is None:
        return FurtherSeeds(None, None, None, f"more than {MOST_SEEDS:,} seeds: {reason}")
    return FurtherSeeds(needed, max(0, needed - effect.n), None, reason)
