"""The table of roles (§5.2): what each technique is said to be for, and what it does here, on and off."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.claims.answer import FLIPS
from analysis.claims.estimand import Sample
from analysis.claims.pairing import Refused
from analysis.quantities.outcomes import Outcomes
from analysis.records.study import Study
from analysis.stats.effects import paired_effect
from analysis.tables.formats import Table
from analysis.tables.numbers import ends, figure, span
from analysis.tables.techniques import Techniques


class Role(NamedTuple):
    """One piece of evidence for a role: `factor` on against off, with `among` on in both, all else off.

    is_cost   what a run costs, whether or not it learns; else as the quantity has it (`analysis.quantities.outcomes`)
    """

    factor: str
    technique: str
    stated: str
    among: tuple[str, ...]
    quantity: str
    words: str
    scale: str
    is_cost: bool = False


MEMORY = ("memory_bytes.weights", "memory_bytes.gradients", "memory_bytes.optimizer")

FREEZING = ("freeze", "freezing", "fewer parameters", ())
CLIPPING = ("clip", "clipping", "stability", ("freeze",))
SCHEDULER = ("scheduler", "scheduler", "convergence", ("freeze",))

ROLES = (
    Role(*FREEZING, "parameters.ratio", "share of parameters trained", "log", is_cost=True),
    Role(*FREEZING, "memory_mb", "memory of weights, gradients and optimizer, MB, by count", "log", is_cost=True),
    Role(*FREEZING, "step_seconds", "time of a step, s", "log", is_cost=True),
    Role(*CLIPPING, "probe_jitter", "jitter of the probe loss, nats²", "log"),
    Role(*CLIPPING, "learned", "share of runs that learn", "raw"),
    Role(*SCHEDULER, "steps_to_probe_loss", "steps to a probe loss of 0.5, at most all", "raw"),
)

CAPTION = (
    "What each technique is for, as the paper states it, and what switching it on alone does: freezing with neither "
    "clipping nor schedule, clipping without schedule, schedule without clipping, the latter two frozen where the "
    "claim freezes. Off, on: means over paired seeds, geometric ones where the effect is a ratio. Effect: on / off or "
    "on − off, with its 95 % interval (paired t, not adjusted). A step's time is a run's median."
)


def roles(techniques: Techniques) -> Table:
    """One row a piece of evidence. Raises Refused where there is none.

    Numbers: technique, stated, evidence, quantity, off, on, kind of effect (ratio or difference), effect, low,
    high, n (paired seeds).
    """
    costed = replace(techniques, outcomes=with_costs(techniques.study, techniques.outcomes))
    rows, refused = [], defaultdict(list)
    for role in ROLES:
        if role.factor not in techniques.factors:
            refused[f"claim {techniques.question.id} does not change {role.factor}"].append(role.words)
            continue
        try:
            rows.append(row(role, costed))
        except Refused as reason:
            refused[str(reason)].append(role.words)
    reasons = "; ".join(f"{', '.join(evidence)}: {reason}" for reason, evidence in refused.items())
    if not rows:
        raise Refused(reasons)
    numbers = pd.DataFrame(rows)
    return Table("roles", f"{CAPTION} Not compared: {reasons}." if reasons else CAPTION, numbers, in_words(numbers))


def with_costs(study: Study, outcomes: Outcomes) -> Outcomes:
    """With memory_mb (10⁶ bytes, by count) and step_seconds (median over the steps that a run itself did)."""
    memory = outcomes.values[list(MEMORY)].sum(axis=1, skipna=False) / 1e6
    seconds = study.steps(["seconds"], outcomes.values.index).groupby("run", observed=True)["seconds"].median()
    by_name = seconds.set_axis(seconds.index.astype(str)).astype(float)
    return replace(outcomes, values=outcomes.values.assign(memory_mb=memory, step_seconds=by_name))


def row(role: Role, techniques: Techniques) -> dict[str, Any]:
    among = [factor for factor in role.among if factor in techniques.factors]
    drawn = techniques.alone(role.factor, among, role.quantity, role.scale)
    return {
        "technique": role.technique,
        "stated": role.stated,
        "evidence": role.words,
        "quantity": role.quantity,
        **evidence(drawn.compared if role.is_cost else drawn.kept, drawn.notes),
    }


def evidence(sample: Sample, notes: Sequence[str]) -> dict[str, Any]:
    """What a paired sample, on and off, says. Raises Refused, with `notes`, where nothing was measured on both."""
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
    interval = {end: float(np.exp(at)) if is_ratio else at for end, at in ends("", effect.interval()).items()}
    return {
        "off": float(off),
        "on": float(on),
        "kind": "ratio" if is_ratio else "difference",
        "effect": float(np.exp(effect.estimate)) if is_ratio else effect.estimate,
        **interval,
        "n": len(sample.seeds),
    }


def in_words(numbers: pd.DataFrame) -> pd.DataFrame:
    rows = numbers.to_dict("records")
    return pd.DataFrame(
        {
            "technique": numbers["technique"],
            "role stated": numbers["stated"],
            "evidence": numbers["evidence"],
            "off": [figure(row["off"]) for row in rows],
            "on": [figure(row["on"]) for row in rows],
            **evidence_in_words(numbers),
        }
    )


def evidence_in_words(numbers: pd.DataFrame) -> dict[str, list[str]]:
    """The columns that `evidence` gives, as people read them."""
    rows = numbers.to_dict("records")
    return {
        "effect": [f"{'×' if row['kind'] == 'ratio' else ''}{figure(row['effect'])}" for row in rows],
        "95 % interval": [span(row["low"], row["high"]) for row in rows],
        "seeds": [str(row["n"]) for row in rows],
    }
