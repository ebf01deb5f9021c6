"""The folder of a run that is being recorded, from its lock to its last run.json."""

import logging
import math
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ablate.config.paths import claims_file, kept_claims
from ablate.files.atomic import remove_leftovers
from ablate.files.hashing import file_sha256
from ablate.files.links import refuse_links
from ablate.files.reading import read_regular
from ablate.files.run_record import write_run_json
from ablate.recorder.declaration import Declaration
from ablate.run.folder_name import existing_name
from ablate.run.records import BrokenRecord, Rows, read_run
from ablate.schema import FINISHED, TABLES
from ablate.sweep.claims import keep_claims
from ablate.training.learner import hash_of
from ablate.training.step import Diverged

log = logging.getLogger("ablate")

EVALUATED = ("probe", "validation", "test")


class OpenRecord:
    """What is recorded of a run, in a folder that stays locked until the run ends.

    entries  of run.json
    rows     of the tables
    order    numbers of the examples that the run trained on, in parts

    Raises ValueError if the run is finished, unless `rerun`, or being recorded, and for claims that cannot be read.
    """

    def __init__(
        self, study: Path, declared: Declaration, claims: str | os.PathLike[str] | None, rerun: bool, made_by: str
    ) -> None:
        self.rows = Rows()
        self.order: list[torch.Tensor] = []
        self.entries = declared.record() | {"made_by": made_by, "pairing": {"by": "seed"}, "error": None}
        self.entries["timing"] = {"started": datetime.now(UTC).isoformat(timespec="microseconds")}
        self._began = time.perf_counter()
        found = chosen_file(claims, study)
        self.folder = study / existing_name(study, declared.id, declared.folder_name)
        self._lock = locked(self.folder)
        try:
            self._replaces = finished_before(self.folder, rerun)
            kept = keep_claims(found, read_regular(found), study)
            self.entries["claims"] = {"name": kept.stem, "sha256": file_sha256(kept)}
            if not self._replaces:
                write_run_json(self.folder, self.entries)
        except BaseException:
            self._lock.release()
            raise

    @property
    def status(self) -> str:
        return self.entries["status"]

    def check_running(self, method: str) -> None:
        if self.status != "running":
            raise ValueError(f"recorder.{method} must be called before the run ends: {self.folder} is {self.status}")

    def check_finite(self, name: str, value: float, step: int) -> None:
        """Record that the run diverged, and raise Diverged, unless a value is finite."""
        if not math.isfinite(value):
            error = Diverged(step, f"{name} is {value}")
            log.warning("%s diverged at %s", self.folder.name, error)
            self.end("diverged", {"error": {"step": step, "message": error.cause}, "metrics": {}})
            raise error

    def fail(self, error: BaseException) -> None:
        trace = "".join(traceback.format_exception(error))
        self.end("failed", {"error": {"message": f"{type(error).__name__}: {error}", "traceback": trace}})

    def end(self, status: str, outcome: Mapping[str, Any]) -> None:
        """Write the tables, then run.json, and release the folder; a finished run stays if its rerun failed."""
        self.entries |= {"status": status, **outcome}
        try:
            if self._replaces and status == "failed":
                log.warning("%s: the rerun failed, and the finished run before it stays", self.folder.name)
                return
            if self.order:
                self.entries["pairing"] |= {"batches": hash_of([torch.cat(self.order)])}
            self.entries["timing"] |= {"seconds": time.perf_counter() - self._began}
            self.entries["records"] = self.rows.write(self.folder, self.entries["kind"])
            self.entries["not_recorded"] = not_recorded(self.rows, self.entries)
            for table in TABLES:
                if f"{table}.parquet" not in self.entries["records"]:
                    (self.folder / f"{table}.parquet").unlink(missing_ok=True)  # of an earlier attempt
            write_run_json(self.folder, self.entries)
        finally:
            self._lock.release()


def chosen_file(claims: str | os.PathLike[str] | None, study: Path) -> Path:
    """The claims that a run is registered with; by default the study's own copy of those that compare all arms."""
    own = kept_claims(study) / "auto.yaml"
    if claims is None:
        return own if own.is_file() else claims_file("auto")
    return Path(claims) if Path(claims).is_file() else claims_file(str(claims))


def locked(folder: Path) -> FileLock:
    """The lock of a run's folder, which is made if needed. Raises ValueError if it is taken."""
    refuse_links(folder, folder / ".lock")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        what = "another process records this run, or a Recorder of this one that has not ended (recorder.fail ends it)"
        raise ValueError(f"{folder}: {what}") from None
    return lock


def finished_before(folder: Path, rerun: bool) -> bool:
    """Whether a folder holds a finished run, which stays until this one is. Raises ValueError unless `rerun`."""
    remove_leftovers(folder)
    try:
        before = read_run(folder)
    except BrokenRecord:
        return False
    finished = before is not None and before["status"] in FINISHED
    if finished and not rerun:
        what = "a run of these factors, settings and seed is finished already; rerun=True replaces it"
        raise ValueError(f"{folder}: {what}")
    return finished


def not_recorded(rows: Rows, record: Mapping[str, Any]) -> list[str]:
    """What a run lacks that our trainer records: tables, columns that are null throughout, entries of run.json."""
    lacking = [entry for entry in ("numerics", "memory_bytes") if entry not in record]
    lacking += [f"pairing.{key}" for key in ("batches", "head", "dropout") if key not in record["pairing"]]
    for name in ("steps", "layers", "evals", "predictions", "probe"):
        found: Sequence[dict[str, Any]] = getattr(rows, name)
        if not found:
            lacking.append(name)
        lacking += [f"{name}.{key}" for key in found[0] if all(row[key] is None for row in found)] if found else []
    splits = {row["split"] for row in rows.evals}
    return lacking + [f"evals of {split}" for split in EVALUATED if split not in splits]
