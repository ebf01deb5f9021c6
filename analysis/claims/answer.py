"""Answers one question of a claim: the verdict on its effect, and how many more seeds a decision needs.

- A question with fewer paired seeds than planned, or with arms that are missing or must not be compared, is not tested.
- Quantities that measure how well a run does (`analysis.quantities.registry`) include runs that did not learn. The
  verdict must be the same without the seeds of such runs; otherwise it is inconclusive.
- All other quantities are compared over the seeds whose runs all learn. With fewer than six such seeds (or than
  planned, if that is less) the verdict is inconclusive.
- A claim on several effects (interactions) needs only one of them; the effects share α equally.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.claims.contrasts import Effects, Estimate
from analysis.claims.estimand import Sample, Settings
from analysis.claims.finding import Finding
from analysis.claims.more_seeds import new_seeds, study_name, sweep_command, to_run
from analysis.claims.pairing import MissingArm, MissingModels, Refused
from analysis.claims.reading import Question
from analysis.claims.samples import Collected, collect
from analysis.claims.verdict_rule import Direction, Verdict, agreed, any_of, judge, seeds_needed
from analysis.quantities.outcomes import Outcomes
from analysis.records.arms import is_under, varying, words
from analysis.records.run_folder import Unreadable
from analysis.records.study import Study
from analysis.stats.effects import exact_rate, p_adjusted, simultaneous_level
from analysis.write_up import SIZES_COMMAND

LEAST_LEARNED = 6
"""Fewest seeds whose runs all learn for a verdict: sign flips of fewer seeds cannot reach p < .05."""

FLIPS = 0
"""Seed of the generator that draws sign flips where there are too many seeds to enumerate all flips."""


@dataclass(frozen=True, eq=False)
class Context:
    """Everything that all questions share. `judged`: tested claims × planned looks; `command`: the study's command."""

    study: Study
    outcomes: Outcomes
    judged: int
    command: str

    def command_for(self, arms: Sequence[Settings], seeds: Sequence[int]) -> str | None:
        return sweep_command(self.command, study_name(self.study.folder), arms, seeds) if arms and seeds else None


@dataclass(frozen=True)
class Answer:
    """A finding, the `seeds` that it compares, and what a decision needs: arms by their settings, `more` seeds."""

    finding: Finding
    seeds: tuple[int, ...] = ()
    arms: tuple[Settings, ...] = ()
    more: tuple[int, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """The effects of a sample, the verdict on each, the verdict on all, and the problems in computing them."""

    effects: Effects
    verdicts: dict[str, Verdict]
    verdict: Verdict
    problems: tuple[str, ...]

    @property
    def shares(self) -> int:
        """Number of effects that share α."""
        return max(1, len(self.effects))

    @property
    def best(self) -> Estimate | None:
        """The effect with the smallest p, or the only one."""
        known = [effect for effect in self.effects.values() if effect is not None]
        return min(known, key=lambda effect: 1.0 if p_of(effect) is None else p_of(effect), default=None)


def answer_question(question: Question, section: str | None, planned: int, context: Context) -> Answer:
    """Judges a question for which `planned` seeds are planned."""
    found, study = unanswered(question, section), context.study
    try:
        cells = question.contrast.cells(question, study)
        collected = collect(question, cells, study, context.outcomes)
    except Refused as reason:
        found = replace(found, n_missing=planned, verdict=Verdict.NOT_TESTED, notes=(str(reason),))
        if isinstance(reason, MissingModels):
            return Answer(replace(found, command=sweep_command(SIZES_COMMAND, "scale", [{}], range(planned))))
        if not isinstance(reason, MissingArm):
            return Answer(found)
        found = replace(found, further_seeds=planned)
        return with_command(Answer(found, (), to_run(cells, (), study), new_seeds(planned, study)), context)
    evidence, without = (
        weigh(sample, question, collected, planned, context.judged) for sample in (collected.kept, collected.learned)
    )
    verdict, notes = evidence.verdict, [*collected.notes, *evidence.problems]
    if collected.keeps and len(collected.learned.seeds) < len(collected.compared.seeds):
        verdict = agreed(evidence.verdict, without.verdict)
        learned = "is not known to have learned" if collected.unknown else "did not learn"
        notes.append(f"without the seeds on which a run {learned}: {evidence_text(without)}")
    judged = context.judged * evidence.shares
    needed, why = more_needed(question, collected, evidence.best, verdict, planned, judged)
    found = with_counts(found, collected, cells, planned, (*notes, *why))
    found = replace(found, verdict=verdict, further_seeds=needed)
    if evidence.shares > 1:
        found = replace(found, parts=effect_parts(found, evidence, judged))
    found = with_effect(found, evidence.best, judged, evidence.shares)
    more = new_seeds(needed or 0, study, (*collected.compared.seeds, *collected.pairs.unpaired))
    arms = to_run(cells, collected.pairs.arms, study)
    return with_command(Answer(found, collected.compared.seeds, arms, more), context)


def shown_alongside(question: Question, section: str | None, context: Context) -> Finding:
    """The effect of a question that is shown with a claim: not judged, nothing adjusted."""
    found = unanswered(question, section)
    try:
        cells = question.contrast.cells(question, context.study)
        collected = collect(question, cells, context.study, context.outcomes)
    except Refused as reason:
        return replace(found, notes=(str(reason),))
    effects, problems = effects_of(collected.kept, question)
    found = with_counts(found, collected, cells, 0, (*collected.notes, *problems))
    if len(effects) > 1:
        named = [replace(found, id=f"{found.id} {name}", statement=name) for name in effects]
        return replace(found, parts=tuple(map(with_effect, named, effects.values())))
    return with_effect(found, next(iter(effects.values()), None))


# --- Effects and verdicts ---


def weigh(sample: Sample, question: Question, collected: Collected, planned: int, judged: int) -> Evidence:
    """The evidence of a sample, which is all or part of the collected runs."""
    effects, problems = effects_of(sample, question)
    level = simultaneous_level(judged * max(1, len(effects)))
    enough = len(collected.compared.seeds) >= planned
    verdicts = {
        name: verdict_on(name, effect, sample, question, level, planned) if enough else Verdict.NOT_TESTED
        for name, effect in effects.items()
    }
    if not enough:
        verdict = Verdict.NOT_TESTED
    elif len(verdicts) == 1:
        verdict = next(iter(verdicts.values()))
    else:
        verdict = any_of(verdicts.values()) if verdicts else Verdict.INCONCLUSIVE
    return Evidence(effects, verdicts, verdict, problems)


def effects_of(sample: Sample, question: Question) -> tuple[Effects, tuple[str, ...]]:
    """Effects by name, and the problems in computing them."""
    if not sample.seeds:
        return {}, ()
    try:
        effects = question.contrast.effects(sample, np.random.default_rng(FLIPS))
        return effects, question.contrast.notes(sample)
    except (ValueError, Unreadable) as error:
        return {}, (f"the effect cannot be computed: {error}",)


def verdict_on(
    name: str, effect: Estimate | None, sample: Sample, question: Question, level: float, planned: int
) -> Verdict:
    """The verdict on the effect `name`, where at least the planned seeds can be compared, some of them in `sample`."""
    if effect is None or len(sample.seeds) < min(LEAST_LEARNED, planned):
        return Verdict.INCONCLUSIVE
    verdict = judge(effect.estimate, effect.interval(level), question.smallest, question.direction, planned, planned)
    if verdict is Verdict.SUPPORTED and not question.contrast.holds(name, effect, sample):
        return Verdict.INCONCLUSIVE
    return verdict


def more_needed(
    question: Question, collected: Collected, best: Estimate | None, verdict: Verdict, planned: int, judged: int
) -> tuple[int | None, tuple[str, ...]]:
    """How many seeds to add, None where that is unknown, and notes on it."""
    present = len(collected.compared.seeds)
    if present < planned:
        # where runs are paired and none has the quantity, more runs of the same kind do not help
        return (planned - present if present or not collected.pairs.seeds else None), ()
    if verdict is Verdict.REFUTED:
        return 0, ()
    if best is None:
        return None, ()
    needed = seeds_needed(best, question.smallest, question.direction, judged)
    return needed.more, () if needed.more == 0 else (needed.note,)


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
    )


def with_counts(
    found: Finding, collected: Collected, cells: Sequence[Settings], planned: int, notes: Sequence[str]
) -> Finding:
    """Adds the numbers of seeds, the notes, and the rate of runs that learn in each cell with its exact interval."""
    compared = collected.compared
    names = distinguishing_settings(cells)
    known = ~np.isin(compared.runs.astype(str), sorted(collected.unknown))
    judged = [compared.learned[known[:, i], i] for i in range(len(names))]
    rates = [rate_text(name, learned) for name, learned in zip(names, judged, strict=True) if len(learned)]
    return replace(
        found,
        n=len(collected.kept.seeds),
        n_unlearned=int((~compared.learned & known).any(axis=1).sum()),
        n_unknown=int((~known).any(axis=1).sum()),
        n_missing=max(planned, collected.known) - len(compared.seeds),
        notes=(*notes, *([f"runs that learn: {'; '.join(rates)}"] if rates else [])),
    )


def rate_text(cell: str, learned: NDArray[np.bool_]) -> str:
    rate = exact_rate(int(learned.sum()), len(learned))
    return f"{cell} {rate.count} of {rate.n} [{rate.interval.low:.2f}, {rate.interval.high:.2f}]".strip()


def distinguishing_settings(cells: Sequence[Settings]) -> list[str]:
    """A name for each cell: the settings in which the cells differ, "" for a single cell.

    Where cells differ in an option, its settings are left out.
    """
    keys = varying(cells)
    shown = [key for key in keys if not is_under(key, keys - {key})]
    return [words({key: value for key, value in cell.items() if key in shown}) for cell in cells]


def with_effect(found: Finding, effect: Estimate | None, judged: int | None = None, of: int = 1) -> Finding:
    """Adds an effect, adjusted for `judged` effects unless that is None, as the best of a number `of` effects."""
    if effect is None:
        return found
    p, flip = p_of(effect), getattr(effect, "p_sign_flip", None)
    return replace(
        found,
        effect=effect.estimate,
        interval=effect.interval(),
        interval_simultaneous=None if judged is None else effect.interval(simultaneous_level(judged)),
        p=None if p is None else p_adjusted(p, of),
        p_adjusted=None if p is None or judged is None else p_adjusted(p, judged),
        p_sign_flip=None if flip is None else p_adjusted(flip, of),
    )


def effect_parts(found: Finding, evidence: Evidence, judged: int) -> tuple[Finding, ...]:
    """One part per effect."""
    bare = replace(found, notes=(), further_seeds=None)
    return tuple(
        with_effect(
            replace(bare, id=f"{bare.id} {name}", statement=name, verdict=evidence.verdicts[name]), effect, judged
        )
        for name, effect in evidence.effects.items()
    )


def with_command(answer: Answer, context: Context) -> Answer:
    """Adds the command that runs the answer's arms on its new seeds."""
    return replace(answer, finding=replace(answer.finding, command=context.command_for(answer.arms, answer.more)))


def p_of(effect: Estimate) -> float | None:
    return effect.p


def evidence_text(evidence: Evidence) -> str:
    if evidence.best is None:
        return f"no effect, {evidence.verdict.value}"
    return f"effect {evidence.best.estimate:.3g} over {evidence.best.n} seeds, {evidence.verdict.value}"
