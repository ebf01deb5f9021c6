"""Several processes work on one sweep: each run is done once, by the process that has its lock.

Row 11, two processes that fetch the same asset, is in tests/test_assets.py.
"""

import os
import signal
import time
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from ablate.sweep import summary
from tests.faults.harness import (
    FIXTURE,
    PATIENCE,
    STARTS,
    SWEEP,
    ablate,
    attempts,
    differences,
    finish,
    output,
    run_of,
    runs,
    start,
    statuses,
    the_run,
)
from tests.faults.injection import at_step, send, then


def wait_until_it_stands(process: BaseProcess, cwd: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not (cwd / "stands").exists():
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)


# Within a step of the first run: create a file and stop.
standing_still = partial(
    at_step, 8, partial(then, partial(Path.touch, Path("stands")), partial(send, signal.SIGSTOP)), 20
)


def test_row_09_two_processes_share_a_sweep(tmp_path: Path, undisturbed_sweep: Path) -> None:
    both = [start(tmp_path, *SWEEP) for _ in range(2)]
    assert [finish(process) for process in both] == [0, 0]
    assert [attempts(folder) for folder in runs(tmp_path).values()] == [1, 1, 1]
    assert differences(tmp_path, undisturbed_sweep) == []


def test_row_09_a_locked_run_is_skipped_and_listed(tmp_path: Path, undisturbed_sweep: Path) -> None:
    holder = start(tmp_path, *SWEEP, fault=standing_still)
    wait_until_it_stands(holder, tmp_path)
    assert ablate(tmp_path, *SWEEP) == 0
    assert statuses(tmp_path) == {20: "running", 8: "done", 1: "done"}
    assert f"locked: {run_of(tmp_path, 20).name}: another process is running it" in output(tmp_path)
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGCONT)
    assert finish(holder) == 0
    assert [attempts(folder) for folder in runs(tmp_path).values()] == [1, 1, 1]
    assert differences(tmp_path, undisturbed_sweep) == []


def test_row_09_one_of_two_is_killed(tmp_path: Path, undisturbed_sweep: Path) -> None:
    """The other process does not wait for it; the next command resumes its run."""
    killed = start(tmp_path, *SWEEP, fault=standing_still)
    wait_until_it_stands(killed, tmp_path)
    other = start(tmp_path, *SWEEP)
    assert finish(other) == 0
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    assert finish(killed) == -signal.SIGKILL
    assert ablate(tmp_path, *SWEEP) == 0
    assert [attempts(run_of(tmp_path, first)) for first in STARTS] == [2, 1, 1]
    assert differences(tmp_path, undisturbed_sweep) == []


def test_row_09_a_run_that_ends_while_we_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may write `done` after another has read `running` and before it tests the lock: not interrupted."""
    told = iter([("running", ""), ("done", "")])
    monkeypatch.setattr(summary, "recorded_status", lambda folder: next(told))
    assert summary.state(tmp_path, rerun=False) == ("done", "")


def test_row_10_stale_lock(tmp_path: Path, undisturbed: Path) -> None:
    folder = tmp_path / "outputs/faults" / the_run(undisturbed).name
    folder.mkdir(parents=True)
    (folder / ".lock").write_text("4711\n")
    assert ablate(tmp_path, *FIXTURE) == 0
    assert "locked" not in output(tmp_path)
    assert differences(tmp_path, undisturbed) == []


def test_row_10_control_a_lock_with_a_holder(tmp_path: Path, undisturbed: Path) -> None:
    from filelock import FileLock

    folder = tmp_path / "outputs/faults" / the_run(undisturbed).name
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        assert ablate(tmp_path, *FIXTURE) == 0
        assert f"locked: {folder.name}" in output(tmp_path)
        assert not (folder / "run.json").exists()
