"""The factorial of freezing × clipping × schedule: one row for each cell that a study has."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ablate.schema import TASKS
from analysis.claims.pairing import Refused, rest_of
from analysis.quantities.chance import TASK_KINDS
from analysis.quantities.outcomes import Outcomes
from analysis.quantities.registry import REGISTRY, Quantity, primary_quantity
from analysis.records.arms import canonical, levels, varying
from analysis.records.study import Study
from analysis.tables.formats import Table, mean_column, quantity_columns

CELL_MEANS = ("clip_rate", "mean_delta_g", "probe_jitter", "loss_jitter", "mean_probe_loss")
"""Quantities with one column each."""

_CAPTION = (
    "Cells of freezing × clipping × schedule. Seeds: number of finished runs; means are over these. Diverged: runs "
    "that ended early and are in no mean. Unlearned: finished runs no better than {guess}. {metric}: "
    "mean ± standard deviation over seeds. Clip rate: share of steps in which clipping shortened the gradient. Δg: "
    "reduction of the norm by clipping, mean over all steps. Jitter: variance of the loss about its trend, for the "
    "probe loss and for the training loss (after removing the batch effect); geometric means over the runs that learn."
)


def factorial(study: Study, outcomes: Outcomes) -> Table:
    """One row per cell. Raises Refused without a run that counts.

    Numbers: freeze, clip, scheduler (levels by their short names), arm, done, diverged, unlearned (numbers of runs),
    the primary metric m as test_m and test_m_sd (shares are 0 to 1), and the means of CELL_MEANS; NaN if no run has
    the quantity, or if a run that belongs to the mean lacks it.
    """
    arms, setting = crossed(study)
    runs = study.runs.set_index("run")[["arm", "status"]].join(outcomes.values, how="inner")
    runs_of, quantity = dict(iter(runs.groupby("arm"))), primary_quantity(study.primary)
    named = levels({arm: study.arms[arm] for arm in arms})
    rows = [
        {factor: named[factor][arm] if factor in named else study.arms[arm][factor] for factor in study.techniques}
        | of_cell(arm, runs_of.get(arm, runs[:0]), quantity)
        for arm in arms
    ]
    # levels in order of first appearance, off first
    place = {factor: list(dict.fromkeys(["none", *(row[factor] for row in rows)])) for factor in study.techniques}
    rows.sort(key=lambda row: [place[factor].index(row[factor]) for factor in study.techniques])
    numbers = pd.DataFrame(rows)
    others = len(study.arms) - len(arms)
    metric = f"{quantity.words[0].upper()}{quantity.words[1:]}"
    caption = _CAPTION.format(guess=TASK_KINDS[study.kind].guess, metric=metric)
    if others:
        caption += f" All at {setting}; the summary lists the {others} arms at other settings."
    return Table("factorial", caption, numbers, factorial_in_words(numbers, study.techniques, quantity, study.kind))


def crossed(study: Study) -> tuple[list[str], str]:
    """The largest group of arms that differ only in the crossed factors, and the settings that set it apart."""
    if study.runs.empty:
        raise Refused("no finished run")
    settings, arms = {}, defaultdict(list)
    for label, arm in study.arms.items():
        rest = rest_of(arm, study.techniques)
        settings[canonical(rest)] = rest | dict.fromkeys(study.techniques, "")
        arms[canonical(rest)].append(label)
    chosen = max(arms, key=lambda key: len(arms[key]))
    differ = levels(settings).loc[chosen].to_dict()
    if "nuisance" in varying(list(settings.values())):
        differ["nuisance seed"] = settings[chosen]["nuisance"]
    return arms[chosen], ", ".join(f"{factor} {level}" for factor, level in differ.items())


def of_cell(arm: str, runs: pd.DataFrame, quantity: Quantity) -> dict[str, Any]:
    done = runs[runs["status"] == "done"]
    learned = done[done["learned"] == 1]
    return {
        "arm": arm,
        "done": len(done),
        "diverged": int((runs["status"] == "diverged").sum()),
        "unlearned": len(done) - len(learned),
        quantity.name: done[quantity.name].mean(skipna=False),
        f"{quantity.name}_sd": done[quantity.name].std(skipna=False),
        **{name: cell_mean(name, done, learned) for name in CELL_MEANS},
    }


def cell_mean(name: str, done: pd.DataFrame, learned: pd.DataFrame) -> float:
    """Mean over the finished runs; for ratios that a run without learning distorts, geometric over those that learn."""
    quantity = REGISTRY[name]
    if quantity.is_ratio and not quantity.keeps_unlearned:
        return geometric_mean(learned[name])
    return done[name].mean(skipna=False)


def geometric_mean(values: pd.Series) -> float:
    """The geometric mean; NaN without values or if one is NaN, 0 if one is 0.

    >>> round(geometric_mean(pd.Series([1.0, 4.0])), 12), geometric_mean(pd.Series([0.0, 4.0]))
    (2.0, 0.0)
    """
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log(values).mean(skipna=False)))


def factorial_in_words(
    numbers: pd.DataFrame, techniques: Sequence[str], quantity: Quantity, kind: str = TASKS[0]
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            **{factor: numbers[factor] for factor in techniques},
            **{"seeds": numbers["done"].map(str), "diverged": numbers["diverged"].map(str)},
            "unlearned": numbers["unlearned"].map(str),
            **mean_column(numbers, quantity.name),
            **quantity_columns(numbers, CELL_MEANS, kind),
        }
    )
