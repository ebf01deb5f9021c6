"""Results that others wrote, as a study: tables in files, stores of MLflow and Optuna, and exports of Weights & Biases.

`python -m analysis results.csv` judges them. `analysis.records` has a module per format; none of them writes there.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from ablate.config.checks import refusal
from analysis.claims.values import setting
from analysis.records.column_roles import Chosen
from analysis.records.mlflow_store import is_mlflow_store, read_mlflow_store
from analysis.records.optuna_storage import is_optuna_storage, read_optuna_storage
from analysis.records.result_rows import ResultRows, is_result_file, read_result_file
from analysis.records.study import Study
from analysis.records.table_study import table_study
from analysis.records.wandb_export import is_wandb_export, without_wandb_columns

SUFFIX_OF_REPORT = "-analysis"
"""Added to the name of a folder or database for the folder of its report, which must not be inside a store."""


@dataclass(frozen=True)
class TableOptions(Chosen):
    """What the user says of a table or store: the roles of its columns, and the experiment of a store."""

    store_experiment: str | None = None

    @classmethod
    def typed(cls, arguments: argparse.Namespace) -> "TableOptions":
        """Those of a command line with the options of `add_column_options`."""
        return cls(**{field.name: getattr(arguments, field.name) for field in fields(cls)})

    def refuse(self) -> None:
        """Raise ValueError if one is given, with a study of ours, whose records say what is what."""
        for name, value in vars(self).items():
            if value is not None:
                raise refusal(f"--{name.replace('_', '-')}", value, "left out for a study of runs")


INFERRED = TableOptions()
"""Nothing is said: names and values decide."""


def is_result_path(path: Path) -> bool:
    """Whether a path is a table of results or a store, and no study of ours."""
    return (path.is_file() and is_result_file(path)) or is_mlflow_store(path) or is_optuna_storage(path)


def add_column_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which column of a table is what."""
    group = parser.add_argument_group("a table of results that others wrote", "By default names and values decide.")
    group.add_argument("--arms", type=column_list, help="columns with the settings of the arms: clip,freeze")
    group.add_argument("--seed", help="the column with the seed")
    group.add_argument("--metrics", type=column_list, help="columns with metrics: acc,f1")
    group.add_argument("--dataset", help="the column with the data set")
    group.add_argument(
        "--unpaired", action="store_true", default=None, help="rows with the same seed are no pairs: use Welch's t"
    )
    group.add_argument("--store-experiment", metavar="NAME", help="the experiment of a store, or the study of Optuna")


def column_list(text: str) -> tuple[str, ...]:
    """
    >>> column_list("clip, freeze")
    ('clip', 'freeze')
    """
    return tuple(name.strip() for name in text.split(",") if name.strip())


def load_results(path: Path, options: TableOptions = INFERRED, output: Path | None = None) -> Study:
    """The study of a table of results. Raises ValueError where it cannot be used, with row and column.

    output: the folder for its report; by default beside the table.
    """
    rows = result_rows_at(path, options.store_experiment)
    folder = path.with_suffix("") if is_result_file(path) else path.with_name(path.stem + SUFFIX_OF_REPORT)
    study = table_study(rows, options, output or folder)
    for factor in study.factors:
        try:
            setting("claims", factor)
        except ValueError as error:
            raise ValueError(f"{path}: the column {factor} must have another name: {error}") from error
    return study


def result_rows_at(path: Path, experiment: str | None) -> ResultRows:
    """The rows of a file or store. Raises ValueError for an experiment where there is none to choose."""
    if is_mlflow_store(path):
        return read_mlflow_store(path, experiment)
    if is_optuna_storage(path):
        return read_optuna_storage(path, experiment)
    if experiment is not None:
        raise refusal("--store-experiment", experiment, "left out for a table in a file")
    rows = read_result_file(path)
    return without_wandb_columns(rows) if is_wandb_export(rows) else rows
