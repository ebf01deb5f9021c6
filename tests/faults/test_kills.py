"""SIGKILL between steps and during every kind of write: the run continues as if nothing had happened."""

import signal
from functools import partial
from pathlib import Path

import pytest

from tests.faults.harness import COMMON, FIXTURE, ablate, differences, leftovers, record, resumed_from, steps, the_run
from tests.faults.injection import at_step, in_write, kill


def test_row_01_kill_between_steps(tmp_path: Path, undisturbed: Path) -> None:
    assert ablate(tmp_path, *FIXTURE, fault=partial(at_step, 7, kill)) == -signal.SIGKILL
    assert record(the_run(tmp_path))["status"] == "running"
    assert steps(the_run(tmp_path)) == list(range(1, 6))  # as far as the last checkpoint
    assert ablate(tmp_path, *FIXTURE) == 0
    assert resumed_from(the_run(tmp_path)) == 5
    assert steps(the_run(tmp_path)) == list(range(1, 21))  # none lost, none twice
    assert differences(tmp_path, undisturbed) == []


@pytest.mark.parametrize(
    ("name", "when", "nth", "resumed"),
    [
        ("run.json", "midway", 1, None),
        pytest.param("config.yaml", "unmoved", 1, None, marks=pytest.mark.slow),
        ("checkpoint.pt", "midway", 1, None),
        pytest.param("checkpoint.pt", "midway", 2, 5, marks=pytest.mark.slow),
        pytest.param("checkpoint.pt", "unmoved", 2, 5, marks=pytest.mark.slow),
        ("checkpoint.pt", "moved", 2, 10),
        ("steps.parquet", "midway", 2, 10),
        pytest.param("evals.parquet", "unmoved", 3, 15, marks=pytest.mark.slow),
        ("checkpoint.pt", "moved", 4, 20),  # the last one, kept: nothing is missing but the evaluation
        pytest.param("predictions.parquet", "midway", 5, 20, marks=pytest.mark.slow),
        pytest.param("run.json", "midway", 2, 20, marks=pytest.mark.slow),
        ("run.json", "unmoved", 2, 20),  # all is written but `done`
    ],
)  # fmt: skip
def test_row_02_kill_in_mid_write(
    tmp_path: Path, undisturbed: Path, name: str, when: str, nth: int, resumed: int | None
) -> None:
    assert ablate(tmp_path, *FIXTURE, fault=partial(in_write, name, when, kill, nth)) == -signal.SIGKILL
    assert bool(leftovers(tmp_path)) == (when != "moved")
    assert ablate(tmp_path, *FIXTURE) == 0
    assert resumed_from(the_run(tmp_path)) == resumed
    assert differences(tmp_path, undisturbed) == []
    assert leftovers(tmp_path) == []


def test_row_02_kill_after_done(tmp_path: Path, undisturbed: Path) -> None:
    assert ablate(tmp_path, *FIXTURE, fault=partial(in_write, "run.json", "moved", kill, 2)) == -signal.SIGKILL
    assert record(the_run(tmp_path))["status"] == "done"
    assert differences(tmp_path, undisturbed) == []


def test_row_02_kill_before_the_shared_starts_are_swept(tmp_path: Path) -> None:
    """The last run is done, and its snapshots are still there: the next command removes them."""
    pair, shared = ("-m", *COMMON, "clip.start=20,8"), tmp_path / "outputs/faults/.shared"
    assert ablate(tmp_path, *pair, fault=partial(in_write, "run.json", "moved", kill, 4)) == -signal.SIGKILL
    assert any(shared.iterdir())
    assert ablate(tmp_path, *pair) == 0
    assert not shared.exists()
