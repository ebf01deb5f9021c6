"""One run of a sweep fails in any way: the other runs do not, and each failure is listed."""

import signal
from functools import partial
from pathlib import Path

import pytest

from tests.faults.harness import (
    STARTS,
    SWEEP,
    Fault,
    ablate,
    attempts,
    differences,
    output,
    record,
    resumed_from,
    run_of,
    statuses,
)
from tests.faults.injection import Act, at_step, before_evaluation, fail, kill, leave, then

MIDDLE = 8  # the second of three arms


@pytest.mark.parametrize(("act", "message"), [(fail, "RuntimeError: a fault of the test"), (leave, "SystemExit: 0")])
def test_row_05_one_run_raises_or_exits(tmp_path: Path, undisturbed_sweep: Path, act: Act, message: str) -> None:
    assert ablate(tmp_path, *SWEEP, fault=partial(at_step, 12, act, MIDDLE)) == 1
    assert statuses(tmp_path) == {20: "done", MIDDLE: "failed", 1: "done"}
    failed = run_of(tmp_path, MIDDLE)
    error = record(failed)["error"]
    assert error["message"] == message
    assert "Traceback" in error["traceback"] and message in error["traceback"] and "injection.py" in error["traceback"]
    assert f"failed: {failed.name}: {message}" in output(tmp_path)
    assert ablate(tmp_path, *SWEEP) == 0  # tried again, from its last checkpoint on
    assert resumed_from(failed) == 10
    assert [attempts(run_of(tmp_path, start)) for start in STARTS] == [1, 2, 1]
    assert differences(tmp_path, undisturbed_sweep) == []


def test_row_05_one_run_is_killed(tmp_path: Path, undisturbed_sweep: Path) -> None:
    assert ablate(tmp_path, *SWEEP, fault=partial(at_step, 8, kill, MIDDLE)) == -signal.SIGKILL
    assert ablate(tmp_path, *SWEEP) == 0  # the run has no checkpoint of its own, and forks again
    assert [attempts(run_of(tmp_path, start)) for start in STARTS] == [1, 2, 1]
    assert record(run_of(tmp_path, MIDDLE))["forked_from"] == {"run": run_of(tmp_path, 20).name, "step": 7}
    assert differences(tmp_path, undisturbed_sweep) == []


def test_row_05_every_failure_is_listed(tmp_path: Path) -> None:
    both = partial(then, partial(at_step, 8, fail, 8), partial(at_step, 9, leave, 1))
    assert ablate(tmp_path, *SWEEP, fault=both) == 1
    for start, message in ((8, "RuntimeError: a fault of the test"), (1, "SystemExit: 0")):
        assert f"failed: {run_of(tmp_path, start).name}: {message}" in output(tmp_path)
    assert statuses(tmp_path) == {20: "done", 8: "failed", 1: "failed"}


def break_jobs() -> None:
    """Let every job but the first fail before its run is known."""
    from ablate.run import job

    execute, seen = job.execute, []

    def disturbed(work: job.Job) -> str:
        seen.append(work)
        if len(seen) > 1:
            raise RuntimeError("before the run")
        return execute(work)

    job.execute = disturbed


def break_the_launcher() -> None:
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    launch = BasicLauncher.launch

    def disturbed(self: BasicLauncher, jobs: list, initial_job_idx: int) -> None:
        launch(self, jobs[:1], initial_job_idx)
        raise RuntimeError("the launcher died")

    BasicLauncher.launch = disturbed  # type: ignore[method-assign]


@pytest.mark.parametrize(("fault", "said"), [(break_jobs, "before the run"), (break_the_launcher, "the launcher died")])
def test_row_05_the_table_is_printed_when_the_launcher_dies(tmp_path: Path, fault: Fault, said: str) -> None:
    """As after a killed worker: Hydra does not call the callback's end, so `__main__` prints the table."""
    assert ablate(tmp_path, *SWEEP, fault=fault) == 1
    assert said in output(tmp_path)
    assert "test accuracy" in output(tmp_path)  # the table's heading
    assert "not started: 2 runs" in output(tmp_path)
    assert statuses(tmp_path) == {20: "done"}
    assert ablate(tmp_path, *SWEEP) == 0
    assert statuses(tmp_path) == {20: "done", 8: "done", 1: "done"}


def test_row_05_a_job_never_raises(tmp_path: Path, undisturbed_sweep: Path) -> None:
    """Not even if the run cannot start: during the sweep, a folder appears in the place of its lock."""
    lock = run_of(undisturbed_sweep, MIDDLE).relative_to(undisturbed_sweep) / ".lock"
    assert ablate(tmp_path, *SWEEP, fault=partial(before_evaluation, "test", partial(make_folder, lock))) == 1
    assert statuses(tmp_path) == {20: "done", 1: "done"}
    assert f"{lock.parent.name} failed: IsADirectoryError" in output(tmp_path)
    (tmp_path / lock).rmdir()
    assert ablate(tmp_path, *SWEEP) == 0
    assert differences(tmp_path, undisturbed_sweep) == []


def make_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
