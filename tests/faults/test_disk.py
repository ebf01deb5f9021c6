"""A full disk, and folders that cannot be written."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import (
    FIXTURE,
    SWEEP,
    Fault,
    ablate,
    checkpointed,
    differences,
    leftovers,
    output,
    record,
    resumed_from,
    the_run,
)
from tests.faults.injection import at_step, full_disk, limit_files, read_only, read_only_at_the_end

NOBODY = 65534


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("since", "names", "status", "step"),
    [
        (6, ["checkpoint.pt"], "failed", 5),
        (6, ["steps.parquet"], "failed", 10),
        (20, ["run.json"], "running", 20),
        (6, ["*"], "running", 5),
    ],
)
def test_row_06_full_disk(
    tmp_path: Path, undisturbed: Path, since: int, names: list[str], status: str, step: int
) -> None:
    """From step `since` on, the disk is full for these files."""
    assert ablate(tmp_path, *FIXTURE, fault=partial(at_step, since, partial(full_disk, *names))) == 1
    folder = the_run(tmp_path)
    assert "No space left on device" in output(tmp_path)
    assert record(folder)["status"] == status  # the former content, where run.json cannot be written either
    assert checkpointed(folder) == step
    assert leftovers(tmp_path) == []
    assert ablate(tmp_path, *FIXTURE) == 0
    assert resumed_from(folder) == step
    assert differences(tmp_path, undisturbed) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_row_06_full_disk_from_the_start(tmp_path: Path, undisturbed_sweep: Path) -> None:
    assert ablate(tmp_path, *SWEEP, fault=partial(full_disk, "*")) == 1
    assert output(tmp_path).count("No space left on device") >= 3  # every run was tried
    assert ablate(tmp_path, *SWEEP) == 0
    assert differences(tmp_path, undisturbed_sweep) == []


def test_row_06_a_limit_on_the_size_of_files(tmp_path: Path, undisturbed: Path) -> None:
    """The message names the checkpoint, not torch's C++ code, and the former checkpoint is good."""
    assert ablate(tmp_path, *FIXTURE, fault=partial(at_step, 6, partial(limit_files, 20))) == 1
    folder = the_run(tmp_path)
    assert f"{folder.relative_to(tmp_path)}/checkpoint.pt cannot be written: File too large" in output(tmp_path)
    assert "inline_container" not in output(tmp_path)
    assert (record(folder)["status"], checkpointed(folder), leftovers(tmp_path)) == ("failed", 5, [])
    assert ablate(tmp_path, *FIXTURE) == 0
    assert resumed_from(folder) == 5
    assert differences(tmp_path, undisturbed) == []


def test_row_06_no_room_for_the_log(tmp_path: Path, undisturbed: Path) -> None:
    """It costs the run nothing: neither a traceback per line, nor the status."""
    folder = tmp_path / "outputs/faults" / the_run(undisturbed).name
    folder.mkdir(parents=True)
    (folder / "run.log").write_text("x" * (2048 * 1024 - 10))
    assert ablate(tmp_path, *FIXTURE, fault=partial(limit_files, 2048)) == 0
    assert "Logging error" not in output(tmp_path) and "failed" not in output(tmp_path)
    assert (folder / "run.log").stat().st_size == 2048 * 1024
    assert differences(tmp_path, undisturbed) == []


# Row 34


def refused(cwd: Path, path: str, *arguments: str, fault: Fault | None = None) -> None:
    assert ablate(cwd, *arguments, fault=fault) == 2
    assert path in output(cwd)
    assert "Traceback" not in output(cwd)
    assert "step 5/20" not in output(cwd)  # nothing was trained


@pytest.mark.parametrize("path", ["outputs", "outputs/faults"])
@pytest.mark.parametrize("arguments", [FIXTURE, SWEEP], ids=["run", "sweep"])
def test_row_34_a_file_in_a_folders_place(tmp_path: Path, path: str, arguments: tuple[str, ...]) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text("mine")
    refused(tmp_path, path, *arguments)
    assert (tmp_path / path).read_text() == "mine"


@pytest.mark.parametrize("arguments", [FIXTURE, SWEEP], ids=["run", "sweep"])
def test_row_34_a_file_in_a_runs_place(tmp_path: Path, undisturbed: Path, arguments: tuple[str, ...]) -> None:
    name = the_run(undisturbed).name  # the sweep's second arm
    (tmp_path / "outputs/faults").mkdir(parents=True)
    (tmp_path / "outputs/faults" / name).write_text("mine")
    refused(tmp_path, f"outputs/faults/{name}", *arguments)
    assert [path.name for path in (tmp_path / "outputs/faults").iterdir()] == [name]


def test_row_34_a_folder_in_a_files_place(tmp_path: Path, undisturbed: Path) -> None:
    path = tmp_path / "outputs/faults" / the_run(undisturbed).name / "run.json"
    path.mkdir(parents=True)
    refused(tmp_path, str(path.relative_to(tmp_path)), *FIXTURE)


# A disk that is read-only


@pytest.mark.parametrize("arguments", [FIXTURE, SWEEP], ids=["run", "sweep"])
def test_a_read_only_disk_before_the_first_run(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "outputs").mkdir()
    refused(tmp_path, "outputs", *arguments, fault=read_only)
    assert list((tmp_path / "outputs").iterdir()) == []


def test_a_disk_that_becomes_read_only_during_a_run(tmp_path: Path, undisturbed_sweep: Path) -> None:
    """The table, then exit code 1; the runs continue from the last checkpoints."""
    assert ablate(tmp_path, *SWEEP, fault=partial(at_step, 7, read_only)) == 1
    shown = output(tmp_path)
    assert "checkpoint.pt cannot be written: Read-only file system" in shown and "Traceback" not in shown
    assert shown.count("interrupted: ") + shown.count("not started: ") >= 2 and "records: outputs/faults/" in shown
    assert ablate(tmp_path, *SWEEP) == 0
    assert differences(tmp_path, undisturbed_sweep) == []


def test_a_disk_that_becomes_read_only_at_the_end_of_a_sweep(tmp_path: Path) -> None:
    assert ablate(tmp_path, *SWEEP, "report=true", fault=read_only_at_the_end) == 0
    shown = output(tmp_path)
    assert "no report: " in shown and "Read-only file system" in shown and "Traceback" not in shown
    assert "records: outputs/faults/" in shown
    assert not (tmp_path / "outputs/faults/report").exists()
    assert ablate(tmp_path, *SWEEP, "report=true") == 0
    assert (tmp_path / "outputs/faults/report/index.html").exists()


@pytest.fixture
def anyones() -> Iterator[Path]:
    """A working directory that any user can enter and write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def become_nobody() -> None:
    """Root may write anywhere: ask, from the checks on, as somebody else. (Python's own files may be root's: only the
    real user changes, whom `os.access` goes by.)"""
    from ablate.sweep import callback

    check = callback.check

    def disturbed(*arguments: Any) -> None:
        if os.getuid() == 0:
            os.setreuid(NOBODY, 0)
        check(*arguments)

    callback.check = disturbed


@pytest.mark.parametrize("place", ["outputs", "outputs/faults", "run"])
@pytest.mark.parametrize("arguments", [FIXTURE, SWEEP], ids=["run", "sweep"])
def test_row_34_not_writable(anyones: Path, undisturbed: Path, place: str, arguments: tuple[str, ...]) -> None:
    run = anyones / "outputs/faults" / the_run(undisturbed).name
    locked = run if place == "run" else anyones / place
    locked.mkdir(parents=True)
    locked.parent.chmod(0o777)
    locked.chmod(0o555)
    refused(anyones, str(locked.relative_to(anyones)), *arguments, fault=become_nobody)
    assert list(locked.iterdir()) == []
