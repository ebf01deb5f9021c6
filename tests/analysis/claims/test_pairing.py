"""Arms are compared only where they differ in nothing but the claimed settings, on seeds proven to be paired."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from analysis.claims.pairing import MissingArm, Refused, choose, pair
from analysis.records.study import load
from tests.analysis.runs import change, write_run
from tests.tools import ablate

FIXED, NONE = {"clip": "fixed"}, {"clip": "none"}


@pytest.fixture
def study(tmp_path):
    for seed in range(3):
        write_run(tmp_path, FIXED, seed=seed, run=f"fixed-s{seed}")
        write_run(tmp_path, NONE, seed=seed, run=f"none-s{seed}")
    return tmp_path


def add(study, clip="none", **run):
    for seed in range(3):
        write_run(
            study, {"clip": clip, **run.get("options", {})}, run.get("settings"), seed=seed, run=f"{clip}+-s{seed}"
        )


# --- arms ---


def test_arms_that_differ_only_in_the_claimed_settings(study):
    assert choose(load(study), [FIXED, NONE], ["clip"]) == ("fixed", "none")
    assert choose(load(study), [NONE], []) == ("none",)


def test_a_missing_arm_is_named_with_the_nearest_one(study):
    with pytest.raises(MissingArm, match=r"no arm has clip=fixed, clip.threshold=2; the nearest has clip.threshold=1"):
        choose(load(study), [FIXED | {"clip.threshold": 2.0}, NONE], ["clip"])
    with pytest.raises(MissingArm, match=r"the nearest has no clip.start"):
        choose(load(study), [NONE | {"clip.start": 3}], [])


def test_an_empty_study_has_no_arm(tmp_path):
    with pytest.raises(MissingArm, match=r"no arm has clip=fixed$"):
        choose(load(tmp_path), [FIXED, NONE], ["clip"])


def test_confounded_arms_are_refused_with_the_list_of_differences(tmp_path):
    """The write-up's own comparison: the baseline had batches of 32, the optimised run of 64, at another rate."""
    write_run(tmp_path, NONE, {"trainer": {"batch_size": 32}, "optimizer": {"lr": 1e-5}})
    write_run(tmp_path, FIXED, {"trainer": {"batch_size": 64}, "optimizer": {"lr": 2e-5}})
    with pytest.raises(Refused) as refused:
        choose(load(tmp_path), [FIXED, NONE], ["clip"])
    for difference in ("optimizer.lr (2e-05 / 1e-05)", "trainer.batch_size (64 / 32)"):
        assert difference in str(refused.value)
    assert "clip" not in str(refused.value).partition(":")[2]  # clip is meant to differ


@pytest.mark.parametrize(
    ("options", "settings", "difference"),
    [
        ({"optimizer": "sgd"}, {}, "optimizer (adamw / sgd)"),
        ({}, {"data": {"sha256": "1" * 64}}, "data.sha256"),  # other data or weights are another experiment
        ({}, {"model": {"dropout": 0.2}}, "model.dropout (not set / 0.2)"),
        ({}, {"trainer": {"steps": 21}}, "trainer.steps (20 / 21)"),
    ],
)
def test_no_difference_is_overlooked(tmp_path, options, settings, difference):
    write_run(tmp_path, FIXED)
    write_run(tmp_path, NONE | options, settings)
    with pytest.raises(Refused) as refused:
        choose(load(tmp_path), [FIXED, NONE], ["clip"])
    assert difference in str(refused.value)


def test_among_several_arms_those_that_agree_are_chosen(study):
    add(study, "none", settings={"trainer": {"batch_size": 64}})
    loaded = load(study)
    fixed, none = choose(loaded, [FIXED, NONE], ["clip"])
    assert len(loaded.arms) == 3
    assert "trainer.batch_size" not in loaded.arms[none] and loaded.arms[fixed]["clip"] == "fixed"


def test_several_that_agree_are_ambiguous(study):
    add(study, "none", settings={"optimizer": {"lr": 0.1}})
    add(study, "fixed", settings={"optimizer": {"lr": 0.1}})
    with pytest.raises(Refused, match=r"2 arms .* differ in optimizer.lr \(0.1 / 0.0001\); choose one in `within`"):
        choose(load(study), [FIXED, NONE], ["clip"])
    assert choose(load(study), [FIXED | {"optimizer.lr": 0.1}, NONE], ["clip"])  # set for one arm, it is set for both


def test_an_option_with_two_settings_is_ambiguous(study):
    add(study, "fixed", settings={"clip": {"threshold": 2.0}})
    with pytest.raises(Refused, match=r"differ in clip.threshold \(2 / 1\)"):
        choose(load(study), [FIXED, NONE], ["clip"])


def test_an_arm_without_runs_that_count_is_ignored(study):
    folder = write_run(study, FIXED, {"clip": {"threshold": 2.0}}, seed=0)
    change(folder, status="failed")
    found = choose(load(study), [FIXED, NONE], ["clip"])
    assert load(study).arms[found[0]]["clip.threshold"] == 1.0


# --- seeds ---


def seeds(study, may_differ=("clip",)):
    loaded = load(study)
    return pair(loaded, choose(loaded, [FIXED, NONE], ["clip"]), may_differ)


def test_seeds_are_paired(study):
    found = seeds(study)
    assert found.seeds == (0, 1, 2) and found.notes == () and found.absent == found.unpaired == ()
    assert found.runs == tuple((f"fixed-s{seed}", f"none-s{seed}") for seed in range(3))


def test_environments_are_not_mixed_within_a_seed(study):
    change(study / "fixed-s1", environment={"key": "e1"})
    for run in ("fixed-s2", "none-s2"):
        change(study / run, environment={"key": "e2"})
    found = seeds(study)
    assert found.seeds == (0, 2) and found.unpaired == (1,)
    assert found.notes == ("not paired: seed 1 differs in environment.key",)


def test_arms_of_two_environments_are_refused(study):
    for seed in range(3):
        change(study / f"fixed-s{seed}", environment={"key": "e1"})
    with pytest.raises(Refused, match=r"not paired: seed 0 differs in environment.key; seed 1"):
        seeds(study)


@pytest.mark.parametrize("numerics", [2, None])
def test_versions_of_the_numerics_are_not_mixed(study, numerics):
    change(study / "fixed-s1", numerics=numerics)
    found = seeds(study)
    assert found.seeds == (0, 2) and found.notes == ("not paired: seed 1 differs in numerics",)


def test_a_run_that_moved_to_another_environment_is_not_compared(study):
    change(study / "fixed-s1", environment={"key": "e0", "earlier": [{"key": "e1"}]})
    found = seeds(study)
    assert found.seeds == (0, 2) and "environment within fixed-s1" in found.notes[0]


@pytest.mark.parametrize("what", ["batches", "head", "dropout"])
@pytest.mark.parametrize("value", ["another", None])
def test_pairing_is_proven_not_assumed(study, what, value):
    pairing = {"batches": "b1", "head": "h1", "dropout": "d1.0"} | {what: value}
    for run in (
        "fixed-s1",
        *(["none-s1"] if value is None else []),
    ):  # hashes missing in both runs prove nothing either
        change(study / run, pairing=pairing)
    found = seeds(study)
    assert found.seeds == (0, 2)
    assert found.notes == (f"not paired: seed 1 differs in pairing.{what}",)


@pytest.mark.parametrize(
    ("what", "changes", "exempt"),
    [
        ("dropout", "nuisance", True),
        ("head", "model.head_init", True),
        ("head", "model", True),
        ("head", "nuisance", False),
        ("dropout", "model.head_init", False),
        ("batches", "model", False),
        ("batches", "nuisance", False),
    ],
)
def test_hashes_that_the_claim_changes_need_not_agree(study, what, changes, exempt):
    for seed in range(3):
        pairing = {"batches": f"b{seed}", "head": f"h{seed}", "dropout": f"d{seed}.0"} | {what: f"x{seed}"}
        change(study / f"fixed-s{seed}", pairing=pairing)
    if exempt:
        assert seeds(study, ("clip", changes)).seeds == (0, 1, 2)
    else:
        with pytest.raises(Refused, match=f"pairing.{what}"):
            seeds(study, ("clip", changes))


def test_missing_runs_are_named_with_the_reason(study):
    shutil.rmtree(study / "none-s0")
    change(study / "fixed-s1", status="failed", error={"message": "OSError: disk full"})
    (study / "none-s2" / "steps.parquet").write_bytes(b"")
    found = seeds(study)
    assert found.seeds == () and found.absent == (0, 1, 2)
    assert found.notes == (
        "fixed-s1 does not count: status failed: OSError: disk full",
        "none-s2 does not count: steps.parquet is not what the run wrote: its sha256 differs",
        "none: no run with seed 0",
    )


def test_the_notebooks_own_comparison_is_refused(tmp_path: Path) -> None:
    """experiment=original_confounded, with a small model on a few texts: batches of 32 against batches of 64."""
    (tmp_path / "texts").mkdir()
    for split in ("train", "test"):
        texts = [f"a {word} film {n}" for n in range(40) for word in ("fine", "dull")]
        pd.DataFrame({"text": texts, "label": [1, 0] * 40}).to_parquet(tmp_path / f"texts/{split}.parquet")
    small = (
        "-m", "experiment=original_confounded", "model=tiny", "data.path=texts", "data.max_length=16",
        "data.splits={train: train, test: test}", "trainer.steps=4", "trainer.threads=1", "seed=0,1",
    )  # fmt: skip
    for arm in (
        ("clip=none", "scheduler=none", "trainer.batch_size=32"),
        ("clip=fixed", "scheduler=notebook", "trainer.batch_size=64", "report=true"),
    ):
        shown = ablate(*small, *arm, cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
    verdicts = json.loads((tmp_path / "outputs/original_confounded/report/verdicts.json").read_text())
    assert {found["id"] for found in verdicts} == {"A2", "B"}
    for found in verdicts:
        assert found["verdict"] == "not tested"
        assert found["notes"] == [
            "the arms differ in settings that the claim does not change: trainer.batch_size (64 / 32)"
        ]
