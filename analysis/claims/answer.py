"""One question of a claim -> its answer: a word on its effect, and what it takes to know more.

- Fewer paired seeds than planned, arms that are missing or must not be compared: not tested.
- Quantities of how well a run does (`analysis.quantities.registry`) keep runs that did not learn; the word without
  their seeds has to be the same, else it is inconclusive. All other quantities are compared over the seeds whose runs
  all learn:
  where these are fewer than six (or than planned, if that is less), the word is inconclusive.
- Of several effects (interactions) any will do, each at its share of α.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.claims.contrasts import Effects, Estimate, Settings
from analysis.claims.finding import Finding
from analysis.claims.more_seeds import command, new_seeds, study_name, to_run
from analysis.claims.pairing import Absent, OtherModels, Refused
from analysis.claims.reading import Question
from analysis.claims.samples import Drawn, Sample, draw
from analysis.claims.verdict_rule import Direction, Verdict, agreed, any_of, further_seeds, judge
from analysis.quantities.outcomes import Outcomes
from analysis.records.arms import is_under, varying, words
from analysis.records.run_folder import Unreadable
from analysis.records.study import Study
from analysis.stats.effects import Effect, exact_rate, p_adjusted, simultaneous_level
from analysis.stats.predictions import OverExamples
from analysis.write_up import SIZES_COMMAND

LEAST_LEARNED = 6
"""Seeds whose runs all learn that a word is based on: sign flips of fewer can't reach p < .05."""

FLIPS = 0
"""Seed of the sign flips, which are drawn where there are too many seeds to count them all."""


@dataclass(frozen=True, eq=False)
class Bench:
    """What all questions share. `judged`: tested claims × planned looks; `command`: what runs the study."""

    study: Study
    outcomes: Outcomes
    judged: int
    command: str

    def command_for(self, arms: Sequence[Settings], seeds: Sequence[int]) -> str | None:
        return command(self.command, study_name(self.study.folder), arms, seeds) if arms and seeds else None


@dataclass(frozen=True)
class Answer:
    """A finding, the seeds that it compares, and what to run to know more: arms by their settings, and seeds."""

    finding: Finding
    seeds: tuple[int, ...] = ()
    arms: tuple[Settings, ...] = ()
    further: tuple[int, ...] = ()


@dataclass(frozen=True)
class Heard:
    """What a sample says: its effects, each with its word, and the word of all."""

    effects: Effects
    words: dict[str, Verdict]
    verdict: Verdict
    problems: tuple[str, ...]

    @property
    def shares(self) -> int:
        """How many effects share α."""
        return max(1, len(self.effects))

    @property
    def best(self) -> Estimate | None:
        """The effect with the smallest p, or the only one."""
        known = [effect for effect in self.effects.values() if effect is not None]
        return min(known, key=lambda effect: 1.0 if p_of(effect) is None else p_of(effect), default=None)


def answer(question: Question, section: str | None, planned: int, bench: Bench) -> Answer:
    """What the study says of a question that plans so many seeds."""
    found, study = unanswered(question, section), bench.study
    try:
        cells = question.contrast.cells(question, study)
        drawn = draw(question, cells, study, bench.outcomes)
    except Refused as reason:
        found = replace(found, n_missing=planned, verdict=Verdict.NOT_TESTED, notes=(str(reason),))
        if isinstance(reason, OtherModels):
            return Answer(replace(found, command=command(SIZES_COMMAND, "scale", [{}], range(planned))))
        if not isinstance(reason, Absent):
            return Answer(found)
        found = replace(found, further_seeds=planned)
        return with_command(Answer(found, (), to_run(cells, (), study), new_seeds(planned, study)), bench)
    heard, without = (hear(sample, drawn, planned, bench.judged) for sample in (drawn.kept, drawn.learned))
    verdict, notes = heard.verdict, [*drawn.notes, *heard.problems]
    if drawn.keeps and len(drawn.learned.seeds) < len(drawn.compared.seeds):
        verdict = agreed(heard.verdict, without.verdict)
        notes.append(f"without the seeds on which a run did not learn: {in_words(without)}")
    needed, why = what_next(drawn, heard, verdict, planned, bench.judged)
    found = replace(counted(found, drawn, cells, planned, (*notes, *why)), verdict=verdict, further_seeds=needed)
    judged = bench.judged * heard.shares
    if heard.shares > 1:
        found = replace(found, parts=effect_parts(found, heard, judged))
    found = with_effect(found, heard.best, judged, heard.shares)
    further = new_seeds(needed or 0, study, (*drawn.compared.seeds, *drawn.pairs.unpaired))
    return with_command(Answer(found, drawn.compared.seeds, to_run(cells, drawn.pairs.arms, study), further), bench)


def show(question: Question, section: str | None, bench: Bench) -> Finding:
    """The effect of a question that is shown beside a claim: not judged, nothing adjusted."""
    found = unanswered(question, section)
    try:
        cells = question.contrast.cells(question, bench.study)
        drawn = draw(question, cells, bench.study, bench.outcomes)
    except Refused as reason:
        return replace(found, notes=(str(reason),))
    effects, problems = effects_of(drawn.kept)
    found = counted(found, drawn, cells, 0, (*drawn.notes, *problems))
    if len(effects) > 1:
        named = [replace(found, id=f"{found.id} {name}", statement=name) for name in effects]
        return replace(found, parts=tuple(map(with_effect, named, effects.values())))
    return with_effect(found, next(iter(effects.values()), None))


# --- What the seeds say ---


def hear(sample: Sample, drawn: Drawn, planned: int, judged: int) -> Heard:
    """The word on a sample of the seeds that were drawn."""
    effects, problems = effects_of(sample)
    level = simultaneous_level(judged * max(1, len(effects)))
    present = len(drawn.compared.seeds)
    words = {name: word(name, effect, sample, level, present, planned) for name, effect in effects.items()}
    if present < planned:
        verdict = Verdict.NOT_TESTED
    elif len(words) == 1:
        verdict = next(iter(words.values()))
    else:
        verdict = any_of(words.values()) if words else Verdict.INCONCLUSIVE
    return Heard(effects, words, verdict, problems)


def effects_of(sample: Sample) -> tuple[Effects, tuple[str, ...]]:
    """Effects by name, and what stood in their way."""
    if not sample.seeds:
        return {}, ()
    try:
        return sample.question.contrast.effects(sample, np.random.default_rng(FLIPS)), ()
    except (ValueError, Unreadable) as error:
        return {}, (f"no effect: {error}",)


def word(name: str, effect: Estimate | None, sample: Sample, level: float, present: int, planned: int) -> Verdict:
    """The word on one effect; `present` seeds can be compared, of which `sample` are those that count."""
    question = sample.question
    if present < planned:
        return Verdict.NOT_TESTED
    if effect is None or len(sample.seeds) < min(LEAST_LEARNED, planned):
        return Verdict.INCONCLUSIVE
    found = judge(effect.estimate, effect.interval(level), question.smallest, question.direction, present, planned)
    stands = found is not Verdict.SUPPORTED or question.contrast.holds(name, effect, sample)
    return found if stands else Verdict.INCONCLUSIVE


def what_next(
    drawn: Drawn, heard: Heard, verdict: Verdict, planned: int, judged: int
) -> tuple[int | None, tuple[str, ...]]:
    """How many seeds to add, and why; None where that is not known."""
    present, question = len(drawn.compared.seeds), drawn.compared.question
    if present < planned:
        # where runs were paired and none could be measured, more of the same will not help
        return (planned - present if present or not drawn.pairs.seeds else None), ()
    if verdict is Verdict.REFUTED:
        return 0, ()
    if heard.best is None or isinstance(heard.best, OverExamples):
        return None, ()
    asked = further_seeds(heard.best, question.smallest, question.direction, judged * heard.shares)
    return asked.further, () if asked.further == 0 else (f"further seeds: {asked.reason}",)


# --- Into findings ---


def unanswered(question: Question, section: str | None) -> Finding:
    """What a finding says of its question before anything is known."""
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


def counted(found: Finding, drawn: Drawn, cells: Sequence[Settings], planned: int, notes: Sequence[str]) -> Finding:
    """With the numbers of seeds, and the rate of runs that learn in each cell with its exact interval."""
    compared = drawn.compared
    rates = [rate_text(cell, compared.learned[:, i]) for i, cell in enumerate(told_apart(cells)) if compared.seeds]
    return replace(
        found,
        n=len(drawn.kept.seeds),
        n_unlearned=int((~compared.learned.all(axis=1)).sum()),
        n_missing=max(planned, drawn.known) - len(compared.seeds),
        notes=(*notes, *([f"runs that learn: {'; '.join(rates)}"] if rates else [])),
    )


def rate_text(cell: str, learned: NDArray[np.bool_]) -> str:
    rate = exact_rate(int(learned.sum()), len(learned))
    return f"{cell} {rate.count} of {rate.n} [{rate.interval.low:.2f}, {rate.interval.high:.2f}]".strip()


def told_apart(cells: Sequence[Settings]) -> list[str]:
    """Cells by the settings in which they differ, an option without its own: there is nothing to say of a lone one."""
    keys = varying(cells)
    shown = [key for key in keys if not is_under(key, keys - {key})]
    return [words({key: value for key, value in cell.items() if key in shown}) for cell in cells]


def with_effect(found: Finding, effect: Estimate | None, judged: int | None = None, of: int = 1) -> Finding:
    """With an effect, adjusted for `judged` effects in all where it is judged; as the best `of` so many."""
    if effect is None:
        return found
    p, flip = p_of(effect), effect.p_sign_flip if isinstance(effect, Effect) else None
    return replace(
        found,
        effect=effect.estimate,
        interval=effect.interval(),
        interval_simultaneous=None if judged is None else effect.interval(simultaneous_level(judged)),
        p=None if p is None else p_adjusted(p, of),
        p_adjusted=None if p is None or judged is None else p_adjusted(p, judged),
        p_sign_flip=None if flip is None else p_adjusted(flip, of),
    )


def effect_parts(found: Finding, heard: Heard, judged: int) -> tuple[Finding, ...]:
    """Each of several effects as a part."""
    bare = replace(found, notes=(), further_seeds=None)
    return tuple(
        with_effect(replace(bare, id=f"{bare.id} {name}", statement=name, verdict=heard.words[name]), effect, judged)
        for name, effect in heard.effects.items()
    )


def with_command(said: Answer, bench: Bench) -> Answer:
    finding = replace(said.finding, command=bench.command_for(said.arms, said.further))
    return replace(said, finding=finding)


def p_of(effect: Estimate) -> float | None:
    return None if isinstance(effect, OverExamples) else effect.p


def in_words(heard: Heard) -> str:
    if heard.best is None:
        return f"nothing is left, {heard.verdict.value}"
    return f"effect {heard.best.estimate:.3g} over {heard.best.n} seeds, {heard.verdict.value}"
