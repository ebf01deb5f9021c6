"""The power of a study to detect a claim's smallest effect, and how many seeds a decision needs.

The number of seeds follows from the standard deviation of the differences and the smallest effect alone, never from
the effect that was seen: seeds that are added because an effect is nearly significant raise the rate of wrong verdicts.
"""

from dataclasses import dataclass

from ablate.config.wording import count
from analysis.claims.looks import Occasion
from analysis.stats.effects import ALPHA, MOST_SEEDS, POWER, Estimate, detectable, smallest_n

LEAST_POWER = 0.5
"""Power below which a study's claim is called underpowered."""


@dataclass(frozen=True)
class SeedsNeeded:
    """How many seeds a decision needs: `total`, `more` than the study has, and a sentence.

    Both are None where the claim names no smallest effect or no number of seeds suffices.
    """

    total: int | None
    more: int | None
    note: str


def power_at(effect: Estimate | None, smallest: float | None, n: int, alpha: float) -> float | None:
    """The power of n seeds to detect a true effect `smallest` at level `alpha`; None without either."""
    if effect is None or smallest is None or effect.p is None or n < effect.least_n:
        return None
    return effect.power(smallest, n, alpha)


def seeds_needed(effect: Estimate, smallest: float | None, now: Occasion, judged: int) -> SeedsNeeded:
    """The smallest n with 80 % power at `smallest` at the level of the next look for one of `judged` claims.

    New seeds are taken to vary as the present ones do (Stein 1945, Ann. Math. Stat. 16:243, for one look). Without a
    smallest effect, the effect that the present seeds detect is given.
    """
    if effect.interval() is None:
        reason = (
            "one pair has no spread" if effect.n == 1 else f"all {effect.n} differences are equal, without a spread"
        )
        return SeedsNeeded(None, None, f"no interval, no p value, and the seeds needed are unknown: {reason}")
    if smallest is None:
        size = detectable(lambda size: effect.power(size, effect.n, now.level(ALPHA / judged)))
        found = f"{effect.n} seeds detect an effect of {size:.3g} on the claim's scale with {POWER:.0%} power"
        return SeedsNeeded(None, None, f"the claim names no smallest effect; {found}")
    alpha = now.following().level(ALPHA / judged)
    needed = smallest_n(lambda n: effect.power(smallest, n, alpha) >= POWER, effect.least_n)
    target = f"{POWER:.0%} power to detect the smallest effect of interest"
    if needed is None:
        return SeedsNeeded(None, None, f"{target} needs more than {MOST_SEEDS:,} seeds, or more test examples")
    more = max(0, needed - effect.n)
    if more == 0:
        return SeedsNeeded(needed, 0, f"no further seeds are planned: {effect.n} seeds have {target}")
    are = "is" if more == 1 else "are"
    if now.is_last:
        how = f"; they would be exploratory: a study of new seeds with looks: [{needed}] would decide"
    else:
        how = ""
    return SeedsNeeded(needed, more, f"about {count(more, 'more seed')} {are} needed for {target}{how}")
