"""Trackers: TensorBoard and MLflow stores contain the numbers of the records; a failing tracker ends no run."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ablate.tracker import Card, Follower, Nothing
from tests.tools import ablate

SMALL = ("model=tiny", "data=synthetic", "freeze=none", "trainer.steps=6", "trainer.batch_size=8", "trainer.threads=1",
         "trainer.probe_every=3", "trainer.length_splits=1", "study=watched",
         "data.train_examples=40", "data.test_examples=20")  # fmt: skip


def the_run(cwd: Path) -> Path:
    (record,) = cwd.glob("outputs/watched/*/run.json")
    return record.parent


def steps_of(folder: Path) -> dict[str, list[Any]]:
    return pq.read_table(folder / "steps.parquet").to_pydict()


def test_tensorboard_holds_each_steps_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert ablate(*SMALL, "tracker=tensorboard", cwd=tmp_path).returncode == 0
    folder, events = the_run(tmp_path), tmp_path / "outputs" / "watched" / ".tensorboard"
    found = EventAccumulator(str(events / folder.name))
    found.Reload()
    steps = steps_of(folder)
    for column in ("loss", "grad_norm", "delta_g", "lr"):
        values = found.Scalars(f"train/{column}")
        assert [value.step for value in values] == steps["step"]
        assert [value.value for value in values] == pytest.approx(steps[column], rel=1e-6)
    assert [value.step for value in found.Scalars("probe/loss")] == [3, 6]
    record = json.loads((folder / "run.json").read_text())
    assert found.Scalars("test/accuracy")[0].value == pytest.approx(record["metrics"]["test_accuracy"])


def mlflow_runs(store: str) -> list[Any]:
    import mlflow

    mlflow.set_tracking_uri(store)
    return mlflow.search_runs(experiment_names=["watched"], output_format="list")


@pytest.mark.slow
def test_mlflow_holds_arms_seeds_numbers_and_the_report(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    command = ("-m", *SMALL, "tracker=mlflow", f"tracker.uri={store}", "clip=none,fixed", "seed=1", "report=true")
    done = ablate(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {run.info.run_name: run for run in mlflow_runs(store)}
    report = found.pop("report")
    folders = {path.parent.name: path.parent for path in tmp_path.glob("outputs/watched/*/run.json")}
    assert found.keys() == folders.keys()
    client = mlflow.tracking.MlflowClient(store)
    for name, run in found.items():
        record = json.loads((folders[name] / "run.json").read_text())
        assert run.data.tags["clip"] == record["factors"]["clip"]["option"]
        assert run.data.tags["seed"] == str(record["seed"])
        assert run.data.params["trainer.batch_size"] == "8"
        assert run.data.metrics["test/accuracy"] == pytest.approx(record["metrics"]["test_accuracy"])
        steps = steps_of(folders[name])
        history = client.get_metric_history(run.info.run_id, "train/grad_norm")
        assert {m.step: m.value for m in history} == dict(zip(steps["step"], steps["grad_norm"], strict=True))
    assert "index.html" in {Path(item.path).name for item in client.list_artifacts(report.info.run_id, "report")}
    assert ablate(*command, cwd=tmp_path).returncode == 0  # no new runs, so the report is not uploaded again
    assert len(mlflow_runs(store)) == len(folders) + 1


def test_a_tracker_is_not_part_of_a_runs_identity(tmp_path: Path) -> None:
    """The same run with another tracker is already done."""
    assert ablate(*SMALL, cwd=tmp_path).returncode == 0
    again = ablate(*SMALL, "tracker=tensorboard", cwd=tmp_path)
    assert again.returncode == 0
    assert "done already" in again.stderr


@pytest.mark.parametrize("where", ["mlflow uri=sqlite:////proc/no/such.db", "tensorboard folder=blocked/events"])
def test_a_tracker_that_fails_ends_no_run(where: str, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where a folder should be")
    option, setting = where.split()
    pytest.importorskip(option)
    done = ablate(*SMALL, f"tracker={option}", f"tracker.{setting}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((the_run(tmp_path) / "run.json").read_text())["status"] == "done"
    assert "go on without it" in done.stdout + done.stderr


@pytest.mark.skipif(bool(find_spec("trackio")), reason="trackio is installed here")
def test_a_missing_package_is_an_error_before_any_work(tmp_path: Path) -> None:
    refused = ablate(*SMALL, "tracker=trackio", cwd=tmp_path)
    assert refused.returncode == 2
    assert "ablate-finetuning[trackio]" in refused.stderr
    assert not list(tmp_path.glob("outputs/watched/*/run.json"))


class Notes:
    """A tracker that keeps all that it receives, and fails at a step."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.received: list[tuple[int | None, dict[str, Any]]] = []
        self.ended, self.breaks_at = 0, breaks_at

    def open(self, card: Card) -> "Notes":
        return self

    def package(self) -> None: ...

    def publish(self, study: str, report: Path) -> None: ...

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.received.append((None, values))

    def log(self, values: dict[str, Any], step: int) -> None:
        if step == self.breaks_at:
            raise OSError("no space left on device")
        self.received.append((step, values))

    def finish(self) -> None:
        self.ended += 1


CARD = Card("study", "run", {"clip": "none"}, {"seed": 0})


def rows(count: int):
    steps = [{"step": t, "loss": 1.0 / t, "mlp_grad_norm": None} for t in range(1, count + 1)]
    evals = [{"step": 2, "split": split, "loss": 0.5, "accuracy": 1.0} for split in ("probe", "test")]
    return steps, evals


def test_rows_of_a_resumed_run_are_sent_first() -> None:
    notes = Notes()
    with Follower(notes, CARD).following(*rows(3)) as follower:
        assert follower is None
    assert [step for step, _ in notes.received] == [None, 1, 2, 2, 2, 3]
    assert notes.received[0][1] == {"seed": 0}
    assert notes.received[1][1] == {"train/loss": 1.0}  # a null value is not sent
    assert notes.received[3][1] == {"probe/loss": 0.5, "probe/accuracy": 1.0}
    assert notes.received[4][1] == {"test/loss": 0.5, "test/accuracy": 1.0}
    assert notes.ended == 1


def test_after_a_failure_nothing_more_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes(breaks_at=2)
    with Follower(notes, CARD).following(*rows(4)):
        pass
    assert [step for step, _ in notes.received] == [None, 1]
    assert caplog.text.count("no space left on device") == 1
    assert notes.ended == 0


def test_a_stopped_run_closes_its_tracker() -> None:
    notes = Notes()
    with pytest.raises(KeyboardInterrupt), Follower(notes, CARD).following(*rows(1)):
        raise KeyboardInterrupt
    assert notes.ended == 1


def test_without_a_tracker_nothing_is_opened() -> None:
    assert Nothing().open(CARD) is None
    with Follower(Nothing(), CARD).following(*rows(2)):
        pass
