"""The records of a run: fixed columns, and atomic writes."""

import errno
import hashlib
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ablate.files.atomic import remove_leftovers, replacing, write, write_json
from ablate.files.reading import hashed
from ablate.files.run_record import SCHEMAS, write_run_json
from ablate.model.parameter_roles import role
from ablate.run.records import (
    PROBE_LOSSES,
    BrokenRecord,
    Layer,
    Rows,
    check_tables,
    layers_of,
    losses_every,
    read_run,
    write_parquet,
)
from ablate.schema import SCHEMA, SETUP, WHERE_KNOWN, Step
from ablate.training.evaluation import Predictions
from ablate.training.measures import Measures
from ablate.training.norms import Norms
from tests.tools import make_odd

INT, FLOAT, TEXT = pa.int64(), pa.float64(), pa.string()
COLUMNS = {  # a change here affects every reader of the files
    "steps": {
        "step": INT,
        "loss": FLOAT,
        "accuracy": FLOAT,
        "lr": FLOAT,
        "grad_norm": FLOAT,
        "grad_norm_clipped": FLOAT,
        "delta_g": FLOAT,
        "mlp_grad_norm": FLOAT,
        "mlp_grad_norm_clipped": FLOAT,
        "classifier_grad_norm": FLOAT,
        "classifier_grad_norm_clipped": FLOAT,
        "examples": INT,
        "tokens": INT,
        "seconds": FLOAT,
    },
    "layers": {"step": INT, "layer": INT, "block": TEXT, "grad_norm": FLOAT, "parameters": INT},
    "evals": {"step": INT, "split": TEXT, "loss": FLOAT, "accuracy": FLOAT, "examples": INT},
    "predictions": {"example": INT, "label": INT, "prediction": INT, "probability": pa.float32()},
    "probe": {"step": INT, "example": INT, "loss": pa.float32()},
    "clusters": {"example": INT, "cluster": INT},
    "measures": {"step": INT, "name": TEXT, "place": TEXT, "value": FLOAT},
    "scores": {"step": INT, "split": TEXT, "name": TEXT, "value": FLOAT},
    "probabilities": {"example": INT, "label": INT, "probability": pa.float32()},
}
STEP = Step(
    step=1,
    loss=0.7,
    accuracy=0.5,
    lr=1e-3,
    grad_norm=2.0,
    grad_norm_clipped=1.0,
    delta_g=1.0,
    mlp_grad_norm=None,
    mlp_grad_norm_clipped=None,
    classifier_grad_norm=0.3,
    classifier_grad_norm_clipped=0.15,
    examples=4,
    tokens=40,
    seconds=None,
)
GROUPS = {(None, "head"): Layer(("w", "b"), 6), (1, "mlp"): Layer(("m",), 9)}


@pytest.fixture
def rows() -> Rows:
    """One step, its layers, its evaluation of a probe of three examples, and their predictions."""
    columns = {"label": [0, 1, 1], "prediction": [0, 1, 0], "probability": [0.9, 0.6, 0.7]}
    found = Predictions(
        "classification",
        {name: torch.tensor(values) for name, values in columns.items()},
        losses=torch.tensor([0.1, 0.5, 1.2], dtype=torch.float64),
        units=torch.ones(3, dtype=torch.long),
    )
    rows = Rows()
    rows.add_step(STEP)
    rows.add_layers(1, Norms({"w": 9.0, "b": 16.0, "m": 4.0}), GROUPS)
    rows.add_eval(1, "probe", found)
    rows.add_probe(1, [0, 7, 3], found)
    rows.set_predictions(found)
    rows.set_clusters([0, 1, 0])
    measures = Measures(copies=False)
    measures.add("update_norm", "mlp", 0.5)
    rows.add_measures(1, measures)
    return rows


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file with content, to be replaced."""
    path = tmp_path / "run.json"
    path.write_bytes(b"old")
    return path


def columns(schema: pa.Schema) -> dict[str, pa.DataType]:
    return dict(zip(schema.names, schema.types, strict=True))


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# Columns and rows


@pytest.mark.parametrize(("name", "schema"), list(SCHEMAS.items()))
def test_columns_are_the_contracts(name: str, schema: pa.Schema) -> None:
    assert list(columns(schema).items()) == list(COLUMNS[name].items())  # order counts


def test_rows_come_back_as_they_went_in(rows: Rows, tmp_path: Path) -> None:
    rows.write(tmp_path)
    written = COLUMNS.keys() - {"scores", "probabilities"}  # tables without rows
    read = {name: pq.read_table(tmp_path / f"{name}.parquet") for name in written}
    assert {name: columns(table.schema) for name, table in read.items()} == {name: COLUMNS[name] for name in written}
    assert read["steps"].to_pylist() == [vars(STEP)]
    assert read["layers"].to_pylist() == [
        {"step": 1, "layer": None, "block": "head", "grad_norm": 5.0, "parameters": 6},
        {"step": 1, "layer": 1, "block": "mlp", "grad_norm": 2.0, "parameters": 9},
    ]
    (evaluation,) = read["evals"].to_pylist()
    assert evaluation == {
        "step": 1,
        "split": "probe",
        "loss": pytest.approx(0.6),
        "accuracy": pytest.approx(2 / 3),
        "examples": 3,
    }
    assert read["predictions"].drop_columns("probability").to_pydict() == {
        "example": [0, 1, 2], "label": [0, 1, 1], "prediction": [0, 1, 0]
    }  # fmt: skip
    assert read["predictions"]["probability"].to_pylist() == pytest.approx([0.9, 0.6, 0.7])
    assert read["clusters"].to_pydict() == {"example": [0, 1, 2], "cluster": [0, 1, 0]}
    assert read["probe"].drop_columns("loss").to_pydict() == {"step": [1, 1, 1], "example": [0, 7, 3]}
    assert read["probe"]["loss"].to_pylist() == pytest.approx([0.1, 0.5, 1.2])


NUMBERS = st.floats(allow_nan=False) | st.integers(0, 2**53) | st.none()


@given(st.lists(st.fixed_dictionaries({"loss": NUMBERS, "split": st.text()})))
def test_packed_rows_keep_every_bit(evals: list[dict[str, Any]]) -> None:
    found = Rows.unpack(Rows(evals=evals).pack()).evals
    assert found == evals
    assert [repr(row) for row in found] == [repr(row) for row in evals]  # also the sign of 0


def test_a_row_is_packed_once_however_many_checkpoints_follow(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    before, packed = rows.pack(), []
    monkeypatch.setattr("ablate.run.records.json.dumps", lambda row: packed.append(row) or "{}")
    rows.add_step(replace(STEP, step=2))
    after = rows.pack()
    assert [row["step"] for row in packed] == [2]
    assert after == before | {"steps": before["steps"] + b"{}\n"}


@given(st.integers(1, 10**6), st.integers(1, 10**4), st.integers(1, 10**6))
def test_the_losses_of_the_probe_are_bounded(steps: int, probe_every: int, examples: int) -> None:
    """All are recorded if they fit, else evenly spaced evaluations, at least one; an evaluation is never cut."""
    every, evaluations = losses_every(steps, probe_every, examples), steps // probe_every
    recorded = steps // every
    assert every % probe_every == 0 and bool(recorded) == bool(evaluations)
    assert recorded * examples <= max(PROBE_LOSSES, examples)
    if evaluations * examples <= PROBE_LOSSES:
        assert recorded == evaluations
    elif examples <= PROBE_LOSSES // 2:
        assert 2 * recorded * examples > PROBE_LOSSES // 2  # not thinned much more than needed


def test_an_earlier_version_has_no_losses_of_the_probe(rows: Rows, tmp_path: Path) -> None:
    """run.json lists what a run recorded: an absent table is missed only where it is listed."""
    records = rows.write(tmp_path)
    check_tables(tmp_path, {"records": records})
    (tmp_path / "probe.parquet").unlink()
    earlier = {name: entry for name, entry in records.items() if name != "probe.parquet"}
    check_tables(tmp_path, {"records": earlier})
    for name, listed in (("probe", records), ("evals", {k: v for k, v in earlier.items() if k != "evals.parquet"})):
        with pytest.raises(BrokenRecord, match=rf"{name}\.parquet: missing"):
            check_tables(tmp_path, {"records": listed})


def test_a_run_without_rows_has_all_tables_that_it_always_has(tmp_path: Path) -> None:
    records = Rows().write(tmp_path)
    assert sorted(records) == sorted(f"{name}.parquet" for name in COLUMNS if name not in WHERE_KNOWN)
    assert {record["rows"] for record in records.values()} == {0}
    assert pq.read_schema(tmp_path / "steps.parquet").names == SCHEMAS["steps"].names


def test_hashes_and_row_counts_are_the_files(rows: Rows, tmp_path: Path) -> None:
    records = rows.write(tmp_path)
    assert sorted(records) == names(tmp_path)
    for name, record in records.items():
        path = tmp_path / name
        assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert record["rows"] == pq.read_metadata(path).num_rows


def test_the_same_rows_give_the_same_bytes(rows: Rows, tmp_path: Path) -> None:
    first = rows.write(tmp_path)
    assert rows.write(tmp_path) == first


def test_a_flipped_bit_is_found_when_the_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "evals.parquet"
    row = {"step": 1, "split": "validation", "loss": 0.5, "accuracy": 0.5, "examples": 3}
    write_parquet(path, [row | {"step": t} for t in range(1000)], SCHEMAS["evals"])
    content = bytearray(path.read_bytes())
    content[100] ^= 1  # within the first page
    path.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)


def test_layers_are_grouped_in_the_models_order() -> None:
    sizes = {
        "bert.encoder.layer.0.intermediate.dense.weight": 20,
        "bert.encoder.layer.0.output.dense.weight": 30,
        "bert.encoder.layer.1.output.dense.weight": 40,
        "classifier.weight": 2,
    }
    first, second, third, head = sizes
    assert list(layers_of(sizes, {name: role(name) for name in sizes}).items()) == [
        ((0, "mlp"), Layer((first, second), 50)),
        ((1, "mlp"), Layer((third,), 40)),
        ((None, "head"), Layer((head,), 2)),
    ]


# Atomic writes


def test_replacing(target: Path) -> None:
    with replacing(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"  # until the block ends
    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["run.json"]


def test_replacing_what_is_not_there_yet(tmp_path: Path) -> None:
    write(tmp_path / "run.json", lambda file: file.write(b"new"))
    assert (tmp_path / "run.json").read_bytes() == b"new"
    assert names(tmp_path) == ["run.json"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_an_error_within_leaves_the_old_file(target: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), replacing(target) as file:
        file.write(b"half")
        raise error
    assert target.read_bytes() == b"old"
    assert names(target.parent) == ["run.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(target: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        write(target, lambda file: file.write(b"new"))
    assert target.read_bytes() == b"old"
    assert names(target.parent) == ["run.json"]


def test_content_is_on_disk_before_the_old_file_goes(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write(target, lambda file: file.write(b"new"))
    assert calls == ["fsync", "replace", "fsync"]  # the last is the folder's


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill -9")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_kill_9_in_mid_write_leaves_the_old_file(target: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            with replacing(target) as file:
                file.write(b"half")
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)  # never back into pytest
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert target.read_bytes() == b"old"
    assert len(names(target.parent)) == 2
    remove_leftovers(target.parent)
    assert names(target.parent) == ["run.json"]


def test_sweeping_leaves_all_that_is_not_ours(tmp_path: Path) -> None:
    kept = [".lock", ".mine.tmp", "a.tmp", "checkpoint.pt", "run.json"]
    for name in (*kept, ".run.json.1.tmp", ".checkpoint.pt.22.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == kept


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_files_are_for_those_whom_the_umask_lets(tmp_path: Path) -> None:
    """Colleagues who share a folder can read its records."""
    (tmp_path / "plain").touch()
    write_json(tmp_path / "run.json", {})
    assert (tmp_path / "run.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


# run.json

RECORD = {
    "schema": SCHEMA, "id": "0a1b2c3d4e", "status": "done", "seed": 0, "nuisance": 0,
    "factors": {factor: {"option": "x", "settings": {}} for factor in SETUP},
    "error": {"message": "η · θ"}, "timing": {"seconds": 0.1, "resumed_from": None},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "s0-0a1b2c3d4e").mkdir()
    return tmp_path / "s0-0a1b2c3d4e"


def test_run_json_comes_back_as_it_went_in(folder: Path) -> None:
    write_run_json(folder, RECORD)
    assert read_run(folder) == RECORD
    text = (folder / "run.json").read_text(encoding="utf-8")
    assert "η · θ" in text and list(json.loads(text)) == [*RECORD, "sha256"]  # for people to read


def test_an_older_run_json_has_no_hash(folder: Path) -> None:
    write_json(folder / "run.json", RECORD)
    assert read_run(folder) == RECORD


@pytest.mark.parametrize("place", ["", "missing"])
def test_no_run_json_is_no_error(tmp_path: Path, place: str) -> None:
    assert read_run(tmp_path / place) is None


def test_no_flipped_bit_of_run_json_changes_what_is_read(folder: Path) -> None:
    """Every flip is found, but for those that keep each value, and for one in the name of the hash itself."""
    write_run_json(folder, RECORD)
    content = (folder / "run.json").read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            (folder / "run.json").write_bytes(flipped)
            try:
                found = read_run(folder)
            except ValueError:
                continue
            assert {key: found[key] for key in RECORD} == RECORD, bytes(flipped)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b'{"schema": 1', b"\xff\xfe", b"[]", b"null", b"3", b"{}", b'{"schema": "1"}', b'{"schema": null}',
        b"[" * 100_000, b'{"schema": 1, "schema": 1}', b'{"schema": 1e999}',
        json.dumps(RECORD | {"seed": 10**30}).encode(),
        json.dumps(RECORD | {"status": ["done"]}).encode(),
        json.dumps(RECORD | {"metrics": {"test_accuracy": 2}}).encode(),
        json.dumps(RECORD | {"id": "4e3d2c1b0a"}).encode(),
        json.dumps(hashed(RECORD) | {"seed": 1}).encode(),
    ],
)  # fmt: skip
def test_a_broken_run_json_is_named(folder: Path, content: bytes) -> None:
    path = folder / "run.json"
    path.write_bytes(content)
    with pytest.raises(BrokenRecord) as caught:
        read_run(folder)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", ["fifo", "device", "huge"])
def test_a_run_json_of_another_kind_is_not_waited_for(folder: Path, kind: str) -> None:
    make_odd(folder / "run.json", kind)
    with pytest.raises(BrokenRecord, match=r"not a regular file|larger than"):
        read_run(folder)


def test_a_folder_in_place_of_run_json_is_not_a_run_to_be_done_again(folder: Path) -> None:
    make_odd(folder / "run.json", "folder")
    with pytest.raises(ValueError, match=r"run.json: cannot be read \(Is a directory\)") as caught:
        read_run(folder)
    assert not isinstance(caught.value, BrokenRecord)


def test_a_newer_run_json_is_not_taken_for_a_broken_one(tmp_path: Path) -> None:
    """A broken one is done again; a newer one is left alone."""
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"schema": SCHEMA + 1, "status": "done"}))
    with pytest.raises(ValueError, match=f"schema {SCHEMA + 1} is newer") as caught:
        read_run(tmp_path)
    assert not isinstance(caught.value, BrokenRecord)
    assert str(caught.value).startswith(f"{path}: ")
