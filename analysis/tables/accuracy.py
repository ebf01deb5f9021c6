"""Test accuracy before and after: both arms of each paired claim on the test accuracy, and their difference."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.claims.estimand import Sample
from analysis.claims.evidence import distinguishing_settings
from analysis.claims.finding import Finding
from analysis.claims.pairing import Refused
from analysis.claims.reading import Claims, Question
from analysis.claims.samples import collect
from analysis.quantities.outcomes import Outcomes
from analysis.records.study import Study
from analysis.stats.interval import Interval
from analysis.tables.formats import Table, accuracy_column
from analysis.tables.numbers import DASH, fixed, interval_columns, interval_text
from analysis.tables.techniques import accuracy_questions
from analysis.write_up import ACCURACIES

_CAPTION = (
    "Test accuracy at the last step: mean ± standard deviation over paired seeds. Runs that did not learn count, and "
    "diverged runs count with the share of the majority class. Difference: after − before of the same seed, with its "
    "95 % interval (paired t) and the interval that is simultaneous over all judged claims. Reported: accuracy in the "
    "write-up, of another model on other data."
)


def accuracy(study: Study, outcomes: Outcomes, claims: Claims, findings: Sequence[Finding]) -> Table:
    """Two rows per question, its control and its treatment. Raises Refused if no question has paired runs.

    Numbers: claim, statement, when, settings, n (paired seeds), unlearned (how many of them had a run that did not
    learn), test_accuracy, test_accuracy_sd and paper_accuracy (shares, 0 to 1); then, in the second row only,
    difference (points), its intervals, and the verdict.
    """
    found = {finding.id: finding for whole in findings for finding in (whole, *whole.parts)}
    rows, refused = [], []
    for question in accuracy_questions(claims):
        try:
            rows += two_rows(question, found[question.id], study, outcomes)
        except Refused as reason:
            refused.append(f"{question.id}: {reason}")
    if not rows:
        raise Refused("; ".join(refused))
    numbers = pd.DataFrame(rows)
    caption = f"{_CAPTION} Not compared: {'; '.join(refused)}." if refused else _CAPTION
    return Table("accuracy", caption, numbers, accuracy_in_words(numbers))


def two_rows(question: Question, finding: Finding, study: Study, outcomes: Outcomes) -> list[dict[str, Any]]:
    cells = question.contrast.cells(question, study)
    drawn = collect(question, cells, study, outcomes)
    sample = drawn.kept
    if not sample.seeds:
        raise Refused("; ".join(drawn.notes))
    is_claimed = (
        finding.verdict is not None
    )  # the write-up's numbers belong to the claim, not to comparisons next to it
    before, after = ACCURACIES.get(finding.section, (math.nan,) * 2) if is_claimed else (math.nan,) * 2
    treatment, control = distinguishing_settings(cells)
    shared = {"claim": finding.id, "statement": finding.statement}
    return [
        shared
        | {"when": "before", "settings": control}
        | accuracy_of_arm(sample, 1, before)
        | difference_columns(None, None, None, DASH),
        shared | {"when": "after", "settings": treatment} | accuracy_of_arm(sample, 0, after) | difference_of(finding),
    ]


def accuracy_of_arm(sample: Sample, cell: int, reported: float) -> dict[str, Any]:
    values = sample.values[:, cell]
    return {
        "n": len(values),
        "unlearned": int((~sample.learned[:, cell]).sum()),
        "test_accuracy": float(values.mean()),
        "test_accuracy_sd": float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        "paper_accuracy": reported,
    }


def difference_of(finding: Finding) -> dict[str, Any]:
    verdict = finding.verdict.value if finding.verdict else "shown, not judged"
    return difference_columns(finding.effect, finding.interval, finding.interval_simultaneous, verdict)


def difference_columns(
    effect: float | None, interval: Interval | None, simultaneous: Interval | None, verdict: str
) -> dict[str, Any]:
    limits = interval_columns("", interval) | interval_columns("simultaneous_", simultaneous)
    return {"difference": math.nan if effect is None else effect, **limits, "verdict": verdict}


def accuracy_in_words(numbers: pd.DataFrame) -> pd.DataFrame:
    rows = numbers.to_dict("records")

    def points(value: float) -> str:
        return fixed(value, 1)

    def intervals(prefix: str) -> list[str]:
        return [interval_text(row[f"{prefix}low"], row[f"{prefix}high"], points) for row in rows]

    return pd.DataFrame(
        {
            "arm": [f"{row['when']}: {row['settings']}" for row in rows],
            "claim": numbers["claim"],
            "seeds": [seeds_and_unlearned(row["n"], row["unlearned"]) for row in rows],
            **accuracy_column(numbers),
            "reported %": [fixed(100 * row["paper_accuracy"], 0) for row in rows],
            "difference, points": numbers["difference"].map(points),
            "95 % interval": intervals(""),
            "simultaneous": intervals("simultaneous_"),
            "verdict": numbers["verdict"],
        }
    )


def seeds_and_unlearned(n: int, unlearned: int) -> str:
    """
    >>> seeds_and_unlearned(10, 0), seeds_and_unlearned(10, 2)
    ('10', '10 (2 did not learn)')
    """
    return f"{n} ({unlearned} did not learn)" if unlearned else str(n)
