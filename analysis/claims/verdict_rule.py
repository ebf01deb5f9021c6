"""The rule that turns an effect's interval into a verdict, and the number of seeds that a decision needs.

Estimates, intervals and smallest effects are differences on the claim's scale (`analysis.stats.effects`). The
intervals are simultaneous over all judged claims.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from ablate.config.checks import refusal
from ablate.config.wording import count
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
    """The claimed sign of an effect: above 0, below 0, or either."""

    ABOVE = ">"
    BELOW = "<"
    EITHER = "≠"

    def turn(self, estimate: float, interval: Interval) -> tuple[float, float, float]:
        """Δ, lo and hi with the claimed direction as the positive one; for EITHER, the estimate's direction."""
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
    """The verdict on an effect Δ with its simultaneous interval [lo, hi], where s is the `smallest` effect of interest.

    supported              lo > 0 and Δ ≥ s; without s, lo > 0
    smaller than claimed   lo > 0 and hi < s
    real, size undecided   lo > 0 and Δ < s ≤ hi
    refuted                lo ≤ 0 and hi < s; without s, hi < 0
    not tested             no estimate (arms are missing), or n < planned seeds
    inconclusive           otherwise, and for an estimate without an interval (all differences are equal)

    Δ, lo and hi are positive in the claimed direction, and s > 0 is a size in that direction. A claim with direction
    EITHER and without s is supported or inconclusive, never refuted. Raises ValueError for s ≤ 0 and planned < 1.

    >>> judge(-0.6, Interval(-0.9, -0.3, 0.95), 0.4, Direction.BELOW, n=10, planned=10).value
    'supported'
    """
    _check_size(smallest)
    if planned < 1:
        raise refusal("planned", planned, "a number of seeds, at least 1")
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
        raise refusal("smallest effect", smallest, "a size above 0 in the claimed direction")


def all_of(parts: Collection[Verdict]) -> Verdict:
    """The verdict on a claim that requires all of its parts: refuted if any is, supported if all are.

    It is not tested where a part is not tested and none is refuted, smaller than claimed where all effects are real
    and at least one is smaller, and otherwise inconclusive.
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
    """The verdict on a claim that requires at least one of k parts: supported if one is, never refuted.

    The parts' intervals must be simultaneous over k times the judged claims; the verdict then agrees with a p value
    of k times the smallest p.
    """
    _check_parts(parts)
    if Verdict.SUPPORTED in parts:
        return Verdict.SUPPORTED
    return Verdict.NOT_TESTED if Verdict.NOT_TESTED in parts else Verdict.INCONCLUSIVE


def agreed(with_unlearned: Verdict, without: Verdict) -> Verdict:
    """The verdict on all runs if the verdict without the runs that did not learn is the same, else inconclusive."""
    return with_unlearned if with_unlearned is without else Verdict.INCONCLUSIVE


def _check_parts(parts: Collection[Verdict]) -> None:
    if not parts:
        raise refusal("parts", "none", "at least one verdict")


@dataclass(frozen=True)
class SeedsNeeded:
    """How many seeds a decision needs: `total`, and `more` than the study has.

    Both are None where the claim sets no target or no number of seeds suffices. `note` is a sentence with the number
    and the target, or with the reason for None. `detectable`, for a claim without a smallest effect: the effect, on
    the claim's scale, that the present seeds detect with 80 % power.
    """

    total: int | None
    more: int | None
    detectable: float | None
    note: str


def seeds_needed(
    effect: Effect | VarianceRatio, smallest: float | None, direction: Direction, judged: int
) -> SeedsNeeded:
    """The seeds that a decision on one of `judged` claims needs if new seeds vary as the present ones do.

    For lo > 0: the smallest n whose simultaneous half-width is below |Δ − s|. Otherwise: the n for 80 % power to reach
    lo > 0 at a true effect s; where the present seeds already have that power, the smallest n whose half-width
    separates Δ from 0 or from s, whichever is farther. Without s: the detectable effect. Raises ValueError for s ≤ 0.
    """
    _check_size(smallest)
    level, alpha = simultaneous_level(judged), ALPHA / judged
    interval = effect.interval(level)
    if interval is None:
        reason = (
            "one pair has no spread" if effect.n == 1 else f"all {effect.n} differences are equal, without a spread"
        )
        return SeedsNeeded(None, None, None, f"no interval, no p value, and the seeds needed are unknown: {reason}")
    if smallest is None:
        size = detectable(lambda size: effect.power(size, effect.n, alpha))
        found = f"{effect.n} seeds detect an effect of {size:.3g} on the claim's scale with {POWER:.0%} power"
        return SeedsNeeded(None, None, size, f"the claim names no smallest effect; {found}")
    delta, low, high = direction.turn(effect.estimate, interval)
    if low > 0:
        gap = abs(delta - smallest)
        needed = smallest_n(lambda n: effect.half_width(level, n) < gap, effect.least_n)
        target = "an interval that separates the effect from the smallest effect of interest"
    else:
        needed = smallest_n(lambda n: effect.power(smallest, n, alpha) >= POWER, effect.least_n)
        target = f"{POWER:.0%} power to detect the smallest effect of interest"
        if needed is not None and needed <= effect.n and high >= smallest:  # the power is there, the decision is not
            gap = max(abs(delta), abs(delta - smallest))
            needed = smallest_n(lambda n: effect.half_width(level, n) < gap, effect.least_n)
            target = "an interval that separates the effect from 0 or from the smallest effect of interest"
    if needed is None:
        return SeedsNeeded(None, None, None, f"a decision needs more than {MOST_SEEDS:,} seeds: {target}")
    more = max(0, needed - effect.n)
    are = "is" if more == 1 else "are"
    return SeedsNeeded(needed, more, None, f"about {count(more, 'more seed')} {are} needed for a decision: {target}")
