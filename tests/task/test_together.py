"""Each kind of task on two ranks agrees with one process, and shared starts change no bit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablate.files.run_record import read_run_json
from tests.task.data import write
from tests.together import NUMBERS, table, together
from tests.tools import ablate

SHORT = ("model=tiny", "model.dropout=0", "trainer.steps=8", "trainer.batch_size=4", "trainer.length_splits=2",
         "trainer.probe_every=4", "trainer.probe_examples=8", "trainer.threads=1", "freeze=none",
         "study=s")  # fmt: skip


def run_of(cwd: Path) -> Path:
    (found,) = cwd.glob("outputs/s/*/run.json")
    return found.parent


@pytest.mark.parametrize(
    ("kind", "way", "more"),
    [("regression", "ddp", ()), ("token_classification", "ddp", ("trainer.grad_accumulation=2",)),
     ("causal_lm", "fsdp", ("model.hidden=128",))],
)  # fmt: skip
def test_two_ranks_agree_with_one(tmp_path: Path, kind: str, way: str, more: tuple[str, ...]) -> None:
    words = [*write(tmp_path, kind), *SHORT, *more]
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    assert ablate(*words, cwd=folders[0]).returncode == 0
    assert together(folders[1], *words, f"trainer.distributed={way}") == [0, 0]
    one, two = (table(run_of(folder), "steps")[NUMBERS].astype(float) for folder in folders)
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6)
    metrics = [read_run_json(run_of(folder))["metrics"] for folder in folders]
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-3)
    assert one["loss"].nunique() == len(one)  # so that equality means something


def test_shared_starts_change_no_bit(tmp_path: Path) -> None:
    words = ["-m", *write(tmp_path, "token_classification"), *SHORT, "clip=delayed", "clip.start=20,4"]
    folders = [tmp_path / name for name in ("shared", "apart")]
    for folder, enabled in zip(folders, ("true", "false"), strict=True):
        folder.mkdir()
        assert ablate(*words, f"trainer.fork.enabled={enabled}", cwd=folder).returncode == 0
    runs = sorted(path.parent.name for path in folders[0].glob("outputs/s/*/run.json"))
    records = [read_run_json(folders[0] / "outputs/s" / run) for run in runs]
    assert sum(record["forked_from"] is not None for record in records) == 1
    for run in runs:
        for name in ("steps", "predictions", "scores"):
            shared, apart = (table(folder / "outputs/s" / run, name) for folder in folders)
            pd.testing.assert_frame_equal(*(t.drop(columns="seconds", errors="ignore") for t in (shared, apart)))
