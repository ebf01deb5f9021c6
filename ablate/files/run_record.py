"""A run's record on disk, run.json and its tables: written with hashes, and checked by everyone who reads it."""

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ablate.config.wording import excerpt
from ablate.files.atomic import write_json
from ablate.files.reading import Damaged, hashed, parse_json, read_regular, unhashed
from ablate.schema import ADDED_TABLES, PREDICTIONS, SCHEMA, SETUP, STATUSES, TABLES, TASKS

RUN_JSON = "run.json"
LARGEST_RUN_JSON = 4 * 2**20
"""Bytes: a thousand times the usual size."""

LARGEST_VALUES = 2**28
"""Rows times columns of a table: some twenty million steps."""

RESERVED = ("run", "arm")
"""Columns that the analysis adds to those of run.json."""

REQUIRED = {"id": str, "status": str, "seed": int, "nuisance": int, "factors": dict}
OPTIONAL = {
    **dict.fromkeys(("claims", "timing", "error", "forked_from", "parameters", "pairing", "environment"), dict),
    **dict.fromkeys(("memory_bytes", "records", "metrics", "parameters.by_block"), dict),
    **dict.fromkeys(("claims.name", "claims.sha256", "timing.started", "error.message", "error.traceback"), str),
    **dict.fromkeys(("pairing.batches", "pairing.head", "pairing.dropout", "pairing.by", "environment.key"), str),
    **dict.fromkeys(("numerics", "forked_from.step", "error.step", "parameters.total", "parameters.trained"), int),
    **dict.fromkeys(("environment.threads", "environment.world_size", "timing.resumed_from", "timing.job"), int),
    **dict.fromkeys((f"memory_bytes.{part}" for part in ("weights", "gradients", "optimizer", "peak")), int),
    **dict.fromkeys(("parameters.ratio", "timing.seconds"), float),
    **dict.fromkeys(("environment.earlier", "labels", "not_recorded"), list),
    **dict.fromkeys(("kind", "primary", "made_by", "forked_from.run"), str),
}
"""Entries that may be absent or null -> their type. Numbers are finite and not negative."""

WORDS = {str: "text", int: "an integer from 0", float: "a finite number from 0", dict: "an object", list: "a list"}

ARROW = {int: pa.int64(), float: pa.float64(), str: pa.string(), "float32": pa.float32()}
ARROW |= {int | None: pa.int64(), float | None: pa.float64()}


def arrow_schema(columns: Mapping[str, object]) -> pa.Schema:
    return pa.schema([(name, ARROW[kind]) for name, kind in columns.items()])


SCHEMAS = {table: arrow_schema(columns) for table, columns in TABLES.items()}
PREDICTION_SCHEMAS = {kind: arrow_schema(columns) for kind, columns in PREDICTIONS.items()}


def schema_of(table: str, kind: str = TASKS[0]) -> pa.Schema:
    """The schema of a table in the records of a kind of task."""
    return PREDICTION_SCHEMAS[kind] if table == "predictions" else SCHEMAS[table]


def task_kind(data: Mapping[str, Any]) -> str:
    """The kind of task of a run.json."""
    return data.get("kind") or TASKS[0]


class Foreign(Damaged):
    """A run.json of something else."""


class NewerSchema(ValueError):
    """A run.json that a later version of ablate wrote."""


def write_run_json(folder: Path, record: Mapping[str, Any]) -> None:
    """Replace a folder's run.json by `record` and its hash."""
    write_json(folder / RUN_JSON, hashed(record))


def read_run_json(folder: Path) -> dict[str, Any]:
    """A folder's run.json without its hash.

    Raises Damaged, NewerSchema, or OSError, where it cannot be believed, used, or read. No message names the file.
    """
    return parse_run_json(read_regular(folder / RUN_JSON, LARGEST_RUN_JSON), folder.name)


def parse_run_json(content: bytes, folder: str) -> dict[str, Any]:
    """What a run.json in a folder of this name records, without its hash. Raises Damaged or NewerSchema."""
    data = parse_json(content)
    if not isinstance(data, dict) or not is_a(data.get("schema"), int):
        raise Foreign("not the record of a run: it has no schema")
    if data["schema"] > SCHEMA:
        raise NewerSchema(f"schema {data['schema']} is newer than {SCHEMA}, which this version reads")
    data = unhashed(data)
    if flaw := next(flaws_of(data), None):
        raise Damaged(flaw)
    if folder != data["id"] and not folder.endswith(f"-{data['id']}"):
        raise Damaged(f"the record of another run: the folder's name must end in its id, {data['id']}")
    return data


def flaws_of(data: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the entries of a run.json."""
    for key, kind in REQUIRED.items():
        if not is_a(data.get(key), kind):
            yield f"{key} must be {WORDS[kind]} (got {excerpt(data.get(key))})"
            return
    if data["status"] not in STATUSES:
        yield f"status must be one of {', '.join(STATUSES)} (got {excerpt(data['status'])})"
    if not data["id"]:
        yield "id must not be empty"
    for key, kind in OPTIONAL.items():
        value: Any = data
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None and not is_a(value, kind):
            yield f"{key} must be {WORDS[kind]} (got {excerpt(value)})"
    if task_kind(data) not in TASKS:
        yield f"kind must be one of {', '.join(TASKS)} (got {excerpt(data['kind'])})"
    yield from flaws_of_factors(data["factors"])
    yield from flaws_of_metrics(data.get("metrics") or {})
    yield from flaws_of_names(data)


def flaws_of_factors(factors: Mapping[str, Any]) -> Iterator[str]:
    is_entry = {
        factor: is_a(entry, dict) and is_a(entry.get("option"), str) and is_a(entry.get("settings"), dict)
        for factor, entry in factors.items()
    }
    if wrong := [factor for factor in dict.fromkeys([*factors, *SETUP]) if not is_entry.get(factor)]:
        yield f"factors must hold option and settings of {', '.join(wrong)}"


def flaws_of_metrics(metrics: Mapping[str, Any]) -> Iterator[str]:
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            yield f"metrics.{name} must be a finite number (got {excerpt(value)})"
        elif name.endswith("accuracy") and not 0 <= value <= 1:
            yield f"metrics.{name} must be from 0 to 1 (got {excerpt(value)})"


def flaws_of_names(data: Mapping[str, Any]) -> Iterator[str]:
    """Names that would be the same column in a frame of runs."""
    entries, factors, metrics = {*data, *RESERVED}, {*data["factors"]}, {*(data.get("metrics") or {})}
    taken = [
        *(name for name in RESERVED if name in data),
        *sorted(factors & entries),
        *sorted(name for name in metrics if name.partition(".")[0] in entries | factors),
    ]
    if taken:
        yield f"the names {', '.join(RESERVED)} and those of entries and factors are reserved (got {', '.join(taken)})"


def is_a(value: Any, kind: type) -> bool:
    """Whether a value of JSON has a type; numbers must be finite and not negative, and true is no number."""
    if kind in (int, float):
        numbers = int if kind is int else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return isinstance(value, kind)


def tables_of(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the tables that a run must have: all, except those added later that its run.json does not list.

    >>> tables_of({"records": {"steps.parquet": {"rows": 0}}})
    ('steps', 'layers', 'evals', 'predictions')
    """
    listed = data.get("records") or {}
    return tuple(table for table in TABLES if table not in ADDED_TABLES or f"{table}.parquet" in listed)


def check_table(content: bytes, table: str, rows: int, kind: str = TASKS[0]) -> None:
    """Raise Damaged unless a Parquet file has these rows and the table's columns, and is not too large to be read."""
    try:
        metadata = pq.read_metadata(pa.BufferReader(content))
        found = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise Damaged(f"no Parquet file: {error}") from error
    if metadata.num_rows != rows:
        raise Damaged(f"has {metadata.num_rows} rows, the run wrote {rows}")
    if metadata.num_rows * metadata.num_columns > LARGEST_VALUES:
        raise Damaged(f"has {metadata.num_rows} rows of {metadata.num_columns} columns, too many to be read")
    for field in schema_of(table, kind):
        alone = found.names.count(field.name) == 1
        # a table without rows says nothing of its types: pandas gives them by chance
        if not alone or (rows and type_name(found.field(field.name).type) not in (type_name(field.type), "")):
            raise Damaged(f"must have one column {field.name} of type {field.type}")


def type_name(type: pa.DataType) -> str:
    """integer, number or text; "" for a column of nulls."""
    if pa.types.is_null(type):
        return ""
    if pa.types.is_integer(type):
        return "integer"
    if pa.types.is_floating(type):
        return "number"
    return "text" if pa.types.is_string(type) or pa.types.is_large_string(type) else str(type)


@lru_cache
def part_of_schema(table: str, columns: tuple[str, ...], kind: str) -> pa.Schema:
    return pa.schema([schema_of(table, kind).field(name) for name in columns])


def read_columns(content: bytes, table: str, columns: tuple[str, ...], kind: str = TASKS[0]) -> pa.Table:
    """Columns of a table's file. Raises Damaged."""
    schema = part_of_schema(table, columns, kind)
    try:
        file = pq.ParquetFile(pa.BufferReader(content))  # a fifth of the time of pq.read_table, which plans a scan
        found = file.read(columns=list(columns), use_threads=False).select(columns)
        return found.replace_schema_metadata() if found.schema.equals(schema) else found.cast(schema)
    except (pa.ArrowException, OSError, MemoryError, KeyError) as error:
        raise Damaged(f"cannot be read: {error}") from error
