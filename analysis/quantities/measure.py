"""Measure the quantities of the registry for every run of a study, from the run's own records."""

import math
import warnings
from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from analysis.quantities.formulas import NotMeasurable
from analysis.quantities.registry import REGISTRY, SHIPPED, Quantity, run_quantities
from analysis.quantities.run_records import RunRecords
from analysis.records.run_folder import Unreadable
from analysis.records.study import Study


@dataclass(frozen=True, eq=False)
class Measured:
    """Quantities of a study's runs.

    values   one row per run, indexed by its name, and one column per quantity; NaN if it could not be measured
    lacking  run, quantity, reason: why a formula could not be applied
    """

    values: pd.DataFrame
    lacking: pd.DataFrame


def measure(study: Study, quantities: Collection[str] | None = None) -> Measured:
    """Measure the named quantities, by default all, for all runs that count.

    A run that has vanished since the study was loaded causes a warning and is left out. Entries of run.json that
    were not recorded are NaN without a reason. Raises ValueError for a name that is no quantity of a single run.
    """
    names = run_quantities() if quantities is None else tuple(quantities)
    if unknown := [name for name in names if name not in run_quantities()]:
        raise ValueError(f"quantities must be among {', '.join(run_quantities())} (got {', '.join(unknown)})")
    rows, lacking, wanted = {}, [], {name: REGISTRY[name] for name in names}
    for entries in study.rows.values():
        run = RunRecords(study, entries)
        try:
            known = study.measured[run.name]
            for each in wanted.values():
                if measured_key(each) not in known:
                    known[measured_key(each)] = value_or_reason(run, each)
            found = {name: known[measured_key(each)] for name, each in wanted.items()}
        except Unreadable as problem:
            warnings.warn(f"{run.name} is not measured: {problem}", stacklevel=2)
            continue
        rows[run.name] = {k: math.nan if isinstance(v, NotMeasurable) else v for k, v in found.items()}
        lacking += [(run.name, k, str(v)) for k, v in found.items() if isinstance(v, NotMeasurable)]
    return Measured(
        pd.DataFrame.from_dict(rows, orient="index", columns=names, dtype=float).rename_axis("run"),
        pd.DataFrame(lacking, columns=["run", "quantity", "reason"]),
    )


def measured_key(quantity: Quantity) -> str | Quantity:
    """What a study's measurements are kept by: the name of a quantity of ours; two studies' own may share a name."""
    return quantity.name if SHIPPED.get(quantity.name) is quantity else quantity


def value_or_reason(run: RunRecords, quantity: Quantity) -> float | NotMeasurable | None:
    """The quantity of a run, or why its formula cannot be applied; None if run.json lacks the entry."""
    if run.study.table is not None:
        return value_in_table(run, quantity)
    if quantity.measure is None:
        return run.entries.get(quantity.name)
    try:
        return quantity.measure(run)
    except NotMeasurable as reason:
        return reason


def value_in_table(run: RunRecords, quantity: Quantity) -> float | NotMeasurable:
    """The quantity of a row of a table of results, or what it would need."""
    value = run.entries.get(quantity.name)
    if value is not None and not pd.isna(value):
        return value
    if quantity.measure is None:
        return NotMeasurable(f"the table has no column {quantity.name}")
    return NotMeasurable("a table of results has no steps, evaluations and predictions, which it is computed from")
