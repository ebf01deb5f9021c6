"""The primary metric before and after: both arms of each paired claim on it, and their difference."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ablate.metrics import PRIMARY
from analysis.claims.estimand import Sample
from analysis.claims.evidence import distinguishing_settings
from analysis.claims.finding import Finding
from analysis.claims.pairing import Refused
from analysis.claims.reading import Claims, Question
from analysis.claims.samples import collect
from analysis.quantities.chance import TASK_KINDS
from analysis.quantities.outcomes import Outcomes
from analysis.quantities.registry import Quantity, primary_quantity
from analysis.records.study import Study
from analysis.stats.interval import Interval
from analysis.tables.formats import Table, mean_column
from analysis.tables.numbers import DASH, fixed, interval_columns, interval_text, significant
from analysis.tables.techniques import primary_questions
from analysis.write_up import REPORTED

_CAPTION = (
    "{metric} at the last step: mean ± standard deviation over paired seeds. Runs that did not learn count, and "
    "diverged runs count with the {of_guess} {guess}. {difference}: after {sign} before of the same seed, with its "
    "95 % interval (paired t) and the interval that is simultaneous over all judged claims."
)
_REPORTED = " Reported: {metric} in the write-up, of another model on other data."


def before_after(study: Study, outcomes: Outcomes, claims: Claims, findings: Sequence[Finding]) -> Table:
    """Two rows per question, its control and its treatment. Raises Refused if no question has paired runs.

    Numbers: claim, statement, when, settings, n (paired seeds), unlearned (how many of them had a run that did not
    learn), the metric m as test_m, test_m_sd and paper_m (shares are 0 to 1); then, in the second row only, difference
    (on the metric's usual scale), its intervals, and the verdict. The table has the name of the metric.
    """
    quantity = primary_quantity(study.primary)
    found = {finding.id: finding for whole in findings for finding in (whole, *whole.parts)}
    rows, refused = [], []
    for question in primary_questions(claims, study.primary):
        try:
            rows += two_rows(question, found[question.id], study, outcomes, quantity)
        except Refused as reason:
            refused.append(f"{question.id}: {reason}")
    if not rows:
        raise Refused("; ".join(refused))
    numbers = pd.DataFrame(rows)
    caption = caption_of(quantity, study.kind, numbers)
    caption = f"{caption} Not compared: {'; '.join(refused)}." if refused else caption
    return Table(study.primary, caption, numbers, before_after_in_words(numbers, quantity))


def caption_of(quantity: Quantity, kind: str, numbers: pd.DataFrame) -> str:
    caption = _CAPTION.format(
        metric=f"{quantity.words[0].upper()}{quantity.words[1:]}",
        of_guess="share of" if quantity.metric.name == PRIMARY else f"{quantity.metric.words} of",
        guess=TASK_KINDS[kind].guess,
        difference="Ratio" if quantity.is_ratio else "Difference",
        sign="/" if quantity.is_ratio else "−",
    )
    return caption + (_REPORTED.format(metric=quantity.metric.words) if has_reported(numbers, quantity) else "")


def has_reported(numbers: pd.DataFrame, quantity: Quantity) -> bool:
    """Whether the table has a column of the write-up's numbers."""
    return quantity.metric.name == PRIMARY or bool(numbers[f"paper_{quantity.metric.name}"].notna().any())


def two_rows(
    question: Question, finding: Finding, study: Study, outcomes: Outcomes, quantity: Quantity
) -> list[dict[str, Any]]:
    cells = question.contrast.cells(question, study)
    drawn = collect(question, cells, study, outcomes)
    sample = drawn.kept
    if not sample.seeds:
        raise Refused("; ".join(drawn.notes))
    is_claimed = (
        finding.verdict is not None
    )  # the write-up's numbers belong to the claim, not to comparisons next to it
    reported = REPORTED if is_claimed and quantity.metric.name == PRIMARY else {}
    before, after = reported.get(finding.section, (math.nan,) * 2)
    treatment, control = distinguishing_settings(cells)
    shared = {"claim": finding.id, "statement": finding.statement}
    return [
        shared
        | {"when": "before", "settings": control}
        | metric_of_arm(sample, 1, before, quantity)
        | difference_columns(None, None, None, DASH),
        shared
        | {"when": "after", "settings": treatment}
        | metric_of_arm(sample, 0, after, quantity)
        | difference_of(finding),
    ]


def metric_of_arm(sample: Sample, cell: int, reported: float, quantity: Quantity) -> dict[str, Any]:
    values = sample.values[:, cell]
    return {
        "n": len(values),
        "unlearned": int((~sample.learned[:, cell]).sum()),
        quantity.name: float(values.mean()),
        f"{quantity.name}_sd": float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        f"paper_{quantity.metric.name}": reported,
    }


def difference_of(finding: Finding) -> dict[str, Any]:
    verdict = finding.verdict.value if finding.verdict else "shown, not judged"
    return difference_columns(finding.effect, finding.interval, finding.interval_simultaneous, verdict)


def difference_columns(
    effect: float | None, interval: Interval | None, simultaneous: Interval | None, verdict: str
) -> dict[str, Any]:
    limits = interval_columns("", interval) | interval_columns("simultaneous_", simultaneous)
    return {"difference": math.nan if effect is None else effect, **limits, "verdict": verdict}


def before_after_in_words(numbers: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    rows = numbers.to_dict("records")

    def effect(value: float) -> str:
        return significant(float(np.exp(value))) if quantity.is_ratio else fixed(value, quantity.decimals or 3)

    def intervals(prefix: str) -> list[str]:
        return [interval_text(row[f"{prefix}low"], row[f"{prefix}high"], effect) for row in rows]

    reported = [fixed(100 * row[f"paper_{quantity.metric.name}"], 0) for row in rows]

    return pd.DataFrame(
        {
            "arm": [f"{row['when']}: {row['settings']}" for row in rows],
            "claim": numbers["claim"],
            "seeds": [seeds_and_unlearned(row["n"], row["unlearned"]) for row in rows],
            **mean_column(numbers, quantity.name),
            **({"reported %": reported} if has_reported(numbers, quantity) else {}),
            {"points": "difference, points", "log": "ratio"}.get(quantity.scale, "difference"): [
                effect(row["difference"]) for row in rows
            ],
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
