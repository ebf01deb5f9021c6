"""Trials of an Optuna storage (SQLite), read by Optuna itself from a copy, as it may migrate a storage that it opens.

A row per complete trial: its parameters and user attributes as `params.<name>`, its values as `metrics.<name>`, where
the name is that of the study's metric, or `value`.
"""

from pathlib import Path
from typing import Any

from analysis.records.mlflow_store import chosen_experiment
from analysis.records.result_rows import ResultRows
from analysis.records.sqlite_copy import copied_database, has_tables


def is_optuna_storage(path: Path) -> bool:
    return has_tables(path, {"studies", "trials", "trial_params", "trial_values"})


def read_optuna_storage(path: Path, study: str | None = None) -> ResultRows:
    """The complete trials of a study. Raises ValueError without Optuna, and where several studies have trials."""
    try:
        import optuna
    except ImportError as error:
        raise ValueError(
            f"{path} is a storage of Optuna, which must be installed: pip install 'ablate-finetuning[optuna]'"
        ) from error
    with copied_database(path) as (copy, sha256):
        storage = optuna.storages.RDBStorage(f"sqlite:///{copy}")
        try:
            sizes = {each.study_name: each.n_trials for each in optuna.get_all_study_summaries(storage)}
            name = chosen_experiment(path, sizes, study)
            found = optuna.load_study(study_name=name, storage=storage)
            metrics = found.metric_names or [f"value_{i}" if i else "value" for i in range(len(found.directions))]
            trials = found.get_trials(deepcopy=False)
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"{path} cannot be read by Optuna: {error}") from error
        finally:
            storage.engine.dispose()
    done = [trial for trial in trials if trial.state is optuna.trial.TrialState.COMPLETE]
    if not done:
        raise ValueError(f"{path}: the study {name} must have complete trials")
    rows = [row_of(trial, metrics) for trial in done]
    names = dict.fromkeys(key for row in rows for key in row)
    left = len(trials) - len(done)
    ignored = {"state": f"{left} trials that are not complete are left out"} if left else {}
    columns = {key: [row.get(key) for row in rows] for key in names}
    return ResultRows(path, sha256, columns, [f"trial {trial.number}" for trial in done], ignored)


def row_of(trial: Any, metrics: list[str]) -> dict[str, Any]:
    attributes = {key: value for key, value in trial.user_attrs.items() if isinstance(value, (str, int, float, bool))}
    settings = {f"params.{key}": value for key, value in {**attributes, **trial.params}.items()}
    return settings | {f"metrics.{name}": value for name, value in zip(metrics, trial.values, strict=True)}
