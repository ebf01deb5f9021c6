"""The first sentence of a report: which arms differ, by how much, and how sure that is; or how many claims hold."""

import math
from collections.abc import Sequence
from itertools import groupby

from ablate.config.wording import count
from ablate.schema import TASKS
from analysis.claims.comparison import reference_arm
from analysis.claims.finding import Finding
from analysis.claims.more_seeds import new_seeds, study_name, sweep_command, to_run
from analysis.claims.reading import Claims
from analysis.claims.verdict_rule import Verdict
from analysis.page.sentences import SENTENCES
from analysis.quantities.measure import measure
from analysis.quantities.recorded import use_quantities_of
from analysis.quantities.registry import REGISTRY, of_kind
from analysis.records.arms import ranges, words
from analysis.records.study import Study
from analysis.stats.scales import SCALES
from analysis.tables.numbers import ratio_text, rounded

ENOUGH = 5
"""Seeds that a study of one seed is advised to have."""

MOST_ARMS = 4
"""Arms that the sentence names one by one."""

POINTLESS = {"points": 50.0, "log": 3.0}
"""Half-widths from which an interval rules out nothing that anybody expects: 50 points, a ratio of 20."""

WITHOUT_EFFECT = (Verdict.INCONCLUSIVE, Verdict.NOT_TESTED, Verdict.EQUIVALENT)


def headline(study: Study, claims: Claims, findings: Sequence[Finding]) -> str:
    """What a study shows, in a sentence or two, and what it lacks, with the command that adds it."""
    use_quantities_of(study, claims.metrics.quantities)
    seeds = sorted(set(study.runs["seed"]))
    if claims.compare is None:
        shown = claims_sentence(findings)
    elif not findings:
        shown = f"There is one arm only ({next(iter(study.arms))}), so nothing is compared: add arms, such as " + (
            "clip=none,fixed,delayed."
        )
    elif len(seeds) == 1:
        shown = one_seed_sentence(study, claims)
    else:
        shown = comparison_sentence(findings, study.kind)
    if study.table is not None:
        shown = f"{shown} {table_sentence(study)}"
    return f"{shown}\n{more_seeds_sentence(study, claims)}" if len(seeds) == 1 and study.table is None else shown


def table_sentence(study: Study) -> str:
    """How the arms of a table of results are compared."""
    if study.is_paired:
        return "The runs were made elsewhere; rows with the same seed are taken as pairs."
    return "The runs were made elsewhere, and the arms are compared unpaired, by Welch's t."


# --- Claims ---


def claims_sentence(findings: Sequence[Finding]) -> str:
    """How many claims are supported, and the verdicts on the others.

    >>> found = [("A", Verdict.SUPPORTED), ("B", Verdict.INCONCLUSIVE), ("C", Verdict.INCONCLUSIVE)]
    >>> claims_sentence([Finding(id, "up", None, verdict=verdict) for id, verdict in found])
    '1 of 3 claims is supported: A. Inconclusive: B, C.'
    """
    ids = {verdict: [finding.id for finding in findings if finding.verdict is verdict] for verdict in Verdict}
    supported = ids.pop(Verdict.SUPPORTED)
    are = "is" if len(supported) < 2 else "are"
    first = f"{len(supported) or 'None'} of {count(len(findings), 'claim')} {are} supported"
    others = [f"{verdict.value.capitalize()}: {', '.join(named)}." for verdict, named in ids.items() if named]
    return " ".join([f"{first}: {', '.join(supported)}." if supported else f"{first}.", *others])


# --- Arms against the reference ---


def comparison_sentence(findings: Sequence[Finding], kind: str = TASKS[0]) -> str:
    """The arms that differ from the reference, then the others; intervals are those adjusted for all comparisons."""
    judged = [finding for finding in findings if finding.verdict is not Verdict.NOT_TESTED]
    arms = [list(group) for _, group in groupby(findings, lambda finding: words(finding.treatment or {}))]
    # those that differ come first
    arms.sort(key=lambda group: all(finding.verdict in WITHOUT_EFFECT for finding in group))
    seeds = sorted({finding.n for finding in judged if finding.n})
    clauses: dict[str, list[str]] = {}
    for group in arms[:MOST_ARMS]:
        clauses.setdefault(arm_clause(group, len(seeds) > 1, kind), []).append(arm_in_words(group[0]))
    said = [f"{' and '.join(names)}: {clause}" for clause, names in clauses.items()]
    if more := arms[MOST_ARMS:]:
        differ = sum(any(finding.verdict not in WITHOUT_EFFECT for finding in group) for group in more)
        said.append(f"{count(len(more), 'more arm')}: {differ or 'none'} with a difference (see the report)")
    text = f"{'; '.join(said)}."
    if not judged:
        return text
    on = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else count(seeds[0], "seed") if seeds else "no seed"
    text += f" Intervals: 95 %, {on}, adjusted for {count(len(judged), 'comparison')}."
    if unlearned := max(finding.n_unlearned for finding in judged):
        text += f" On {count(unlearned, 'seed')} a run did not learn."
    return text


def arm_in_words(finding: Finding) -> str:
    """The arm in words; an A/A arm, which differs in its dropout stream only, as the control that it is."""
    return f"{'A/A control ' if finding.changes == ('nuisance',) else ''}{words(finding.treatment or {})}"


def arm_clause(findings: Sequence[Finding], with_seeds: bool, kind: str) -> str:
    """One arm against the reference: its first quantity in any case, the others where they differ."""
    first, *others = findings
    differing = [difference(finding, kind) for finding in others if finding.verdict not in WITHOUT_EFFECT]
    tested = first.verdict is not Verdict.NOT_TESTED
    on = f", {count(first.n, 'seed')}" if with_seeds and tested else ""
    return f"{', '.join([difference(first, kind), *differing])}{on}"


def difference(finding: Finding, kind: str) -> str:
    """How a quantity differs from that of the reference, or that no difference is shown, and how large one could be."""
    quantity = of_kind(REGISTRY[finding.quantity or ""], kind)
    if finding.verdict is Verdict.NOT_TESTED or finding.effect is None:
        return f"{quantity.words} not compared ({why_not_compared(finding)})"
    interval = finding.interval_simultaneous
    if finding.verdict not in WITHOUT_EFFECT and interval is not None:
        sentence = SENTENCES[finding.scale or "raw"]
        effect = sentence.effect(quantity.words, quantity.unit, f"with {words(finding.control or {})}", finding.effect)
        return f"{effect} ({sentence.interval(finding.effect, interval.low, interval.high)})"
    return f"no difference in {quantity.words} shown ({bound(finding, quantity.unit)})"


def why_not_compared(finding: Finding) -> str:
    if finding.further_seeds:
        return f"{count(finding.further_seeds, 'more paired seed')} needed"
    return finding.notes[0] if finding.notes else "no value"


def bound(finding: Finding, unit: str) -> str:
    """The largest difference in either direction that the seeds allow."""
    interval = finding.interval_simultaneous
    if interval is None:
        return "equal on every seed" if not finding.effect else f"the same difference on all {finding.n} seeds"
    largest = max(abs(interval.low), abs(interval.high))
    if largest > POINTLESS.get(finding.scale or "", float("inf")):
        return f"{count(finding.n, 'seed')} cannot rule out a large one"
    if finding.scale in ("log", "logit"):
        return f"ratio within {ratio_text(interval.low)} to {ratio_text(interval.high)}"
    of_scale = "points" if finding.scale == "points" else unit
    return " ".join(f"within {rounded(largest)} {of_scale} either way".split())


# --- One seed ---


def one_seed_sentence(study: Study, claims: Claims) -> str:
    """The differences of the arms from the reference on the only seed, which chance may explain."""
    assert claims.compare is not None
    reference = reference_arm(study.arms, claims.compare.reference)
    values = measure(study, list(claims.compare.quantities)).values.join(study.runs.set_index("run")["arm"])
    by_arm = values.groupby("arm").first()
    clauses = []
    for label in study.arms:
        if label != reference and {label, reference} <= set(by_arm.index):
            found = [
                one_difference(name, keys["scale"], by_arm.loc[label, name], by_arm.loc[reference, name], study)
                for name, keys in claims.compare.quantities.items()
            ]
            clauses.append(f"{label}: {', '.join(filter(None, found))}")
    against = f"On seed {ranges(study.runs['seed'])}, against {reference}"
    shown = f"{against}: {'; '.join(clauses)}. " if clauses else ""
    return f"{shown}One seed cannot separate a difference from chance."


def one_difference(name: str, scale: str, value: float, other: float, study: Study) -> str:
    """A difference in words, "" where one of the two is not known."""
    if math.isnan(value) or math.isnan(other):
        return ""
    quantity, convert = (
        of_kind(REGISTRY[name], study.kind),
        SCALES[scale](1 if study.table else int(study.runs["trainer.steps"].iloc[0])).forward,
    )
    effect = float(convert(value) - convert(other))
    if scale in ("log", "logit"):
        return f"{quantity.words} × {ratio_text(effect)}"
    unit = "points" if scale == "points" else quantity.unit
    return " ".join(f"{quantity.words} {'+' if effect > 0 else ''}{rounded(effect)} {unit}".split())


def more_seeds_sentence(study: Study, claims: Claims) -> str:
    """The command that adds seeds to all arms of a study of one seed."""
    seeds = new_seeds(ENOUGH - 1, study, set(study.runs["seed"]))
    arms = to_run([{} for _ in study.arms], list(study.arms), study)
    command = sweep_command(claims.command, study_name(study.folder), arms, seeds)
    return f"{ENOUGH - 1} more seeds, for {ENOUGH} in all:\n{command}"
