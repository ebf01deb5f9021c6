"""What came of a claim, in the form of verdicts.json."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from analysis.claims.contrasts import Settings
from analysis.claims.verdict_rule import Verdict
from analysis.stats.effects import Interval


@dataclass(frozen=True)
class Finding:
    """A claim, or a part of one, and what the study says of it.

    effect, interval (95 %), interval_simultaneous, smallest_effect stand on `scale`; the effect is treatment −
    control (or the reference), whatever direction is claimed; smallest_effect has the claimed sign.
    p is that of the t or Pitman-Morgan test, p_sign_flip the exact one; p_adjusted is over all judged claims.
    n            seeds that the effect is over
    n_unlearned  seeds on which a run did not learn, whether or not they count in n
    n_missing    seeds, planned or begun, that cannot be compared
    further_seeds, command: what it would take to know more, None where that is settled or not known
    verdict      None: shown beside a claim, not judged, nothing adjusted
    A claim with parts has no effect of its own; its n is its parts' smallest, its other counts their largest.
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
    interval_simultaneous: Interval | None = None
    p: float | None = None
    p_adjusted: float | None = None
    p_sign_flip: float | None = None
    n: int = 0
    n_unlearned: int = 0
    n_missing: int = 0
    smallest_effect: float | None = None
    verdict: Verdict | None = None
    further_seeds: int | None = None
    command: str | None = None
    notes: tuple[str, ...] = ()
    parts: tuple["Finding", ...] = ()


def verdicts_json(findings: Sequence[Finding]) -> str:
    """verdicts.json: a list with one object a claim, its keys the fields of Finding, intervals as [low, high]."""
    return json.dumps([plain(finding) for finding in findings], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    if isinstance(value, Interval):
        return [value.low, value.high]
    if isinstance(value, Finding):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def flat(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Findings, each followed by its parts and theirs."""
    for finding in findings:
        yield finding
        yield from flat(finding.parts)
