"""Answers one question of a claim: which finding its evidence leads to, and which seeds a decision needs.

- A question with fewer paired seeds than planned, or with arms that are missing or must not be compared, is not tested.
  Of seeds below the plan only the arms' means are shown.
- With fewer than six seeds whose runs all learn (or than planned, if that is less) the verdict is inconclusive.
- A claim on several effects (interactions) needs only one of them; the effects share alpha equally.
- Where the differences are skewed, Student's interval, the bootstrap-t interval and that of the trimmed mean have to
  agree on the word (`analysis.stats.skew`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.claims.estimand import Settings
from analysis.claims.evidence import (
    Context,
    Evidence,
    Inquiry,
    arm_means,
    learners_only,
    over_seeds_only,
    skewness_of,
    unanswered,
    unjudged,
    with_counts,
    with_details,
    with_effect,
)
from analysis.claims.finding import Finding
from analysis.claims.looks import Occasion
from analysis.claims.more_seeds import new_seeds, sweep_command, to_run
from analysis.claims.pairing import MissingArm, MissingModels
from analysis.claims.power import power_at, seeds_needed
from analysis.claims.reading import Question
from analysis.claims.verdict_rule import REAL, Alphas, Verdict, any_of, judge
from analysis.stats.effects import ALPHA, Estimate
from analysis.stats.interval import Interval
from analysis.stats.skew import bootstrap_t, is_skewed, yuen
from analysis.write_up import SIZES_COMMAND

LEAST_LEARNED = 6
"""Fewest seeds whose runs all learn for a verdict: sign flips of fewer seeds cannot reach p < .05."""


@dataclass(frozen=True)
class Answer:
    """A finding, the `seeds` that it compares, and what a decision needs: arms by their settings, `more` seeds."""

    finding: Finding
    seeds: tuple[int, ...] = ()
    arms: tuple[Settings, ...] = ()
    more: tuple[int, ...] = ()


@dataclass(frozen=True)
class Level:
    """What a question is judged at: the look, the number of judged claims, its levels and Holm's factors for its p."""

    look: Occasion
    judged: int
    alphas: Alphas
    factors: tuple[float, float]

    @property
    def displayed(self) -> float:
        """The level of the simultaneous interval: Bonferroni over all judged claims."""
        return self.look.level(ALPHA / self.judged)


def unavailable(inquiry: Inquiry, planned: int, context: Context) -> Answer:
    """The answer where the runs are refused."""
    reason, study = inquiry.refused, context.study
    found = unanswered(inquiry.question, inquiry.section)
    found = replace(found, n_missing=planned, verdict=Verdict.NOT_TESTED, notes=(str(reason),))
    if isinstance(reason, MissingModels):
        return Answer(replace(found, command=sweep_command(SIZES_COMMAND, "scale", [{}], range(planned))))
    if not isinstance(reason, MissingArm):
        return Answer(found)
    found = replace(found, further_seeds=planned)
    return with_command(Answer(found, (), to_run(inquiry.cells, (), study), new_seeds(planned, study)), context)


def below_plan(inquiry: Inquiry, planned: int, context: Context) -> Answer:
    """The answer where the claim waits, for seeds or for another of its parts: the means of the arms, and no effect."""
    assert inquiry.collected is not None
    collected, cells = inquiry.collected, inquiry.cells
    present = len(collected.compared.seeds)
    # where runs are paired and none has the quantity, more runs of the same kind do not help
    needed = max(0, planned - present) if present or not collected.pairs.seeds else None
    found = with_counts(unanswered(inquiry.question, inquiry.section), collected, cells, planned, collected.notes)
    notes = (*found.notes, *arm_means(collected.compared, cells, inquiry.question.measured))
    found = replace(found, verdict=Verdict.NOT_TESTED, further_seeds=needed, notes=notes)
    more = new_seeds(needed or 0, context.study, (*collected.compared.seeds, *collected.pairs.unpaired))
    arms = to_run(cells, collected.pairs.arms, context.study)
    return with_command(Answer(found, collected.compared.seeds, arms, more), context)


def conclude(evidence: Evidence, level: Level, context: Context) -> Answer:
    """Judges the evidence at its levels."""
    inquiry, collected, question = evidence.inquiry, evidence.collected, evidence.inquiry.question
    planned = level.look.n
    verdicts, doubts = verdicts_of(evidence, level.alphas, planned)
    verdict = any_of(verdicts.values()) if len(verdicts) > 1 else next(iter(verdicts.values()), Verdict.INCONCLUSIVE)
    notes = [*collected.notes, *evidence.problems, *doubts]
    needed, more = None, ()
    if evidence.best is not None:
        wanted = seeds_needed(evidence.best, question.smallest, level.look, level.judged * evidence.shares)
        decided = verdict not in (Verdict.INCONCLUSIVE, Verdict.UNDECIDED)
        needed = 0 if decided else wanted.more
        notes += [] if decided else [wanted.note]
        known = (*inquiry.present, *collected.pairs.unpaired)
        more = () if level.look.is_last else new_seeds(needed or 0, context.study, known)
    found = with_counts(unanswered(question, inquiry.section), collected, inquiry.cells, planned, notes)
    found = replace(found, verdict=verdict, further_seeds=needed, alpha=level.look.level())
    if evidence.shares > 1:
        found = replace(found, parts=effect_parts(found, evidence, verdicts, level))
    found = with_details(judged_effect(found, evidence.best, question, level, evidence.shares), evidence, context)
    learners = learners_only(evidence, found)
    told = tuple(f"{part.statement}: effect {part.effect:.3g} over {part.n} seeds" for part in learners if part.n)
    found = replace(found, parts=(*found.parts, *learners), notes=(*found.notes, *told))
    arms = to_run(inquiry.cells, collected.pairs.arms, context.study)
    return with_command(Answer(found, collected.compared.seeds, arms, more), context)


def explored(evidence: Evidence, level: Level, context: Context) -> Finding:
    """The effect on all seeds, those beyond the plan included: a line of its own, which changes no verdict."""
    question, n = evidence.inquiry.question, len(evidence.collected.compared.seeds)
    verdicts, doubts = verdicts_of(evidence, level.alphas, n)
    word = any_of(verdicts.values()) if len(verdicts) > 1 else next(iter(verdicts.values()), Verdict.INCONCLUSIVE)
    bare = replace(
        unanswered(question, evidence.inquiry.section), id=f"{question.id} explored",
        statement=f"exploratory: all {n} seeds, beyond the plan", exploratory=True,
    )  # fmt: skip
    found = unjudged(evidence, bare, context)
    note = f"with a plan for {n} seeds it would be {word.value}; the verdict stays that of the planned look"
    return replace(found, notes=(note, *doubts, *found.notes))


def judged_effect(found: Finding, effect: Estimate | None, question: Question, level: Level, of: int) -> Finding:
    """Adds an effect, the best of a number `of` effects, with what is adjusted for all judged claims."""
    found = with_effect(found, effect, question, of)
    if effect is None:
        return found
    real, opposite = level.factors
    towards = question.direction.sign(effect.estimate) * effect.estimate > 0
    return replace(
        found,
        interval_simultaneous=effect.interval(1 - level.displayed / of),
        p_adjusted=None if effect.p is None else min(1.0, effect.p * of * (real if towards else opposite)),
        power=power_at(effect, question.smallest, level.look.n, level.displayed / of),
    )


def effect_parts(found: Finding, evidence: Evidence, verdicts: dict[str, Verdict], level: Level) -> tuple[Finding, ...]:
    """One part per effect; each carries the number of effects."""
    bare = replace(found, notes=(), further_seeds=None)
    question, k = evidence.inquiry.question, evidence.shares
    return tuple(
        judged_effect(
            replace(bare, id=f"{bare.id} {name}", statement=name, verdict=verdicts[name]), effect, question, level, k
        )
        for name, effect in evidence.effects.items()
    )


def with_command(answer: Answer, context: Context) -> Answer:
    """Adds the command that runs the answer's arms on its new seeds."""
    return replace(answer, finding=replace(answer.finding, command=context.command_for(answer.arms, answer.more)))


# --- Verdicts ---


def verdicts_of(evidence: Evidence, alphas: Alphas, planned: int) -> tuple[dict[str, Verdict], tuple[str, ...]]:
    """The verdict on each effect, and notes on doubts."""
    k = evidence.shares
    shared = Alphas(alphas.real / k, alphas.opposite / k, alphas.size)
    found = {name: verdict_on(name, effect, evidence, shared, planned) for name, effect in evidence.effects.items()}
    notes = [note for _, note in found.values() if note]
    return {name: verdict for name, (verdict, _) in found.items()}, tuple(notes)


def verdict_on(
    name: str, effect: Estimate | None, evidence: Evidence, alphas: Alphas, planned: int
) -> tuple[Verdict, str | None]:
    """The verdict on the effect `name`, and a note where its differences are skewed and the methods disagree."""
    sample, question = evidence.collected.kept, evidence.inquiry.question
    if effect is None or len(sample.seeds) < min(LEAST_LEARNED, planned):
        return Verdict.INCONCLUSIVE, None
    verdict = judge(effect.estimate, effect.interval, question.smallest, question.direction, alphas)
    if verdict is Verdict.SUPPORTED and not question.contrast.holds(name, effect, sample):
        return Verdict.INCONCLUSIVE, None
    others = skewed_words(effect, question, alphas)
    if not others or set(others.values()) == {others["Student's t"]}:
        return verdict, None
    common = agreed([verdict, *others.values()])
    told = ", ".join(f"{word.value} by {method}" for method, word in others.items())
    return common, f"the differences are skewed ({skewness_of(effect):.1f}), and the methods disagree: {told}"


def skewed_words(effect: Estimate, question: Question, alphas: Alphas) -> dict[str, Verdict]:
    """The verdict over seeds by each method, where the differences are skewed and there are enough seeds to tell."""
    over_seeds = over_seeds_only(effect)
    if over_seeds is None or not is_skewed(over_seeds.differences):
        return {}
    methods = {"Student's t": (over_seeds.estimate, over_seeds.interval)}
    for name, method in (("bootstrap-t", bootstrap_t), ("the trimmed mean", yuen)):
        found = method(over_seeds.differences)
        if found is not None:
            methods[name] = (found.estimate, interval_by(method, over_seeds.differences))
    return {
        name: judge(estimate, interval, question.smallest, question.direction, alphas)
        for name, (estimate, interval) in methods.items()
    }


def interval_by(method, differences: Sequence[float]):
    """The interval of a method for skewed differences, by level."""

    def interval(level: float) -> Interval | None:
        found = method(differences, level)
        return None if found is None else found.interval

    return interval


def agreed(found: Sequence[Verdict]) -> Verdict:
    """What all verdicts share: a real effect of undecided size, an effect that is ruled out, or nothing."""
    if len(set(found)) == 1:
        return found[0]
    if set(found) <= REAL:
        return Verdict.UNDECIDED
    return Verdict.RULED_OUT if set(found) <= {Verdict.RULED_OUT, Verdict.EQUIVALENT} else Verdict.INCONCLUSIVE
