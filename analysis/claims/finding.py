"""The result of judging a claim, in the form of verdicts.json."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from analysis.claims.estimand import Settings
from analysis.claims.verdict_rule import Verdict
from analysis.stats.interval import Interval

NOT_KEYS = ("n_unknown", "differences")
"""Fields of `Finding` that verdicts.json does not have."""


@dataclass(frozen=True)
class Finding:
    """A claim, or a part of one, with its effect and verdict. Fields but NOT_KEYS are the keys of verdicts.json.

    effect                  treatment − control (or − reference) on `scale`, whatever the claimed direction
    interval                95 % interval of the effect
    interval_seeds          the interval over seeds alone, where `interval` also covers new test examples
    interval_simultaneous   interval that is simultaneous over all judged claims (Bonferroni), at the level of this look
    smallest_effect, why    smallest effect of interest, with the claimed sign, and where it comes from
    p, p_sign_flip          of the test of no effect, and of the sign flips
    p_adjusted              p adjusted for all judged claims (Holm)
    alpha                   what this look spends of .05
    power                   power of the planned seeds to detect the smallest effect, at the simultaneous level
    improvement             share of seeds on which treatment exceeds control, ties half
    skewness                of the differences between seeds
    details                 what the contrast shows beside the effect (`analysis.claims.contrast.Contrast.details`);
                            `extension`: the command that extends a grid whose best point is at its edge; `data_set`: of
                            a part that is shown for one data set
    exploratory             seeds beyond the plan: it never replaces the verdict
    n                       seeds that the effect is computed from
    n_unlearned             seeds on which a run did not learn, whether or not they count in n
    n_unknown               seeds on which nobody knows whether a run learned: its predictions are missing;
                            not a key of verdicts.json, whose keys are agreed: there a note has it
    differences             the effect on each seed, on the scale; not a key of verdicts.json either
    n_missing               seeds, planned or started, that cannot be compared
    further_seeds, command  number of more seeds that a decision needs, and the command that runs them; None where
                            no seeds are needed or their number is unknown
    verdict                 None: shown with a claim, not judged, nothing adjusted

    A claim with parts has no effect of its own; its n is the smallest of its parts, its other counts the largest.
    """

    id: str
    statement: str
    section: str | None
    treatment: Settings | None = None
    control: Settings | None = None
    within: Settings | None = None
    changes: tuple[str, ...] = ()
    quantity: str | None = None
    scale: str | None = None
    effect: float | None = None
    interval: Interval | None = None
    interval_seeds: Interval | None = None
    interval_simultaneous: Interval | None = None
    p: float | None = None
    p_adjusted: float | None = None
    p_sign_flip: float | None = None
    alpha: float | None = None
    power: float | None = None
    improvement: float | None = None
    skewness: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    n: int = 0
    n_unlearned: int = 0
    n_unknown: int = 0
    n_missing: int = 0
    smallest_effect: float | None = None
    why: str | None = None
    exploratory: bool = False
    verdict: Verdict | None = None
    further_seeds: int | None = None
    command: str | None = None
    notes: tuple[str, ...] = ()
    parts: tuple["Finding", ...] = ()
    differences: tuple[float, ...] = ()


def verdicts_json(findings: Sequence[Finding]) -> str:
    """The text of verdicts.json: a list with one object per claim; keys are Finding's fields, intervals [low, high]."""
    return (
        json.dumps([json_value(finding) for finding in findings], indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )


def json_value(value: Any) -> Any:
    """A finding, or a value of one, as JSON types."""
    if isinstance(value, Interval):
        return [value.low, value.high]
    if isinstance(value, Finding):
        names = [own.name for own in fields(value) if own.name not in NOT_KEYS]
        return {name: json_value(getattr(value, name)) for name in names}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: json_value(item) for key, item in value.items()}
    return [json_value(item) for item in value] if isinstance(value, (list, tuple)) else value


def with_parts(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Findings, each followed by its parts and their parts."""
    for finding in findings:
        yield finding
        yield from with_parts(finding.parts)
