"""Judges the claims of a file by the runs of a study: one finding per claim, and the looks to log.

>>> study, claims = load(Path("outputs/paper")), read_claims(Path("conf/claims/paper.yaml"))  # doctest: +SKIP
>>> judgement = judge_claims(study, claims, read_looks(study.folder))  # doctest: +SKIP
>>> {finding.id: finding.verdict.value for finding in judgement.findings}  # doctest: +SKIP
>>> append_looks(study.folder, judgement.looks)  # doctest: +SKIP
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from analysis.claims.answer import Answer, Context, answer_question, shown_alongside, unanswered, with_command
from analysis.claims.contrasts import Equality
from analysis.claims.finding import Finding
from analysis.claims.looks import Look, exploratory
from analysis.claims.reading import Claim, Claims, Question
from analysis.claims.verdict_rule import Verdict, all_of
from analysis.quantities.outcomes import outcomes
from analysis.records.arms import fits, overlaid, words
from analysis.records.study import Study


@dataclass(frozen=True)
class Judgement:
    """`findings`: one per claim, in the file's order; `looks`: those that are not in the log yet."""

    findings: tuple[Finding, ...]
    looks: tuple[Look, ...]


def judge_claims(study: Study, claims: Claims, earlier: Sequence[Look] = ()) -> Judgement:
    """Judges all claims of a file by the runs of a study; `earlier`: the looks in the log."""
    measured = outcomes(study, {question.measured for question in claims.questions})
    context = Context(study, measured, claims.judged, claims.command)
    findings, looks = [], []
    for claim in claims.claims:
        answer = judged(claim, context)
        finding = answer.finding
        if claim.is_tested and finding.verdict is not Verdict.NOT_TESTED:
            look = Look(claims.name, claim.id, answer.seeds, finding.verdict.value)
            if reason := exploratory(look, earlier, (*claims.looks, claim.seeds)):
                finding = replace(finding, notes=(reason, *finding.notes))
            if not any(old.is_of(look.claims, look.claim) and old.seeds == look.seeds for old in earlier):
                looks.append(look)
        findings.append(finding)
    return Judgement(tuple(findings), tuple(looks))


def judged(claim: Claim, context: Context) -> Answer:
    """The answer to all questions of a claim, together with the findings that are only shown."""
    answers = [
        exact_answer(question, claim.section, context)
        if isinstance(question.contrast, Equality)
        else answer_question(question, claim.section, claim.seeds, context)
        for question in claim.questions
    ]
    beside = tuple(shown_alongside(question, claim.section, context) for question in claim.beside)
    answer = answers[0] if len(answers) == 1 else combined(claim, answers, context)
    return replace(answer, finding=replace(answer.finding, id=claim.id, parts=(*answer.finding.parts, *beside)))


def combined(claim: Claim, answers: Sequence[Answer], context: Context) -> Answer:
    """The answer to a claim that requires all of its parts: no effect of its own, and the seeds that any part needs."""
    parts = [answer.finding for answer in answers]
    verdict = all_of([part.verdict for part in parts])
    if verdict is Verdict.REFUTED:  # one refuted part is enough, so the other parts need no more seeds
        answers = [replace(answer, more=(), finding=replace(answer.finding, further_seeds=0)) for answer in answers]
    needed = [answer.finding.further_seeds for answer in answers if answer.finding.further_seeds is not None]
    finding = Finding(
        id=claim.id,
        statement=claim.statement,
        section=claim.section,
        n=min(part.n for part in parts),
        n_unlearned=max(part.n_unlearned for part in parts),
        n_unknown=max(part.n_unknown for part in parts),
        n_missing=max(part.n_missing for part in parts),
        verdict=verdict,
        further_seeds=max(needed, default=None),
        parts=tuple(parts),
    )
    lacking = [answer for answer in answers if answer.more]
    answer = Answer(
        finding,
        seeds=tuple(sorted({seed for answer in answers for seed in answer.seeds})),
        arms=tuple(arm for answer in lacking for arm in answer.arms),
        more=max((answer.more for answer in lacking), key=len, default=()),
    )
    return with_command(answer, context)


def exact_answer(question: Question, section: str | None, context: Context) -> Answer:
    """Compares the exact number of each model with the claimed one, over all runs with the claim's settings."""
    found, contrast = unanswered(question, section), question.contrast
    settings = overlaid(question.within, question.treatment)
    arms = [label for label, arm in context.study.arms.items() if fits(arm, settings)]
    runs = context.study.runs[context.study.runs["arm"].isin(arms)].set_index("run")
    runs = runs[["model"]].join(context.outcomes.values[question.quantity].rename("value")).dropna()
    parts = []
    for i, ((model, value), group) in enumerate(runs.groupby(["model", "value"], sort=False), 1):
        effect = float(value - contrast.reference)
        verdict = Verdict.SUPPORTED if abs(effect) <= contrast.tolerance else Verdict.REFUTED
        note = f"{model}: {value:.4f} (exact); the claim is {contrast.reference:g} ± {contrast.tolerance:g}"
        part = replace(found, id=f"{found.id}.{i}", effect=effect, n=len(group), verdict=verdict, notes=(note,))
        parts.append(part)
    if len(parts) == 1:
        return Answer(replace(parts[0], id=found.id))
    if parts:
        verdict = all_of([part.verdict for part in parts])
        return Answer(replace(found, n=len(runs), verdict=verdict, parts=tuple(parts)))
    return Answer(replace(found, verdict=Verdict.NOT_TESTED, notes=(f"no run has {words(settings)}",)))


def unregistered(study: Study, claims: Claims) -> pd.DataFrame:
    """The runs whose record has the hash of another claims file, or of none: run, name, sha256."""
    runs = study.runs[["run", "claims.name", "claims.sha256"]]
    return runs[runs["claims.sha256"] != claims.sha256].reset_index(drop=True)
