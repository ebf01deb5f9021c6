"""Handle runs that failed to learn or diverged: they are outcomes, scored or left out quantity by quantity."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd

from analysis.quantities.chance import Chance
from analysis.quantities.formulas import NotMeasurable
from analysis.quantities.measure import measure
from analysis.quantities.registry import REGISTRY
from analysis.quantities.run_records import RunRecords
from analysis.records.arms import canonical, is_under
from analysis.records.run_folder import Unreadable
from analysis.records.study import Study


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Quantities of all runs, with diverged runs scored.

    values   one row per run, indexed by its name, and one column per quantity; NaN if it could not be measured
    learned  whether each run is known to have learned; `values["learned"]` is NaN where its predictions are missing.
             All rows of a table of results count as if they had
    reasons  run, quantity, reason: why a formula could not be applied
    """

    values: pd.DataFrame
    learned: pd.Series
    reasons: pd.DataFrame


def outcomes(study: Study, quantities: Collection[str]) -> Outcomes:
    """The named quantities of all runs that count; diverged runs get the values that the registry gives them."""
    measured = measure(study, list(dict.fromkeys([*quantities, "learned"])))
    values, chances = measured.values, chance_levels(study)
    runs = study.runs.set_index("run").loc[values.index]
    for run in runs.index[runs["status"] == "diverged"]:
        chance, planned = chances.get(runs.loc[run, "arm"]), runs.loc[run, "trainer.steps"]
        values.loc[run, "learned"] = 0.0
        for name in values if chance else ():
            if score := REGISTRY[name].diverged:
                values.loc[run, name] = score(chance, planned, values.loc[run, name])
    learned = values["learned"] == 1 if study.table is None else pd.Series(True, values.index)
    return Outcomes(values, learned, measured.lacking)


def chance_levels(study: Study) -> dict[str, Chance]:
    """The guess by arm, from the test labels of a finished run on the same data; arms without one have none."""
    if study.table is not None:
        return {}
    same = ["data", "task"]
    data = {arm: canonical({k: v for k, v in study.arms[arm].items() if is_under(k, same)}) for arm in study.arms}
    levels: dict[str, Chance] = {}
    for entries in study.rows.values():
        if entries["status"] == "done" and data[entries["arm"]] not in levels:
            with suppress(Unreadable, NotMeasurable):  # the run has vanished: use the next one
                levels[data[entries["arm"]]] = Chance(RunRecords(study, entries).predicted)
    return {arm: levels[data[arm]] for arm in study.arms if data[arm] in levels}
