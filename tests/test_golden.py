"""Golden losses: they say when the numbers of a config change, and so when `identity.NUMERICS` has to be raised."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.tools import compose_settings, run_settings

GOLDEN = {
    "adamw": [0.714879, 0.710245, 1.213872, 0.673685, 0.728097, 0.797014, 0.811421, 0.694508, 1.011246, 0.735347],
    "sgd": [0.714879, 0.686969, 0.781569, 0.681659, 0.769078, 0.749555, 0.6542, 0.705167, 0.67849, 0.703417],
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
