"""Accuracy before and after (§4.3): both arms of each paired claim on the test accuracy, and their difference."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.claims.answer import distinguishing_settings
from analysis.claims.estimand import Sample
from analysis.claims.finding import Finding
from analysis.claims.pairing import Refused
from analysis.claims.reading import Claims, Question
from analysis.claims.samples import collect
from analysis.quantities.outcomes import Outcomes
from analysis.records.study import Study
from analysis.stats.effects import Interval
from analysis.tables.formats import DASH, Table, mean_and_sd, number
from analysis.tables.numbers import ends, span
from analysis.tables.techniques import accuracy_questions

WRITTEN = {"4.3": (0.85, 0.90)}
"""Section of the write-up -> test accuracy that its table has, before and after, both "about".

Of BERT-base on IMDB, by one batch of 64 reviews of one class: context, not what a study here is to come to.
"""

CAPTION = (
    "Test accuracy at the last step: mean ± standard deviation over paired seeds. Runs that did not learn count, "
    "diverged ones with the share of the majority class. Difference: after − before of the same seed, with its 95 % "
    "interval (paired t) and the one that is simultaneous over all judged claims. Paper: what the write-up reports, "
    "of another model and other data."
)


def accuracy(study: Study, outcomes: Outcomes, claims: Claims, findings: Sequence[Finding]) -> Table:
    """Two rows a question, its control and its treatment. Raises Refused where no question has paired runs.

    Numbers: claim, statement, when, settings, n (paired seeds), unlearned (of them), test_accuracy and its sd and
    paper_accuracy (shares); then, after only, difference (points), its intervals, and the verdict.
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
    caption = f"{CAPTION} Not compared: {'; '.join(refused)}." if refused else CAPTION
    return Table("accuracy", caption, numbers, in_words(numbers))


def two_rows(question: Question, finding: Finding, study: Study, outcomes: Outcomes) -> list[dict[str, Any]]:
    cells = question.contrast.cells(question, study)
    drawn = collect(question, cells, study, outcomes)
    sample = drawn.kept
    if not sample.seeds:
        raise Refused("; ".join(drawn.notes))
    is_claimed = finding.verdict is not None  # what is shown beside a claim is not what was written of it
    before, after = WRITTEN.get(finding.section, (math.nan,) * 2) if is_claimed else (math.nan,) * 2
    treatment, control = distinguishing_settings(cells)
    shared = {"claim": finding.id, "statement": finding.statement}
    return [
        shared
        | {"when": "before", "settings": control}
        | of_arm(sample, 1, before)
        | difference(None, None, None, DASH),
        shared | {"when": "after", "settings": treatment} | of_arm(sample, 0, after) | told(finding),
    ]


def of_arm(sample: Sample, cell: int, written: float) -> dict[str, Any]:
    values = sample.values[:, cell]
    return {
        "n": len(values),
        "unlearned": int((~sample.learned[:, cell]).sum()),
        "test_accuracy": float(values.mean()),
        "test_accuracy_sd": float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        "paper_accuracy": written,
    }


def told(finding: Finding) -> dict[str, Any]:
    verdict = finding.verdict.value if finding.verdict else "shown, not judged"
    return difference(finding.effect, finding.interval, finding.interval_simultaneous, verdict)


def difference(effect: float | None, plain: Interval | None, wide: Interval | None, verdict: str) -> dict[str, Any]:
    estimate = math.nan if effect is None else effect
    return {"difference": estimate, **ends("", plain), **ends("simultaneous_", wide), "verdict": verdict}


def in_words(numbers: pd.DataFrame) -> pd.DataFrame:
    rows = numbers.to_dict("records")

    def points(value: float) -> str:
        return number(value, 1)

    return pd.DataFrame(
        {
            "arm": [f"{row['when']}: {row['settings']}" for row in rows],
            "claim": numbers["claim"],
            "seeds": [seeds(row["n"], row["unlearned"]) for row in rows],
            "test accuracy %": [
                mean_and_sd(100 * row["test_accuracy"], 100 * row["test_accuracy_sd"], 1) for row in rows
            ],
            "paper %": [number(100 * row["paper_accuracy"], 0) for row in rows],
            "difference, points": [points(row["difference"]) for row in rows],
            "95 % interval": [span(row["low"], row["high"], points) for row in rows],
            "simultaneous": [span(row["simultaneous_low"], row["simultaneous_high"], points) for row in rows],
            "verdict": numbers["verdict"],
        }
    )


def seeds(n: int, unlearned: int) -> str:
    """
    >>> seeds(10, 0), seeds(10, 2)
    ('10', '10 (2 did not learn)')
    """
    return f"{n} ({unlearned} did not learn)" if unlearned else str(n)
