"""The plan predicts, before any run, what the sweep then does."""

import json
from pathlib import Path

import pytest

from ablate.data.corpus import corpus
from ablate.experiment import build_options
from ablate.sweep import sizes
from ablate.sweep.plan import MeasuredCosts, PlannedRun, advice, in_short, measured_costs, totals
from ablate.training.device import make_accelerator
from ablate.training.learner import make_learner
from ablate.training.memory import memory_bytes
from tests.faults.models import save_model
from tests.tools import ablate, compose_settings, make_odd

SMALL = (
    "model=tiny", "data=synthetic", "freeze=none", "trainer.threads=1", "trainer.steps=12", "trainer.batch_size=4",
    "trainer.length_splits=1", "data.train_examples=40", "data.test_examples=20",
)  # fmt: skip
SWEEP = ("-m", "clip=delayed", "clip.start=5,9,20", "seed=1,0", *SMALL)


def planned(cwd: Path, *arguments: str) -> dict:
    shown = ablate(*arguments, "plan=json", cwd=cwd)
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


def test_the_plan_runs_nothing_and_comes_true(tmp_path: Path) -> None:
    before = planned(tmp_path, *SWEEP)
    assert not list(tmp_path.glob("outputs/*/*-s*"))
    assert [(run["seed"], run["state"], run["steps"]) for run in before["runs"]] == [
        (1, "new", 12), (1, "fork", 8), (1, "fork", 4), (0, "new", 12), (0, "fork", 8), (0, "fork", 4),
    ]  # fmt: skip
    assert before["runs"][1]["from"] == {"run": before["runs"][0]["run"], "step": 4}
    assert before["totals"] == {
        "runs": 6, "steps": 48, "steps_shared": 24, "seconds": None, "memory_gb": None, "disk_gb": None,
    }  # fmt: skip

    assert ablate(*SWEEP, cwd=tmp_path).returncode == 0
    for run in before["runs"]:
        record = json.loads((tmp_path / "outputs/default" / run["run"] / "run.json").read_text())
        assert record["forked_from"] == run["from"]

    after = planned(tmp_path, *SWEEP, "clip.start=5,7")
    assert [run["state"] for run in after["runs"]] == ["done", "new", "done", "new"]
    assert after["totals"]["steps"] == 24
    assert after["totals"]["seconds"] > 0 and after["totals"]["memory_gb"] > 0


def test_for_people(tmp_path: Path) -> None:
    shown = ablate(*SWEEP, "plan=true", cwd=tmp_path)
    assert shown.returncode == 0
    assert "6 runs: 2 new, 4 fork; 48 steps to train, 24 more are shared" in shown.stdout
    assert "at step 4" in shown.stdout
    assert "2 paired seeds detect an effect of" in shown.stdout


def test_another_word_is_refused(tmp_path: Path) -> None:
    refused = ablate(*SMALL, "plan=maybe", cwd=tmp_path)
    assert refused.returncode == 2 and "plan must be true, json or false (got maybe)" in refused.stderr


@pytest.mark.parametrize("known", [True, False])
def test_a_total_is_known_if_all_its_parts_are(known: bool) -> None:
    runs = [
        PlannedRun("a", {}, 0, "new", None, 300, 100.0, 10**9, 10**6),
        PlannedRun("b", {}, 0, "fork", {"run": "a", "step": 49}, 251, 80.0 if known else None, 10**9, 10**6),
        PlannedRun("c", {}, 0, "done", None, 0, 0.0, None, None),
    ]
    total = totals(runs)
    assert (total["runs"], total["steps"], total["steps_shared"]) == (2, 551, 49)
    assert total["seconds"] == (180.0 if known else None)
    assert ("3 min 00 s" in in_short(runs)) == known


def runs_of(*seconds: float | None) -> list[PlannedRun]:
    return [PlannedRun("a", {}, 0, "new", None, 100, each, 10**9, 10**6) for each in seconds]


def test_shared_starts_take_no_more_disk_than_they_may(tmp_path: Path) -> None:
    """The plan of a second study, whose sizes are known from a first: snapshots, within trainer.fork.max_gb."""
    assert ablate(*SWEEP, "clip.start=20", "seed=0", cwd=tmp_path).returncode == 0

    def disk(max_gb: float) -> list[int]:
        runs = planned(tmp_path, *SWEEP, "study=next", f"trainer.fork.max_gb={max_gb}")["runs"]
        return [run["disk_bytes"] for run in runs]

    alone, shared = disk(0), disk(2)
    folder, snapshot = alone[0], shared[1] - alone[0]
    assert alone == [folder] * 6
    assert shared == [folder, folder + snapshot, folder + snapshot] * 2
    assert disk(1.5 * snapshot / 1e9) == [folder, folder + snapshot, folder + snapshot // 2] + [folder] * 3


def test_several_at_once_take_the_longest_of_them() -> None:
    runs = runs_of(100.0, 50.0, 50.0, 30.0)
    assert [totals(runs, at_once)["seconds"] for at_once in (1, 2, 4, 9)] == [230.0, 130.0, 100.0, 100.0]
    assert [totals(runs, at_once)["memory_gb"] for at_once in (1, 2, 9)] == [1.0, 2.0, 4.0]
    assert "4 runs, 2 in parallel" in in_short(runs, 2) and "about 2 min 10 s" in in_short(runs, 2)


def test_when_several_at_once_are_advised() -> None:
    now, local, unknown = totals(runs_of(100.0, 100.0)), totals(runs_of(150.0, 150.0), 2), totals(runs_of(None, None))
    said = "hydra/launcher=local (2 parallel runs, 1 thread each)"
    assert advice(now, local, 2, 1) == f"{said} would take about 2 min 30 s"
    assert advice(unknown, local, 2, 1) == f"{said} would take about 2 min 30 s"
    assert (
        advice(now, unknown, 2, 1)
        == f"{said} may be faster: no run of this kind has been measured here with 1 thread yet"
    )
    assert advice(now, totals(runs_of(250.0, 250.0), 2), 2, 1) == ""  # it would take longer
    assert advice(totals(runs_of(100.0)), local, 2, 1) == ""  # only one run
    assert advice(now, local, 1, 1) == ""  # one core


def test_time_is_known_for_the_threads_it_was_measured_with(tmp_path: Path) -> None:
    sweep = ("-m", "clip=none,fixed", *SMALL)
    assert ablate(*sweep, cwd=tmp_path).returncode == 0
    more = (*sweep, "seed=1,2")
    assert planned(tmp_path, *more)["totals"]["seconds"] > 0
    other = ablate(*more, "trainer.threads=2", "plan=json", cwd=tmp_path)
    total = json.loads(other.stdout)["totals"]
    assert total["seconds"] is None and total["memory_gb"] > 0 and total["disk_gb"] > 0
    assert "the 2 earlier runs used trainer.threads=1, and these would use 2" in other.stderr
    assert "set trainer.threads=1 to pair all of them" in other.stderr
    assert "to pair all of them" not in ablate(*more, "plan=json", cwd=tmp_path).stderr


@pytest.mark.parametrize("freeze", ["none", "embeddings_attention"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_memory_by_count_is_what_a_run_finds(tmp_path: Path, freeze: str, optimizer: str) -> None:
    """Before any run, from the configuration alone, it is what run.json has after the first step."""
    save_model(tmp_path)
    options = build_options(
        compose_settings(
            f"model.path={tmp_path}", "data=synthetic", "data.train_examples=40", "trainer.threads=1",
            f"freeze={freeze}", f"optimizer={optimizer}",
        )
    )  # fmt: skip
    count = sizes.estimated_size(options)
    for weights in tmp_path.glob("*.safetensors"):
        weights.rename(tmp_path / "weights.moved")  # nothing of them is read
    assert sizes.estimated_size(options) == count
    (tmp_path / "weights.moved").rename(tmp_path / "model.safetensors")

    learner = make_learner(options, corpus(options.model, options.data), 0, make_accelerator(options.trainer))
    for parameter in learner.trained.values():
        parameter.grad = parameter.detach() * 0
    learner.optimizer.step()
    found = memory_bytes(learner)
    taken = found["weights"] + found["gradients"] + found["optimizer"]
    assert count.memory == pytest.approx(taken, rel=0.01)  # AdamW also stores step counts
    assert count.snapshot == pytest.approx(found["gradients"] + found["optimizer"], rel=0.01)


def test_what_is_not_here_is_not_counted(tmp_path: Path) -> None:
    assert sizes.estimated_size(build_options(compose_settings("model=tiny"))) is None  # its words are the data's
    (tmp_path / "config.json").write_text("{")
    for path in ("some/where", "/nowhere", "nowhere", tmp_path):
        assert sizes.estimated_size(build_options(compose_settings(f"model.path={path}"))) is None


@pytest.mark.parametrize("kind", ["deep", "fifo", "device", "huge"])
def test_a_hostile_run_json_of_another_study_ends_no_plan(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "other/default-s0-0a1b2c3d4e"
    folder.mkdir(parents=True)
    if kind == "deep":
        (folder / "run.json").write_text("[" * 100_000)
    else:
        make_odd(folder / "run.json", kind)
    assert measured_costs([], tmp_path) == MeasuredCosts({}, {})
