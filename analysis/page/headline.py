"""The answer of a report: which technique changes the metric, by how much, how sure that is, and what to do next.

The page opens with it, and the terminal ends with it; `first_sentence` alone is for closing tables.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ablate.config.wording import count
from analysis.claims.comparison import reference_arm
from analysis.claims.contrasts import Tuned
from analysis.claims.finding import Finding
from analysis.claims.pairing import Refused
from analysis.claims.reading import Claims
from analysis.claims.verdict_rule import Verdict
from analysis.page.effect_sentences import (
    MOST_ARMS,
    RATIOS,
    effects_sentence,
    lead_sentence,
    others_sentences,
    sure_sentences,
)
from analysis.page.metric_effects import MetricEffects, metric_effects
from analysis.page.sentences import tally
from analysis.page.what_next import NextStep, next_step, why_differences_wait
from analysis.quantities.measure import measure
from analysis.quantities.recorded import use_quantities_of
from analysis.quantities.registry import REGISTRY, Quantity, of_kind
from analysis.records.arms import ranges
from analysis.records.short_names import short_names
from analysis.records.study import Study
from analysis.stats.scales import SCALES
from analysis.tables.ablation import ablation
from analysis.tables.all import reference_of
from analysis.tables.formats import Table
from analysis.tables.numbers import ratio_text, rounded


@dataclass(frozen=True)
class StudyAnswer:
    """What a study shows.

    lead    the first sentence: which techniques change the metric
    more    further sentences: the effects with their intervals, other differences, the claims, how sure it is
    next    what to do next
    found   the effects that the sentences are on; None where nothing is compared
    is_on_claims  whether the claims are the answer, because they tune the arms: one by one, the points of a grid say
                  nothing about a technique
    """

    lead: str
    more: tuple[str, ...]
    next: NextStep
    found: MetricEffects | None = None
    is_on_claims: bool = False

    @property
    def text(self) -> str:
        """All of it: one line for what is shown, one for what comes next, then the command for that."""
        shown = " ".join(filter(None, (self.lead, *self.more)))
        return "\n".join(filter(None, (shown, self.next.sentence, self.next.command)))

    @property
    def brief(self) -> str:
        """The first sentence, what to do next, and the command for that: a line each."""
        return "\n".join(filter(None, (self.lead, self.next.sentence, self.next.command)))


def headline(study: Study, claims: Claims, findings: Sequence[Finding], table: Table | None = None) -> str:
    """The answer as text, for a terminal."""
    return answer(study, claims, findings, table).text


def first_sentence(study: Study, claims: Claims, findings: Sequence[Finding], table: Table | None = None) -> str:
    """The first sentence of the answer: which techniques change the metric, and by how much."""
    return answer(study, claims, findings, table).lead


def answer(study: Study, claims: Claims, findings: Sequence[Finding], table: Table | None = None) -> StudyAnswer:
    """What a study shows, and what to do next; `table`: its ablation table, if it is made already."""
    use_quantities_of(study, claims.metrics.quantities)
    following = next_step(study, claims, findings)
    judged = () if claims.compare is not None else (claims_sentence(findings),)
    where = (table_sentence(study),) if study.table is not None else ()
    if len(study.arms) == 1:
        return StudyAnswer(
            f"There is one arm only ({next(iter(study.arms))}), so nothing is compared.", judged, following
        )
    if study.runs["seed"].nunique() == 1 and claims.compare is not None:
        chance = "One seed cannot separate a difference from chance."
        return StudyAnswer(chance, (one_seed_sentence(study, claims), *where), following)
    waits = why_differences_wait(study, claims)
    if waits and all(finding.verdict is Verdict.NOT_TESTED for finding in findings):
        return StudyAnswer(
            "No difference is shown before the planned number of seeds.", (f"{waits}.", *judged), following
        )
    if any(isinstance(question.contrast, Tuned) for question in claims.questions):
        return StudyAnswer(tally_sentence(findings), where, following, is_on_claims=True)
    found = metric_effects(study, claims, findings, table or made_table(study, claims))
    if found is None:
        return StudyAnswer(judged[0] if judged else "Nothing could be compared.", where, following)
    more = (effects_sentence(found), *others_sentences(found), *sure_sentences(found, study), *judged, *where)
    return StudyAnswer(lead_sentence(found, smallest_asked(claims, found.quantity)), more, following, found)


def made_table(study: Study, claims: Claims) -> Table | None:
    """The ablation table; None for a comparison, whose verdicts have the effects, and where no arm has a row."""
    if claims.compare is not None:
        return None
    try:
        return ablation(study, reference_of(claims, study))
    except Refused:
        return None


def smallest_asked(claims: Claims, quantity: Quantity) -> float | None:
    """The smallest difference of interest in a quantity, by the claims on it."""
    same = (quantity.name, quantity.scale)
    return min(
        (each.smallest for each in claims.questions if (each.quantity, each.scale) == same and each.smallest),
        default=None,
    )


# --- Claims, one seed, tables ---


def claims_sentence(findings: Sequence[Finding]) -> str:
    """How many claims have which verdict, and what is supported, where that is a single claim.

    >>> found = [("A", Verdict.SUPPORTED), ("B", Verdict.INCONCLUSIVE), ("C", Verdict.INCONCLUSIVE)]
    >>> claims_sentence([Finding(id, f"{id} rises", None, verdict=verdict) for id, verdict in found])
    '1 of 3 claims is supported, 2 are inconclusive. Supported: A rises.'
    """
    counted = tally_sentence(findings)
    supported = [finding.statement for finding in findings if finding.verdict is Verdict.SUPPORTED]
    return f"{counted} Supported: {supported[0]}." if len(supported) == 1 else counted


def tally_sentence(findings: Sequence[Finding]) -> str:
    """
    >>> tally_sentence([Finding(id, "", None, verdict=Verdict.EQUIVALENT) for id in "ABC"])
    '3 of 3 claims are equivalent.'
    """
    claims, verdicts = tally(findings).split(": ", 1)
    first, rest = verdicts.split(" ", 1)
    return f"{first} of {claims} {rest}"


def table_sentence(study: Study) -> str:
    """How the arms of a table of results are compared."""
    if study.is_paired:
        return "The runs were made elsewhere; rows with the same seed are taken as pairs."
    return "The runs were made elsewhere, and the arms are compared unpaired, by Welch's t."


def one_seed_sentence(study: Study, claims: Claims) -> str:
    """The differences of the arms from the reference on the only seed, which chance may explain."""
    assert claims.compare is not None
    reference, names = reference_arm(study.arms, claims.compare.reference), short_names(study.arms)
    values = measure(study, list(claims.compare.quantities)).values.join(study.runs.set_index("run")["arm"])
    by_arm = values.groupby("arm").first()
    clauses = []
    for label in study.arms:
        if label != reference and {label, reference} <= set(by_arm.index):
            found = [
                one_difference(name, keys["scale"], by_arm.loc[label, name], by_arm.loc[reference, name], study)
                for name, keys in claims.compare.quantities.items()
            ]
            clauses.append(f"{names[label]}: {', '.join(filter(None, found))}")
    against = f"On seed {ranges(study.runs['seed'])}, against {names[reference]}"
    more = f"; {count(len(clauses) - MOST_ARMS, 'more arm')}" if len(clauses) > MOST_ARMS else ""
    return f"{against}: {'; '.join(clauses[:MOST_ARMS])}{more}." if clauses else "Nothing could be compared."


def one_difference(name: str, scale: str, value: float, other: float, study: Study) -> str:
    """A difference in words, "" where one of the two is not known."""
    if math.isnan(value) or math.isnan(other):
        return ""
    quantity, convert = (
        of_kind(REGISTRY[name], study.kind),
        SCALES[scale](1 if study.table else int(study.runs["trainer.steps"].iloc[0])).forward,
    )
    effect = float(convert(value) - convert(other))
    if scale in RATIOS:
        return f"{quantity.words} × {ratio_text(effect)}"
    unit = "points" if scale == "points" else quantity.unit
    return " ".join(f"{quantity.words} {'+' if effect > 0 else ''}{rounded(effect)} {unit}".split())
