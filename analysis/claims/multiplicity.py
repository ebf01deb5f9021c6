"""The level at which each claim of a file is judged, such that all claims together err at most with the look's level.

A wrong verdict is one of three: an effect that is not there is called real, a real one is said to go the other way, or
an effect as large as the smallest one of interest is said to be smaller. Each kind is a family of tests of its own,
one per claim, and Holm's step-down procedure keeps its familywise error rate. In both tails of a two-sided level α
each kind errs with α/2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.claims.verdict_rule import Direction
from analysis.stats.effects import Estimate


@dataclass(frozen=True)
class Ps:
    """Two-sided p values, twice those of the tail, of one effect or of one claim.

    real      of the null Δ ≤ 0 in the claimed direction
    opposite  of the null Δ ≥ 0
    size      of the null Δ ≥ s; 1 without a smallest effect
    """

    real: float = 1.0
    opposite: float = 1.0
    size: float = 1.0


def ps_of(effect: Estimate | None, smallest: float | None, direction: Direction) -> Ps:
    """The p values of an effect; all 1 where there is no spread to test it with."""
    if effect is None or effect.p_against(0.0) is None:
        return Ps()
    sign = direction.sign(effect.estimate)

    def above(value: float) -> float:  # of the null Δ ≤ value
        p = effect.p_against(sign * value)
        assert p is not None
        return p if sign * effect.estimate > value else 1.0

    def below(value: float) -> float:  # of the null Δ ≥ value
        p = effect.p_against(sign * value)
        assert p is not None
        return p if sign * effect.estimate < value else 1.0

    return Ps(above(0.0), below(0.0), 1.0 if smallest is None else below(smallest))


def all_required(parts: Sequence[Ps]) -> Ps:
    """The p values of a claim that requires k parts.

    It is real if all parts are, so the largest p counts; it fails if any part fails, so k times the smallest does.
    """
    k = len(parts)
    return Ps(
        real=max(part.real for part in parts),
        opposite=min(1.0, k * min(part.opposite for part in parts)),
        size=min(1.0, k * min(part.size for part in parts)),
    )


def best_of(parts: Sequence[Ps]) -> Ps:
    """The p values of a claim that requires one of k effects: k times the smallest that the effect is there.

    It is said to fail only where all effects are small, so the largest p counts for its size.
    """
    k = len(parts)
    return Ps(real=min(1.0, k * min(part.real for part in parts)), size=max(part.size for part in parts))


def sharing_claims(ps: Sequence[float], level: Callable[[int, int], float]) -> list[int]:
    """For each claim the number of claims with which it shares the error rate, by Holm's step-down procedure.

    Args: `ps`, one per claim; `level(i, j)`, the level of claim i where j claims share the error rate.
    While the p of a claim is below its level it is rejected, and the others share what is left. A claim that is not
    rejected shares with those that are left at the end. With levels α / j this is Holm 1979 (Scand. J. Stat. 6:65);
    with levels that depend on each claim's look, the sequentially rejective procedure of Maurer & Bretz 2013 (Stat.
    Biopharm. Res. 5:311) with equal weights.

    >>> sharing_claims([0.001, 0.2, 0.03], lambda i, j: 0.06 / j)
    [3, 2, 2]
    """
    left, sharing = set(range(len(ps))), {}
    while left:
        rejected = {i for i in left if ps[i] < level(i, len(left))}
        done = {min(rejected, key=lambda i: ps[i])} if rejected else left
        sharing |= dict.fromkeys(done, len(left))
        left = left - done
    return [sharing[i] for i in range(len(ps))]
