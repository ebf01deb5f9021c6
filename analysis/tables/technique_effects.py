"""The table of roles: each technique's purpose as the write-up states it, and its measured effect."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.claims.estimand import Sample
from analysis.claims.evidence import FLIPS
from analysis.claims.grid_contrasts import GridMean
from analysis.claims.pairing import Refused
from analysis.claims.reading import Question
from analysis.claims.samples import collect
from analysis.quantities.registry import REGISTRY, of_kind
from analysis.records.arms import value_text
from analysis.stats.effects import paired_effect
from analysis.tables.formats import Table
from analysis.tables.numbers import interval_columns, interval_text, significant
from analysis.tables.techniques import Techniques
from analysis.write_up import ROLES


class RoleEvidence(NamedTuple):
    """One quantity that shows a technique's role: `factor` on against off, all other techniques off.

    technique  the factor in words
    among      the techniques that are on in both arms
    is_cost    whether it is the cost of a run, which counts whether or not the run learns
    """

    factor: str
    technique: str
    among: tuple[str, ...]
    quantity: str
    is_cost: bool = False


ROLE_EVIDENCE = (
    RoleEvidence("freeze", "freezing", (), "parameters.ratio", is_cost=True),
    RoleEvidence("freeze", "freezing", (), "memory_mb", is_cost=True),
    RoleEvidence("freeze", "freezing", (), "step_seconds", is_cost=True),
    RoleEvidence("clip", "clipping", ("freeze",), "probe_jitter"),
    RoleEvidence("clip", "clipping", ("freeze",), "learned"),
    RoleEvidence("scheduler", "scheduler", ("freeze",), "steps_to_probe_loss"),
)

_CAPTION = (
    "The stated purpose of each technique, and the effect of switching it on alone: freezing with neither clipping nor "
    "schedule, clipping without schedule, schedule without clipping; the latter two with frozen blocks if the claim "
    "freezes any. Off, on: means over paired seeds, geometric ones if the effect is a ratio. Effect: on / off or "
    "on − off, with its 95 % interval (paired t, not adjusted). Time of a step: median of each run."
)


def roles(techniques: Techniques) -> Table:
    """One row per piece of evidence. Raises Refused if there is none.

    Numbers: technique, stated, evidence, quantity, off, on, kind of effect (ratio or difference), effect, low,
    high, n (paired seeds).
    """
    rows, refused = [], defaultdict(list)
    for evidence in ROLE_EVIDENCE:
        words = REGISTRY[evidence.quantity].row_heading
        if evidence.factor not in techniques.factors:
            refused[f"claim {techniques.question.id} does not change {evidence.factor}"].append(words)
            continue
        try:
            rows.append(role_row(evidence, techniques))
        except Refused as reason:
            refused[str(reason)].append(words)
    for question in techniques.on_grids:
        try:
            rows.append(grid_row(question, techniques))
        except Refused as reason:
            refused[str(reason)].append(over_grid(question))
    reasons = "; ".join(f"{', '.join(words)}: {reason}" for reason, words in refused.items())
    if not rows:
        raise Refused(reasons)
    numbers = pd.DataFrame(rows)
    caption = f"{_CAPTION} Not compared: {reasons}." if reasons else _CAPTION
    return Table("roles", caption, numbers, roles_in_words(numbers))


def role_row(evidence: RoleEvidence, techniques: Techniques) -> dict[str, Any]:
    among = [factor for factor in evidence.among if factor in techniques.factors]
    drawn = techniques.alone(evidence.factor, among, REGISTRY[evidence.quantity])
    return {
        "technique": evidence.technique,
        "stated": ROLES[evidence.factor],
        "evidence": REGISTRY[evidence.quantity].row_heading,
        "quantity": evidence.quantity,
        **effect_columns(drawn.compared if evidence.is_cost else drawn.kept, drawn.notes),
    }


def grid_row(question: Question, techniques: Techniques) -> dict[str, Any]:
    """One technique alone, on the mean of a quantity over a grid of settings. Raises Refused."""
    assert isinstance(question.contrast, GridMean)
    cells = question.contrast.cells(question, techniques.study)
    drawn = collect(question, cells, techniques.study, techniques.outcomes)
    means = question.contrast.by_arm(drawn.kept.values).mean(axis=2)
    (factor,) = question.changes
    return {
        "technique": {evidence.factor: evidence.technique for evidence in ROLE_EVIDENCE}.get(factor, factor),
        "stated": ROLES.get(factor, ""),
        "evidence": over_grid(question),
        "quantity": question.quantity,
        **effect_columns(replace(drawn.kept, values=means), drawn.notes),
    }


def over_grid(question: Question) -> str:
    """A quantity and the grid over which it is averaged, in words."""
    grid = "; ".join(f"{key} {', '.join(map(value_text, values))}" for key, values in question.contrast.over.items())
    return f"{of_kind(REGISTRY[question.quantity], question.kind).row_heading}, mean over {grid}"


def effect_columns(sample: Sample, notes: Sequence[str]) -> dict[str, Any]:
    """The effect of on against off in a paired sample. Raises Refused, with `notes`, if no seed has both values."""
    sample = sample.where(np.isfinite(sample.values).all(axis=1))
    if not sample.seeds:
        raise Refused("; ".join(notes) or "no seed on which both runs learn")
    try:
        x = sample.scale.forward(sample.values)
    except ValueError as error:
        raise Refused(str(error)) from error
    on, off = sample.scale.back(x.mean(axis=0))
    effect = paired_effect(x[:, 0], x[:, 1], np.random.default_rng(FLIPS))
    is_ratio = sample.estimand.scale == "log"
    limits = interval_columns("", effect.interval())
    return {
        "off": float(off),
        "on": float(on),
        "kind": "ratio" if is_ratio else "difference",
        "effect": float(np.exp(effect.estimate)) if is_ratio else effect.estimate,
        **{end: float(np.exp(limit)) if is_ratio else limit for end, limit in limits.items()},
        "n": len(sample.seeds),
    }


def roles_in_words(numbers: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "technique": numbers["technique"],
            "stated role": numbers["stated"],
            "evidence": numbers["evidence"],
            "off": numbers["off"].map(significant),
            "on": numbers["on"].map(significant),
            **effect_in_words(numbers),
        }
    )


def effect_in_words(numbers: pd.DataFrame) -> dict[str, list[str]]:
    """The columns of `effect_columns` as text."""
    rows = numbers.to_dict("records")
    return {
        "effect": [f"{'×' if row['kind'] == 'ratio' else ''}{significant(row['effect'])}" for row in rows],
        "95 % interval": [interval_text(row["low"], row["high"]) for row in rows],
        "seeds": [str(row["n"]) for row in rows],
    }
