"""A table of results as a study: one run per row, without steps, evaluations and predictions.

    >>> study = load_table(Path("results.csv"), Chosen())  # doctest: +SKIP
    >>> print("\\n".join(study.table.summary))  # doctest: +SKIP

An arm has the table's settings as its factors. A setting without a value is "none", as a factor that a run lacks is.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from errno import ENOENT
from os import strerror
from pathlib import Path
from typing import Any

import pandas as pd

from ablate.config.checks import refusal
from ablate.config.wording import count, excerpt
from ablate.files.reading import LARGEST_TEXT
from ablate.metrics import METRICS
from analysis.records.arms import Arm, in_order, labels, ranges, value_text
from analysis.records.column_roles import Chosen, Roles, known_metric, roles_in
from analysis.records.result_rows import ResultRows, cell_number, is_missing
from analysis.records.study import COLUMNS, ResultTable, Study, TableMetric, missing

NO_SETTINGS = ("study", "seed", "claims", "report", "rerun", "plan", "reference", "experiment", "hydra", "run", "arm")
"""Names that a claims file and the report use for something else than a factor."""

TAKEN = ("run", "arm", "id", "status", "seed", "nuisance", "data", "kind", "labels", "primary", "numerics")
"""Columns of `Study.runs` that no column of a table may have the name of."""

PERCENT = 100.0


@dataclass(frozen=True)
class TableSource:
    """The source of a study that is a table: it holds no files."""

    path: Path

    def folders(self) -> list[str]:
        return []

    def has(self, name: str) -> bool:
        return False

    def read(self, name: str, limit: int = LARGEST_TEXT) -> bytes:
        raise FileNotFoundError(ENOENT, strerror(ENOENT), name)


def table_study(rows: ResultRows, chosen: Chosen, folder: Path) -> Study:
    """The study of a table's rows; its report goes into `folder`. Raises ValueError with the row and the column."""
    roles = roles_in(rows, chosen)
    factors = factor_names(rows, roles.arms)
    metrics = tuple(table_metric(rows, column) for column in roles.metrics)
    check_free_names([*factors.values(), *(metric.quantity for metric in metrics)], rows)
    arms = [arm_at(rows, roles, factors, i) for i in range(len(rows.places))]
    arm_labels = labels(arms)
    if len({*arm_labels}) < 2 or len({json.dumps(without_data(arm), sort_keys=True) for arm in arms}) < 2:
        settings = ", ".join(f"{column}={arms[0][factor]}" for column, factor in factors.items())
        raise ValueError(f"{rows.path} must have two arms or more, to compare them (all rows have {settings})")
    seeds = seeds_of_rows(rows, roles)
    check_distinct(rows, roles, arm_labels, seeds)
    values = {metric.quantity: metric_values(rows, metric) for metric in metrics}
    entries = [
        {
            "run": place, "arm": label, "id": place, "status": "done", "seed": seed, **arm,
            **{name: found[i] for name, found in values.items()}, "primary": primary_of(metrics),
        }
        for i, (place, label, seed, arm) in enumerate(zip(rows.places, arm_labels, seeds, arms, strict=True))
    ]  # fmt: skip
    frame = pd.DataFrame(entries)
    frame = frame.reindex(columns=list(dict.fromkeys([*COLUMNS, *frame.columns])))
    in_study = in_order(dict(zip(arm_labels, arms, strict=True)))
    shared = roles.seed is not None and share_seeds(arm_labels, seeds)
    paired = shared and not chosen.unpaired
    summary = summary_lines(rows, roles, metrics, in_study, seeds, paired, shared)
    table = ResultTable(rows.path, rows.sha256, metrics, paired, roles.seed is not None, summary)
    return Study(
        folder=folder,
        runs=frame,
        left_out=frame[:0],
        arms=in_study,
        problems=pd.DataFrame(missing(frame) if paired else [], columns=["run", "kind", "problem"]),
        sha256={entry["run"]: {"row": row_sha256(entry)} for entry in entries},
        source=TableSource(rows.path),
        table=table,
    )


# --- Names ---


def factor_names(rows: ResultRows, columns: Sequence[str]) -> dict[str, str]:
    """Column -> the name that claims use for it: letters, digits and "_" stay, all else becomes "_".

    >>> factor_names(ResultRows(Path("x"), "", {}, (), {}), ["clip", "params.lr"])
    {'clip': 'clip', 'params.lr': 'lr'}
    """
    found = {}
    for column in columns:
        name = name_for_claims(column.removeprefix("params.").removeprefix("config."))
        if name in NO_SETTINGS or name == "nuisance":
            raise ValueError(f"{rows.path}: the column {column} must have another name, as claims cannot name it")
        found[column] = name
    return found


def name_for_claims(column: str) -> str:
    name = "".join(sign if sign.isalnum() or sign == "_" else "_" for sign in column)
    return f"_{name}" if name[:1].isdigit() else name


def check_free_names(names: Sequence[str], rows: ResultRows) -> None:
    """Raise ValueError where two columns would have one name in a claims file, or one that the frame of runs has."""
    for name in names:
        if names.count(name) > 1 or name in TAKEN:
            raise ValueError(f"{rows.path}: the column {name} must have another name: that one is taken")


def table_metric(rows: ResultRows, column: str) -> TableMetric:
    """A column as a metric; shares that are given in per cent become shares."""
    name = name_for_claims(column.removeprefix("metrics."))
    scale, higher = known_metric(column) or ("raw", None)
    name = f"test_{name}" if name in METRICS else name
    numbers = [cell_number(value) for value in rows.columns[column]]
    known = [number for number in numbers if number is not None and math.isfinite(number)]
    factor = 1.0
    if scale == "points" and known and not all(0 <= number <= 1 for number in known):
        is_percent = all(0 <= number <= PERCENT for number in known)
        if is_percent and min(known) <= 1 and any(not number.is_integer() for number in known if number <= 1):
            low, high = (known.index(end) for end in (min(known), max(known)))
            raise ValueError(
                f"{rows.at(numbers.index(known[low]), column)} must be a share from 0 to 1, or per cent, in all rows "
                f"(got {known[low]:g} here and {known[high]:g} in {rows.places[numbers.index(known[high])]})"
            )
        scale, factor = ("points", 1 / PERCENT) if is_percent else ("raw", 1.0)
    if scale == "raw" and (metric := METRICS.get(name.removeprefix("test_"))) and metric.scale == "points":
        raise refusal(f"{rows.path}, column {column}", max(known, key=abs), "shares from 0 to 1, or per cent")
    return TableMetric(column, name, scale, higher, factor)


def primary_of(metrics: Sequence[TableMetric]) -> str:
    """The first metric that is not one of the validation split, by the name that `Study.primary` has for it."""
    name = next((m.quantity for m in metrics if not m.quantity.startswith("validation_")), metrics[0].quantity)
    return name.removeprefix("test_") if name.removeprefix("test_") in METRICS else name


# --- Rows ---


def arm_at(rows: ResultRows, roles: Roles, factors: Mapping[str, str], row: int) -> Arm:
    arm: dict[str, Any] = {factor: option(rows.columns[column][row]) for column, factor in factors.items()}
    if roles.dataset is None:
        return arm | {"data": rows.path.stem, "nuisance": 0}
    name = rows.columns[roles.dataset][row]
    if is_missing(name):
        raise refusal(rows.at(row, roles.dataset), name, "the name of a data set")
    return arm | {"data": option(name), "nuisance": 0}


def option(value: Any) -> str:
    """A setting as the text of an option; a number as claims write it, and "none" for no value.

    >>> option("0.10"), option(5.0), option("True"), option(None), option("fixed")
    ('0.1', '5', 'true', 'none', 'fixed')
    """
    if value is None or value != value or value == "":
        return "none"
    if isinstance(value, bool) or value in ("True", "False"):
        return str(value).lower()
    number = cell_number(value)
    if number is None:
        return str(value)
    return value_text(int(number) if number.is_integer() and abs(number) < 2**53 else number)


def without_data(arm: Arm) -> dict[str, Any]:
    return {key: value for key, value in arm.items() if key != "data"}


def seeds_of_rows(rows: ResultRows, roles: Roles) -> list[int]:
    """The seed of each row; without a column of seeds the number of the row, so that no two rows belong together."""
    if roles.seed is None:
        return list(range(len(rows.places)))
    found = []
    for row, value in enumerate(rows.columns[roles.seed]):
        number = cell_number(value)
        if number is None or not number.is_integer() or not 0 <= number < 2**63:
            raise refusal(rows.at(row, roles.seed), excerpt(value) if value else value, "a whole number from 0")
        found.append(int(value) if isinstance(value, int) or str(value).isdecimal() else int(number))
    return found


def check_distinct(rows: ResultRows, roles: Roles, arm_labels: Sequence[str], seeds: Sequence[int]) -> None:
    """Raise ValueError where two rows have the same arm, data set and seed: which of them counts would be a guess."""
    first: dict[tuple[str, int], int] = {}
    for row, key in enumerate(zip(arm_labels, seeds, strict=True)):
        if key not in first:
            first[key] = row
            continue
        other = first[key]
        differ = [
            column
            for column, values in rows.columns.items()
            if values[row] != values[other] and column not in (*roles.metrics, *roles.arms)
        ]
        hint = f"; they differ in {', '.join(differ)}, which may be a setting (--arms)" if differ else ""
        raise ValueError(
            f"{rows.path}, {rows.places[row]} must not have the arm and seed of {rows.places[other]} ({key[0]}, seed "
            f"{key[1]}): one row per run{hint}"
        )


def metric_values(rows: ResultRows, metric: TableMetric) -> list[float]:
    """The values of a metric, all of them finite numbers."""
    found = []
    for row, value in enumerate(rows.columns[metric.column]):
        number = cell_number(value)
        if number is None or not math.isfinite(number):
            what = "a finite number; score a run that failed, or leave its row out and say so"
            raise refusal(rows.at(row, metric.column), value, what)
        found.append(number * metric.factor)
    return found


def share_seeds(arm_labels: Sequence[str], seeds: Sequence[int]) -> bool:
    """Whether all arms share at least one seed: then they are compared seed by seed."""
    of_arm: dict[str, set[int]] = defaultdict(set)
    for label, seed in zip(arm_labels, seeds, strict=True):
        of_arm[label].add(seed)
    return len(set.intersection(*of_arm.values())) > 0


def row_sha256(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True, default=str).encode()).hexdigest()


# --- In words ---


def summary_lines(
    rows: ResultRows,
    roles: Roles,
    metrics: Sequence[TableMetric],
    arms: Mapping[str, Arm],
    seeds: Sequence[int],
    paired: bool,
    shared: bool,
) -> tuple[str, ...]:
    """What is what in the table, and why."""
    of_arms = len({json.dumps(without_data(arm), sort_keys=True) for arm in arms.values()})
    data = sorted({arm["data"] for arm in arms.values()})

    def because(columns: Sequence[str]) -> str:
        return ", ".join(f"{column} ({roles.why.get(column, 'as given')})" for column in columns)

    shown = []
    for metric in metrics:
        notes = [roles.why.get(metric.column, "as given")]
        notes += [f"claims name it {metric.quantity}"] if metric.quantity != metric.column else []
        notes += ["per cent, read as shares"] if metric.factor != 1 else []
        notes += ["compared in points" if metric.scale == "points" else "compared as it is"]
        shown.append(f"{metric.column} ({'; '.join(notes)})")
    lines = [
        f"{rows.path}: {count(len(rows.places), 'row')}, one per run; sha256 {rows.sha256[:16]}",
        f"arms: {because(roles.arms)}: {count(of_arms, 'arm')}",
        f"metrics: {', '.join(shown)}",
    ]
    if roles.dataset:
        lines.append(f"data set: {because([roles.dataset])}: {', '.join(data)}")
    if roles.seed is None:
        lines.append("seed: no column; the arms are compared unpaired (Welch's t)")
    elif paired:
        lines.append(f"seed: {because([roles.seed])}: {ranges(seeds)}; the arms are compared seed by seed")
    else:
        why = "--unpaired is given" if shared else "the arms share no seed"
        lines.append(
            f"seed: {because([roles.seed])}: {ranges(seeds)}; {why}, so they are compared unpaired (Welch's t)"
        )
    used = {*roles.arms, *roles.metrics, roles.seed, roles.dataset}
    if unused := [f"{column} ({reason})" for column, reason in roles.why.items() if column not in used]:
        lines.append(f"not used: {', '.join(unused)}")
    return tuple(lines)
