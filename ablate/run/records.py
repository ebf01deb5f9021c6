"""The records of a run: typed Parquet tables and run.json, each written atomically."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ablate.files.atomic import write
from ablate.files.reading import LARGEST_TABLE, Damaged, read_regular
from ablate.files.run_record import RUN_JSON, SCHEMAS, NewerSchema, read_run_json, schema_of, tables_of
from ablate.model.parameter_roles import Role
from ablate.schema import TABLES, TASKS, WHERE_KNOWN, Step
from ablate.training.evaluation import Predictions
from ablate.training.measures import Measures
from ablate.training.norms import Norms

PROBE_LOSSES = 2**18
"""The most losses that probe.parquet holds: 1,024 evaluations of 256 examples, about 1 MB."""


@dataclasses.dataclass
class Rows:
    """All rows of a run so far, as plain data; the checkpoint of an unfinished run holds them."""

    steps: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    layers: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    evals: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    predictions: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    probe: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    clusters: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    measures: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    scores: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    probabilities: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.lines = {table: Lines(getattr(self, table)) for table in TABLES}

    def add_step(self, row: Step) -> None:
        self.steps.append(dataclasses.asdict(row))

    def add_layers(self, step: int, norms: Norms, layers: Mapping[tuple[int | None, str], "Layer"]) -> None:
        for (layer, block), group in layers.items():
            norm = norms.of(group.names)
            self.layers.append(
                {"step": step, "layer": layer, "block": block, "grad_norm": norm, "parameters": group.parameters}
            )

    def add_measures(self, step: int, found: Measures) -> None:
        self.measures += [
            {"step": step, "name": name, "place": place, "value": value} for name, place, value in found.rows
        ]

    def add_eval(self, step: int, split: str, found: Predictions) -> None:
        values = {"loss": found.loss, "accuracy": found.accuracy, "examples": len(found.losses)}
        self.evals.append({"step": step, "split": split, **values})

    def add_probe(self, step: int, examples: Sequence[int], found: Predictions) -> None:
        """Add the loss of each example of the probe; `examples` are their numbers in the validation split."""
        self.probe += [
            {"step": step, "example": example, "loss": loss}
            for example, loss in zip(examples, found.losses.tolist(), strict=True)
        ]

    def add_score(self, step: int, split: str, name: str, value: float) -> None:
        self.scores.append({"step": step, "split": split, "name": name, "value": value})

    def set_predictions(self, found: Predictions) -> None:
        columns = {"example": found.example.tolist()} | {k: v.tolist() for k, v in found.columns.items()}
        self.predictions[:] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        self.probabilities[:] = [
            {"example": example, "label": label, "probability": probability}
            for example, row in enumerate([] if found.probabilities is None else found.probabilities.tolist())
            for label, probability in enumerate(row)
        ]

    def set_clusters(self, clusters: Sequence[int]) -> None:
        """Keep the group of each test example, for standard errors over groups; none if the groups are not known."""
        self.clusters[:] = [{"example": i, "cluster": cluster} for i, cluster in enumerate(clusters)]

    def pack(self) -> dict[str, bytes]:
        """The tables as lines of JSON, in which numbers keep every bit."""
        return {table: lines.up_to_now() for table, lines in self.lines.items()}

    @classmethod
    def unpack(cls, packed: Mapping[str, bytes]) -> "Rows":
        """The rows of `pack`. Raises ValueError, KeyError or TypeError for anything else."""
        return cls(**{table: [json.loads(line) for line in packed[table].splitlines()] for table in TABLES})

    def write(self, folder: Path, kind: str = TASKS[0]) -> dict[str, dict[str, Any]]:
        """Write the tables and return run.json's `records`: row count and sha256 by file name."""
        return {
            f"{name}.parquet": write_parquet(folder / f"{name}.parquet", getattr(self, name), schema_of(name, kind))
            for name in SCHEMAS
            if name not in WHERE_KNOWN or getattr(self, name)
        }


class Lines:
    """Rows as lines of JSON. Each row is written once, so that a checkpoint costs little more after many steps."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows, self.written, self.text = rows, 0, bytearray()

    def up_to_now(self) -> bytes:
        new = self.rows[self.written :]
        self.text += "".join(json.dumps(row) + "\n" for row in new).encode()
        self.written += len(new)
        return bytes(self.text)


def losses_every(steps: int, probe_every: int, examples: int) -> int:
    """Steps between the evaluations of the probe whose losses are recorded per example: a multiple of `probe_every`.

    It is `probe_every` itself until the run would record more than PROBE_LOSSES losses; then it is the smallest
    multiple that stays within them. So the table does not grow with the length of a run.

    >>> losses_every(300, 20, 256), losses_every(100_000, 1, 256)
    (20, 98)
    """
    evaluations = max(1, steps // probe_every)
    return probe_every * min(evaluations, -(-evaluations * examples // PROBE_LOSSES))


@dataclasses.dataclass(frozen=True)
class Layer:
    """The trained parameters of one layer and block."""

    names: tuple[str, ...]
    parameters: int


def layers_of(sizes: Mapping[str, int], roles: Mapping[str, Role]) -> dict[tuple[int | None, str], Layer]:
    """Group trained parameters (name -> count) by layer and block, in the order of the model."""
    groups: dict[tuple[int | None, str], list[str]] = {}
    for name in sizes:
        groups.setdefault((roles[name].layer, roles[name].block), []).append(name)
    return {key: Layer(tuple(names), sum(sizes[n] for n in names)) for key, names in groups.items()}


def write_parquet(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> dict[str, Any]:
    """Write rows as Parquet with page checksums; return the row count and the sha256 of the file."""
    table = pa.Table.from_pylist(rows, schema)
    write(path, lambda file: pq.write_table(table, file, write_page_checksum=True))
    return {"rows": table.num_rows, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


class BrokenRecord(ValueError):
    """A run.json or table that is damaged or missing: its run has to be done again."""


def read_run(folder: Path) -> dict[str, Any] | None:
    """Return a folder's run.json without its hash, or None where there is none.

    Raises BrokenRecord if the file is damaged or another run's, ValueError if a newer version wrote it or the system
    refuses to read it. Each message names the file.
    """
    path = folder / RUN_JSON
    try:
        return read_run_json(folder)
    except FileNotFoundError:
        return None
    except Damaged as error:
        raise BrokenRecord(f"{path}: {error}") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except NewerSchema as error:
        raise ValueError(f"{path}: {error}") from error


def check_tables(folder: Path, record: Mapping[str, Any]) -> None:
    """Raise BrokenRecord unless the tables have the hashes in `record`, the folder's run.json."""
    for name in (f"{table}.parquet" for table in tables_of(record)):
        try:
            content, expected = read_regular(folder / name, LARGEST_TABLE), record["records"][name]["sha256"]
        except (OSError, Damaged, KeyError, TypeError) as error:
            raise BrokenRecord(f"{folder / name}: missing, or not listed in run.json") from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise BrokenRecord(f"{folder / name}: damaged, its sha256 is not the one in run.json")
