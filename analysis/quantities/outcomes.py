"""Runs that did not learn, and diverged ones, are outcomes: what they count as, and which quantities they spoil."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from math import log

import pandas as pd

from analysis.quantities.formulas import NotMeasurable, classes, majority
from analysis.quantities.measure import METRICS, measure
from analysis.records.arms import canonical, is_under
from analysis.records.run_folder import Unreadable
from analysis.records.study import Study

RECORDED = (
    *("test_accuracy", "test_loss", "validation_accuracy", "validation_loss"),
    *("parameters.ratio", "parameters.trained", "parameters.total"),
    *("memory_bytes.weights", "memory_bytes.gradients", "memory_bytes.optimizer", "timing.seconds"),
)
"""Quantities that run.json has."""

QUANTITIES = (*METRICS, *RECORDED)


@dataclass(frozen=True)
class Chance:
    """What knowing nothing gives on a test split: the majority class's share, 0 to 1, and ln k nats, k classes."""

    accuracy: float
    loss: float


OUTCOMES: dict[str, Callable[[Chance, float], float]] = {
    "test_accuracy": lambda chance, steps: chance.accuracy,
    "validation_accuracy": lambda chance, steps: chance.accuracy,
    "test_loss": lambda chance, steps: chance.loss,
    "validation_loss": lambda chance, steps: chance.loss,
    "capped_test_loss": lambda chance, steps: chance.loss,
    "mean_probe_loss": lambda chance, steps: chance.loss,
    "steps_to_probe_loss": lambda chance, steps: steps,
    "learned": lambda chance, steps: 0.0,
}
"""How well a run did, by quantity: what a run that diverged counts as, given its chance level and planned steps.

These quantities keep runs that did not learn. All others (variances, norms, shares of steps) say nothing of how
well a run does, and look best where nothing is learned: they are compared over the seeds whose runs all learn.
"""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """values: one row a run, indexed by its name, a column a quantity (NaN: not measurable); learned: by run.

    reasons: run, quantity, reason of each NaN that is one of `analysis.quantities.formulas`.
    """

    values: pd.DataFrame
    learned: pd.Series
    reasons: pd.DataFrame


def outcomes(study: Study, quantities: Collection[str]) -> Outcomes:
    """The quantities, of QUANTITIES, of all runs that count, diverged ones at what they count as."""
    measured = measure(study, [name for name in METRICS if name in quantities or name == "learned"])
    runs = study.runs.set_index("run").loc[measured.values.index]
    recorded = runs.reindex(columns=[name for name in RECORDED if name in quantities]).astype(float)
    values = measured.values.join(recorded)
    chances = chance_levels(study)
    for run in runs.index[runs["status"] == "diverged"]:
        chance, steps = chances.get(runs.loc[run, "arm"]), runs.loc[run, "trainer.steps"]
        for name in OUTCOMES.keys() & set(values.columns):
            # a run that reached the level of steps_to_probe_loss before it diverged has done so
            if chance and not (name == "steps_to_probe_loss" and pd.notna(values.loc[run, name])):
                values.loc[run, name] = OUTCOMES[name](chance, steps)
    return Outcomes(values, values["learned"] == 1, measured.lacking)


def chance_levels(study: Study) -> dict[str, Chance]:
    """By arm, from the test labels of a finished run on the same data; none where no run on them is done."""
    data = {arm: canonical({k: v for k, v in study.arms[arm].items() if is_under(k, ["data"])}) for arm in study.arms}
    levels: dict[str, Chance] = {}
    for row in study.runs[study.runs["status"] == "done"].itertuples():
        if data[row.arm] not in levels:
            with suppress(Unreadable, NotMeasurable):  # gone since; the next will do
                labels = study.read(row.run, "predictions.parquet", ["label"]).to_pandas()
                levels[data[row.arm]] = Chance(loss=log(classes(labels)), accuracy=majority(labels))
    return {arm: levels[data[arm]] for arm in study.arms if data[arm] in levels}
