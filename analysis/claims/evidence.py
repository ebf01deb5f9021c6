"""The evidence on a question: its runs, the effects that they give, and what is shown beside them.

- Quantities that measure how well a run does (`analysis.quantities.registry`) include runs that did not learn; the
  effect without the seeds of such runs is shown with it. All other quantities are compared over the seeds whose runs
  all learn.
- An effect that is shown and not judged has an interval of its own and nothing that is adjusted for other claims.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.claims.contrasts import Effects
from analysis.claims.estimand import Sample, Settings
from analysis.claims.finding import Finding
from analysis.claims.more_seeds import command_for, to_extend
from analysis.claims.multiplicity import Ps, best_of, ps_of
from analysis.claims.pairing import Refused
from analysis.claims.reading import Question
from analysis.claims.samples import Collected, collect
from analysis.claims.verdict_rule import Direction
from analysis.quantities.outcomes import Outcomes
from analysis.records.arms import is_under, varying, words
from analysis.records.run_folder import Unreadable
from analysis.records.study import Study
from analysis.stats.effects import ALPHA, Effect, Estimate, exact_rate
from analysis.stats.predictions import CrossedEffect
from analysis.stats.rates import improvement
from analysis.stats.skew import skewness

FLIPS = 0
"""Seed of the generator that draws sign flips where there are too many seeds to enumerate all flips."""


@dataclass(frozen=True, eq=False)
class Context:
    """Everything that all questions share; `command`: the study's command."""

    study: Study
    outcomes: Outcomes
    command: str

    def command_for(self, arms: Sequence[Settings], seeds: Sequence[int]) -> str | None:
        """As `analysis.claims.more_seeds.command_for`, with the study's command."""
        return command_for(self.command, self.study, arms, seeds)


@dataclass(frozen=True, eq=False)
class Inquiry:
    """A question with its runs: the cells' settings and the collected runs, or the reason why they are refused."""

    question: Question
    section: str | None
    cells: Sequence[Settings] = ()
    collected: Collected | None = None
    refused: Refused | None = None

    @property
    def present(self) -> tuple[int, ...]:
        """The seeds that can be compared."""
        return self.collected.compared.seeds if self.collected else ()


@dataclass(frozen=True, eq=False)
class Evidence:
    """The effects of a question on the seeds of a look, and the problems in computing them.

    by_data_set, details, extension: what the contrast shows beside them (`analysis.claims.contrast.Contrast`)
    """

    inquiry: Inquiry
    collected: Collected
    effects: Effects
    problems: tuple[str, ...]
    by_data_set: Effects = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    extension: Sequence[Settings] = ()

    @property
    def shares(self) -> int:
        """Number of effects that share alpha."""
        return max(1, len(self.effects))

    @property
    def best(self) -> Estimate | None:
        """The effect with the smallest p, or the only one."""
        known = [effect for effect in self.effects.values() if effect is not None]
        return min(known, key=lambda effect: 1.0 if effect.p is None else effect.p, default=None)

    @property
    def ps(self) -> Ps:
        """The p values that the question contributes to the claims of its file."""
        question = self.inquiry.question
        found = [ps_of(effect, question.smallest, question.direction) for effect in self.effects.values()]
        return best_of(found) if len(found) > 1 else (*found, Ps())[0]


def inquire(question: Question, section: str | None, context: Context) -> Inquiry:
    """Finds the runs of a question."""
    cells: Sequence[Settings] = ()
    try:
        cells = question.contrast.cells(question, context.study)
        return Inquiry(question, section, cells, collect(question, cells, context.study, context.outcomes))
    except Refused as reason:
        return Inquiry(question, section, cells, refused=reason)


def weigh(inquiry: Inquiry, seeds: set[int] | None = None) -> Evidence:
    """The evidence of an inquiry that is not refused, on these seeds; by default on all."""
    assert inquiry.collected is not None
    collected = inquiry.collected if seeds is None else inquiry.collected.on(seeds)
    sample, contrast = collected.kept, inquiry.question.contrast
    effects, problems = effects_of(sample, inquiry.question)
    found = Evidence(inquiry, collected, effects, problems)
    if not effects:
        return found
    try:
        by_data_set = contrast.by_data_set(sample, np.random.default_rng(FLIPS))
        return replace(
            found, by_data_set=by_data_set, details=contrast.details(sample), extension=contrast.extension(sample)
        )
    except (ValueError, Unreadable) as error:
        return replace(found, problems=(*problems, f"what is shown beside the effect cannot be computed: {error}"))


def effects_of(sample: Sample, question: Question) -> tuple[Effects, tuple[str, ...]]:
    """Effects by name, and the problems in computing them."""
    if not sample.seeds:
        return {}, ()
    try:
        return question.contrast.effects(sample, np.random.default_rng(FLIPS)), ()
    except (ValueError, Unreadable) as error:
        return {}, (f"the effect cannot be computed: {error}",)


def over_seeds_only(effect: Estimate | None) -> Effect | None:
    """The effect over seeds alone; None where an effect has no differences per seed."""
    if isinstance(effect, CrossedEffect):
        return effect.seeds_only
    return effect if isinstance(effect, Effect) else None


def skewness_of(effect: Estimate | None) -> float | None:
    over_seeds = over_seeds_only(effect)
    return None if over_seeds is None else skewness(over_seeds.differences)


# --- Findings ---


def unanswered(question: Question, section: str | None) -> Finding:
    """The finding of a question before anything is judged."""
    arms = [arm for arm in (question.treatment, question.control) if arm is not None]
    free = question.contrast.free()
    within = {
        key: value
        for key, value in question.within.items()
        if not is_under(key, free) and not all(is_under(key, arm) for arm in arms) and (key, value) != ("nuisance", 0)
    }
    smallest = question.smallest
    return Finding(
        id=question.id,
        statement=question.statement,
        section=section,
        treatment=question.treatment,
        control=question.control,
        within=within,
        changes=question.changes,
        quantity=question.quantity,
        scale=question.scale,
        smallest_effect=-smallest if smallest and question.direction is Direction.BELOW else smallest,
        why=question.why,
    )


def with_counts(
    found: Finding, collected: Collected, cells: Sequence[Settings], planned: int, notes: Sequence[str]
) -> Finding:
    """Adds the numbers of seeds, the notes, and the rate of runs that learn in each cell with its exact interval."""
    compared = collected.compared
    names = distinguishing_settings(cells)
    table = compared.study.table
    details = {} if table is None else {"from_table": True}
    if not compared.study.is_paired:
        details["unpaired"] = list(collected.kept.numbers)
    known = ~np.isin(compared.runs.astype(str), sorted(collected.unknown))
    judged = [compared.learned[known[:, i], i] for i in range(len(names))]
    rates = [rate_text(name, learned) for name, learned in zip(names, judged, strict=True) if len(learned)]
    return replace(
        found,
        n=len(collected.kept.seeds),
        n_unlearned=int((~compared.learned & known).any(axis=1).sum()),
        n_unknown=int((~known).any(axis=1).sum()) if table is None else 0,
        n_missing=max(planned, collected.known) - len(compared.seeds),
        details={**found.details, **details},
        notes=(*notes, *([f"runs that learn: {'; '.join(rates)}"] if rates else [])),
    )


def rate_text(cell: str, learned: NDArray[np.bool_]) -> str:
    rate = exact_rate(int(learned.sum()), len(learned))
    return f"{cell} {rate.count} of {rate.n} [{rate.interval.low:.2f}, {rate.interval.high:.2f}]".strip()


def distinguishing_settings(cells: Sequence[Settings]) -> list[str]:
    """A name for each cell: the settings in which the cells differ, "" for a single cell.

    Where cells differ in an option, a setting of this option is named only if cells with the same option differ in it.

    >>> distinguishing_settings([{"optimizer": "lion", "optimizer.lr": 1}, {"optimizer": "adamw", "optimizer.lr": 2}])
    ['optimizer=lion', 'optimizer=adamw']
    >>> distinguishing_settings([{"optimizer": "lion", "optimizer.lr": 1}, {"optimizer": "lion", "optimizer.lr": 2}])
    ['optimizer.lr=1', 'optimizer.lr=2']
    """
    keys = varying(cells)
    options = {key for key in keys if not is_under(key, keys - {key})}
    return [words(distinguishing(cell, cells, options)) for cell in cells]


def distinguishing(cell: Settings, cells: Sequence[Settings], options: Collection[str]) -> Settings:
    """The cell's `options`, and the settings in which it differs from other cells with the same ones."""
    own = {key: cell.get(key) for key in options}
    alike = varying([other for other in cells if {key: other.get(key) for key in options} == own])
    return {key: value for key, value in cell.items() if key in options or key in alike}


def with_effect(found: Finding, effect: Estimate | None, question: Question, of: int = 1) -> Finding:
    """Adds an effect as the best of a number `of` effects, which every number carries; nothing is adjusted for claims.

    The sign flips and the probability of improvement are over seeds alone.
    """
    if effect is None:
        return found
    over_seeds = over_seeds_only(effect)
    flip = getattr(effect, "p_sign_flip", None)
    improved = None
    if over_seeds is not None and question.control is not None:
        differences = np.array(over_seeds.differences)
        improved = improvement(differences, np.zeros_like(differences), np.random.default_rng(FLIPS)).estimate
    return replace(
        found,
        effect=effect.estimate,
        interval=effect.interval(1 - ALPHA / of),
        interval_seeds=over_seeds.interval(1 - ALPHA / of) if isinstance(effect, CrossedEffect) else None,
        p=None if effect.p is None else min(1.0, effect.p * of),
        p_sign_flip=None if flip is None else min(1.0, flip * of),
        improvement=improved,
        skewness=skewness_of(effect),
        differences=() if over_seeds is None else tuple(map(float, over_seeds.differences)),
    )


def with_details(found: Finding, evidence: Evidence, context: Context) -> Finding:
    """Adds what the contrast shows beside its effect, a part per data set, and the command that extends its grid."""
    inquiry, collected, question = evidence.inquiry, evidence.collected, evidence.inquiry.question
    details = {**found.details, **evidence.details}
    if evidence.extension:
        arms = to_extend(evidence.extension, inquiry.cells, collected.pairs.arms, context.study)
        details["extension"] = context.command_for(arms, collected.kept.seeds)
    bare = replace(unanswered(question, found.section), n=len(collected.kept.seeds), exploratory=found.exploratory)
    parts = tuple(
        with_effect(
            replace(
                bare, id=f"{found.id} on {name}", statement=f"on {name}", within={**(bare.within or {}), "data": name},
                details={"data_set": name},
            ),
            effect, question,
        )
        for name, effect in evidence.by_data_set.items()
    )  # fmt: skip
    return replace(found, details=details, parts=(*found.parts, *parts))


def arm_means(sample: Sample, cells: Sequence[Settings], quantity: str) -> tuple[str, ...]:
    """The mean of the quantity in each arm, as one note; none without seeds."""
    if not sample.seeds:
        return ()
    names = distinguishing_settings(cells)
    means = [f"{name} {mean:.4g}".strip() for name, mean in zip(names, sample.values.mean(axis=0), strict=True)]
    return (f"mean {quantity}: {'; '.join(means)} (effects are shown once the whole claim can be judged)",)


def shown_alongside(inquiry: Inquiry, context: Context) -> Finding:
    """The effect of a question that is shown with a claim: not judged, nothing adjusted."""
    found = unanswered(inquiry.question, inquiry.section)
    if inquiry.refused:
        return replace(found, notes=(str(inquiry.refused),))
    return unjudged(weigh(inquiry), found, context)


def unjudged(evidence: Evidence, found: Finding, context: Context) -> Finding:
    collected, question = evidence.collected, evidence.inquiry.question
    notes = (*collected.notes, *evidence.problems)
    found = with_counts(found, collected, evidence.inquiry.cells, 0, notes)
    if evidence.shares > 1:
        named = [replace(found, id=f"{found.id} {name}", statement=name) for name in evidence.effects]
        shown = zip(named, evidence.effects.values(), strict=True)
        return replace(found, parts=tuple(with_effect(part, effect, question) for part, effect in shown))
    return with_details(with_effect(found, evidence.best, question), evidence, context)


def learners_only(evidence: Evidence, found: Finding) -> tuple[Finding, ...]:
    """The effect without the seeds on which a run did not learn, where these count; shown, not judged."""
    collected, question = evidence.collected, evidence.inquiry.question
    if not collected.keeps or len(collected.learned.seeds) == len(collected.compared.seeds):
        return ()
    effects, problems = effects_of(collected.learned, question)
    effect = next(iter(effects.values()), None)
    if len(effects) != 1 or effect is None:
        return ()
    bare = replace(unanswered(question, found.section), id=f"{question.id} learners", n=len(collected.learned.seeds))
    what = "is not known to have learned" if collected.unknown else "did not learn"
    bare = replace(bare, statement=f"without the seeds on which a run {what}", notes=problems)
    return (with_effect(bare, effect, question),)
