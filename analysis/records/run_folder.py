"""One run's folder: its own account, and whether its record files are, to the byte, what it wrote."""

import hashlib
from collections.abc import Mapping
from typing import Any

from ablate.files.reading import LARGEST_TABLE, Damaged
from ablate.files.run_record import (
    LARGEST_RUN_JSON,
    RUN_JSON,
    Foreign,
    check_table,
    parse_run_json,
    tables_of,
    task_kind,
)
from ablate.schema import PREDICTIONS, TABLES, UNFINISHED
from analysis.records.arms import flat
from analysis.records.source import Source

RECORDS = {f"{table}.parquet": tuple(columns) for table, columns in TABLES.items()}
"""The record files and their columns, of which the first numbers the rows."""


def columns_of(file: str, kind: str) -> tuple[str, ...]:
    """The columns of a record file of a run whose task is of this kind."""
    return tuple(PREDICTIONS[kind]) if file == "predictions.parquet" else RECORDS[file]


def files_of(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The record files that a run.json lists; runs of earlier versions lack some of RECORDS."""
    return tuple(f"{table}.parquet" for table in tables_of(data))


class Unreadable(Exception):
    """A run that cannot be used. `kind` as in Study.problems; the message says what is wrong with it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def run_json(source: Source, run: str) -> dict[str, Any]:
    """A run's own account, checked by `ablate.files.run_record`. Raises Unreadable."""
    try:
        data = parse_run_json(source.read(f"{run}/{RUN_JSON}", LARGEST_RUN_JSON), run)
        run.encode()  # for frames and pages
    except FileNotFoundError:
        if not source.has(run):
            raise Unreadable("gone", "vanished while it was read") from None
        raise Unreadable("foreign", "no run.json: not a run, or one that has not begun") from None
    except Foreign as error:
        raise Unreadable("foreign", f"run.json: {error}") from error
    except UnicodeEncodeError:
        raise Unreadable("broken", "the folder's name must be UTF-8") from None
    except OSError as error:
        raise Unreadable("broken", f"run.json: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise Unreadable("broken", f"run.json: {error}") from error
    return data


def flaw_of(source: Source, run: str, data: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why a run does not count, as kind and problem; None where it does."""
    if data["status"] in UNFINISHED:
        message = flat(data).get("error.message")
        return "partial", f"status {data['status']}" + (f": {message}" if message else "")
    try:
        for file in files_of(data):
            check_record(source, run, file, data)
    except Unreadable as problem:
        return problem.kind, str(problem)
    return None


def check_record(source: Source, run: str, file: str, data: Mapping[str, Any]) -> None:
    """Raises Unreadable unless the file's hash and row count are those in its run.json."""
    try:
        rows, sha256 = data["records"][file]["rows"], data["records"][file]["sha256"]
    except (KeyError, TypeError):
        raise Unreadable("broken", f"run.json does not say what {file} should hold") from None
    try:
        check_table(verified(source, run, file, sha256), file.removesuffix(".parquet"), rows, task_kind(data))
    except Damaged as error:
        raise Unreadable("broken", f"{file}: {error}") from error


def verified(source: Source, run: str, file: str, sha256: str) -> bytes:
    """A file's bytes, if they are those that the run wrote. Raises Unreadable."""
    try:
        content = source.read(f"{run}/{file}", LARGEST_TABLE)
    except Damaged as error:
        raise Unreadable("broken", f"{file}: {error}") from error
    except OSError as error:
        kind = "broken" if source.has(run) else "gone"
        raise Unreadable(kind, f"{file} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Unreadable("broken", f"{file} is not what the run wrote: its sha256 differs")
    return content
