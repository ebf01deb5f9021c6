"""What each technique adds to the study's metric: from the verdicts of a comparison, or from the ablation table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.claims.comparison import reference_arm
from analysis.claims.finding import Finding
from analysis.claims.reading import Claims
from analysis.claims.verdict_rule import Verdict
from analysis.quantities.registry import REGISTRY, Quantity, of_kind
from analysis.records.arms import Arm, fits, is_under
from analysis.records.short_names import change_phrase
from analysis.records.study import Study
from analysis.tables.ablation_numbers import MARKED, AblatedQuantity, ablated_quantities
from analysis.tables.formats import Table

WITHOUT_EFFECT = (Verdict.INCONCLUSIVE, Verdict.NOT_TESTED, Verdict.EQUIVALENT)

INSTEAD = " instead of "


def brief(name: str) -> str:
    """The name of an exchange without what it replaces, which is that of the reference.

    >>> brief("clipping from step 50 instead of clipping at 1")
    'clipping from step 50 instead'
    """
    new, instead, _ = name.partition(INSTEAD)
    return f"{new} instead" if instead else name


@dataclass(frozen=True)
class TechniqueEffect:
    """What a technique, or an exchange of one for another, adds to a quantity.

    effect, low, high  mean of the paired differences and its simultaneous 95 % interval, on the quantity's scale
                       (logarithms of ratios), with technique − without; NaN without an interval
    n                  seeds
    differs            whether the difference is shown, at the level that is adjusted for all comparisons
    is_removal         whether the study took it from the reference, so that the table shows the negative
    parts              how many techniques are changed together
    """

    name: str
    effect: float
    low: float
    high: float
    n: int
    differs: bool
    is_removal: bool = False
    parts: int = 1
    n_unlearned: int = 0
    note: str = ""

    @property
    def is_exchange(self) -> bool:
        return INSTEAD in self.name

    @property
    def largest(self) -> float:
        """The largest size that the interval allows; NaN without one."""
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class MetricEffects:
    """The effects on the primary quantity, and on all others where a difference is shown.

    reference    label of the arm that the others differ from
    comparisons  number of comparisons that the intervals are adjusted for
    data_sets    number of data sets that each effect is a mean over
    """

    quantity: Quantity
    reference: str
    effects: tuple[TechniqueEffect, ...]
    others: tuple[tuple[Quantity, TechniqueEffect], ...]
    comparisons: int
    data_sets: int = 1

    @property
    def main(self) -> tuple[TechniqueEffect, ...]:
        """The effects of single techniques; exchanges and groups only where there are no others."""
        single = tuple(each for each in self.effects if not each.is_exchange and each.parts == 1)
        return single or self.effects


def is_more_better(quantity: Quantity) -> bool | None:
    """Whether more of a quantity is better; less of a cost is. None for a metric whose better side is unknown."""
    return quantity.higher_is_better if quantity.metric is not None else bool(quantity.higher_is_better)


def metric_effects(
    study: Study, claims: Claims, findings: Sequence[Finding], table: Table | None
) -> MetricEffects | None:
    """The effects of a study's techniques: the verdicts of a comparison, or the rows of the ablation table."""
    if claims.compare is not None:
        return effects_of_comparison(study, claims, findings)
    return None if table is None else effects_of_table(study, table)


# --- From verdicts ---


def effects_of_comparison(study: Study, claims: Claims, findings: Sequence[Finding]) -> MetricEffects | None:
    """The effects of all arms against the reference, by the findings on them."""
    assert claims.compare is not None
    reference = reference_arm(study.arms, claims.compare.reference)
    first, *_ = claims.compare.quantities
    found = [(finding.quantity or "", effect_of_finding(finding, study, reference)) for finding in findings]
    on_first = tuple(effect for quantity, effect in found if quantity == first)
    others = tuple(
        (quantity_on_scale(quantity, study, claims), effect)
        for quantity, effect in found
        if quantity != first and effect.differs
    )
    judged = sum(finding.verdict is not Verdict.NOT_TESTED for finding in findings)
    if not on_first:
        return None
    data_sets = study.runs["data"].nunique() if study.table is not None and study.is_paired else 1
    return MetricEffects(quantity_on_scale(first, study, claims), reference, on_first, others, judged, data_sets)


def quantity_on_scale(name: str, study: Study, claims: Claims) -> Quantity:
    """A quantity of a comparison, on the scale that the claims file gives it."""
    assert claims.compare is not None
    return replace(of_kind(REGISTRY[name], study.kind), scale=claims.compare.quantities[name]["scale"])


def effect_of_finding(finding: Finding, study: Study, reference: str) -> TechniqueEffect:
    within = {key: value for key, value in (finding.within or {}).items() if key != "nuisance"}
    settings = {**within, **(finding.treatment or {})}
    arm = next((each for each in study.arms.values() if fits(each, settings)), study.arms[reference])
    changed = [factor for factor in study.factors if any(is_under(name, [factor]) for name in finding.changes)]
    name, is_removal = change_phrase(arm, study.arms[reference], list(study.arms.values()), changed)
    interval = finding.interval_simultaneous
    low, high = (interval.low, interval.high) if interval else (math.nan, math.nan)
    found = TechniqueEffect(
        name=name,
        effect=math.nan if finding.effect is None else finding.effect,
        low=low,
        high=high,
        n=finding.n,
        differs=finding.verdict not in WITHOUT_EFFECT,
        n_unlearned=finding.n_unlearned,
        note=finding.notes[0] if finding.verdict is Verdict.NOT_TESTED and finding.notes else "",
    )
    return turned(found) if is_removal else found


def turned(found: TechniqueEffect) -> TechniqueEffect:
    """The effect of a technique, from that of its removal."""
    return replace(found, effect=-found.effect, low=-found.high, high=-found.low, is_removal=True)


# --- From the ablation table ---


def effects_of_table(study: Study, table: Table) -> MetricEffects | None:
    """The effects of the ablation table's rows on its first quantity, and on the others where they differ."""
    rows = table.numbers.to_dict("records")
    columns = [column for column in ablated_quantities(study) if f"{column.quantity.name}_mean" in table.numbers]
    if len(rows) < 2 or not columns:
        return None
    reference = rows[0]["arm"]
    first, *more = columns
    effects = tuple(effects_in_column(rows, first, study, reference))
    others = tuple(
        (column.quantity, effect)
        for column in more
        for effect in effects_in_column(rows, column, study, reference)
        if effect.differs and effect.parts == 1
    )
    return MetricEffects(of_kind(first.quantity, study.kind), reference, effects, others, len(effects))


def effects_in_column(
    rows: Sequence[Mapping], column: AblatedQuantity, study: Study, reference: str
) -> Iterator[TechniqueEffect]:
    name, arms = column.quantity.name, list(study.arms.values())
    for row in rows[1:]:
        number = {key: float(row[f"{name}_{key}"]) for key in ("effect", "low", "high")}
        if math.isnan(number["effect"]):
            continue
        if column.quantity.is_ratio:
            number = {key: math.log(value) for key, value in number.items()}
        words, is_removal = change_phrase(study.arms[row["arm"]], study.arms[reference], arms, study.factors)
        differs = row[f"{name}_mark"] in MARKED
        parts = removed_parts(study.arms[row["arm"]], study.arms[reference], study.factors) if is_removal else 1
        words = together(parts) if parts > 1 else words
        found = TechniqueEffect(words, **number, n=int(row[f"{name}_paired"]), differs=differs, parts=parts)
        yield turned(found) if is_removal else found


def removed_parts(arm: Arm, reference: Arm, factors: Sequence[str]) -> int:
    return sum(arm[factor] != reference[factor] for factor in factors)


def together(parts: int) -> str:
    """
    >>> together(2), together(3)
    ('both together', 'all together')
    """
    return "both together" if parts == 2 else "all together"
