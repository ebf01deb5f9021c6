"""Judges the claims of a file by the runs of a study: one finding per claim, and the looks to log.

>>> study, claims = load(Path("outputs/paper")), read_claims(Path("conf/claims/paper.yaml"))  # doctest: +SKIP
>>> judgement = judge_claims(study, claims, read_looks(study.folder, study.source))  # doctest: +SKIP
>>> {finding.id: finding.verdict.value for finding in judgement.findings}  # doctest: +SKIP
>>> append_looks(study.folder, judgement.looks)  # doctest: +SKIP
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from analysis.claims.answer import Answer, Level, below_plan, conclude, explored, unavailable, with_command
from analysis.claims.evidence import Context, Evidence, Inquiry, inquire, shown_alongside, unanswered, weigh
from analysis.claims.finding import Finding
from analysis.claims.looks import EXPLORATORY, Look, Occasion, occasion, seeds_of
from analysis.claims.multiplicity import Ps, all_required, sharing_claims
from analysis.claims.pairing import MissingModels
from analysis.claims.reading import Claim, Claims, Question
from analysis.claims.verdict_rule import NEGATIVE, Alphas, Verdict, all_of
from analysis.quantities.outcomes import outcomes
from analysis.quantities.recorded import use_quantities_of
from analysis.records.arms import fits, overlaid, words
from analysis.records.study import Study, missing
from analysis.stats.effects import ALPHA


@dataclass(frozen=True)
class Judgement:
    """`findings`: one per claim, in the file's order; `looks`: those that are not in the log yet."""

    findings: tuple[Finding, ...]
    looks: tuple[Look, ...]


@dataclass(frozen=True, eq=False)
class Case:
    """A claim with its evidence: its questions' runs and, where there are enough seeds, the look that judges them."""

    claim: Claim
    inquiries: tuple[Inquiry, ...]
    look: Occasion | None
    evidence: tuple[Evidence, ...]

    @property
    def ps(self) -> Ps:
        """The claim's p values among those of its file; all 1 where it cannot be judged yet."""
        return all_required([evidence.ps for evidence in self.evidence]) if self.evidence else Ps()

    def level(self, alpha: float) -> float:
        """The part of `alpha` that its look has."""
        return self.look.level(alpha) if self.look else alpha


def judge_claims(study: Study, claims: Claims, earlier: Sequence[Look] = (), peek: bool = False) -> Judgement:
    """Judges all claims of a file by the runs of a study; `earlier`: the looks in the log.

    With `peek` effects are shown and judged below the planned number of seeds, too, which counts as a look.
    """
    use_quantities_of(study, claims.metrics.quantities)
    measured = outcomes(study, {question.measured for question in claims.questions})
    context = Context(study, measured, claims.command)
    cases = [case_of(claim, claims, context, earlier, peek) for claim in claims.claims]
    judged = [case for case in cases if case.claim.is_tested and can_be_tested(case, study)]
    levels = dict(zip(map(id, judged), levels_of(judged), strict=True))
    findings, looks = [], []
    for case in cases:
        answer = answered(case, levels.get(id(case)), context)
        extra, level = (), levels.get(id(case))
        if case.evidence and level:
            kind = case.look.kind
            found = [Look(claims.name, case.claim.id, answer.seeds, answer.finding.verdict.value, claims.sha256, kind)]
            if case.look.is_last and (beyond := explored_case(case)):
                extra = tuple(explored(evidence, level, context) for evidence in beyond)
                seeds = tuple(sorted({seed for inquiry in case.inquiries for seed in inquiry.present}))
                found.append(Look(claims.name, case.claim.id, seeds, "", claims.sha256, EXPLORATORY))
            looks += [look for look in found if not any(look.is_same(old) for old in earlier)]
        beside = shown_with(case, context)
        finding = answer.finding
        findings.append(replace(finding, id=case.claim.id, parts=(*finding.parts, *extra, *beside)))
    return Judgement(tuple(findings), tuple(looks))


def case_of(claim: Claim, claims: Claims, context: Context, earlier: Sequence[Look], peek: bool) -> Case:
    """Finds the runs of a claim, the look that they allow, and the evidence on the seeds of that look."""
    tested = [question for question in claim.questions if question.contrast.tested]
    inquiries = tuple(inquire(question, claim.section, context) for question in tested)
    if not inquiries or any(inquiry.refused for inquiry in inquiries):
        return Case(claim, inquiries, None, ())
    present = min((inquiry.present for inquiry in inquiries), key=len)
    look = occasion(claim.looks, claims.name, claim.id, claims.sha256, present, earlier, peek)
    if look is None:
        return Case(claim, inquiries, None, ())
    evidence = (
        weigh(inquiry, seeds_of(look, inquiry.present, claims.name, claim.id, earlier)) for inquiry in inquiries
    )
    return Case(claim, inquiries, look, tuple(evidence))


def can_be_tested(case: Case, study: Study) -> bool:
    """Whether the claim is among the judged ones: the study has the models and the arm that it requires."""
    if any(isinstance(inquiry.refused, MissingModels) for inquiry in case.inquiries):
        return False
    return unmet(case, study) is None


def unmet(case: Case, study: Study) -> str | None:
    """What the claim requires of the study and does not find there, as a note."""
    required = case.claim.requires
    met = not required or any(fits(arm, required) for arm in study.arms.values())
    return None if met else f"the claim requires an arm with {words(required)}, which the study lacks"


def explored_case(case: Case) -> list[Evidence]:
    """The evidence on all seeds, where some are beyond the plan."""
    more = any(len(inquiry.present) > case.look.n for inquiry in case.inquiries)
    return [weigh(inquiry) for inquiry in case.inquiries] if more else []


def levels_of(cases: Sequence[Case]) -> list[Level | None]:
    """The levels of all judged claims: Holm's for the word, Bonferroni's for the displayed interval."""
    m, ps = len(cases), [case.ps for case in cases]

    def level(i: int, sharing: int) -> float:
        return cases[i].level(ALPHA / sharing)

    sharing = {kind: sharing_claims([getattr(p, kind) for p in ps], level) for kind in ("real", "opposite", "size")}
    found: list[Level | None] = []
    for i, case in enumerate(cases):
        k = max(1, len(case.evidence))  # a claim fails if any of its k parts does, and is real if all are
        alphas = {kind: level(i, j[i]) / (1 if kind == "real" else k) for kind, j in sharing.items()}
        factors = (float(sharing["real"][i]), float(k * sharing["opposite"][i]))
        found.append(Level(case.look, m, Alphas(**alphas), factors) if case.look else None)
    return found


def shown_with(case: Case, context: Context) -> tuple[Finding, ...]:
    """What is shown with a claim; below the planned number of seeds no effects."""
    claim = case.claim
    if case.look is None and any(inquiry.present for inquiry in case.inquiries):
        waits = ("shown from the planned number of seeds on",)
        return tuple(replace(unanswered(question, claim.section), notes=waits) for question in claim.beside)
    return tuple(shown_alongside(inquire(question, claim.section, context), context) for question in claim.beside)


def answered(case: Case, level: Level | None, context: Context) -> Answer:
    """The answer to all questions of a claim."""
    claim, planned = case.claim, (case.claim.looks.looks or (case.claim.looks.least,))[0]
    exact = [exact_answer(q, claim.section, context) for q in claim.questions if not q.contrast.tested]
    if case.evidence and level:
        answers = [conclude(evidence, level, context) for evidence in case.evidence]
    else:
        answers = [
            unavailable(inquiry, planned, context) if inquiry.refused else below_plan(inquiry, planned, context)
            for inquiry in case.inquiries
        ]
    if lacking := unmet(case, context.study):
        answers = [replace(a, finding=replace(a.finding, notes=(lacking, *a.finding.notes))) for a in answers]
    answers += exact
    return answers[0] if len(answers) == 1 else combined(claim, answers, context)


def combined(claim: Claim, answers: Sequence[Answer], context: Context) -> Answer:
    """The answer to a claim that requires all of its parts: no effect of its own, and the seeds that any part needs."""
    parts = [answer.finding for answer in answers]
    verdict = all_of([part.verdict for part in parts])
    if verdict in NEGATIVE:  # one part that fails is enough, so the other parts need no more seeds
        answers = [replace(answer, more=(), finding=replace(answer.finding, further_seeds=0)) for answer in answers]
    needed = [answer.finding.further_seeds for answer in answers if answer.finding.further_seeds is not None]
    deciding = [part.statement for part in parts if part.verdict is verdict]
    finding = Finding(
        id=claim.id,
        statement=claim.statement,
        section=claim.section,
        n=min(part.n for part in parts),
        n_unlearned=max(part.n_unlearned for part in parts),
        n_unknown=max(part.n_unknown for part in parts),
        n_missing=max(part.n_missing for part in parts),
        alpha=parts[0].alpha,
        verdict=verdict,
        further_seeds=max(needed, default=None),
        notes=(f"because of: {'; '.join(deciding)}",) if verdict in NEGATIVE else (),
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
        verdict = Verdict.SUPPORTED if abs(effect) <= contrast.tolerance else Verdict.RULED_OUT
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


def problems_for(study: Study, claims: Claims) -> pd.DataFrame:
    """`study.problems`, where an arm can lack the first seeds only: as many as the claim with the fewest plans.

    Where one claim plans more seeds than the others, its arms have seeds that theirs need not have.
    """
    problems = study.problems
    others = problems[problems["kind"] != "missing"]
    plans = [claims.looks, *(claim.looks for claim in claims.claims)]
    if len(others) == len(problems) or any(plan.is_open for plan in plans):
        return problems
    lacking = missing(pd.concat([study.runs, study.left_out]), min(plan.looks[-1] for plan in plans))
    return pd.concat([others, pd.DataFrame(lacking, columns=problems.columns)], ignore_index=True)
