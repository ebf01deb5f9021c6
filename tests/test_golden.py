"""Golden losses: they say when the numbers of a config change, and so when `identity.NUMERICS` has to be raised."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.tools import compose_settings, run_settings

GOLDEN = {  # by trainer.skip_unread
    "false": {
        "adamw": [0.719408, 0.739046, 1.227393, 0.665441, 0.746891, 0.745796, 0.829094, 0.659005, 0.884702, 0.646708],
        "sgd": [0.719408, 0.700546, 0.748275, 0.7009, 0.736256, 0.708963, 0.724297, 0.677942, 0.697533, 0.684444],
    },
    "true": {
        "adamw": [0.704177, 0.789548, 1.347831, 0.669786, 0.681051, 0.792081, 0.823249, 0.715556, 1.024336, 0.629269],
        "sgd": [0.704177, 0.73817, 0.702326, 0.694969, 0.718159, 0.711043, 0.713486, 0.653151, 0.705264, 0.684617],
    },
}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("skip_unread", GOLDEN)
def test_golden_losses(optimizer: str, skip_unread: str, tmp_path: Path) -> None:
    """If this fails, and not by a new torch, raise `identity.NUMERICS`: finished runs are other runs now."""
    settings = compose_settings(
        "model=tiny", "data=synthetic", "freeze=none", f"optimizer={optimizer}", "optimizer.lr=0.01", "clip=delayed",
        "clip.start=5", "clip.rule.threshold=0.5", "trainer.threads=1", "trainer.steps=10", "trainer.batch_size=8",
        f"trainer.skip_unread={skip_unread}",
    )  # fmt: skip
    run_settings(settings, tmp_path)
    losses = pq.read_table(tmp_path / "steps.parquet")["loss"].to_pylist()
    assert losses == pytest.approx(GOLDEN[skip_unread][optimizer], abs=1e-5)
