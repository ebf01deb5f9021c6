"""Shared starts: which steps the plan shares, and that a forked run equals the unforked one bit for bit."""

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ablate.clip import Delayed, Fixed, NormRule, Nothing, Until
from ablate.files.reading import hashed
from ablate.run.checkpoint import Checkpoint, load_checkpoint
from ablate.run.fork import (
    PlannedArm,
    Rates,
    Snapshot,
    active,
    announce,
    announced,
    is_of,
    plan_snapshots,
    shared_steps,
)
from ablate.run.records import Rows
from ablate.scheduler import Constant, Scheduler, WarmupLinear, WarmupLinearHF
from tests.tools import RECORDED, ablate, make_odd

SETTINGS = (
    "model=tiny", "data=synthetic", "freeze=none", "trainer.threads=1", "trainer.steps=20", "trainer.batch_size=4",
    "trainer.probe_every=5", "trainer.eval_every=10", "trainer.track.layers_every=5", "data.train_examples=40",
    "data.test_examples=20", "trainer.keep_checkpoint=true", "trainer.length_splits=2",
)  # fmt: skip
CONSTANT = Constant()
ENTRY = {"parent": "a", "step": 5, "children": ["b"], "stem": "s"}
RULES = st.recursive(
    st.one_of(st.just(Nothing()), st.builds(Fixed, st.sampled_from([0.5, 1.0]))),
    lambda rules: st.builds(Delayed, st.integers(1, 12), rules) | st.builds(Until, st.integers(1, 12), rules),
    max_leaves=3,
)
SCHEDULERS = st.sampled_from([Constant(), WarmupLinear(), WarmupLinear(horizon=2.0), WarmupLinearHF()])


def arm(
    run: str, clip: NormRule, scheduler: Scheduler = CONSTANT, steps: int = 300, stem: str = "", done: int = 0
) -> PlannedArm:
    return PlannedArm(run, stem, clip, scheduler, steps, done)


def trained_steps(arms: list[PlannedArm]) -> int:
    shared = {child: s.step for s in plan_snapshots(arms) for child in s.children}
    return sum(a.steps - shared.get(a.run, 0) for a in arms)


def delayed(*starts: int) -> list[PlannedArm]:
    return [arm(f"d{start}", Delayed(start, Fixed())) for start in starts]


def test_the_studys_delays_train_1055_of_1800_steps() -> None:
    starts = (50, 100, 150, 200, 250)
    assert trained_steps([arm("none", Nothing()), *delayed(*starts)]) == 1055
    assert trained_steps([*delayed(*starts), arm("none", Nothing())]) == 1055
    assert trained_steps([*delayed(*reversed(starts)), arm("none", Nothing())]) == 1055


def test_rules_that_differ_from_step_1_share_nothing() -> None:
    assert plan_snapshots([arm("none", Nothing()), arm("fixed", Fixed()), arm("half", Fixed(0.5))]) == []
    assert plan_snapshots([arm("a", Nothing()), arm("b", Nothing(), WarmupLinear())]) == []


def test_a_rule_that_ends_shares_its_steps_with_the_rule_itself() -> None:
    arms = [arm("fixed", Fixed()), arm("until", Until(50, Fixed()))]
    assert plan_snapshots(arms) == [Snapshot("fixed", 50, ("until",), "")]
    assert plan_snapshots([arm("none", Nothing()), arm("until", Until(50, Fixed()))]) == []


def test_schedules_share_their_common_start() -> None:
    longer = arm("longer", Nothing(), WarmupLinear(horizon=2.0))
    assert plan_snapshots([arm("usual", Nothing(), WarmupLinear()), longer]) == [Snapshot("usual", 15, ("longer",), "")]


def test_a_rule_that_never_acts_shares_everything() -> None:
    assert plan_snapshots([arm("none", Nothing()), *delayed(301)]) == [Snapshot("none", 300, ("d301",), "")]


def test_only_what_has_the_stem_in_common_is_shared() -> None:
    assert plan_snapshots([arm("none", Nothing(), stem="a"), arm("d", Delayed(50, Fixed()), stem="b")]) == []


def test_a_resumed_run_needs_no_start_and_leaves_no_past_one() -> None:
    assert plan_snapshots([arm("none", Nothing()), arm("d", Delayed(50, Fixed()), done=10)]) == []
    assert plan_snapshots([arm("none", Nothing(), done=49), *delayed(50, 100)]) == [Snapshot("none", 99, ("d100",), "")]


def test_a_schedule_is_computed_once_however_many_arms_have_it() -> None:
    calls = []

    @dataclass(frozen=True)
    class Counted(Constant):
        def factor(self, t: int, total: int) -> float:
            calls.append(t)
            return super().factor(t, total)

    plan_snapshots([arm(f"d{start}", Delayed(start, Fixed()), Counted(), steps=20) for start in range(1, 41)])
    assert len(calls) == 20


@given(RULES, RULES, SCHEDULERS, SCHEDULERS)
def test_shared_steps_are_those_before_the_first_difference(
    one: NormRule, other: NormRule, first: Scheduler, second: Scheduler
) -> None:
    a, b = arm("a", one, first, steps=12), arm("b", other, second, steps=12)
    shared = shared_steps(a, b, Rates())
    assert shared == shared_steps(b, a, Rates())
    norms = [3.0, 0.2, 0.7, 5.0, 0.9, 2.0, 0.1, 8.0, 0.6, 4.0, 1.5, 0.8]
    for t in range(1, shared + 1):
        assert one.scale(norms[t - 1], t, None) == other.scale(norms[t - 1], t, None)
        assert first.factor(t, 12) == second.factor(t, 12)
    if shared < 12:
        t = shared + 1
        assert active(one, t) != active(other, t) or first.factor(t, 12) != second.factor(t, 12)


def content(folder: Path) -> dict[str, object]:
    tables = {t: pq.read_table(folder / f"{t}.parquet") for t in RECORDED}
    tables["steps"] = tables["steps"].drop_columns(["seconds"])
    tensors = torch.load(folder / "checkpoint.pt", weights_only=True)["trained"]
    return {**tables, "tensors": {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}}


def runs(cwd: Path) -> dict[str, Path]:
    return {path.name: path for path in (cwd / "outputs/default").iterdir() if path.is_dir() and path.name[0] != "."}


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("sgd", marks=pytest.mark.slow)])
def test_a_forked_run_is_the_unforked_one_bit_for_bit(optimizer: str, tmp_path: Path) -> None:
    sweep = ("-m", "clip=delayed", "clip.start=6,11,21,1", "scheduler=none,warmup_linear", f"optimizer={optimizer}")
    folders = {}
    for name, setting in (("forked", "true"), ("alone", "false")):
        cwd = tmp_path / name
        cwd.mkdir()
        done = ablate(*sweep, *SETTINGS, f"trainer.fork.enabled={setting}", cwd=cwd)
        assert done.returncode == 0, done.stderr
        folders[name] = runs(cwd)
        assert not (cwd / "outputs/default/.shared").exists()
    assert folders["forked"].keys() == folders["alone"].keys()
    origins = {}
    for name, folder in folders["forked"].items():
        assert content(folder) == content(folders["alone"][name]), name
        record = json.loads((folder / "run.json").read_text())
        if record["forked_from"]:
            origins[record["factors"]["clip"]["settings"]["start"], record["factors"]["scheduler"]["option"]] = record
    assert {key: r["forked_from"]["step"] for key, r in origins.items()} == {
        (11, "none"): 5, (21, "none"): 10, (11, "warmup_linear"): 5, (21, "warmup_linear"): 10,
        (1, "warmup_linear"): 1, (6, "warmup_linear"): 1,  # whose warm-up is one step long
    }  # fmt: skip
    inherited = pq.read_table(folders["forked"][next(iter(folders["forked"]))] / "steps.parquet")["seconds"]
    assert inherited.null_count in (0, 1, 5, 10)


def test_where_the_parent_is_still_on_the_way_an_earlier_start_is_taken(tmp_path: Path) -> None:
    """As in several workers: 21 would fork from 11 at 10, which has yet to run; 6 has left a snapshot at 5."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for folder in (alone, shared):
        folder.mkdir()
    done = ablate("-m", "clip=delayed", "clip.start=6,11,21", *SETTINGS, "trainer.fork.enabled=false", cwd=alone)
    assert done.returncode == 0, done.stderr
    name = {json.loads((f / "run.json").read_text())["factors"]["clip"]["settings"]["start"]: f.name
            for f in runs(alone).values()}  # fmt: skip
    announce(
        shared / "outputs/default/.shared",
        [Snapshot(name[6], 5, (name[11],), "stem"), Snapshot(name[11], 10, (name[21],), "stem")],
    )
    for start in (6, 21):
        assert ablate("clip=delayed", f"clip.start={start}", *SETTINGS, cwd=shared).returncode == 0
    record = json.loads((runs(shared)[name[21]] / "run.json").read_text())
    assert record["forked_from"] == {"run": name[6], "step": 5}
    assert content(runs(shared)[name[21]]) == content(runs(alone)[name[21]])


def test_a_snapshot_of_another_seed_is_not_believed(tmp_path: Path) -> None:
    """Norms and rates of both seeds are what the child's own rule would make of them: only the id differs."""
    done = ablate("-m", "clip=none", "seed=0,1", *SETTINGS, "trainer.fork.enabled=false", cwd=tmp_path)
    done_too = ablate("clip=delayed", "clip.start=21", *SETTINGS, "trainer.fork.enabled=false", cwd=tmp_path)
    assert (done.returncode, done_too.returncode) == (0, 0)
    records = {folder: json.loads((folder / "run.json").read_text()) for folder in runs(tmp_path).values()}
    found = {(record["factors"]["clip"]["option"], record["seed"]): folder for folder, record in records.items()}
    parent, foreign, child = found["none", 0], found["none", 1], found["delayed", 0]
    expected = content(child)
    shared = tmp_path / "outputs/default/.shared"
    snapshot = Snapshot(parent.name, 20, (child.name,), "stem")
    for source, forked in ((foreign, None), (parent, {"run": parent.name, "step": 20})):
        announce(shared, [snapshot])
        (shared / snapshot.file).mkdir()
        (shared / snapshot.file / "checkpoint.pt").write_bytes((source / "checkpoint.pt").read_bytes())
        for path in child.iterdir():
            path.unlink()
        again = ablate("clip=delayed", "clip.start=21", *SETTINGS, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert content(child) == expected
        assert json.loads((child / "run.json").read_text())["forked_from"] == forked


@pytest.mark.parametrize(
    ("id", "step", "expected"),
    [("0a1b", 5, True), ("a1b", 5, False), ("", 5, False), ("0a1c", 5, False), ("0a1b", 10, False)],
)
def test_a_snapshot_is_of_its_run_and_step(id: str, step: int, expected: bool) -> None:
    state = Checkpoint(id, {}, step, {}, {}, {}, {}, Rows(), 0.0, None)
    assert is_of(state, Snapshot("clip=none-s0-0a1b", 5, ("x",), "stem")) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "[" * 9999, '{"snapshots": 3}', '{"snapshots": [3]}',
        *(json.dumps({"snapshots": [ENTRY | change]}) for change in (
            {"parent": 1}, {"parent": "../x"}, {"step": "5"}, {"step": True}, {"children": [1]}, {"stem": None},
        )),
        json.dumps(hashed({"snapshots": [ENTRY]}) | {"snapshots": [ENTRY | {"step": 6}]}),
    ],
)  # fmt: skip
def test_a_damaged_plan_shares_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)
    assert announced(tmp_path) == []


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "huge"])
def test_a_plan_or_checkpoint_of_another_kind_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    make_odd(tmp_path / "plan.json", kind)
    assert announced(tmp_path) == []
    if kind in ("fifo", "device"):
        make_odd(tmp_path / "checkpoint.pt", kind)
        assert load_checkpoint(tmp_path) is None


def test_a_plan_comes_back_as_announced(tmp_path: Path) -> None:
    plan = [Snapshot("a", 5, ("b", "c"), "stem")]
    announce(tmp_path, plan)
    assert announced(tmp_path) == plan


def test_a_snapshot_that_does_not_fit_is_not_taken(tmp_path: Path) -> None:
    """The negative control: a forged plan offers a snapshot that the arm's own rule would not have reached."""
    done = ablate("-m", "clip=delayed", "clip.start=6,11", *SETTINGS, "trainer.fork.enabled=false", cwd=tmp_path)
    assert done.returncode == 0
    parent, child = (next(f for f in runs(tmp_path).values() if start in f"{json.loads((f / 'run.json').read_text())}")
                     for start in ("'start': 6", "'start': 11"))  # fmt: skip
    expected = content(child)
    shared = tmp_path / "outputs/default/.shared"
    snapshot = Snapshot(parent.name, 20, (child.name,), "stem")
    announce(shared, [snapshot])
    (shared / snapshot.file).mkdir()
    (shared / snapshot.file / "checkpoint.pt").write_bytes((parent / "checkpoint.pt").read_bytes())
    for path in child.iterdir():
        path.unlink()
    again = ablate("clip=delayed", "clip.start=11", *SETTINGS, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert content(child) == expected
    assert json.loads((child / "run.json").read_text())["forked_from"] is None
