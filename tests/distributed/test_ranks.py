"""A run on several ranks: its numbers are those of one process, and the ranks stay in sync whatever happens to one."""

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.distributed.ranks import Ranks, current_ranks
from ablate.seeds import stream
from ablate.trainer import cores
from tests.faults import injection
from tests.faults.harness import (
    COMMON,
    FIXTURE,
    SWEEP,
    ablate,
    checkpointed,
    differences,
    output,
    record,
    resumed_from,
    run_of,
    runs,
    statuses,
    the_run,
)
from tests.together import Fault, agree, together

WAYS = ("ddp", "fsdp")
STILL = (*FIXTURE, "model.dropout=0")


# The variables that torchrun sets


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("rank", ["", "0"])
@pytest.mark.parametrize("size", ["", "1"])
def test_empty_variables_count_as_unset(unset: pytest.MonkeyPatch, rank: str, size: str) -> None:
    unset.setenv("RANK", rank)
    unset.setenv("WORLD_SIZE", size)
    assert current_ranks() == Ranks(0, 1)


@pytest.mark.parametrize(
    ("rank", "size", "message"),
    [
        ("0", "two", "WORLD_SIZE must be the number of ranks"),
        ("0", "0", "WORLD_SIZE must be the number of ranks"),
        ("0", "-1", "WORLD_SIZE must be the number of ranks"),
        ("x", "1", "RANK must be unset, or below WORLD_SIZE=1"),
        ("1", "1", "RANK must be unset, or below WORLD_SIZE=1"),
        ("-1", "2", "RANK must be unset, or below WORLD_SIZE=2"),
        ("0", "2", "WORLD_SIZE must be 1 unless RANK, MASTER_ADDR, MASTER_PORT are set, too"),
    ],
)
def test_odd_variables_are_refused(unset: pytest.MonkeyPatch, rank: str, size: str, message: str) -> None:
    unset.setenv("RANK", rank)
    unset.setenv("WORLD_SIZE", size)
    with pytest.raises(ValueError, match=message):
        current_ranks()


def test_variables_of_two_ranks(unset: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")):
        unset.setenv(name, value)
    assert current_ranks() == Ranks(1, 2)


@pytest.mark.parametrize("value", ["", "0", "x", "-3"])
def test_an_odd_number_of_local_ranks_leaves_all_cores(unset: pytest.MonkeyPatch, value: str) -> None:
    expected = cores()
    unset.setenv("LOCAL_WORLD_SIZE", value)
    assert cores() == expected


# As on one process


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs on one process, made once per set of settings."""

    @functools.cache
    def made(*settings: str) -> Path:
        cwd = tmp_path_factory.mktemp("alone")
        assert ablate(cwd, *STILL, *settings) == 0
        return the_run(cwd)

    return made


@pytest.mark.parametrize(
    "settings", [(), ("freeze=embeddings_attention", "trainer.length_splits=2", "trainer.grad_accumulation=2",
                      "model.hidden=128"),
                 ("trainer.length_splits=4", "optimizer=sgd", "trainer.gradient_checkpointing=true")],
    ids=["plain", "pieces", "sgd"],
)  # fmt: skip
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_agree_with_one(
    tmp_path: Path, alone: Callable[..., Path], way: str, settings: tuple[str, ...]
) -> None:
    assert together(tmp_path, *STILL, *settings, f"trainer.distributed={way}") == [0, 0]
    one, two = alone(*settings), the_run(tmp_path)
    assert agree(one, two)
    assert one.name == two.name  # the same experiment
    assert record(one)["pairing"]["batches"] == record(two)["pairing"]["batches"]
    assert record(one)["pairing"]["head"] == record(two)["pairing"]["head"]
    assert record(two)["environment"]["world_size"] == 2 and record(two)["environment"]["distributed"] == way
    assert record(one)["environment"]["key"] != record(two)["environment"]["key"]


def test_three_processes_and_a_batch_that_they_do_not_divide(tmp_path: Path, alone: Callable[..., Path]) -> None:
    assert together(tmp_path, *STILL, count=3) == [0, 0, 0]
    assert agree(alone(), the_run(tmp_path))


def never_averaged() -> None:
    from ablate.distributed.parallel import Replicated

    Replicated.averaging = lambda self, wrapped, last: wrapped.no_sync()


def test_without_averaging_they_would_not(tmp_path: Path, alone: Callable[..., Path]) -> None:
    """The negative control."""
    assert together(tmp_path, *STILL, faults={0: never_averaged, 1: never_averaged}) == [0, 0]
    assert not agree(alone(), the_run(tmp_path))


def test_each_rank_draws_its_own_dropout() -> None:
    assert len({stream("dropout", 0, rank=rank) for rank in range(4)}) == 4
    assert stream("dropout", 0, rank=0) == stream("dropout", 0)


def test_a_shards_memory_is_its_own(tmp_path: Path) -> None:
    assert together(tmp_path, *STILL, "trainer.distributed=fsdp") == [0, 0]
    found = record(the_run(tmp_path))
    assert found["memory_bytes"]["weights"] < 0.6 * 4 * found["parameters"]["total"]


# The sweep


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_sweep_forks_skips_and_says_it_once(tmp_path: Path, way: str) -> None:
    shared, apart = tmp_path / "shared", tmp_path / "apart"
    shared.mkdir()
    apart.mkdir()
    arguments = (*SWEEP, f"trainer.distributed={way}")
    assert together(shared, *arguments) == [0, 0]
    assert together(apart, *arguments, "trainer.fork.enabled=false") == [0, 0]
    assert differences(shared, apart) == []
    assert record(run_of(shared, 8))["forked_from"]["step"] == 7
    assert output(shared).count("3 runs: ") == output(shared).count("test accuracy %") == 1
    assert together(shared, *arguments) == [0, 0]
    assert output(shared).count("all 3 runs are done already") == 1
    assert not list(shared.glob("outputs/faults/.shared"))


def test_a_plan_ends_all(tmp_path: Path) -> None:
    assert together(tmp_path, *SWEEP, "plan=true") == [0, 0]
    assert output(tmp_path).count("3 runs: ") == 1 and runs(tmp_path) == {}


@pytest.mark.parametrize(
    ("settings", "why"),
    [(("clip=fxed",), "did you mean fixed?"), (("trainer.batch_size=1",), "trainer.batch_size must be at least 2"),
     (("trainer.compile=true",), "trainer.compile must be false"), (("optimizer.lr=-1",), "optimizer.lr must be")],
)  # fmt: skip
def test_bad_input_ends_all_and_is_said_once(tmp_path: Path, settings: tuple[str, ...], why: str) -> None:
    assert 2 in together(tmp_path, *COMMON, "clip=none", *settings)
    assert output(tmp_path).count(why) == 1
    assert not list(tmp_path.glob("outputs/**/run.json"))


def test_a_launcher_of_other_processes_is_refused(tmp_path: Path) -> None:
    assert 2 in together(tmp_path, *SWEEP, "hydra/launcher=local", "hydra.launcher.n_jobs=2")
    assert output(tmp_path).count("hydra/launcher must be basic") == 1


def test_sharding_needs_several_processes(tmp_path: Path) -> None:
    assert ablate(tmp_path, *FIXTURE, "trainer.distributed=fsdp") == 2
    assert "torchrun --standalone --nproc-per-node 2 -m ablate" in output(tmp_path)


def under_accelerates_fsdp() -> None:
    os.environ["ACCELERATE_USE_FSDP"] = "true"


def test_accelerates_own_sharding_is_refused(tmp_path: Path) -> None:
    assert ablate(tmp_path, *FIXTURE, fault=under_accelerates_fsdp) == 2
    assert "trainer.distributed=fsdp shards the model" in output(tmp_path)


# Faults


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_stop_of_one_stops_all_at_the_same_step(tmp_path: Path, way: str) -> None:
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    undisturbed.mkdir()
    stopped.mkdir()
    arguments = (*FIXTURE, f"trainer.distributed={way}")
    assert together(undisturbed, *arguments) == [0, 0]
    terminated = functools.partial(injection.at_step, 8, functools.partial(injection.send, signal.SIGTERM))
    assert together(stopped, *arguments, faults={1: terminated}) == [75, 75]
    assert checkpointed(the_run(stopped)) == 8
    assert together(stopped, *arguments) == [0, 0]
    assert resumed_from(the_run(stopped)) == 8
    assert differences(the_run(stopped), the_run(undisturbed)) == []


def test_a_killed_rank_costs_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    killed = functools.partial(injection.at_step, 8, injection.kill)
    assert -signal.SIGKILL in together(tmp_path, *FIXTURE, faults={1: killed})
    assert checkpointed(the_run(tmp_path)) == 5
    assert together(tmp_path, *FIXTURE) == [0, 0]
    assert resumed_from(the_run(tmp_path)) == 5 and record(the_run(tmp_path))["status"] == "done"


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_loss_that_is_not_finite_on_one_ends_the_run_on_all(tmp_path: Path, way: str) -> None:
    spoilt = functools.partial(injection.spoil_loss, 2e38, 6, 20)
    assert together(tmp_path, *SWEEP, f"trainer.distributed={way}", faults={1: spoilt}) == [0, 0]
    assert statuses(tmp_path) == {20: "diverged", 8: "done", 1: "done"}
    assert record(run_of(tmp_path, 20))["error"]["step"] == 6


def test_a_failure_of_all_is_one_runs(tmp_path: Path) -> None:
    failing = functools.partial(injection.at_step, 3, injection.fail, 20)
    assert 1 in together(tmp_path, *SWEEP, faults={0: failing, 1: failing})
    assert statuses(tmp_path) == {20: "failed", 8: "done", 1: "done"}


def impatient(fault: Fault) -> None:
    from datetime import timedelta

    from ablate.distributed import ranks

    ranks.BARRIER_TIMEOUT = timedelta(seconds=3)
    fault()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_failure_of_one_ends_all_and_nothing_is_lost(tmp_path: Path, rank: int) -> None:
    failing = functools.partial(injection.at_step, 7, injection.fail, 20)
    faults = {r: functools.partial(impatient, failing if r == rank else time.time) for r in (0, 1)}
    assert any(together(tmp_path, *SWEEP, faults=faults))
    assert checkpointed(run_of(tmp_path, 20)) == 5
    assert together(tmp_path, *SWEEP) == [0, 0]
    assert statuses(tmp_path) == {20: "done", 8: "done", 1: "done"}


def test_a_checkpoint_of_another_number_of_processes_is_not_taken_up(tmp_path: Path) -> None:
    stopped = functools.partial(injection.at_step, 8, functools.partial(injection.send, signal.SIGTERM))
    assert together(tmp_path, *FIXTURE, faults={0: stopped}) == [75, 75]
    assert ablate(tmp_path, *FIXTURE) == 0
    assert resumed_from(the_run(tmp_path)) is None and "the run starts again" in output(tmp_path)


# One process


def test_one_process_agrees_with_itself() -> None:
    assert Ranks().broadcast("done") == "done" and Ranks().gather(1) == [1] and Ranks().sum([1, 2.5]) == [1, 2.5]
    assert Ranks().max(3) == 3 and Ranks().broadcast_tensors({"step": 1}) == {"step": 1}
