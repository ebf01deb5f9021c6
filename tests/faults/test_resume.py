"""A resumed run equals the unbroken one, wherever it was stopped; and these tests can fail."""

import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from ablate.run import checkpoint
from ablate.run.job import execute
from tests.faults.harness import FIXTURE, Fault, ablate, differences, job_of, resumed_from, the_run
from tests.faults.injection import (
    at_step,
    forget_optimizer,
    forget_position,
    forget_rows,
    forget_rule_state,
    kill,
)

# Warm-up ends at step 5, clipping begins at 8; an epoch ends at 10, with accumulation at 5 and so amid the run's steps.
AROUND = (1, 4, 5, 6, 7, 8, 9, 10, 11, 19)
RULE_WITH_STATE = (
    "allow_targets=[tests.faults.rules]", "clip.rule._target_=tests.faults.rules.Running", "clip.rule.threshold=0.9",
)  # fmt: skip
ACCUMULATION = ("trainer.grad_accumulation=2", "trainer.batch_size=3", "trainer.length_splits=2")


SGD = pytest.param(("optimizer=sgd", "optimizer.lr=0.05"), marks=pytest.mark.slow)


@pytest.mark.parametrize("optimizer", [(), SGD], ids=["adamw", "sgd"])
@pytest.mark.parametrize("more", [(), ACCUMULATION, RULE_WITH_STATE], ids=["plain", "accumulation", "rule-with-state"])
def test_row_16_resume_around_every_edge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: tuple[str, ...], more: tuple[str, ...]
) -> None:
    """In one process, for speed: copy each checkpoint of an unbroken run into another folder, and resume from it."""
    settings, unbroken = ("scheduler.warmup=0.25", *optimizer, *more), tmp_path / "unbroken"
    work, often = job_of(*settings), job_of(*settings, "trainer.checkpoint_every=1")
    save = checkpoint.save_checkpoint

    def save_and_keep(state: checkpoint.Checkpoint, folder: Path) -> None:
        save(state, folder)
        shutil.copy(folder / checkpoint.NAME, unbroken / f"{state.step}.pt")

    unbroken.mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(unbroken)
        patch.setattr(checkpoint, "save_checkpoint", save_and_keep)
        assert execute(often) == "done"
    for step in AROUND:
        cwd = tmp_path / str(step)
        (cwd / work.folder).mkdir(parents=True)
        shutil.copy(unbroken / f"{step}.pt", cwd / work.folder / checkpoint.NAME)
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            assert execute(work) == "done"
        assert resumed_from(the_run(cwd)) == step
        assert differences(cwd, unbroken) == [], f"resumed after step {step}"


@pytest.mark.parametrize("fault", [forget_optimizer, forget_position, forget_rows])
def test_row_17_negative_control(tmp_path: Path, killed: Path, undisturbed: Path, fault: Fault) -> None:
    """The comparison in these tests detects each part of a checkpoint that is left out."""
    shutil.copytree(killed / "outputs", tmp_path / "outputs")
    assert ablate(tmp_path, *FIXTURE, fault=fault) == 0
    assert resumed_from(the_run(tmp_path)) == 10
    found = " ".join(differences(tmp_path, undisturbed))
    assert "steps" in found
    assert "tensors" in found or fault is forget_rows


def test_row_17_negative_control_of_a_rules_state(tmp_path: Path) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    unbroken.mkdir()
    broken.mkdir()
    assert ablate(unbroken, *FIXTURE, *RULE_WITH_STATE) == 0
    assert ablate(broken, *FIXTURE, *RULE_WITH_STATE, fault=partial(at_step, 12, kill)) == -signal.SIGKILL
    assert ablate(broken, *FIXTURE, *RULE_WITH_STATE, fault=forget_rule_state) == 0
    assert "tensors" in " ".join(differences(broken, unbroken))
