"""Golden losses: if a config's numbers change, `ablate.experiment.NUMERICS` must be raised."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.tools import compose_settings, run_settings

GOLDEN = {
    "now": {
        "adamw": [0.688423, 1.019133, 1.083078, 0.550972, 0.647623, 0.793002, 0.737939, 0.658929, 0.8483, 0.624655],
        "sgd": [0.688423, 0.714321, 0.751609, 0.622283, 0.671876, 0.77168, 0.68075, 0.708141, 0.737433, 0.713005],
    },
    "as published": {
        "adamw": [0.719408, 0.739046, 1.227393, 0.665441, 0.746891, 0.745796, 0.829094, 0.659005, 0.884702, 0.646708],
        "sgd": [0.719408, 0.700546, 0.748275, 0.7009, 0.736256, 0.708963, 0.724297, 0.677942, 0.697533, 0.684444],
    },
}
TRAINER = {"now": [], "as published": ["trainer.skip_unread=false", "trainer.piece_multiple=1"]}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("trainer", GOLDEN)
def test_golden_losses(optimizer: str, trainer: str, tmp_path: Path) -> None:
    """If this fails and torch is the same, raise `ablate.experiment.NUMERICS`: finished runs have other numbers now."""
    settings = compose_settings(
        "model=tiny", "data=synthetic", "freeze=none", f"optimizer={optimizer}", "optimizer.lr=0.01", "clip=delayed",
        "clip.start=5", "clip.rule.threshold=0.5", "trainer.threads=1", "trainer.steps=10", "trainer.batch_size=8",
        *TRAINER[trainer],
    )  # fmt: skip
    run_settings(settings, tmp_path)
    losses = pq.read_table(tmp_path / "steps.parquet")["loss"].to_pylist()
    assert losses == pytest.approx(GOLDEN[trainer][optimizer], abs=1e-5)
