"""Sweeps on a real SLURM of one node (hydra/launcher=slurm): equal records, and a requeued job resumes its run.

Where SLURM can't be started these tests are skipped; with ABLATE_SLURM=required they fail.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from ablate.run.signals import hand_over
from ablate.sweep.launchers import launcher
from tests import slurm
from tests.engines import FORKING, HALTING, LISTED, check_same, check_shares_and_passes_over
from tests.faults import injection
from tests.faults.harness import (
    PATIENCE,
    ablate,
    attempts,
    begin,
    begin_warm,
    checkpointed,
    differences,
    end,
    output,
    record,
    resumed_from,
    runs,
    the_run,
    wait_until,
)  # fmt: skip
from tests.tools import compose_config

UNINSTALL = partial(injection.uninstall, "hydra_submitit_launcher.submitit_launcher.SlurmLauncher")
SLURM = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    if reason := slurm.lacking():
        (pytest.fail if os.environ.get("ABLATE_SLURM") == "required" else pytest.skip)(reason)
    with slurm.running() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("undisturbed")
    (cwd / "go").touch()
    assert ablate(cwd, *HALTING) == 0
    return cwd


def asked(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


def jobs(name: str) -> dict[str, str]:
    """The state, by id, of the jobs of this name that have not ended."""
    return dict(line.split() for line in asked("squeue", "-h", "-r", "-n", name, "-o", "%i %T").splitlines())


def halted(cwd: Path, name: str) -> str:
    """Wait until the only run is within a step; return the id of its job."""
    wait_until((cwd / "halted").exists)
    ((job, _),) = jobs(name).items()
    return job


def tell(cwd: Path, job: str, *signals: str) -> None:
    """Send signals to a job as SLURM does, and let its run continue."""
    for name in signals:
        asked("scancel", job, "--signal", name)
    time.sleep(3)  # SLURM delivers them some time after scancel returns
    (cwd / "go").touch()


def begun(cwd: Path, *arguments: str) -> BaseProcess:
    """The command, which has started from the fork server; its jobs are new processes all the same."""
    return begin_warm(cwd, *arguments, SLURM_CONF=os.environ["SLURM_CONF"])


def finish(process: BaseProcess, name: str) -> int:
    """The command's exit code. SLURM holds a requeued job for two minutes, so that its node forgets it; here as long
    as the node takes ("Job credential revoked" where the job comes back within a second).
    """
    waiting: set[str] = set()
    while process.exitcode is None:
        time.sleep(5)
        seen = {job for job, state in jobs(name).items() if state == "PENDING"}
        for job in seen & waiting:
            asked("scontrol", "update", f"JobId={job}", "StartTime=now")
        waiting = seen
    return end(process)


# As one by one


@pytest.mark.slow
def test_the_same_records_and_no_run_twice(tmp_path: Path, cluster: None, one_by_one: Path) -> None:
    """The arms are listed, and the runs are those of a product."""
    assert end(begin(tmp_path, *LISTED, *SLURM)) == 0
    check_same(tmp_path, one_by_one)
    shown = output(tmp_path)
    assert "6 runs, 6 in parallel: 4 new, 2 fork" in shown and "up to 14 more are shared" in shown
    assert "scancel --me --name=ablate-faults" in shown and "python -m analysis outputs/faults" in shown
    assert "test accuracy" in shown
    assert (tmp_path / "outputs/faults/.submitit").is_dir()
    assert ablate(tmp_path, *LISTED, *SLURM) == 0
    assert "all 6 runs are done already" in output(tmp_path)


@pytest.mark.slow
def test_shares_starts_and_passes_over_a_run_that_is_held(tmp_path: Path, cluster: None, one_by_one: Path) -> None:
    check_shares_and_passes_over(tmp_path, one_by_one, *SLURM, "hydra.launcher.array_parallelism=1")


# Faults


@pytest.mark.slow
def test_row_04_a_requeued_job_goes_on(tmp_path: Path, cluster: None, undisturbed: Path) -> None:
    """Pre-emption: SIGTERM, which submitit lets pass, and its own signal. The job ends its step, saves, is requeued."""
    process = begun(tmp_path, *HALTING, *SLURM, "hydra.launcher.name=requeued")
    tell(tmp_path, halted(tmp_path, "requeued"), "SIGTERM", "SIGUSR2")
    assert finish(process, "requeued") == 0
    assert resumed_from(the_run(tmp_path)) == 8  # not a checkpoint's step by itself
    assert attempts(the_run(tmp_path)) == 2
    assert differences(tmp_path, undisturbed) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("partition", "step", "said"),
    [("spare", 8, "this job is preempted"), ("scraps", 8, "Job is pending execution"), ("scraps", 5, "forcing")],
    ids=["grace", "no_grace", "killed"],
)
def test_row_04_a_job_that_gives_way_to_another(
    tmp_path: Path, cluster: None, undisturbed: Path, partition: str, step: int, said: str
) -> None:
    """SLURM's own pre-emption. With time of grace the run ends its step, saves and has its job requeued; without any
    SLURM has requeued it already, and kills it after KillWait seconds. The two jobs want the same room, there is one.
    """
    name, urgent = f"gives_way_{partition}_{step}", f"urgent_{partition}_{step}"
    room = (f"hydra.launcher.partition={partition}", "+hydra.launcher.additional_parameters.gres=room:1")
    process = begun(tmp_path, *HALTING, *SLURM, f"hydra.launcher.name={name}", *room)
    job = halted(tmp_path, name)
    asked("sbatch", f"--job-name={urgent}", "--partition=tests", "--gres=room:1", "--output=/dev/null", "--wrap=true")
    if step == 8:
        wait_until(lambda: "PreemptTime=None" not in asked("scontrol", "show", "job", job))
        time.sleep(3)  # the signal comes some time after that
        (tmp_path / "go").touch()
    wait_until(lambda: not jobs(urgent))
    (tmp_path / "go").touch()
    assert finish(process, name) == 0
    assert (resumed_from(the_run(tmp_path)), attempts(the_run(tmp_path))) == (step, 2)
    assert differences(tmp_path, undisturbed) == []
    (log,) = tmp_path.glob("outputs/faults/.submitit/*/*_log.err")
    assert said in log.read_text()


@pytest.mark.parametrize(
    ("said", "ending"), [("Job is pending execution", SystemExit), ("Unable to contact", subprocess.CalledProcessError)]
)
def test_only_a_job_in_the_queue_counts_as_requeued(said: str, ending: type[BaseException]) -> None:
    def requeue(signum: int, frame: None) -> None:
        subprocess.run(["bash", "-c", f"echo {said} >&2; exit 1"], check=True)

    with pytest.raises(ending):
        hand_over(requeue, signal.SIGUSR2)


@pytest.mark.slow
def test_row_04_a_job_that_may_not_be_requeued_again(tmp_path: Path, cluster: None, undisturbed: Path) -> None:
    """After its last time-out: the checkpoint stays, the table says so, exit code 1. (A job of a minute is at its end
    whenever it gets the signal, as submitit counts.)"""
    last = ("hydra.launcher.timeout_min=1", "hydra.launcher.max_num_timeout=0", "hydra.launcher.signal_delay_s=0")
    process = begun(tmp_path, *HALTING, *SLURM, "hydra.launcher.name=last", *last)
    tell(tmp_path, halted(tmp_path, "last"), "SIGUSR2")
    assert end(process) == 1
    assert "interrupted: " in output(tmp_path) and "run the same command again" in output(tmp_path)
    assert record(the_run(tmp_path))["status"] == "running" and checkpointed(the_run(tmp_path)) == 8
    (log,) = tmp_path.glob("outputs/faults/.submitit/*/*_log.err")
    assert "timed-out too many times" in log.read_text()
    assert ablate(tmp_path, *HALTING) == 0
    assert differences(tmp_path, undisturbed) == []


@pytest.mark.long
def test_row_04_a_job_that_is_out_of_time(tmp_path: Path, cluster: None, undisturbed: Path) -> None:
    """SLURM's own signal, some time before a minute is over."""
    minute = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=30")
    process = begun(tmp_path, *HALTING, *SLURM, "hydra.launcher.name=minute", *minute)
    halted(tmp_path, "minute")
    time.sleep(45)
    (tmp_path / "go").touch()
    assert finish(process, "minute") == 0
    assert (resumed_from(the_run(tmp_path)), attempts(the_run(tmp_path))) == (8, 2)
    assert differences(tmp_path, undisturbed) == []


@pytest.mark.slow
def test_the_jobs_outlive_a_command_that_is_stopped(tmp_path: Path, cluster: None, undisturbed: Path) -> None:
    process = begin(tmp_path, *HALTING, *SLURM, "hydra.launcher.name=left")
    halted(tmp_path, "left")
    process.terminate()
    assert end(process) == 75
    assert "the jobs continue without this command" in output(tmp_path) and "scancel --me --name=left" in output(
        tmp_path
    )
    (tmp_path / "go").touch()
    wait_until(lambda: not jobs("left"))
    assert attempts(the_run(tmp_path)) == 1
    assert differences(tmp_path, undisturbed) == []


# Threads and input


def test_a_run_has_its_jobs_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)
    found = launcher(compose_config("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=6"))
    assert (found.threads, found.parallel_runs) == (6, 16)


@pytest.mark.parametrize(
    "setting",
    ["array_parallelism=0", "cpus_per_task=null", "cpus_per_task=1.5", "timeout_min=many", "max_num_timeout=-1"],
)
def test_row_23_no_such_number(tmp_path: Path, setting: str) -> None:
    assert ablate(tmp_path, *FORKING, "hydra/launcher=slurm", f"hydra.launcher.{setting}") == 2
    shown = setting.replace("null", "None")
    assert f"hydra.launcher.{shown.partition('=')[0]} must be a whole number" in output(tmp_path)
    assert runs(tmp_path) == {}


def leave_the_cluster() -> None:
    os.environ["PATH"] = ""


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [(UNINSTALL, 'pip install "ablate-finetuning[slurm]"'), (leave_the_cluster, "needs sbatch on the PATH")],
)
def test_row_25_without_slurm(tmp_path: Path, fault: object, complaint: str) -> None:
    assert ablate(tmp_path, *FORKING, "hydra/launcher=slurm", fault=fault) == 2  # type: ignore[arg-type]
    assert complaint in output(tmp_path) and "Traceback" not in output(tmp_path)
    assert runs(tmp_path) == {}
