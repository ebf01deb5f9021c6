"""The plan says what will happen, before anything does, and it comes true."""

import json
from pathlib import Path

import pytest

from ablate.plan import PlannedRun, in_short, totals
from tests.tools import ablate

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
    assert "2 paired seeds find an effect of" in shown.stdout


def test_another_word_is_refused(tmp_path: Path) -> None:
    refused = ablate(*SMALL, "plan=maybe", cwd=tmp_path)
    assert refused.returncode == 2 and "plan=maybe: allowed is true, json or false" in refused.stderr


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
