"""A job of a sweep and its folder: skipped when done, held by one process at a time, never lost.

`execute` is what Hydra calls for each job. It answers with a status and raises nothing but Ctrl-C and `Stopped`:
one run's failure must not cost the others.
"""

import logging
import os
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from ablate.config.paths import claims_file
from ablate.distributed.ranks import here
from ablate.experiment import NUMERICS, factors, plain, run_id, stem_id
from ablate.files.atomic import remove_leftovers, write, write_json
from ablate.files.hashing import file_sha256
from ablate.run import checkpoint, fork, progress
from ablate.run.folder_name import run_folder
from ablate.run.records import BrokenRecord, check_tables, read_run
from ablate.run.run import perform
from ablate.run.signals import Stopped, StopRequest, stop_requests
from ablate.schema import FINISHED, SCHEMA

log = logging.getLogger("ablate")
LOCK_PATIENCE = 1.0  # seconds: more than another's look at the lock takes, less than any run


@dataclass(frozen=True)
class Job:
    """What is to be run, and where."""

    config: dict[str, Any]  # resolved, plain
    choices: dict[str, str]  # option by group

    @cached_property
    def id(self) -> str:
        return run_id(self.config, self.choices)

    @cached_property
    def folder(self) -> Path:
        return run_folder(self.config, self.choices)

    @cached_property
    def stem(self) -> str:
        return stem_id(self.config, self.choices)

    @property
    def rerun(self) -> bool:
        return self.config["rerun"]

    def with_seed(self, seed: int) -> "Job":
        return Job(self.config | {"seed": seed}, self.choices)

    def with_threads(self, threads: int) -> "Job":
        """The same where `trainer.threads: null` means this number."""
        trainer = self.config["trainer"]
        if not isinstance(trainer, Mapping) or trainer.get("threads") is not None:
            return self
        return Job(self.config | {"trainer": {**trainer, "threads": threads}}, self.choices)


def rerun_folder(folder: Path) -> Path:
    """Where a rerun works, so that the finished folder stays until the new one is done."""
    return folder.parent / ".rerun" / folder.name


def job(config: DictConfig, choices: Mapping[str, str]) -> Job:
    """The job that a composed config describes; `choices` as in `hydra.runtime.choices`."""
    return Job(plain(config), dict(choices))


def execute(work: Job) -> str:
    """Do what is left to do and return the run's status: done, diverged, failed, or held (by another process)."""
    try:
        with stop_requests() as stop:
            stop.obey()  # asked for before it began, in a worker
            status = lead(work, stop) if here().leads else follow(work, stop)
        stop.obey()  # asked for after the last step: the run is done, the sweep ends here
        return status
    except (Stopped, KeyboardInterrupt):
        progress.close_display()  # gives the terminal its cursor back
        raise
    except Exception as error:  # before run.json could be written, or after
        log.error("%s failed: %s: %s", work.folder.name, type(error).__name__, error)
        return "failed"


def lead(work: Job, stop: StopRequest) -> str:
    """What one process does of a job, and rank 0 of several; it tells the others the status that this comes to."""
    try:
        status = finished(work) or take(work, stop)
    except Exception:
        here().agree("failed")
        raise
    return here().agree(status)


def follow(work: Job, stop: StopRequest) -> str:
    """What the other ranks do: the run whenever rank 0 begins it, and nothing in its folder."""
    while (status := here().agree()) is None:
        try:
            perform(work.config, work.id, work.folder, stop)
        except Exception:  # rank 0's, too, or it is alone with it
            log.exception("%s failed on rank %d", work.folder.name, here().index)
        here().meet()
    return status


def take(work: Job, stop: StopRequest) -> str:
    """Do the run while this process holds its lock."""
    work.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work.folder / ".lock", timeout=LOCK_PATIENCE):
            if status := adopt_rerun(work) or finished(work):  # by another, while we waited
                return status
            folder = rerun_folder(work.folder) if work.rerun else work.folder
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
            here().agree(None)  # the others begin it, too
            with progress.log_file(folder / "run.log"):
                status = attempt(work, folder, stop)
            here().meet()
            adopt_rerun(work)
            sweep_snapshots(work.folder.parent)
            return status
    except Timeout:
        return "held"


def sweep_snapshots(study: Path) -> None:
    """Remove the shared starts in a study's folder that no unfinished run wants."""
    fork.sweep(study / fork.FOLDER, lambda run: bool(status_of(study / run)))


def finished(work: Job) -> str | None:
    """`done` or `diverged`; None for what is still to be done, runs with damaged records among them."""
    if work.rerun or status_of(rerun_folder(work.folder)):  # a rerun that was killed before it could be adopted
        return None
    try:
        record = read_run(work.folder)
        if record is None or record["status"] not in FINISHED:
            return None
        check_tables(work.folder, record)
    except BrokenRecord as error:
        log.warning("%s: the run is done again", error)
        return None
    return record["status"]


def steps_done(work: Job) -> int:
    """Steps that an unfinished run has behind it, in its checkpoint."""
    if not (work.folder / checkpoint.NAME).exists():
        return 0
    try:
        return pq.read_metadata(work.folder / "steps.parquet").num_rows  # written with each checkpoint
    except (OSError, ValueError):  # damaged: the plan errs, the run will not
        return 0


def status_of(folder: Path) -> str | None:
    """`done` or `diverged` if the folder's run.json says so, else None."""
    try:
        record = read_run(folder)
    except BrokenRecord:
        return None
    return record["status"] if record and record["status"] in FINISHED else None


def adopt_rerun(work: Job) -> str | None:
    """Let a finished rerun's files take the old ones' place, run.json last; goes on where a kill stopped it.

    Returns the rerun's status; None where there is none to adopt.
    """
    beside = rerun_folder(work.folder)
    status = status_of(beside)
    if status:
        if not work.config["trainer"]["keep_checkpoint"]:
            checkpoint.remove(work.folder)
        for path in sorted(beside.iterdir(), key=lambda path: path.name == "run.json"):
            os.replace(path, work.folder / path.name)
        beside.rmdir()
    return status


def attempt(work: Job, folder: Path, stop: StopRequest) -> str:
    """Perform the run in `folder`. Whatever comes of it stands in run.json."""
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "numerics": NUMERICS,
        "id": work.id,
        "status": "running",
        "factors": factors(work.config, work.choices),
        "seed": work.config["seed"],
        "nuisance": work.config["nuisance"],
        "claims": {"name": work.config["claims"], "sha256": file_sha256(claims_file(work.config["claims"]))},
        "forked_from": None,
        "timing": {"started": datetime.now(timezone.utc).isoformat(timespec="seconds")},
        "error": None,
    }
    try:
        write(folder / "config.yaml", lambda file: file.write(OmegaConf.to_yaml(work.config).encode()))
        write_json(folder / "run.json", record)
        tags = {factor: found["option"] for factor, found in record["factors"].items()} | {"seed": str(record["seed"])}
        found = perform(work.config, record["id"], folder, stop, tags)
        record |= found | {"timing": record["timing"] | found["timing"]}
        write_json(folder / "run.json", record)
        if record["status"] == "diverged" or not work.config["trainer"]["keep_checkpoint"]:
            checkpoint.remove(folder)
    except (Stopped, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit as well
        message = f"{type(error).__name__}: {error}"
        log.error("%s failed: %s", work.folder.name, message)
        trace = "".join(traceback.format_exception(error))
        record |= {"status": "failed", "error": {"message": message, "traceback": trace}}
        with suppress(OSError):  # on a full disk the run stays `running`, to be resumed
            write_json(folder / "run.json", record)
    return record["status"]
