"""What to do after a report: the seeds that are still due, with the command that runs them, or nothing."""

from collections.abc import Sequence
from typing import NamedTuple

from ablate.config.wording import count
from analysis.claims.finding import Finding, with_parts
from analysis.claims.more_seeds import command_for, new_seeds, to_run
from analysis.claims.reading import Claims
from analysis.claims.verdict_rule import Verdict
from analysis.records.study import Study

ENOUGH = 5
"""Seeds that a study of one seed is advised to have."""


class NextStep(NamedTuple):
    """A sentence on what to do next, and the command for it, "" where there is none."""

    sentence: str
    command: str = ""


def next_to_run(what: str, command: str | None) -> NextStep:
    """The step that runs something by a command; without one, a user's own loop has to."""
    return NextStep(f"Next: {what}:", command) if command else NextStep(f"Next: {what}, made by your own loop.")


def next_step(study: Study, claims: Claims, findings: Sequence[Finding]) -> NextStep:
    """What to do after a report on these findings."""
    seeds = set(study.runs["seed"])
    if len(study.arms) == 1:
        return NextStep(f"Next: add arms to compare{', such as clip=none,fixed,delayed' * study.is_of_command}.")
    if study.table is not None:
        return NextStep("Next: more rows, with further seeds, make the intervals narrower.")
    if len(seeds) == 1 and claims.compare is not None:
        return next_to_run(f"{ENOUGH - 1} more seeds, for {ENOUGH} in all", all_arms(ENOUGH - 1, study, claims))
    if lacking := [each for each in with_parts(findings) if each.further_seeds and may_be_run(each, study)]:
        most = max(lacking, key=lambda each: each.further_seeds or 0)
        waits = most.verdict is Verdict.NOT_TESTED
        seeds = count(most.further_seeds or 0, "more seed")
        due = f"{seeds} before claim {most.id} is judged" if waits else f"about {seeds} to decide claim {most.id}"
        return next_to_run(due, most.command)
    if claims.compare is not None:
        return more_of_a_comparison(study, claims, findings)
    return after_the_plan(study, claims, findings)


def may_be_run(finding: Finding, study: Study) -> bool:
    """Whether further seeds of a claim can be run: by a command, or before the planned seeds by a user's own loop."""
    return bool(finding.command) or (not study.is_of_command and finding.verdict is Verdict.NOT_TESTED)


def all_arms(seeds: int, study: Study, claims: Claims) -> str | None:
    """The command that adds seeds to all arms; None where a user's own loop makes the runs."""
    arms = to_run([{} for _ in study.arms], list(study.arms), study)
    new = new_seeds(seeds, study, set(study.runs["seed"]))
    return command_for(claims.command, study, arms, new)


def more_of_a_comparison(study: Study, claims: Claims, findings: Sequence[Finding]) -> NextStep:
    """What a comparison without planned seeds can do: four times the seeds for intervals of half the width."""
    if all(each.verdict is not Verdict.INCONCLUSIVE for each in findings):
        return NextStep("Next: nothing is due; every comparison has an answer.")
    more = 3 * study.runs["seed"].nunique()
    command = all_arms(more, study, claims)
    return NextStep(
        f"Next: nothing is due, as no smallest difference of interest is set. {count(more, 'more seed')} would make "
        f"the intervals about half as wide{':' if command else '.'}",
        command or "",
    )


def after_the_plan(study: Study, claims: Claims, findings: Sequence[Finding]) -> NextStep:
    """What remains once the seeds of a plan are judged: a later look, claims that need other runs, or a new study."""
    seeds = study.runs["seed"].nunique()
    last = max((look for claim in claims.claims for look in claim.looks.looks), default=0)
    is_open = any(each.verdict in (Verdict.INCONCLUSIVE, Verdict.UNDECIDED) for each in findings)
    if is_open and seeds < last:
        more = last - seeds
        return next_to_run(f"{count(more, 'more planned seed')} until the last look", all_arms(more, study, claims))
    said = [f"Next: {the_planned(seeds)} complete, so no further seeds are due."]
    if larger := [each for each in findings if each.further_seeds and not each.command]:
        total = max(each.n + (each.further_seeds or 0) for each in larger)
        said.append(f"To decide {claims_named(larger)}, a new study would need {count(total, 'seed')} per arm.")
    untested = [each for each in findings if each.verdict is Verdict.NOT_TESTED]
    if command := next((each.command for each in untested if each.command), ""):
        said.append(f"To test {claims_named(untested)}:")
    return NextStep(" ".join(said), command)


def the_planned(seeds: int) -> str:
    return f"the {seeds} planned seeds are" if seeds > 1 else "the planned seed is"


def claims_named(findings: Sequence[Finding]) -> str:
    """The claims by their ids; one alone with what it says."""
    if len(findings) == 1:
        return f"“{findings[0].statement}” (claim {findings[0].id})"
    return f"claims {', '.join(each.id for each in findings)}"


def why_differences_wait(study: Study, claims: Claims) -> str | None:
    """The reason to show no differences between arms: fewer seeds than the first planned look; else None."""
    plans = [claim.looks for claim in claims.claims]
    first = min(((plan.looks or (plan.least,))[0] for plan in plans), default=0)
    seeds = study.runs["seed"].nunique() if study.is_paired else int(study.runs["arm"].value_counts().min())
    if claims.compare is not None or seeds >= first:
        return None
    planned = f"{count(seeds, 'seed')} of {first} planned"
    return f"{planned}: until then only means are shown (--peek shows more, which is a look)"
