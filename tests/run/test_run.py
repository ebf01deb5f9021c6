"""The outcome of a run."""

from pathlib import Path

import pytest

from ablate.run.records import Rows
from tests.tools import compose_settings, run_settings


def test_a_last_update_that_breaks_the_weights_is_a_divergence(tmp_path: Path) -> None:
    settings = compose_settings(
        "model=tiny", "data=synthetic", "optimizer=sgd", "optimizer.lr=1e38", "trainer.steps=1", "trainer.threads=1"
    )
    found = run_settings(settings, tmp_path / "run")
    assert (found["status"], found["metrics"], found["error"]["step"]) == ("diverged", {}, 1)
    assert found["error"]["message"].startswith("validation loss is ")


def test_checkpoints_write_the_tables_after_a_tenth_more_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, write = [], Rows.write
    monkeypatch.setattr(Rows, "write", lambda rows, folder: steps.append(len(rows.steps)) or write(rows, folder))
    run_settings(
        compose_settings(
            "model=tiny", "data=synthetic", "trainer.steps=60", "trainer.threads=1", "trainer.checkpoint_every=1"
        ),
        tmp_path / "run",
    )
    assert steps[:12] == [*range(1, 12), 13]  # from 11 on, one step more is less than a tenth
    assert steps[-3:] == [51, 57, 60]  # the last ones are those of the finished run
