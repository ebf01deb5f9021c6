"""One run's folder: its own account, and whether its record files are, to the byte, what it wrote."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ablate.schema import SCHEMA, SETUP, STATUSES, TABLES, UNFINISHED
from analysis.records.arms import flat

RECORDS = {f"{table}.parquet": tuple(columns) for table, columns in TABLES.items()}
"""The record files and their columns, of which the first numbers the rows."""


class Unreadable(Exception):
    """A run that cannot be used. `kind` as in Study.problems; the message says what is wrong with it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def run_json(folder: Path) -> dict[str, Any]:
    """A run's own account, checked as far as this package relies on it. Raises Unreadable."""
    try:
        data = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair passes the parser, but no frame
    except FileNotFoundError:
        if not folder.is_dir():
            raise Unreadable("gone", "vanished while it was read") from None
        raise Unreadable("foreign", "no run.json: not a run, or one that has not begun") from None
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable("broken", f"run.json cannot be read: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise Unreadable("foreign", "run.json is not a run's record: it has no schema")
    if data["schema"] > SCHEMA:
        raise Unreadable("broken", f"run.json has schema {data['schema']}, this version reads up to {SCHEMA}")
    kinds = {"id": str, "status": str, "seed": int, "nuisance": int, "factors": dict}
    if lacking := [key for key, kind in kinds.items() if not isinstance(data.get(key), kind)]:
        raise Unreadable("broken", f"run.json lacks {', '.join(lacking)}, or has another type there")
    if data["status"] not in STATUSES:
        raise Unreadable("broken", f"run.json has status {data['status']!r}, none of {STATUSES}")
    wrong = [factor for factor, entry in data["factors"].items() if not is_factor(entry)]
    if wrong := wrong + [factor for factor in SETUP if factor not in data["factors"]]:
        raise Unreadable("broken", f"run.json has no option and settings of {', '.join(wrong)}")
    return data


def is_factor(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("option"), str) and isinstance(entry.get("settings"), dict)


def flaw_of(folder: Path, data: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why a run does not count, as kind and problem; None where it does."""
    if data["status"] in UNFINISHED:
        message = flat(data).get("error.message")
        return "partial", f"status {data['status']}" + (f": {message}" if message else "")
    try:
        for file in RECORDS:
            check_record(folder / file, data)
    except Unreadable as problem:
        return problem.kind, str(problem)
    return None


def check_record(path: Path, data: Mapping[str, Any]) -> None:
    """Raises Unreadable unless the file's hash and row count are those in its run.json."""
    try:
        rows, sha256 = data["records"][path.name]["rows"], data["records"][path.name]["sha256"]
    except (KeyError, TypeError):
        raise Unreadable("broken", f"run.json does not say what {path.name} should hold") from None
    try:
        found = pq.read_metadata(pa.BufferReader(verified(path, sha256))).num_rows
    except pa.ArrowException as error:
        raise Unreadable("broken", f"{path.name} is no Parquet file: {error}") from error
    if found != rows:
        raise Unreadable("broken", f"{path.name} has {found} rows, the run wrote {rows}")


def verified(path: Path, sha256: str) -> bytes:
    """A file's bytes, if they are those that the run wrote. Raises Unreadable."""
    try:
        content = path.read_bytes()
    except OSError as error:
        kind = "broken" if path.parent.is_dir() else "gone"
        raise Unreadable(kind, f"{path.name} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Unreadable("broken", f"{path.name} is not what the run wrote: its sha256 differs")
    return content
