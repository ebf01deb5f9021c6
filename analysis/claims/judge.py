"""Claims -> findings: what a study says of each claim of a file, and which looks at it that makes.

>>> study, claims = load(Path("outputs/paper")), read_claims(Path("conf/claims/paper.yaml"))  # doctest: +SKIP
>>> judgement = judge_claims(study, claims, read_looks(study.folder))  # doctest: +SKIP
>>> {finding.id: finding.verdict.value for finding in judgement.findings}  # doctest: +SKIP
>>> append_looks(study.folder, judgement.looks)  # doctest: +SKIP
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from analysis.claims.answer import Answer, Bench, answer, show, unanswered, with_command
from analysis.claims.contrasts import Equality
from analysis.claims.finding import Finding
from analysis.claims.looks import Look, exploratory
from analysis.claims.reading import Claim, Claims, Question
from analysis.claims.verdict_rule import Verdict, all_of
from analysis.quantities.outcomes import outcomes
from analysis.records.arms import fits, words
from analysis.records.study import Study


@dataclass(frozen=True)
class Judgement:
    """findings: one a claim, in the file's order. looks: those that were not logged before."""

    findings: tuple[Finding, ...]
    looks: tuple[Look, ...]


def judge_claims(study: Study, claims: Claims, earlier: Sequence[Look] = ()) -> Judgement:
    """Judge all claims of a file by the runs of a study; `earlier`: the looks that are logged."""
    measured = outcomes(study, {question.measured for question in claims.questions})
    bench = Bench(study, measured, claims.judged, claims.command)
    findings, looks = [], []
    for claim in claims.claims:
        said = judged(claim, bench)
        finding = said.finding
        if claim.is_tested and finding.verdict is not Verdict.NOT_TESTED:
            look = Look(claims.name, claim.id, said.seeds, finding.verdict.value)
            if reason := exploratory(look, earlier, (*claims.looks, claim.seeds)):
                finding = replace(finding, notes=(reason, *finding.notes))
            if not any(old.is_of(look.claims, look.claim) and old.seeds == look.seeds for old in earlier):
                looks.append(look)
        findings.append(finding)
    return Judgement(tuple(findings), tuple(looks))


def judged(claim: Claim, bench: Bench) -> Answer:
    """A claim's questions answered and put together, with what is shown beside."""
    answers = [
        exact(question, claim.section, bench)
        if isinstance(question.contrast, Equality)
        else answer(question, claim.section, claim.seeds, bench)
        for question in claim.questions
    ]
    beside = tuple(show(question, claim.section, bench) for question in claim.beside)
    said = answers[0] if len(answers) == 1 else together(claim, answers, bench)
    finding = replace(said.finding, id=claim.id, parts=(*said.finding.parts, *beside))
    return replace(said, finding=finding)


def together(claim: Claim, answers: Sequence[Answer], bench: Bench) -> Answer:
    """A claim of several parts, all of which are required: no effect of its own, the seeds that any part needs."""
    parts = [said.finding for said in answers]
    verdict = all_of([part.verdict for part in parts])
    if verdict is Verdict.REFUTED:  # by one part for good, whatever more seeds would say of the others
        answers = [replace(said, further=(), finding=replace(said.finding, further_seeds=0)) for said in answers]
    needed = [said.finding.further_seeds for said in answers if said.finding.further_seeds is not None]
    finding = Finding(
        id=claim.id,
        statement=claim.statement,
        section=claim.section,
        n=min(part.n for part in parts),
        n_unlearned=max(part.n_unlearned for part in parts),
        n_missing=max(part.n_missing for part in parts),
        verdict=verdict,
        further_seeds=max(needed, default=None),
        parts=tuple(parts),
    )
    lacking = [said for said in answers if said.further]
    said = Answer(
        finding,
        seeds=tuple(sorted({seed for said in answers for seed in said.seeds})),
        arms=tuple(arm for said in lacking for arm in said.arms),
        further=max((said.further for said in lacking), key=len, default=()),
    )
    return with_command(said, bench)


def exact(question: Question, section: str | None, bench: Bench) -> Answer:
    """An exact number of each model against the one that is claimed, by all runs that have the treatment's settings."""
    found, contrast = replace(unanswered(question, section), within={}), question.contrast
    arms = [label for label, arm in bench.study.arms.items() if fits(arm, question.treatment)]
    runs = bench.study.runs[bench.study.runs["arm"].isin(arms)].set_index("run")
    runs = runs[["model"]].join(bench.outcomes.values[question.quantity].rename("value")).dropna()
    parts = []
    for i, ((model, value), group) in enumerate(runs.groupby(["model", "value"], sort=False), 1):
        effect = float(value - contrast.reference)
        verdict = Verdict.SUPPORTED if abs(effect) <= contrast.tolerance else Verdict.REFUTED
        note = f"{model}: {value:.4f}, counted; {contrast.reference:g} ± {contrast.tolerance:g} is as claimed"
        part = replace(found, id=f"{found.id}.{i}", effect=effect, n=len(group), verdict=verdict, notes=(note,))
        parts.append(part)
    if len(parts) == 1:
        return Answer(replace(parts[0], id=found.id))
    if parts:
        word = all_of([part.verdict for part in parts])
        return Answer(replace(found, n=len(runs), verdict=word, parts=tuple(parts)))
    return Answer(replace(found, verdict=Verdict.NOT_TESTED, notes=(f"no run has {words(question.treatment)}",)))


def unregistered(study: Study, claims: Claims) -> pd.DataFrame:
    """The runs that carry another claims file's hash than this one's, or none: run, name, sha256."""
    runs = study.runs[["run", "claims.name", "claims.sha256"]]
    return runs[runs["claims.sha256"] != claims.sha256].reset_index(drop=True)
