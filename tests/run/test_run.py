"""The outcome of a run."""

from pathlib import Path

import pandas as pd
import pytest

from ablate.run import records
from ablate.run.records import Rows
from tests.tools import ablate, compose_settings, run_settings


def test_a_last_update_that_breaks_the_weights_is_a_divergence(tmp_path: Path) -> None:
    settings = compose_settings(
        "model=tiny", "data=synthetic", "optimizer=sgd", "optimizer.lr=1e38", "trainer.steps=1", "trainer.threads=1"
    )
    found = run_settings(settings, tmp_path / "run")
    assert (found["status"], found["metrics"], found["error"]["step"]) == ("diverged", {}, 1)
    assert found["error"]["message"].startswith("validation loss is ")


@pytest.mark.parametrize(("examples", "expected"), [(30, 30), (256, 200)])  # validation has 200 examples
def test_the_probe_keeps_the_loss_of_each_example(
    examples: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PROBE_LOSSES", 3 * expected)
    settings = compose_settings(
        "model=tiny", "data=synthetic", "trainer.steps=10", "trainer.batch_size=4", "trainer.threads=1",
        "trainer.probe_every=2", f"trainer.probe_examples={examples}",
    )  # fmt: skip
    run_settings(settings, tmp_path)
    losses, evals = (pd.read_parquet(tmp_path / f"{table}.parquet") for table in ("probe", "evals"))
    means = evals[evals["split"] == "probe"].set_index("step")["loss"]
    assert means.index.tolist() == [2, 4, 6, 8, 10] and losses["step"].unique().tolist() == [4, 8]  # three at most
    pd.testing.assert_series_equal(losses.groupby("step")["loss"].mean(), means[[4, 8]], check_dtype=False)
    assert all(found["example"].nunique() == len(found) == expected for _, found in losses.groupby("step"))
    assert losses["example"].between(0, 199).all()


def test_checkpoints_write_the_tables_after_a_tenth_more_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, write = [], Rows.write
    monkeypatch.setattr(Rows, "write", lambda rows, *more: steps.append(len(rows.steps)) or write(rows, *more))
    run_settings(
        compose_settings(
            "model=tiny", "data=synthetic", "trainer.steps=60", "trainer.threads=1", "trainer.checkpoint_every=1"
        ),
        tmp_path / "run",
    )
    assert steps[:12] == [*range(1, 12), 13]  # from 11 on, one step more is less than a tenth
    assert steps[-3:] == [51, 57, 60]  # the last ones are those of the finished run


def test_the_groups_of_test_examples_are_recorded_where_they_are_known(tmp_path: Path) -> None:
    table = pd.DataFrame({"text": [f"{'good' if i % 2 else 'bad'} film {i}" for i in range(40)], "label": [0, 1] * 20})
    table.assign(group=[f"document {i // 4}" for i in range(40)]).to_csv(tmp_path / "train.csv", index=False)
    table.assign(group=[7, 7, 3, 7] * 10).to_csv(tmp_path / "test.csv", index=False)
    data = (
        "model=tiny", "model.hidden=16", "data=files", f"data.files.train={tmp_path}/train.csv",
        f"data.files.validation={tmp_path}/test.csv", f"data.files.test={tmp_path}/test.csv", "trainer.steps=2",
        "trainer.batch_size=4", "trainer.threads=1",
    )  # fmt: skip
    grouped = run_settings(compose_settings(*data, "data.cluster=group"), tmp_path / "grouped")
    assert grouped["records"]["clusters.parquet"]["rows"] == 40
    found = pd.read_parquet(tmp_path / "grouped/clusters.parquet")
    assert found["example"].tolist() == [*range(40)] and found["cluster"].tolist() == [0, 0, 1, 0] * 10
    plain = run_settings(compose_settings(*data), tmp_path / "plain")
    assert "clusters.parquet" not in plain["records"] and not (tmp_path / "plain/clusters.parquet").exists()
    assert plain["metrics"] == grouped["metrics"]
    refused = ablate(*data, "data.cluster=goup", cwd=tmp_path)
    assert refused.returncode == 2 and "must have the column 'goup' (got text, label, group)" in refused.stderr
