"""Runs of an MLflow store, read by MLflow's own client from a copy: it may migrate or mark a store that it opens.

    python -m analysis mlflow.db            # SQLite
    python -m analysis mlruns               # a folder

A row per finished run: its parameters as `params.<name>`, the last value of each metric as `metrics.<name>`.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablate.config.checks import refusal
from analysis.records.result_rows import ResultRows
from analysis.records.sqlite_copy import copied_database, has_tables

NOT_COPIED = ("artifacts", "models", "traces", ".trash")
"""Folders of a file store that are not copied."""

FILE_STORE = "MLFLOW_ALLOW_FILE_STORE"
FINISHED_STATUS = "FINISHED"


def is_mlflow_store(path: Path) -> bool:
    """Whether a path is a store of MLflow: a database with its tables, or a folder with experiments."""
    if path.is_dir():
        return next(path.glob("*/meta.yaml"), None) is not None
    return has_tables(path, {"experiments", "runs", "params", "latest_metrics"})


def read_mlflow_store(path: Path, experiment: str | None = None) -> ResultRows:
    """The finished runs of an experiment. Raises ValueError without MLflow, and where several experiments have runs."""
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise ValueError(
            f"{path} is a store of MLflow, which must be installed: pip install 'ablate-finetuning[mlflow]'"
        ) from error
    with copied_store(path) as (address, sha256):
        try:
            client = MlflowClient(tracking_uri=address)
            found = {each.name: runs_of(client, each.experiment_id) for each in client.search_experiments()}
        except MlflowException as error:
            raise ValueError(f"{path} cannot be read by MLflow: {str(error).splitlines()[0]}") from error
    name = chosen_experiment(path, {name: len(runs) for name, runs in found.items()}, experiment)
    done = [run for run in found[name] if run.info.status == FINISHED_STATUS]
    if not done:
        raise ValueError(f"{path}: the experiment {name} must have finished runs")
    rows = [params_and_metrics(run) for run in done]
    names = dict.fromkeys(key for row in rows for key in row)
    left = len(found[name]) - len(done)
    ignored = {"status": f"{left} runs that are not finished are left out"} if left else {}
    places = [f"run {run.info.run_id}" for run in done]
    return ResultRows(path, sha256, {key: [row.get(key) for row in rows] for key in names}, places, ignored)


def runs_of(client: Any, experiment: str) -> list[Any]:
    """The runs of an experiment, in the order in which they began."""
    runs, token = [], None
    while token != "":
        page = client.search_runs([experiment], order_by=["attributes.start_time ASC"], page_token=token)
        runs += page
        token = page.token or ""
    return runs


def params_and_metrics(run: Any) -> dict[str, Any]:
    return {f"params.{key}": value for key, value in sorted(run.data.params.items())} | {
        f"metrics.{key}": value for key, value in sorted(run.data.metrics.items())
    }


def chosen_experiment(path: Path, sizes: dict[str, int], wanted: str | None) -> str:
    """The experiment of this name, or the only one with runs. Raises ValueError otherwise."""
    if wanted is not None:
        if wanted not in sizes:
            raise refusal("--store-experiment", wanted, f"one of {', '.join(sizes)}")
        return wanted
    used = [name for name, size in sizes.items() if size]
    if len(used) != 1:
        what = ", ".join(f"{name} ({size} runs)" for name, size in sizes.items() if size) or "none"
        hint = f"; choose one with --store-experiment '{used[0]}'" if used else ""
        raise ValueError(f"{path} must have one experiment with runs (it has {what}){hint}")
    return used[0]


@contextmanager
def copied_store(path: Path) -> Iterator[tuple[str, str]]:
    """The address of a copy of a store, without artifacts, and the hash of what it holds; deleted at the end."""
    if path.is_file():
        with copied_database(path) as (copy, sha256):
            yield f"sqlite:///{copy}", sha256
        return
    before = os.environ.get(FILE_STORE)
    with tempfile.TemporaryDirectory(prefix="ablate-") as folder:
        copy = Path(folder) / "mlruns"
        shutil.copytree(path, copy, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
        digest = hashlib.sha256()
        for file in sorted(file for file in copy.rglob("*") if file.is_file() and not file.is_symlink()):
            digest.update(file.relative_to(copy).as_posix().encode() + b"\0" + file.read_bytes())
        os.environ[FILE_STORE] = "true"
        try:
            yield copy.as_uri(), digest.hexdigest()
        finally:
            os.environ.pop(FILE_STORE, None) if before is None else os.environ.update({FILE_STORE: before})
