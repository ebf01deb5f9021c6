"""The outcome of a run."""

from pathlib import Path

from tests.tools import compose_settings, run_settings


def test_a_last_update_that_breaks_the_weights_is_a_divergence(tmp_path: Path) -> None:
    settings = compose_settings(
        "model=tiny", "data=synthetic", "optimizer=sgd", "optimizer.lr=1e38", "trainer.steps=1", "trainer.threads=1"
    )
    found = run_settings(settings, tmp_path / "run")
    assert (found["status"], found["metrics"], found["error"]["step"]) == ("diverged", {}, 1)
    assert found["error"]["message"].startswith("validation loss is ")
