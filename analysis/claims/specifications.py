"""Specifications: a claim's effect and word under each combination of choices that others could have made.

The choices are the scale, the runs, the points of a grid, the test, the error and the level. All combinations are
judged by the functions that judge claims. Simonsohn, Simmons & Nelson 2020, Nat. Hum. Behav. 4:1208.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.claims.answer import verdict_on
from analysis.claims.contrasts import Paired, Sensitivity
from analysis.claims.estimand import Sample
from analysis.claims.evidence import FLIPS, Context, Evidence, over_seeds_only
from analysis.claims.example_scores import example_clusters, example_scores
from analysis.claims.finding import Finding
from analysis.claims.grid_contrasts import Grid
from analysis.claims.judge import Case, can_be_tested, case_of, levels_of
from analysis.claims.looks import read_looks
from analysis.claims.multiplicity import Ps
from analysis.claims.pairing import Refused
from analysis.claims.reading import Claims, Question
from analysis.claims.samples import Collected, collect
from analysis.claims.verdict_rule import REAL, Alphas, Verdict
from analysis.quantities.outcomes import Outcomes, outcomes
from analysis.records.arms import value_text
from analysis.records.run_folder import Unreadable
from analysis.records.study import Study
from analysis.stats.effects import ALPHA, Array, Estimate, paired_effect
from analysis.stats.predictions import crossed_effect

CHOICES = ("scale", "runs", "grid", "test", "error", "level")
"""The kinds of choices, in the order of their rows."""

ALL_RUNS, LEARNERS = "all runs", "runs that learn"
STUDENT, SIGN_FLIPS = "t", "sign flips"
SEEDS, EXAMPLES = "seeds", "seeds and examples"
UNADJUSTED, BONFERRONI, HOLM = "α", "α / m", "α by Holm"


# --- Claims as they are judged ---


class JudgedCase(Case):
    """A case whose p values are computed once, while those of another claim change."""

    @cached_property
    def ps(self) -> Ps:
        return super().ps


def judged_cases(study: Study, claims: Claims, findings: Sequence[Finding]) -> list[JudgedCase]:
    """The claims that share the error rate, with the looks and seeds that the findings are judged by."""
    context = Context(study, outcomes(study, {question.measured for question in claims.questions}), claims.command)
    shown = {finding.id for finding in findings if finding.alpha is not None}
    earlier = read_looks(study.folder, study.source)
    cases = [case_of(claim, claims, context, earlier, peek=claim.id in shown) for claim in claims.claims]
    return [
        JudgedCase(case.claim, case.inquiries, case.look, case.evidence)
        for case in cases
        if case.claim.is_tested and can_be_tested(case, study)
    ]


class Place(NamedTuple):
    """A question's place: number of its case, and number of its part of that case."""

    case: int
    part: int


def places(cases: Sequence[Case]) -> dict[str, Place]:
    """The place of each question that is judged, by the question's id."""
    return {
        evidence.inquiry.question.id: Place(i, j)
        for i, case in enumerate(cases)
        for j, evidence in enumerate(case.evidence)
    }


def levels_for(effect: Estimate, place: Place, cases: Sequence[Case]) -> dict[str, Alphas]:
    """The levels at which an effect is judged in its question's place, by the kind of level.

    For Holm's procedure all other claims keep their own effects.
    """
    case = cases[place.case]
    evidence = [replace(e, effects={"": effect}) if j == place.part else e for j, e in enumerate(case.evidence)]
    changed = replace(case, evidence=tuple(evidence))
    level = levels_of([changed if i == place.case else other for i, other in enumerate(cases)])[place.case]
    return {
        UNADJUSTED: Alphas.all_at(level.look.level(ALPHA)),
        BONFERRONI: Alphas.all_at(level.displayed),
        HOLM: level.alphas,
    }


# --- Specifications ---


def specifications(question: Question, study: Study, cases: Sequence[Case]) -> pd.DataFrame:
    """All specifications of a paired or sensitivity question: CHOICES, effect, low, high, p, n, word, is_own.

    Effects are treatment − control on the question's scale; on the raw scale of a question of ratios, the logarithm of
    1 + difference / mean of the control, so that all are comparable. The scale is log or raw for ratios, else the
    question's; runs are all or those that learn, where both differ; grids leave out one point each; the test is
    Student's t or the sign flips; the error is that of seeds, or where scores per example are recorded also that of
    seeds and examples; the level is ALPHA, ALPHA / m, or ALPHA by Holm's procedure over the m `cases`
    (`judged_cases`). low and high are the ends of the intervals by which the effect is compared with none. `is_own`:
    the question's own choices, whose word is that of its finding. Combinations that the data do not allow are left
    out; the frame is empty if none is allowed.
    """
    place = places(cases)[question.id]
    seeds = set(cases[place.case].evidence[place.part].collected.compared.seeds)
    measured = outcomes(study, [question.measured])
    rows = []
    for grid, asked in grids_of(question):
        for runs, collected in collected_runs(asked, study, measured, seeds):
            for (scale, error), effect in effects_of_sample(asked, collected.kept):
                own = (runs, scale) == (ALL_RUNS, question.scale) and not grid.startswith("without")
                chosen = {"grid": grid, "runs": runs, "scale": scale, "error": error}
                words = words_of_effect(effect, asked, collected, place, cases)
                rows += [chosen | row | {"is_own": own and row["is_own"]} for row in words]
    found = pd.DataFrame(rows, columns=[*CHOICES, "effect", "low", "high", "p", "n", "word", "is_own"])
    if (found["error"] == EXAMPLES).any():
        found["is_own"] &= found["error"] == EXAMPLES
    return found


def grids_of(question: Question) -> Iterator[tuple[str, Question]]:
    """The question, and for a grid the same without each of its points where three or more are left."""
    contrast = question.contrast
    yield ("all of the grid" if isinstance(contrast, Grid) else ""), question
    if isinstance(contrast, Grid):
        for key, values in contrast.over.items():
            for i, value in enumerate(values if len(values) > 2 else ()):
                yield f"without {value_text(value)}", replace(question, contrast=contrast.without(key, i))


def collected_runs(
    question: Question, study: Study, measured: Outcomes, seeds: set[int]
) -> Iterator[tuple[str, Collected]]:
    """The question's runs on these seeds: all and, where runs that did not learn count, those that learn."""
    try:
        found = collect(question, question.contrast.cells(question, study), study, measured).on(seeds)
    except Refused:
        return
    yield ALL_RUNS, found
    if isinstance(question.contrast, Paired) and found.keeps and len(found.learned.seeds) < len(found.compared.seeds):
        yield LEARNERS, replace(found, keeps=False)


def effects_of_sample(question: Question, sample: Sample) -> Iterator[tuple[tuple[str, str], Estimate]]:
    """Scale and error, and the effect with them; on the question's own scale as its contrast computes it."""
    computations = {question.scale: lambda: question.contrast.effects(sample, np.random.default_rng(FLIPS))[""]}
    if question.scale == "log":
        computations["raw"] = lambda: relative_effect(question, sample)
    for scale, compute in computations.items():
        try:
            effect = compute()
        except (ValueError, Unreadable):
            continue
        over_seeds = over_seeds_only(effect)
        yield (scale, SEEDS), over_seeds
        if over_seeds is not effect:
            yield (scale, EXAMPLES), effect


def relative_effect(question: Question, sample: Sample) -> Estimate:
    """ln(1 + mean difference / mean of the control), over seeds and, where scores are recorded, examples.

    By the delta method: the spread of the differences counts with the logarithm's slope at the mean difference. Raises
    ValueError where the difference is the control's whole mean.
    """
    values, scores = sample.values, None
    if isinstance(question.contrast, Sensitivity):
        loss = question.contrast.by_arm(values)
        values = loss.mean(axis=2) - loss.min(axis=2)
    elif len(sample.seeds) > 1:
        scores = example_scores(sample)
    control = values[:, 1].mean()
    mean = (values[:, 0] - values[:, 1]).mean() / control
    if mean <= -1:
        raise ValueError("the mean difference is the control's whole mean")

    def linear(x: Array) -> Array:  # (seeds, cells, ...) -> (seeds, ...)
        return np.log1p(mean) + ((x[:, 0] - x[:, 1]) / control - mean) / (1 + mean)

    rng, differences = np.random.default_rng(FLIPS), linear(values if scores is None else scores)
    if scores is None:
        return paired_effect(differences, np.zeros_like(differences), rng)
    return crossed_effect(differences, np.zeros_like(differences), example_clusters(sample), rng)


def words_of_effect(
    effect: Estimate, question: Question, collected: Collected, place: Place, cases: Sequence[Case]
) -> list[dict[str, Any]]:
    """One row per test and level; none where the effect has no interval."""
    if effect.interval() is None:
        return []
    case = cases[place.case]
    inquiry = replace(case.evidence[place.part].inquiry, question=question)
    evidence = Evidence(inquiry, collected, {"": effect}, ())
    rows = []
    for level, alphas in levels_for(effect, place, cases).items():
        verdict, _ = verdict_on("", effect, evidence, alphas, case.look.n)
        up = question.direction.sign(effect.estimate) > 0
        of_low, of_high = (alphas.real, alphas.opposite) if up else (alphas.opposite, alphas.real)
        low, high = effect.interval(1 - of_low).low, effect.interval(1 - of_high).high
        for test, p in ((STUDENT, effect.p), (SIGN_FLIPS, effect.p_sign_flip)):
            against = of_low if effect.estimate > 0 else of_high
            is_left = test == STUDENT or p < against or verdict not in {*REAL, Verdict.OPPOSITE}
            rows.append(
                {
                    **{"test": test, "level": level, "effect": effect.estimate, "low": low, "high": high},
                    **{"p": p, "n": effect.n, "word": (verdict if is_left else Verdict.INCONCLUSIVE).value},
                    "is_own": (test, level) == (STUDENT, HOLM),
                }
            )
    return rows
