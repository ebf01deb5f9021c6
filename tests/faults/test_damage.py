"""Damaged files: found by their hash, reported, never used silently."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from ablate.schema import SCHEMA
from tests.faults.harness import (
    COMMON,
    FIXTURE,
    SWEEP,
    ablate,
    attempts,
    differences,
    output,
    record,
    resumed_from,
    run_of,
    snapshot,
    the_run,
)
from tests.tools import RECORDED


def cut(content: bytes, share: float) -> bytes:
    return content[: int(share * len(content))]


def flip(content: bytes, share: float) -> bytes:
    """Flip one bit of one byte."""
    place = int(share * (len(content) - 1))
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES = [partial(cut, share=s) for s in (0, 0.5, 0.999)] + [partial(flip, share=s) for s in (0, 0.3, 0.7, 1)]


def damage_id(damage: partial) -> str:
    return f"{damage.func.__name__}-{damage.keywords['share']}"


@pytest.mark.parametrize("damage", DAMAGES, ids=damage_id)
def test_row_07_damaged_checkpoint(tmp_path: Path, killed: Path, undisturbed: Path, damage: partial) -> None:
    shutil.copytree(killed / "outputs", tmp_path / "outputs")
    path = the_run(tmp_path) / "checkpoint.pt"
    path.write_bytes(damage(path.read_bytes()))
    assert ablate(tmp_path, *FIXTURE) == 0
    assert "checkpoint.pt is damaged" in output(tmp_path)
    assert resumed_from(the_run(tmp_path)) is None
    assert differences(tmp_path, undisturbed) == []


def test_row_07_the_copied_checkpoint_is_good(tmp_path: Path, killed: Path, undisturbed: Path) -> None:
    """The control: an undamaged checkpoint is used, without a warning."""
    shutil.copytree(killed / "outputs", tmp_path / "outputs")
    assert ablate(tmp_path, *FIXTURE) == 0
    assert "damaged" not in output(tmp_path)
    assert resumed_from(the_run(tmp_path)) == 10


def test_row_07_another_runs_checkpoint(tmp_path: Path, killed: Path, undisturbed_sweep: Path) -> None:
    """Intact, but in the wrong folder."""
    other = run_of(undisturbed_sweep, 20)
    (tmp_path / "outputs/faults" / other.name).mkdir(parents=True)
    shutil.copy(the_run(killed) / "checkpoint.pt", tmp_path / "outputs/faults" / other.name)
    assert ablate(tmp_path, *COMMON, "clip.start=20") == 0
    assert "the checkpoint belongs to run" in output(tmp_path)
    assert differences(the_run(tmp_path), other) == []


@pytest.mark.parametrize("name", RECORDED)
def test_row_07_damaged_record_of_a_finished_run(tmp_path: Path, undisturbed: Path, name: str) -> None:
    """The run is done again. (Tests of the analysis check that it leaves damaged runs out.)"""
    shutil.copytree(undisturbed / "outputs", tmp_path / "outputs")
    path = the_run(tmp_path) / f"{name}.parquet"
    path.write_bytes(flip(path.read_bytes(), 0.5))
    assert ablate(tmp_path, *FIXTURE) == 0
    assert f"{name}.parquet: damaged" in output(tmp_path)
    assert attempts(the_run(tmp_path)) == 2
    assert differences(tmp_path, undisturbed) == []


def test_row_07_damaged_record_of_an_unfinished_run(tmp_path: Path, killed: Path, undisturbed: Path) -> None:
    """The checkpoint holds its rows; the tables are written again."""
    shutil.copytree(killed / "outputs", tmp_path / "outputs")
    (the_run(tmp_path) / "steps.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert ablate(tmp_path, *FIXTURE) == 0
    assert resumed_from(the_run(tmp_path)) == 10
    assert differences(tmp_path, undisturbed) == []


def test_row_07_missing_record_of_a_finished_run(tmp_path: Path, undisturbed: Path) -> None:
    shutil.copytree(undisturbed / "outputs", tmp_path / "outputs")
    (the_run(tmp_path) / "evals.parquet").unlink()
    (the_run(tmp_path) / "checkpoint.pt").unlink()
    assert ablate(tmp_path, *FIXTURE) == 0
    assert "evals.parquet: missing" in output(tmp_path)
    assert differences(tmp_path, undisturbed) == []


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff\x00garbage", b"[]", b"{}", b'{"schema": 1}', b'{"schema": 1, "status": "finished"}',
        b'{"schema": 1, "status": "done"}', b'{"schema": 1, "status": "done", "records": {"steps.parquet": 3}}',
    ],
)  # fmt: skip
def test_row_08_broken_run_json(tmp_path: Path, undisturbed: Path, content: bytes) -> None:
    """For a finished run without a checkpoint: the file is named, and the run is done again."""
    shutil.copytree(undisturbed / "outputs", tmp_path / "outputs")
    (the_run(tmp_path) / "checkpoint.pt").unlink()
    (the_run(tmp_path) / "run.json").write_bytes(content)
    assert ablate(tmp_path, *FIXTURE) == 0
    assert "the run is done again" in output(tmp_path)
    assert attempts(the_run(tmp_path)) == 2
    assert differences(tmp_path, undisturbed) == []


def test_row_08_the_file_is_named(tmp_path: Path, undisturbed: Path) -> None:
    path = tmp_path / "outputs/faults" / the_run(undisturbed).name / "run.json"
    path.parent.mkdir(parents=True)
    path.touch()
    assert ablate(tmp_path, *FIXTURE) == 0
    assert f"{path.relative_to(tmp_path)}: not valid JSON" in output(tmp_path)


@pytest.mark.parametrize("arguments", [FIXTURE, SWEEP], ids=["run", "sweep"])
@pytest.mark.parametrize("place", ["outputs/faults", "outputs/faults/.rerun"])
def test_row_08_newer_run_json(tmp_path: Path, undisturbed: Path, arguments: tuple[str, ...], place: str) -> None:
    """The command refuses to touch the run of a later version, before any run."""
    folder = tmp_path / place / the_run(undisturbed).name
    shutil.copytree(the_run(undisturbed), folder)
    (folder / "run.json").write_text(json.dumps(record(folder) | {"schema": SCHEMA + 1}))
    before = snapshot(tmp_path / "outputs")
    assert ablate(tmp_path, *arguments) == 2
    assert f"{place}/{folder.name}/run.json" in output(tmp_path)
    assert f"schema {SCHEMA + 1} is newer" in output(tmp_path)
    assert snapshot(tmp_path / "outputs") == before
