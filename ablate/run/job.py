"""A job of a sweep and its folder: skipped when done, locked by one process at a time, never lost.

Hydra calls `execute_composed` for each job. It returns a status and raises nothing but KeyboardInterrupt and `Stopped`:
the failure of one run must not cost the others.
"""

import logging
import os
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ablate.config.paths import claims_file, kept_claims
from ablate.distributed.ranks import current_ranks
from ablate.experiment import NUMERICS, build_option, factors, plain, run_id, stem_id
from ablate.files.atomic import remove_leftovers, write
from ablate.files.hashing import file_sha256
from ablate.files.links import refuse_links
from ablate.files.reading import LARGEST_TABLE, read_regular
from ablate.files.run_record import write_run_json
from ablate.run import checkpoint, fork, process, progress
from ablate.run.folder_name import run_folder
from ablate.run.records import BrokenRecord, check_tables, read_run
from ablate.run.run import perform
from ablate.run.signals import Stopped, StopRequest, stop_requests
from ablate.schema import FINISHED, SCHEMA
from ablate.trainer import Trainer

log = logging.getLogger("ablate")
LOCK_PATIENCE = 1.0  # seconds: longer than another process tests the lock, shorter than any run


@dataclass(frozen=True)
class Job:
    """One run to be done: its config and its folder."""

    config: dict[str, Any]  # resolved, plain
    choices: dict[str, str]  # option by group
    number: int = 0  # its place in the sweep, as far as that is known

    @cached_property
    def id(self) -> str:
        return run_id(self.config, self.choices)

    @cached_property
    def folder(self) -> Path:
        return run_folder(self.config, self.choices)

    @cached_property
    def stem(self) -> str:
        return stem_id(self.config, self.choices)

    @cached_property
    def trainer(self) -> Trainer:
        return build_option("trainer", self.config)

    @property
    def claims(self) -> Path:
        """The study's own copy of its claims file, or else the file itself where the disk was too full for a copy."""
        kept = kept_claims(self.folder.parent) / f"{self.config['claims']}.yaml"
        return kept if kept.is_file() else claims_file(self.config["claims"])

    @property
    def rerun(self) -> bool:
        return self.config["rerun"]

    def with_seed(self, seed: int) -> "Job":
        return replace(self, config=self.config | {"seed": seed})

    def with_threads(self, threads: int) -> "Job":
        """Return the job with this number in place of `trainer.threads: null`."""
        trainer = self.config["trainer"]
        if not isinstance(trainer, Mapping) or trainer.get("threads") is not None:
            return self
        return replace(self, config=self.config | {"trainer": {**trainer, "threads": threads}})


def rerun_folder(folder: Path) -> Path:
    """The folder in which a rerun works, so that the finished folder stays until the new one is done."""
    return folder.parent / ".rerun" / folder.name


def written_paths(folder: Path) -> list[Path]:
    """The folders that a run writes to, and the files that it opens in place; it replaces all other files."""
    rerun = rerun_folder(folder)
    return [folder, folder / ".lock", folder / "run.log", rerun.parent, rerun, rerun / "run.log"]


def job(config: DictConfig, choices: Mapping[str, str], number: int = 0) -> Job:
    """Return the job that a composed config describes; `choices` as in `hydra.runtime.choices`."""
    return Job(plain(config), dict(choices), number)


def execute_composed(config: DictConfig) -> str:
    """What Hydra calls for each job, in the command or in a process of its launcher; return the run's status."""
    hydra = HydraConfig.get()
    work = job(config, hydra.runtime.choices, OmegaConf.select(hydra, "job.num") or 0)  # a single run has no number
    with process.current.working():
        return execute(work.with_threads(process.current.threads))


def execute(work: Job) -> str:
    """Do what is left to do and return the run's status: done, diverged, failed, or locked (by another process)."""
    try:
        with stop_requests(process.current.stop) as stop:
            stop.obey()  # a signal that reached a worker between runs
            status = lead(work, stop) if current_ranks().leads else follow(work, stop)
        stop.obey()  # a signal after the last step: the run is done, and the sweep ends here
        return status
    except (Stopped, KeyboardInterrupt):
        progress.close_display()  # the terminal gets its cursor back
        raise
    except Exception as error:  # before run.json is written, or after
        log.error("%s failed: %s: %s", work.folder.name, type(error).__name__, error)
        return "failed"


def lead(work: Job, stop: StopRequest) -> str:
    """Do the job as a single process or as rank 0, and broadcast the status that it ends with."""
    try:
        status = finished_status(work) or run_locked(work, stop)
    except Exception:
        current_ranks().broadcast("failed")
        raise
    return current_ranks().broadcast(status)


def follow(work: Job, stop: StopRequest) -> str:
    """Do the job as another rank: perform the run when rank 0 starts it, and leave its folder alone."""
    while (status := current_ranks().broadcast()) is None:
        try:
            perform(work.config, work.id, work.folder, stop)
        except Exception:  # on rank 0 too, or the barrier below fails
            log.exception("%s failed on rank %d", work.folder.name, current_ranks().index)
        current_ranks().barrier()
    return status


def run_locked(work: Job, stop: StopRequest) -> str:
    """Do the run while this process holds the lock of its folder; return its status."""
    refuse_links(*written_paths(work.folder))
    work.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work.folder / ".lock", timeout=LOCK_PATIENCE):
            if status := adopt_rerun(work) or finished_status(work):  # another process finished it in the meantime
                return status
            folder = rerun_folder(work.folder) if work.rerun else work.folder
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
            current_ranks().broadcast(None)  # the other ranks start the run, too
            with progress.log_file(folder / "run.log"):
                status = attempt(work, folder, stop)
            current_ranks().barrier()
            adopt_rerun(work)
            remove_snapshots(work.folder.parent)
            return status
    except Timeout:
        return "locked"


def remove_snapshots(study: Path) -> None:
    """Remove the snapshots in a study's folder that no unfinished run forks from."""

    def is_finished(run: str) -> bool:
        try:
            return bool(status_of(study / run))
        except ValueError:  # another run's run.json that cannot be read must not fail this one
            return False

    fork.remove_unwanted(study / fork.SNAPSHOTS_FOLDER, is_finished)


def finished_status(work: Job) -> str | None:
    """Return `done` or `diverged`; None for a run that has to be done, as one with damaged records."""
    if work.rerun or status_of(rerun_folder(work.folder)):  # a rerun that was killed before `adopt_rerun`
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
    """The number of steps in the checkpoint of an unfinished run."""
    if not (work.folder / checkpoint.NAME).exists():
        return 0
    try:
        content = read_regular(work.folder / "steps.parquet", LARGEST_TABLE)  # written with each checkpoint
        return pq.read_metadata(pa.BufferReader(content)).num_rows
    except (OSError, ValueError):  # damaged: the plan is wrong, the run will not be
        return 0


def status_of(folder: Path) -> str | None:
    """Return `done` or `diverged` if that is the status in the folder's run.json, else None."""
    try:
        record = read_run(folder)
    except BrokenRecord:
        return None
    return record["status"] if record and record["status"] in FINISHED else None


def adopt_rerun(work: Job) -> str | None:
    """Replace the files of a run by those of its finished rerun, run.json last; a killed call is completed later.

    Returns the status of the rerun, or None where there is none to adopt.
    """
    rerun = rerun_folder(work.folder)
    status = status_of(rerun)
    if status:
        if not work.trainer.keep_checkpoint:
            checkpoint.remove_checkpoint(work.folder)
        for path in sorted(rerun.iterdir(), key=lambda path: path.name == "run.json"):
            os.replace(path, work.folder / path.name)
        rerun.rmdir()
    return status


def attempt(work: Job, folder: Path, stop: StopRequest) -> str:
    """Perform the run in `folder` and write its outcome to run.json; return its status."""
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "numerics": NUMERICS,
        "id": work.id,
        "status": "running",
        "factors": factors(work.config, work.choices),
        "seed": work.config["seed"],
        "nuisance": work.config["nuisance"],
        "claims": {"name": work.config["claims"], "sha256": file_sha256(work.claims)},
        "forked_from": None,
        "timing": {"started": datetime.now(UTC).isoformat(timespec="seconds"), "job": work.number},
        "error": None,
    }
    try:
        write(folder / "config.yaml", lambda file: file.write(OmegaConf.to_yaml(work.config).encode()))
        write_run_json(folder, record)
        tags = {factor: found["option"] for factor, found in record["factors"].items()} | {"seed": str(record["seed"])}
        found = perform(work.config, record["id"], folder, stop, tags)
        record |= found | {"timing": record["timing"] | found["timing"]}
        write_run_json(folder, record)
        if record["status"] == "diverged" or not work.trainer.keep_checkpoint:
            checkpoint.remove_checkpoint(folder)
    except (Stopped, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit as well
        message = f"{type(error).__name__}: {error}"
        log.error("%s failed: %s", work.folder.name, message)
        trace = "".join(traceback.format_exception(error))
        record |= {"status": "failed", "error": {"message": message, "traceback": trace}}
        with suppress(OSError):  # on a full disk the status stays `running`, and the run can be resumed
            write_run_json(folder, record)
    return record["status"]
