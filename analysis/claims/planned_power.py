"""The power of each claim of a study that is being planned, at its smallest effect of interest.

The standard deviation of the differences comes from the runs that the study has already; their mean is not looked at.
"""

from collections.abc import Iterator

from analysis.claims.evidence import Context, inquire, weigh
from analysis.claims.looks import PLANNED, LookPlan, Occasion
from analysis.claims.power import LEAST_POWER, power_at
from analysis.claims.reading import Claims, Question
from analysis.quantities.outcomes import outcomes
from analysis.records.study import Study
from analysis.stats.effects import ALPHA, Estimate, detectable, power_of_t

SEEDS_FOR_A_SPREAD = 3
"""Fewest seeds from which a standard deviation is taken."""


def power_lines(claims: Claims, study: Study | None) -> list[str]:
    """One line per claim, or part of one, that names a smallest effect; `study`: its runs so far, if there are any."""
    found = []
    for question, plan in asked(claims):
        n = (plan.looks or (plan.least,))[-1]
        alpha = Occasion(plan, PLANNED, max(1, len(plan.looks)), n).level(ALPHA / claims.judged)
        effect = effect_so_far(question, claims, study)
        power = power_at(effect, question.smallest, n, alpha)
        if power is None:
            found.append(f"claim {question.id}: {where_power_is_low(question, n, alpha)}")
        else:
            low = ", which is low: add seeds, or ask for a larger effect" if power < LEAST_POWER else ""
            found.append(f"claim {question.id}: {n} seeds detect its smallest effect with {power:.0%} power{low}")
    return found


def asked(claims: Claims) -> Iterator[tuple[Question, LookPlan]]:
    """The tested questions that name a smallest effect, each with the looks of its claim."""
    for claim in claims.claims:
        for question in claim.questions:
            if question.contrast.tested and question.smallest is not None:
                yield question, claim.looks


def effect_so_far(question: Question, claims: Claims, study: Study | None) -> Estimate | None:
    """The effect of the runs so far, for its spread; None with too few seeds."""
    if study is None or study.runs.empty:
        return None
    context = Context(study, outcomes(study, {question.measured}), claims.command)
    inquiry = inquire(question, None, context)
    return weigh(inquiry).best if len(inquiry.present) >= SEEDS_FOR_A_SPREAD else None


def where_power_is_low(question: Question, n: int, alpha: float) -> str:
    """The spread of the differences from which the power is below LEAST_POWER."""
    if n < 2:
        return "one seed detects nothing"
    sds = detectable(lambda d: power_of_t(d, n, alpha), LEAST_POWER)
    limit = question.smallest / sds
    spread = f"the differences between seeds have an sd below {limit:.3g} on the {question.scale} scale"
    return f"{n} seeds detect its smallest effect with at least {LEAST_POWER:.0%} power if {spread}"
