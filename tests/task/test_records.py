"""What a run of each kind of task records, and that it resumes to the bit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, mean_squared_error

from ablate.files.run_record import read_run_json, schema_of
from ablate.run.run import TrainingRun
from ablate.training.step import Moment
from tests.task.data import ROWS, write
from tests.tools import ablate, compose_settings, run_settings

SHORT = ("model=tiny", "trainer.steps=12", "trainer.batch_size=8", "trainer.probe_every=4", "trainer.probe_examples=16",
         "trainer.threads=1", "freeze=none", "study=s")  # fmt: skip
PRIMARY = {"words": "f1_macro", "pair": "matthews", "regression": "spearman", "token_classification": "entity_f1",
           "causal_lm": "perplexity"}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of one finished run of each kind."""
    found = {}
    for kind in ROWS:
        place = tmp_path_factory.mktemp(kind)
        done = ablate(*write(place, kind), *SHORT, f"task.primary={PRIMARY[kind]}", cwd=place)
        assert done.returncode == 0, done.stderr
        (found[kind],) = (path.parent for path in place.glob("outputs/s/*/run.json"))
    return found


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / f"{name}.parquet")


@pytest.mark.parametrize("kind", ROWS)
def test_the_record_names_task_labels_and_primary_metric(folders: dict[str, Path], kind: str) -> None:
    data = read_run_json(folders[kind])
    task = {"words": "classification", "pair": "classification"}.get(kind, kind)
    names = {"words": ["bright", "cold", "warm"], "pair": ["0", "1"],
             "token_classification": ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]}  # fmt: skip
    assert (data["kind"], data["primary"], data["labels"]) == (task, PRIMARY[kind], names.get(kind, []))
    assert ("task" in data["factors"]) == (task != "classification")
    assert table(folders[kind], "predictions").columns.tolist() == schema_of("predictions", task).names
    scores = table(folders[kind], "scores")
    assert set(scores["name"]) == {PRIMARY[kind]} and set(scores["split"]) == {"probe", "validation", "test"}
    last = scores[scores["split"] == "test"]["value"].iloc[-1]
    assert data["metrics"][f"test_{PRIMARY[kind]}"] == last


def test_the_metrics_are_those_of_the_predictions(folders: dict[str, Path]) -> None:
    values = {kind: read_run_json(folder)["metrics"] for kind, folder in folders.items()}
    words, numbers = table(folders["words"], "predictions"), table(folders["regression"], "predictions")
    assert values["words"]["test_f1_macro"] == f1_score(words["label"], words["prediction"], average="macro")
    assert values["regression"]["test_loss"] == pytest.approx(
        mean_squared_error(numbers["label"], numbers["prediction"]), rel=1e-6
    )
    blocks = table(folders["causal_lm"], "predictions")
    mean = np.average(blocks["loss"], weights=blocks["tokens"])
    assert values["causal_lm"]["test_perplexity"] == pytest.approx(np.exp(mean), rel=1e-12)
    assert values["causal_lm"]["test_loss"] == pytest.approx(mean, rel=1e-12)
    tagged = table(folders["token_classification"], "predictions")
    right = (tagged["label"] == tagged["prediction"]).mean()
    assert values["token_classification"]["test_accuracy"] == right
    assert "test_accuracy" not in values["regression"]


def test_probabilities_of_more_than_two_classes(folders: dict[str, Path]) -> None:
    found = table(folders["words"], "probabilities").pivot(index="example", columns="label", values="probability")
    predictions = table(folders["words"], "predictions")
    assert found.shape == (80, 3)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-6)
    assert (found.to_numpy().argmax(1) == predictions["prediction"]).all()
    assert (found.to_numpy().max(1) == predictions["probability"]).all()
    assert not (folders["pair"] / "probabilities.parquet").exists()


def test_words_are_numbered_and_labels_as_in_the_file(folders: dict[str, Path]) -> None:
    rows = pd.read_json(folders["token_classification"].parents[2] / "test.jsonl", lines=True)
    found = table(folders["token_classification"], "predictions")
    names = read_run_json(folders["token_classification"])["labels"]
    by_example = found.assign(name=[names[k] for k in found["label"]]).groupby("example")
    assert by_example["name"].agg(list).tolist() == rows["label"].tolist()
    assert by_example["word"].agg(list).tolist() == [list(range(len(words))) for words in rows["text"]]


def test_the_baseline_of_a_language_model_ignores_the_text(folders: dict[str, Path]) -> None:
    found = table(folders["causal_lm"], "predictions")
    assert (found["tokens"] == 15).all()  # blocks of 16 tokens
    assert found["baseline"].between(np.log(6) - 0.2, np.log(6) + 0.5).all()  # six words, about equally often


@pytest.mark.parametrize("kind", ["regression", "token_classification", "causal_lm"])
def test_it_resumes_to_the_bit(
    folders: dict[str, Path], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folders[kind].parents[2]
    settings = compose_settings(
        *(word.replace(str(tmp_path), str(place)) for word in write(tmp_path, kind)), *SHORT,
        f"task.primary={PRIMARY[kind]}", "trainer.checkpoint_every=4",
    )  # fmt: skip
    observe = TrainingRun.observe

    def interrupted(self: TrainingRun, moment: Moment) -> None:
        observe(self, moment)
        if moment.row.step == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(TrainingRun, "observe", interrupted)
        run_settings(settings, tmp_path / "run")
    found = run_settings(settings, tmp_path / "run")
    assert found["timing"]["resumed_from"] == 8
    for name in ("steps", "evals", "predictions", "scores", "probe"):
        once, resumed = (table(folder, name) for folder in (folders[kind], tmp_path / "run"))
        pd.testing.assert_frame_equal(
            *(t.drop(columns="seconds", errors="ignore") for t in (once, resumed)), check_exact=True
        )


def test_an_adapter_of_a_language_model_trains_no_output_layer(tmp_path: Path) -> None:
    settings = compose_settings(
        *write(tmp_path, "causal_lm"), *SHORT, "adapter=lora", "trainer.steps=3", "trainer.track.layers_every=1"
    )
    found = run_settings(settings, tmp_path / "run")
    assert 0 < found["parameters"]["ratio"] < 0.2
    assert {*table(tmp_path / "run", "layers")["block"]} == {"attention"}


def test_what_leaves_nothing_to_train_ends_with_an_error(tmp_path: Path) -> None:
    """A language model has no head of its own. The command hung: the error was made its own cause."""
    done = ablate(*write(tmp_path, "causal_lm"), *SHORT, "freeze=head_only", cwd=tmp_path)
    assert done.returncode == 2
    assert "freeze must be a rule that leaves at least one parameter to train" in done.stdout + done.stderr
