"""Answers one question of a claim: its effects, the p values that they contribute to a file's claims, and the verdict.

- A question with fewer paired seeds than planned, or with arms that are missing or must not be compared, is not tested.
  Of seeds below the plan only the arms' means are shown.
- Quantities that measure how well a run does (`analysis.quantities.registry`) include runs that did not learn; the
  effect without the seeds of such runs is shown with it. All other quantities are compared over the seeds whose runs
  all learn; with fewer than six such seeds (or than planned, if that is less) the verdict is inconclusive.
- A claim on several effects (interactions) needs only one of them; the effects share alpha equally.
- Where the differences are skewed, Student's interval, the bootstrap-t interval and that of the trimmed mean have to
  agree on the word (`analysis.stats.skew`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.claims.contrasts import Effects
from analysis.claims.estimand import Sample, Settings
from analysis.claims.finding import Finding
from analysis.claims.looks import Occasion
from analysis.claims.more_seeds import new_seeds, study_name, sweep_command, to_run
from analysis.claims.multiplicity import Ps, best_of, ps_of
from analysis.claims.pairing import MissingArm, MissingModels, Refused
from analysis.claims.power import power_at, seeds_needed
from analysis.claims.reading import Question
from analysis.claims.samples import Collected, collect
from analysis.claims.verdict_rule import REAL, Alphas, Direction, Verdict, any_of, judge
from analysis.quantities.outcomes import Outcomes
from analysis.records.arms import is_under, varying, words
from analysis.records.run_folder import Unreadable
from analysis.records.study import Study
from analysis.stats.effects import ALPHA, Effect, Estimate, exact_rate
from analysis.stats.interval import Interval
from analysis.stats.predictions import CrossedEffect
from analysis.stats.skew import bootstrap_t, is_skewed, skewness, yuen
from analysis.write_up import SIZES_COMMAND

LEAST_LEARNED = 6
"""Fewest seeds whose runs all learn for a verdict: sign flips of fewer seeds cannot reach p < .05."""

FLIPS = 0
"""Seed of the generator that draws sign flips where there are too many seeds to enumerate all flips."""


@dataclass(frozen=True, eq=False)
class Context:
    """Everything that all questions share; `command`: the study's command."""

    study: Study
    outcomes: Outcomes
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
    """The effects of a question on the seeds of a look, and the problems in computing them."""

    inquiry: Inquiry
    collected: Collected
    effects: Effects
    problems: tuple[str, ...]

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
    return Evidence(inquiry, collected, *effects_of(collected.kept, inquiry.question))


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


def arm_means(sample: Sample, cells: Sequence[Settings], quantity: str) -> tuple[str, ...]:
    """The mean of the quantity in each arm, as one note; none without seeds."""
    if not sample.seeds:
        return ()
    names = distinguishing_settings(cells)
    means = [f"{name} {mean:.4g}".strip() for name, mean in zip(names, sample.values.mean(axis=0), strict=True)]
    return (f"mean {quantity}: {'; '.join(means)} (effects are shown once the whole claim can be judged)",)


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
    found = with_effect(found, evidence.best, question, level, evidence.shares)
    learners = learners_only(evidence, found)
    told = tuple(f"{part.statement}: effect {part.effect:.3g} over {part.n} seeds" for part in learners if part.n)
    found = replace(found, parts=(*found.parts, *learners), notes=(*found.notes, *told))
    arms = to_run(inquiry.cells, collected.pairs.arms, context.study)
    return with_command(Answer(found, collected.compared.seeds, arms, more), context)


def shown_alongside(inquiry: Inquiry) -> Finding:
    """The effect of a question that is shown with a claim: not judged, nothing adjusted."""
    found = unanswered(inquiry.question, inquiry.section)
    if inquiry.refused:
        return replace(found, notes=(str(inquiry.refused),))
    return unjudged(weigh(inquiry), found)


def unjudged(evidence: Evidence, found: Finding) -> Finding:
    collected, question = evidence.collected, evidence.inquiry.question
    notes = (*collected.notes, *evidence.problems)
    found = with_counts(found, collected, evidence.inquiry.cells, 0, notes)
    if evidence.shares > 1:
        named = [replace(found, id=f"{found.id} {name}", statement=name) for name in evidence.effects]
        shown = zip(named, evidence.effects.values(), strict=True)
        return replace(found, parts=tuple(with_effect(part, effect, question) for part, effect in shown))
    return with_effect(found, evidence.best, question)


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


def explored(evidence: Evidence, level: Level) -> Finding:
    """The effect on all seeds, those beyond the plan included: a line of its own, which changes no verdict."""
    question, n = evidence.inquiry.question, len(evidence.collected.compared.seeds)
    verdicts, doubts = verdicts_of(evidence, level.alphas, n)
    word = any_of(verdicts.values()) if len(verdicts) > 1 else next(iter(verdicts.values()), Verdict.INCONCLUSIVE)
    found = unjudged(evidence, unanswered(question, evidence.inquiry.section))
    note = f"with a plan for {n} seeds it would be {word.value}; the verdict stays that of the planned look"
    return replace(
        found, id=f"{question.id} explored", statement=f"exploratory: all {n} seeds, beyond the plan",
        exploratory=True, notes=(note, *doubts, *found.notes),
    )  # fmt: skip


# --- Effects and verdicts ---


def effects_of(sample: Sample, question: Question) -> tuple[Effects, tuple[str, ...]]:
    """Effects by name, and the problems in computing them."""
    if not sample.seeds:
        return {}, ()
    try:
        effects = question.contrast.effects(sample, np.random.default_rng(FLIPS))
        return effects, question.contrast.notes(sample)
    except (ValueError, Unreadable) as error:
        return {}, (f"the effect cannot be computed: {error}",)


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


def over_seeds_only(effect: Estimate | None) -> Effect | None:
    """The effect over seeds alone; None where an effect has no differences per seed."""
    if isinstance(effect, CrossedEffect):
        return effect.seeds_only
    return effect if isinstance(effect, Effect) else None


def skewness_of(effect: Estimate | None) -> float | None:
    over_seeds = over_seeds_only(effect)
    return None if over_seeds is None else skewness(over_seeds.differences)


def improvement_of(effect: Estimate | None) -> float | None:
    """P(treatment > control) over paired seeds, ties half (Bouthillier et al. 2021, 2103.03098)."""
    over_seeds = over_seeds_only(effect)
    if over_seeds is None:
        return None
    differences = np.array(over_seeds.differences)
    return float((differences > 0).mean() + (differences == 0).mean() / 2)


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


def with_effect(
    found: Finding, effect: Estimate | None, question: Question, level: Level | None = None, of: int = 1
) -> Finding:
    """Adds an effect as the best of a number `of` effects, which every number carries; adjusted if there is a level."""
    if effect is None:
        return found
    over_seeds = over_seeds_only(effect)
    flip = getattr(effect, "p_sign_flip", None)
    found = replace(
        found,
        effect=effect.estimate,
        interval=effect.interval(1 - ALPHA / of),
        interval_seeds=over_seeds.interval(1 - ALPHA / of) if isinstance(effect, CrossedEffect) else None,
        p=None if effect.p is None else min(1.0, effect.p * of),
        p_sign_flip=None if flip is None else min(1.0, flip * of),
        improvement=improvement_of(effect) if question.control is not None else None,
        skewness=skewness_of(effect),
    )
    if level is None:
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
        with_effect(
            replace(bare, id=f"{bare.id} {name}", statement=name, verdict=verdicts[name]), effect, question, level, k
        )
        for name, effect in evidence.effects.items()
    )


def with_command(answer: Answer, context: Context) -> Answer:
    """Adds the command that runs the answer's arms on its new seeds."""
    return replace(answer, finding=replace(answer.finding, command=context.command_for(answer.arms, answer.more)))
