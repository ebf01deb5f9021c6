"""One contract for every option of every group of techniques: it trains, resumes, runs on two ranks and shares starts.

An option here is a file conf/<group>/<option>.yaml of a group of techniques or of the optimizers, with all other
techniques off.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from ablate.experiment import FACTORS
from ablate.gallery import EXAMPLES, TECHNIQUE_GROUPS, Shown, options
from ablate.schema import TABLES, WHERE_KNOWN
from ablate.training.learner import load_state
from ablate.training.step import Learner, train
from tests.faults.harness import ablate as start
from tests.faults.harness import output
from tests.together import NUMBERS, agree, together
from tests.tools import run_settings
from tests.training.test_step import small_learner

EXPECTED_OPTIONS = 49
STEPS = 6
ACTING: dict[str, tuple[str, ...]] = {
    "clip/delayed": ("clip.start=3",),
    "clip/until": ("clip.last=3",),
    "clip/zclip": ("clip.warmup_steps=2",),
    "freeze/gradual": ("freeze.every=2",),
    "freeze/lp_ft": ("freeze.steps=3",),
    "average/swa": ("average.start=2",),
}
"""Settings with which an option acts within STEPS steps."""

SMALL = ("trainer.probe_every=2", "trainer.probe_examples=8", "data.train_examples=60", "data.test_examples=20",
         "trainer.track.updates_every=2", "trainer.track.layers_every=2", f"trainer.steps={STEPS}")  # fmt: skip
OFF = ("freeze=none", "clip=none", "scheduler=none", "optimizer=adamw")


def overrides_of(each: Shown) -> list[str]:
    """All techniques off but this one."""
    off = [override for override in OFF if not override.startswith(f"{each.group}=")]
    settings = ACTING.get(each.name, EXAMPLES.get(each.name, ()))
    return [*off, f"{each.group}={each.option}", *settings]


OPTIONS = options()
EACH = pytest.mark.parametrize("each", OPTIONS, ids=[each.name for each in OPTIONS])


def test_no_option_is_overlooked() -> None:
    assert len(OPTIONS) == EXPECTED_OPTIONS
    assert {each.group for each in OPTIONS} <= set(TECHNIQUE_GROUPS)


def learn(*overrides: str) -> tuple[Learner, Any]:
    return small_learner(*SMALL, *overrides)


def numbers(moment: Any) -> tuple[dict[str, Any], dict[str, float], list[tuple[str, str, float]]]:
    row = {key: value for key, value in vars(moment.row).items() if key != "seconds"}
    return row, moment.norms.squares, moment.measures.rows


def values(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in learner.trained.items()}


@pytest.mark.slow
@EACH
def test_it_resumes_to_the_bit(each: Shown) -> None:
    """After step 3, from what a checkpoint keeps, in a learner that is built anew."""
    whole, batches = learn(*overrides_of(each))
    expected = [numbers(moment) for moment in train(whole, batches)]
    first, batches = learn(*overrides_of(each))
    moments = train(first, batches)
    moment = [next(moments) for _ in range(3)][-1]
    kept = through_a_file(
        {
            "trained": values(first), "optimizer": first.optimizer.state_dict(), "states": moment.states,
            "techniques": first.techniques.state_dict(),
        }
    )  # fmt: skip
    second, batches = learn(*overrides_of(each))
    load_state(second, kept["trained"], kept["optimizer"])
    second.techniques.load_state_dict(kept["techniques"])
    assert [numbers(m) for m in train(second, batches, 4, kept["states"])] == expected[3:]
    ours, theirs = values(whole), values(second)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_run_without_its_last_step_is_another() -> None:
    """The negative control of the comparison above."""
    learner, batches = learn(*OFF)
    found = [numbers(moment) for moment in train(learner, batches)]
    assert found[3:] != found[2:5]


# Runs of the command: alone, on two ranks, and without shared starts


def sweep_of(chosen: Sequence[Shown]) -> tuple[str, ...]:
    """The arguments of a sweep over the plain arm and these options; optimizer=adamw is the plain arm."""
    named = {each.name.replace("/", "_"): overrides_of(each) for each in chosen if each.name != "optimizer/adamw"}
    listed = ", ".join(f"{name}: [{', '.join(repr(o) for o in arm)}]" for name, arm in named.items())
    arms = f"arms={{plain: [{', '.join(repr(o) for o in OFF)}], {listed}}}"
    return ("-m", arms, *SMALL, "model=tiny", "model.dropout=0", "data=synthetic", "trainer.threads=1",
            "trainer.batch_size=8", "study=all", "report=false")  # fmt: skip


SWEEP = sweep_of(OPTIONS)
SHARING = sweep_of([each for each in OPTIONS if FACTORS[each.group].shares_starts])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("alone")
    assert start(cwd, *SWEEP) == 0, output(cwd)
    return cwd / "outputs/all"


def runs(study: Path) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in sorted(study.glob("*/run.json"))}


def test_each_option_is_a_run_with_all_records(alone: Path) -> None:
    assert len(runs(alone)) == len(OPTIONS)  # optimizer=adamw is the plain run
    for folder in runs(alone).values():
        for table in {*TABLES} - {*WHERE_KNOWN} | {"measures"}:
            assert pq.read_metadata(folder / f"{table}.parquet").num_rows > 0, (folder.name, table)
        measures = pd.read_parquet(folder / "measures.parquet")
        assert {"trained_share", "update_norm", "update_ratio"} <= set(measures["name"])
        assert measures["value"].map(lambda value: value == value).all(), folder.name


def test_shared_starts_change_no_bit(alone: Path, tmp_path: Path) -> None:
    """Runs that forked from another have the numbers of runs that trained every step themselves."""
    assert start(tmp_path, *SHARING, "trainer.fork.enabled=false") == 0, output(tmp_path)
    unshared, shared = runs(tmp_path / "outputs/all"), runs(alone)
    forked = {name for name, f in shared.items() if json.loads((f / "run.json").read_text())["forked_from"]}
    assert forked and forked <= unshared.keys()  # all others differ in what no start can share
    for name, folder in unshared.items():
        ours, theirs = (pd.read_parquet(f / "steps.parquet")[NUMBERS] for f in (shared[name], folder))
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


@pytest.mark.slow
def test_two_ranks_agree_with_one(alone: Path, tmp_path: Path) -> None:
    assert together(tmp_path, *SWEEP) == [0, 0], output(tmp_path)
    two = runs(tmp_path / "outputs/all")
    assert [name for name, folder in runs(alone).items() if not agree(folder, two[name])] == []


def test_a_wrong_agreement_is_found(alone: Path) -> None:
    """The negative control: two arms do not agree."""
    names = list(runs(alone))
    assert not agree(runs(alone)[names[0]], runs(alone)[names[-1]])


@pytest.mark.parametrize("group", TECHNIQUE_GROUPS)
def test_none_changes_no_bit(group: str, tmp_path: Path) -> None:
    """A group's "none" leaves the run that a config without the group describes."""
    from tests.tools import compose_settings

    if group in ("optimizer", "freeze", "clip", "scheduler"):
        pytest.skip("every config has this group")
    settings = compose_settings(*SMALL, *OFF, "model=tiny", "data=synthetic", "trainer.threads=1")
    without = {key: value for key, value in settings.items() if key != group}
    run_settings(settings, tmp_path / "with")
    run_settings(without, tmp_path / "without")
    ours, theirs = (
        pd.read_parquet(tmp_path / f / "steps.parquet").drop(columns="seconds") for f in ("with", "without")
    )
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
