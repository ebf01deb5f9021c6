"""The cells of freezing × clipping × schedule, one row each, as far as a study has them."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims.pairing import Refused, rest_of
from analysis.quantities.outcomes import Outcomes
from analysis.records.arms import canonical, levels, varying
from analysis.records.study import Study
from analysis.tables.formats import Table, mean_and_sd, number
from analysis.tables.numbers import figure

CAPTION = (
    "Cells of freezing × clipping × schedule. Seeds: finished runs, over which the means are. Diverged: runs that "
    "ended early, in no mean. Unlearned: finished runs no better than the majority class. Test accuracy: mean ± "
    "standard deviation over seeds. Clip rate: share of steps whose gradient clipping made shorter. Δg: what it took "
    "off the norm, mean over all steps. Jitter: noise of the loss, its variance about its trend, of the probe and of "
    "the training loss (less the batches' part); geometric means over the runs that learn."
)


def factorial(study: Study, outcomes: Outcomes) -> Table:
    """One row a cell. Raises Refused without a run that counts.

    Numbers: freeze, clip, scheduler (levels by their short names), arm, done, diverged, unlearned (numbers of runs),
    test_accuracy and its sd (shares), clip_rate, mean_delta_g, probe_jitter, loss_jitter (nats²), mean_probe_loss;
    NaN where no run has them, or where one that belongs to the mean lacks them.
    """
    arms, at = crossed(study)
    runs = study.runs.set_index("run")[["arm", "status"]].join(outcomes.values, how="inner")
    named = levels({arm: study.arms[arm] for arm in arms})
    rows = [
        {factor: named[factor][arm] if factor in named else study.arms[arm][factor] for factor in study.techniques}
        | of_cell(arm, runs[runs["arm"] == arm])
        for arm in arms
    ]
    # levels in order of first appearance, off first
    place = {factor: list(dict.fromkeys(["none", *(row[factor] for row in rows)])) for factor in study.techniques}
    rows.sort(key=lambda row: [place[factor].index(row[factor]) for factor in study.techniques])
    numbers = pd.DataFrame(rows)
    others = len(study.arms) - len(arms)
    caption = f"{CAPTION} All at {at}; arms at other settings ({others}) stand in the summary." if others else CAPTION
    return Table("factorial", caption, numbers, in_words(numbers, study.techniques))


def crossed(study: Study) -> tuple[list[str], str]:
    """The arms that agree in all but the crossed factors, the most there are, and in what they differ from others."""
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


def of_cell(arm: str, runs: pd.DataFrame) -> dict[str, Any]:
    done = runs[runs["status"] == "done"]
    learned = done[done["learned"] == 1]
    return {
        "arm": arm,
        "done": len(done),
        "diverged": int((runs["status"] == "diverged").sum()),
        "unlearned": len(done) - len(learned),
        "test_accuracy": done["test_accuracy"].mean(skipna=False),
        "test_accuracy_sd": done["test_accuracy"].std(skipna=False),
        "clip_rate": done["clip_rate"].mean(skipna=False),
        "mean_delta_g": done["mean_delta_g"].mean(skipna=False),
        "probe_jitter": geometric_mean(learned["probe_jitter"]),
        "loss_jitter": geometric_mean(learned["loss_jitter"]),
        "mean_probe_loss": done["mean_probe_loss"].mean(skipna=False),
    }


def geometric_mean(values: pd.Series) -> float:
    """NaN for no values and where one is NaN; 0 where one is 0.

    >>> round(geometric_mean(pd.Series([1.0, 4.0])), 12), geometric_mean(pd.Series([0.0, 4.0]))
    (2.0, 0.0)
    """
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log(values).mean(skipna=False)))


def in_words(numbers: pd.DataFrame, techniques: Sequence[str]) -> pd.DataFrame:
    accuracies = 100 * numbers[["test_accuracy", "test_accuracy_sd"]]
    return pd.DataFrame(
        {
            **{factor: numbers[factor] for factor in techniques},
            **{"seeds": numbers["done"].map(str), "diverged": numbers["diverged"].map(str)},
            "unlearned": numbers["unlearned"].map(str),
            "test accuracy %": [mean_and_sd(mean, sd, 1) for mean, sd in accuracies.to_numpy()],
            "clip rate": [number(value, 2) for value in numbers["clip_rate"]],
            "Δg": [number(value, 2) for value in numbers["mean_delta_g"]],
            "probe jitter, nats²": [figure(value) for value in numbers["probe_jitter"]],
            "training jitter, nats²": [figure(value) for value in numbers["loss_jitter"]],
            "mean probe loss, nats": [number(value, 3) for value in numbers["mean_probe_loss"]],
        }
    )
