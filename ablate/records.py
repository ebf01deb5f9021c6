"""A run's records: typed Parquet tables and run.json, written so that a kill leaves the old file or the new one."""

import contextlib
import dataclasses
import hashlib
import json
import os
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ablate.disk import sync_folder
from ablate.evaluation import Predictions
from ablate.norms import Norms
from ablate.roles import Role
from ablate.training import Step

SCHEMA = 1
"""Of run.json and the tables; raised when an older reader would misread them."""

FINISHED = ("done", "diverged")
STATUSES = ("running", *FINISHED, "failed")
TYPES = {int: pa.int64(), float: pa.float64(), float | None: pa.float64()}
STEPS = pa.schema([(name, TYPES[hint]) for name, hint in typing.get_type_hints(Step).items()])
LAYERS = pa.schema(
    [("step", pa.int64()), ("layer", pa.int64()), ("block", pa.string()), ("grad_norm", pa.float64()),
     ("parameters", pa.int64())]
)  # fmt: skip
EVALS = pa.schema(
    [("step", pa.int64()), ("split", pa.string()), ("loss", pa.float64()), ("accuracy", pa.float64()),
     ("examples", pa.int64())]
)  # fmt: skip
PREDICTIONS = pa.schema(
    [("example", pa.int64()), ("label", pa.int64()), ("prediction", pa.int64()), ("probability", pa.float32())]
)
TABLES = {"steps": STEPS, "layers": LAYERS, "evals": EVALS, "predictions": PREDICTIONS}


@dataclasses.dataclass
class Rows:
    """All rows of a run so far, plain data: they live in the checkpoint while the run is unfinished."""

    steps: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    layers: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    evals: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    predictions: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add_step(self, row: Step) -> None:
        self.steps.append(dataclasses.asdict(row))

    def add_layers(self, step: int, norms: Norms, layers: Mapping[tuple[int | None, str], "Layer"]) -> None:
        for (layer, block), group in layers.items():
            norm = norms.of(group.names)
            self.layers.append(
                {"step": step, "layer": layer, "block": block, "grad_norm": norm, "parameters": group.parameters}
            )

    def add_eval(self, step: int, split: str, found: Predictions) -> None:
        self.evals.append(
            {"step": step, "split": split, "loss": found.loss, "accuracy": found.accuracy, "examples": len(found.label)}
        )

    def set_predictions(self, found: Predictions) -> None:
        columns = (found.label.tolist(), found.prediction.tolist(), found.probability.tolist())
        self.predictions = [
            {"example": i, "label": label, "prediction": prediction, "probability": probability}
            for i, (label, prediction, probability) in enumerate(zip(*columns, strict=True))
        ]

    def write(self, folder: Path) -> dict[str, dict[str, Any]]:
        """Write the tables and return run.json's `records`: row count and sha256 by file name."""
        return {
            f"{name}.parquet": write_table(folder / f"{name}.parquet", getattr(self, name), schema)
            for name, schema in TABLES.items()
        }


@dataclasses.dataclass(frozen=True)
class Layer:
    """The trained parameters of one layer and block."""

    names: tuple[str, ...]
    parameters: int


def layers_of(sizes: Mapping[str, int], roles: Mapping[str, Role]) -> dict[tuple[int | None, str], Layer]:
    """Trained parameters (name -> count) grouped by layer and block, in the model's order."""
    groups: dict[tuple[int | None, str], list[str]] = {}
    for name in sizes:
        groups.setdefault((roles[name].layer, roles[name].block), []).append(name)
    return {key: Layer(tuple(names), sum(sizes[n] for n in names)) for key, names in groups.items()}


def write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> dict[str, Any]:
    """Write rows as Parquet with page checksums; returns row count and the file's sha256."""
    table = pa.Table.from_pylist(rows, schema)
    write(path, lambda file: pq.write_table(table, file, write_page_checksum=True))
    return {"rows": table.num_rows, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def write(path: Path, fill: Callable[[IO[bytes]], Any]) -> None:
    """Write a file beside its target, flush it to disk and put it in the target's place in one move."""
    with replacing(path) as file:
        fill(file)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """An open file that takes `path`'s place when the block ends well, and is gone when it does not."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sweep_leftovers(folder: Path) -> None:
    """Remove what a killed writer left half done. Only under the run's lock."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


class BrokenRecord(ValueError):
    """A run.json that can't be read: what it stood for has to be done again."""


def read_run(folder: Path) -> dict[str, Any] | None:
    """A folder's run.json, or None where there is none.

    Raises BrokenRecord if it is no such record, ValueError if a newer version wrote it or the system does not let it
    be read; all name the file.
    """
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{path}: not readable ({error.strerror})") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BrokenRecord(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        raise BrokenRecord(f"{path}: not a run's record")
    if content["schema"] > SCHEMA:
        raise ValueError(f"{path}: schema {content['schema']} is newer than this version's, {SCHEMA}")
    if content.get("status") not in STATUSES:
        raise BrokenRecord(f"{path}: its status is none of {', '.join(STATUSES)}")
    return content


def check_tables(folder: Path, record: Mapping[str, Any]) -> None:
    """Raises BrokenRecord unless the tables are what `record`, the folder's run.json, says was written."""
    for name in (f"{table}.parquet" for table in TABLES):
        try:
            content, expected = (folder / name).read_bytes(), record["records"][name]["sha256"]
        except (OSError, KeyError, TypeError) as error:
            raise BrokenRecord(f"{folder / name}: missing, or run.json does not know it") from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise BrokenRecord(f"{folder / name}: damaged, its sha256 is not what the run wrote")
