"""Golden losses: they say when the numbers of a config change, and so when `identity.NUMERICS` has to be raised."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.tools import compose_settings, run_settings

GOLDEN = {
    "adamw": [0.719408, 0.739046, 1.227393, 0.665441, 0.746891, 0.745796, 0.829094, 0.659005, 0.884702, 0.646708],
    "sgd": [0.719408, 0.700546, 0.748275, 0.7009, 0.736256, 0.708963, 0.724297, 0.677942, 0.697533, 0.684444],
}


@pytest.mark.parametrize("optimizer", GOLDEN)
def test_golden_losses(optimizer: str, tmp_path: Path) -> None:
    """If this fails, and not by a new torch, raise `identity.NUMERICS`: finished runs are other runs now."""
    settings = compose_settings(
        "model=tiny", "data=synthetic", "freeze=none", f"optimizer={optimizer}", "optimizer.lr=0.01", "clip=delayed",
        "clip.start=5", "clip.rule.threshold=0.5", "trainer.threads=1", "trainer.steps=10", "trainer.batch_size=8",
    )  # fmt: skip
    run_settings(settings, tmp_path)
    assert pq.read_table(tmp_path / "steps.parquet")["loss"].to_pylist() == pytest.approx(GOLDEN[optimizer], abs=1e-5)
