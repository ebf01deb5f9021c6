"""Parallel runs: the same records as one by one, and a fault of a worker costs no more than necessary."""

import os
import signal
from functools import partial
from pathlib import Path

import joblib
import psutil
import pytest

from ablate.sweep import launchers, workers
from ablate.sweep.launchers import launcher
from ablate.trainer import cores
from tests.engines import FORKING, LISTED, SIGNALLING, check_same
from tests.faults import injection
from tests.faults.harness import (
    COMMON,
    ablate,
    alive,
    begin,
    checkpointed,
    differences,
    end,
    job_of,
    output,
    runs,
    wait_until,
)
from tests.tools import compose_config

UNINSTALL = partial(injection.uninstall, "hydra_joblib_launcher.joblib_launcher.JoblibLauncher")
LOCAL = ("hydra/launcher=local", "hydra.launcher.n_jobs=2")
DISTURBED = (*SIGNALLING, "seed=0,1,2")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("undisturbed")
    assert ablate(cwd, *DISTURBED) == 0  # there is no file `fault`
    return cwd


def at_once(cwd: Path, *arguments: str) -> int:
    """Run the command with two workers, not from the fork server, where command and workers wait for each other."""
    return end(begin(cwd, *arguments, *LOCAL))


# As one by one


@pytest.mark.slow
def test_the_same_records_and_no_run_twice(tmp_path: Path, one_by_one: Path) -> None:
    """The arms are listed, and the runs are those of a product."""
    assert at_once(tmp_path, *LISTED) == 0
    check_same(tmp_path, one_by_one)
    shown = output(tmp_path)
    assert "6 runs, 2 in parallel: 4 new, 2 fork" in shown and "up to 14 more are shared" in shown
    assert "test accuracy" in shown and "\x1b" not in shown  # the table, and plain lines
    ended = [line.partition("] ") for line in shown.splitlines() if line.endswith(": done")]
    assert [place for place, _, _ in ended] == [f"[{n}/6" for n in range(1, 7)]
    assert len({name for _, _, name in ended}) == 6 and all(", seed " in name for _, _, name in ended)
    assert ablate(tmp_path, *LISTED, *LOCAL) == 0
    assert "all 6 runs are done already" in output(tmp_path)


def test_a_single_run_has_no_launcher(tmp_path: Path) -> None:
    assert ablate(tmp_path, *COMMON, *LOCAL, "trainer.steps=2", fault=UNINSTALL) == 0


# Threads and devices


def test_workers_share_the_cores() -> None:
    """With trainer.threads: null; a given number stays."""
    assert launchers.one_by_one().threads == launchers.sharing(1).threads == cores()
    assert launchers.sharing(2).threads == max(1, cores() // 2)
    assert launchers.sharing(10**6).threads == 1
    assert job_of("trainer.threads=null").with_threads(2).config["trainer"]["threads"] == 2
    assert job_of("trainer.threads=3").with_threads(2).config["trainer"]["threads"] == 3
    assert job_of("trainer.threads=null").with_threads(2).id == job_of("trainer.threads=3").id


@pytest.mark.parametrize(
    ("cores", "devices", "at_once"), [(1, 0, 1), (2, 0, 2), (64, 0, 4), (2, 1, 2), (64, 1, 2), (64, 8, 8)]
)
def test_how_many_at_once(cores: int, devices: int, at_once: int) -> None:
    assert workers.default_workers(cores, devices) == at_once


def test_as_many_as_make_sense_unless_told() -> None:
    assert compose_config("hydra/launcher=local", "trainer.device=cpu").hydra.launcher.n_jobs == min(cores(), 4)
    assert launcher(compose_config(*LOCAL)).parallel_runs == 2
    assert launcher(compose_config("hydra/launcher=joblib")).parallel_runs == cores()
    assert launcher(compose_config()) == launchers.one_by_one()


def test_each_worker_has_a_number_of_its_own(tmp_path: Path) -> None:
    team = workers.Team(2, tmp_path, ())
    (one, life), (other, _kept) = team.claim_number(), team.claim_number()
    assert {one, other} == {0, 1} and team.is_locked(one)
    life.release()  # as the system does when a worker ends
    assert not team.is_locked(one)
    assert team.claim_number()[0] == one


def test_dismissed_workers_are_gone(tmp_path: Path) -> None:
    pids = set(joblib.Parallel(2)(joblib.delayed(os.getpid)() for _ in range(8)))
    assert os.getpid() not in pids and all(map(psutil.pid_exists, pids))  # joblib keeps them
    workers.Team(2, tmp_path, ()).dismiss()
    assert not any(map(psutil.pid_exists, pids))


def test_a_gpu_for_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [workers.device_of(i, ("2", "5")) for i in range(4)] == ["2", "5", "2", "5"]
    assert workers.device_of(1, ("0",)) is workers.device_of(1, ()) is None
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert workers.cuda_devices() == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert workers.cuda_devices() == ("2", "5")


# Faults


@pytest.mark.slow
def test_row_05_a_killed_worker(tmp_path: Path, undisturbed: Path) -> None:
    """It ends the others: the table, exit code 1, and the same command continues from the checkpoints."""
    (tmp_path / "fault").write_text(f"{int(signal.SIGKILL)} own")
    assert at_once(tmp_path, *DISTURBED) == 1
    shown = output(tmp_path)
    assert "a worker was killed" in shown and "runs continue from their last checkpoints" in shown
    assert "interrupted: " in shown and "Traceback" not in shown
    assert ablate(tmp_path, *DISTURBED) == 0
    assert differences(tmp_path, undisturbed) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "whom", "code"), [(signal.SIGTERM, "parent", 75), (signal.SIGINT, "group", 130)], ids=["term", "ctrl_c"]
)
def test_row_04_a_stop_of_the_command(tmp_path: Path, undisturbed: Path, signum: int, whom: str, code: int) -> None:
    """Each worker ends its step and saves, and no further run begins. Ctrl-C also reaches the workers directly."""
    (tmp_path / "fault").write_text(f"{int(signum)} {whom}")
    assert at_once(tmp_path, *DISTURBED) == code
    assert "run the same command again to continue" in output(tmp_path)
    assert "Traceback" not in output(tmp_path)
    warnings = [line for line in output(tmp_path).splitlines() if "warn" in line.lower()]
    assert [line for line in warnings if "other processes use" not in line] == []  # such as those of other tests
    begun = [folder for folder in runs(tmp_path).values() if (folder / "run.json").exists()]
    assert 8 in [checkpointed(folder) for folder in begun]
    assert all(checkpointed(folder) for folder in begun)  # of the others, whatever step they were at
    assert ablate(tmp_path, *DISTURBED) == 0
    assert differences(tmp_path, undisturbed) == []


@pytest.mark.slow
def test_row_01_workers_end_when_the_command_is_killed(tmp_path: Path, undisturbed: Path) -> None:
    """Soon, where joblib's would wait 300 s for work; the runs are saved."""
    longer = tuple(a for a in DISTURBED if not a.startswith("trainer.steps"))
    process = begin(tmp_path, *longer, *LOCAL, "trainer.steps=100000")
    wait_until(lambda: len(list(tmp_path.glob("outputs/*/*/checkpoint.pt"))) == 2)
    assert len(alive(process.pid)) >= 3
    process.kill()
    process.wait()
    wait_until(lambda: not alive(process.pid), patience=120)
    before = [checkpointed(folder) for folder in runs(tmp_path).values()]
    assert len(before) == 2 and not any(leftover for leftover in tmp_path.glob("outputs/*/*/.*.tmp"))


# Input


def test_row_25_without_joblib(tmp_path: Path) -> None:
    assert ablate(tmp_path, *FORKING, *LOCAL, fault=UNINSTALL) == 2
    assert 'pip install "ablate-finetuning[joblib]"' in output(tmp_path)
    assert "Traceback" not in output(tmp_path)
    assert runs(tmp_path) == {}


@pytest.mark.parametrize("n_jobs", ["0", "1.5", "many"])
def test_row_23_no_number_of_workers(tmp_path: Path, n_jobs: str) -> None:
    assert ablate(tmp_path, *FORKING, "hydra/launcher=local", f"hydra.launcher.n_jobs={n_jobs}") == 2
    assert "hydra.launcher.n_jobs must be a whole number" in output(tmp_path)
    assert runs(tmp_path) == {}
