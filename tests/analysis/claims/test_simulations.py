"""Simulated studies reach a wrong verdict no more often than they may, also where the advice on seeds is followed.

Each study judges one claim. It is wrong if any of its looks says that an effect is there where the truth is 0 (*real*),
or that an effect is smaller than the smallest one of interest where it is not (*too small*). Either error lies in one
tail of a two-sided level.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from analysis.claims import answer
from analysis.claims.answer import agreed, skewed_words
from analysis.claims.looks import OPEN, Look, LookPlan, occasion
from analysis.claims.power import seeds_needed
from analysis.claims.verdict_rule import NEGATIVE, REAL, Alphas, Direction, Verdict, judge
from analysis.stats.effects import ALPHA, Array, Effect
from analysis.stats.skew import bootstrap_t

MOST = 60
"""Seeds at which a study that only follows the advice gives up."""

SMALLEST = 1.0
TOO_SMALL = {Verdict.SMALLER, *NEGATIVE}
DECIDED = {Verdict.SUPPORTED, *TOO_SMALL}
Noise = Callable[[np.random.Generator, int], Array]


def normal(rng: np.random.Generator, n: int) -> Array:
    return rng.normal(size=n)


def skewed_arms(rng: np.random.Generator, n: int) -> Array:
    """The difference of two lognormal arms, scaled to sd 1."""
    a, b = rng.lognormal(0, 0.8, (2, n))
    return (a - b) / np.sqrt(2 * np.expm1(0.64) * np.exp(0.64))


def discrete_arms(rng: np.random.Generator, n: int) -> Array:
    """The difference of two accuracies on 200 examples in points, scaled to sd 1."""
    a, b = rng.binomial(200, 0.8, (2, n)) / 2
    return (a - b) / np.sqrt(2 * 200 * 0.16 / 4)


def effect_of(differences: Array) -> Effect:
    """The effect without its sign flips, which the verdict does not need."""
    n, sd = len(differences), float(differences.std(ddof=1))
    if sd == 0:
        return Effect(float(differences.mean()), 0.0, n, None, None, 1.0, tuple(differences))
    t = float(differences.mean() / (sd / np.sqrt(n)))
    return Effect(float(differences.mean()), sd, n, t, float(2 * stats.t.sf(abs(t), n - 1)), 1.0, tuple(differences))


def word_of(effect: Effect, alpha: float, skew: bool) -> Verdict:
    alphas = Alphas.all_at(alpha)
    verdict = judge(effect.estimate, effect.interval, SMALLEST, Direction.ABOVE, alphas)
    if not skew:
        return verdict
    others = skewed_words(effect, SimpleNamespace(smallest=SMALLEST, direction=Direction.ABOVE), alphas)
    return agreed([verdict, *others.values()])


def looks_of(plan: LookPlan, differences: Array, skew: bool = False, peeks: bool = False) -> Iterator[Verdict]:
    """The verdicts of a study that follows its plan, or the advice on further seeds until there is a decision."""
    log: list[Look] = []
    n = 2 if peeks else plan.least
    while n <= len(differences):
        found = occasion(plan, "c", "A", "", tuple(range(n)), log, peeks)
        if found is None:
            n += 1
            continue
        effect = effect_of(differences[: found.n])
        word = word_of(effect, found.level(), skew)
        log.append(Look("c", "A", tuple(range(found.n)), word.value, "", found.kind))
        yield word
        if found.is_last:
            return
        if not plan.is_open:
            n = n + 1 if peeks else next(look for look in plan.looks if look > n)
            continue
        more = seeds_needed(effect, SMALLEST, found, 1).more
        if word in DECIDED or not more:
            return
        n += more


def wrong(
    plan: LookPlan, noise: Noise, studies: int, scale: float = 1.0, skew: bool = False, peeks: bool = False
) -> dict[str, float]:
    """Shares of studies that say *real* at a true effect of 0, and *too small* at the smallest effect."""
    rng, found = np.random.default_rng(0), Counter()
    for _ in range(studies):
        drawn = scale * noise(rng, MOST)
        found["real"] += any(word in REAL for word in looks_of(plan, drawn, skew, peeks))
        found["too small"] += any(word in TOO_SMALL for word in looks_of(plan, drawn + SMALLEST, skew, peeks))
    return {kind: found[kind] / studies for kind in ("real", "too small")}


PLANS = {
    "one look": LookPlan((10,), "obrien_fleming", 10),
    "planned, O'Brien-Fleming": LookPlan((5, 10, 20), "obrien_fleming", 5),
    "planned, Pocock": LookPlan((5, 10, 20), "pocock", 5),
    "planned, equal": LookPlan((5, 10, 20), "equal", 5),
    OPEN: LookPlan((), "obrien_fleming", 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_wrong_verdicts_are_rare(name):
    """One tail of .05 is .025; 600 studies tell .025 from .05 (binomial 99.9 % bound)."""
    rates = wrong(PLANS[name], normal, 600)
    assert max(rates.values()) <= stats.binom.ppf(0.999, 600, ALPHA / 2) / 600, rates


def test_peeking_spends_what_is_left():
    rates = wrong(LookPlan((10,), "obrien_fleming", 10), normal, 300, peeks=True)
    assert max(rates.values()) <= stats.binom.ppf(0.999, 300, ALPHA / 2) / 300, rates


@pytest.mark.slow
def test_without_a_plan_the_same_loop_is_often_wrong(monkeypatch):
    """The negative control: the whole alpha at each look, as in version 0.1."""
    monkeypatch.setattr("analysis.claims.looks.open_alpha", lambda k, alpha=ALPHA: alpha)
    rates = wrong(PLANS[OPEN], normal, 600, scale=2.0)
    assert max(rates.values()) > 1.8 * ALPHA / 2, rates


@pytest.mark.long
@pytest.mark.parametrize("noise", [normal, skewed_arms, discrete_arms], ids=lambda noise: noise.__name__)
@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_error_rates_in_many_studies(name, noise, scale, capsys):
    rates = wrong(PLANS[name], noise, 4000, scale)
    with capsys.disabled():
        print(f"| {name} | {noise.__name__} | {scale} | {rates['real']:.4f} | {rates['too small']:.4f} |")
    assert rates["real"] <= ALPHA and rates["too small"] <= ALPHA


@pytest.mark.long
@pytest.mark.parametrize("n", [3, 5, 10, 20])
@pytest.mark.parametrize("noise", [normal, skewed_arms, discrete_arms], ids=lambda noise: noise.__name__)
def test_error_rates_where_skewed_differences_need_three_methods(n, noise, monkeypatch, capsys):
    monkeypatch.setattr(answer, "bootstrap_t", partial(bootstrap_t, resamples=1999))
    rates = wrong(LookPlan((n,), "obrien_fleming", n), noise, 1000, skew=True)
    with capsys.disabled():
        print(f"| one look at {n} | {noise.__name__} | 1 | {rates['real']:.4f} | {rates['too small']:.4f} |")
    assert rates["real"] <= ALPHA and rates["too small"] <= ALPHA
