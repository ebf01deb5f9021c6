"""A loss or gradient that is not finite: no update with it, `diverged` at that step, and no effect on other runs."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch

from ablate.run import run
from ablate.run.job import execute
from ablate.training import step as training
from tests.faults.harness import (
    COMMON,
    SWEEP,
    ablate,
    attempts,
    differences,
    job_of,
    output,
    record,
    run_of,
    statuses,
    steps,
    the_run,
)
from tests.faults.injection import at_step, kill, spoil_gradient, spoil_loss, then

SPOILS = {
    "loss is nan": partial(spoil_loss, math.nan),
    "loss is inf": partial(spoil_loss, 3e38),
    "gradient norm is nan": partial(spoil_gradient, math.nan),
    "gradient norm is inf": partial(spoil_gradient, -math.inf),
}
CAUSES = [pytest.param(cause, marks=[pytest.mark.slow] * ("inf" in cause)) for cause in SPOILS]


@pytest.mark.parametrize("cause", CAUSES)
def test_row_18_diverged_at_that_step(tmp_path: Path, undisturbed_sweep: Path, cause: str) -> None:
    assert ablate(tmp_path, *SWEEP, fault=partial(SPOILS[cause], 12, 8)) == 0
    assert statuses(tmp_path) == {20: "done", 8: "diverged", 1: "done"}
    diverged = run_of(tmp_path, 8)
    assert record(diverged)["error"] == {"step": 12, "message": cause}
    assert steps(diverged) == list(range(1, 12))
    assert f"{diverged.name} diverged at step 12: {cause}" in output(tmp_path)
    assert not (diverged / "checkpoint.pt").exists()
    for start in (20, 1):
        assert differences(run_of(tmp_path, start), run_of(undisturbed_sweep, start)) == []
    assert ablate(tmp_path, *SWEEP) == 0  # a result like any other: not tried again
    assert attempts(diverged) == 1


@pytest.mark.parametrize("cause", SPOILS)
def test_row_18_no_update_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str) -> None:
    """In this process, to look at the weights: those after step 11 are the last."""
    seen: dict[str, torch.Tensor] = {}
    observe = run.TrainingRun.observe

    def look(self: run.TrainingRun, moment: training.Moment) -> None:
        observe(self, moment)
        seen.update({name: p.detach().clone() for name, p in self.learner.trained.items()})
        learners.append(self.learner)

    learners: list[training.Learner] = []
    for name in ("forward", "gradient_norms", "step"):  # restored at the end, whatever the fault puts there
        monkeypatch.setattr(training, name, getattr(training, name))
    monkeypatch.setattr(run.TrainingRun, "observe", look)
    monkeypatch.chdir(tmp_path)
    SPOILS[cause](12, 8)
    assert execute(job_of()) == "diverged"
    assert len(learners) == 11
    assert all(torch.equal(p, seen[name]) for name, p in learners[-1].trained.items())


def test_row_18_diverged_after_a_kill(tmp_path: Path) -> None:
    spoil = partial(spoil_loss, math.nan, 12, 8)
    assert ablate(tmp_path, *SWEEP, fault=partial(then, spoil, partial(at_step, 11, kill, 8))) != 0
    assert ablate(tmp_path, *SWEEP, fault=spoil) == 0
    assert record(run_of(tmp_path, 8))["error"]["step"] == 12
    assert steps(run_of(tmp_path, 8)) == list(range(1, 12))


def test_row_18_a_learning_rate_of_1e20(tmp_path: Path) -> None:
    """Without any hook."""
    assert ablate(tmp_path, *COMMON, "clip.start=20", "optimizer.lr=1e20") == 0
    found = record(the_run(tmp_path))
    assert found["status"] == "diverged"
    assert steps(the_run(tmp_path)) == list(range(1, found["error"]["step"]))
