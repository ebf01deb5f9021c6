"""Sweeps on Ray (hydra/launcher=cluster): equal records, and a run whose process dies resumes from its checkpoint."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from ablate.sweep.launchers import launcher
from ablate.trainer import cores
from tests.engines import FORKING, HALTING, LISTED, SIGNALLING, check_same, check_shares_and_passes_over
from tests.faults import injection
from tests.faults.harness import (
    PATIENCE,
    ablate,
    attempts,
    begin,
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
from tests.tools import ROOT, compose_config

UNINSTALL = partial(injection.uninstall, "hydra_ray_launcher.ray_launcher.RayLauncher")
RAY = ("hydra/launcher=cluster",)
AS_IMPORTANT = {"RAY_worker_niceness": "0"}  # Ray workers' low priority would cost long waits


def by_ray(cwd: Path, *arguments: str) -> int:
    return end(begin(cwd, *arguments, *RAY, **AS_IMPORTANT))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster that was started in another folder, as a cluster of several machines is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}", "--num-cpus=2",
        "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={tempfile.mkdtemp(prefix='ray-')}",
    ]  # fmt: skip
    cwd = tmp_path_factory.mktemp("elsewhere")
    said = cwd / "said.txt"
    with said.open("w") as printed:
        process = subprocess.Popen(
            command, cwd=cwd, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, **AS_IMPORTANT, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    try:
        wait_until(lambda: "To terminate the Ray runtime" in said.read_text() or process.poll() is not None)
        assert process.poll() is None, said.read_text()
        (address,) = re.findall(r"--address='([^']+)'", said.read_text())
        yield address
    finally:
        process.terminate()
        process.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def halting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of HALTING, undisturbed."""
    cwd = tmp_path_factory.mktemp("halting")
    (cwd / "go").touch()
    assert ablate(cwd, *HALTING) == 0
    return cwd


# As one by one


@pytest.mark.slow
def test_the_same_records_and_no_run_twice(tmp_path: Path, one_by_one: Path) -> None:
    """The arms are listed, and the runs are those of a product."""
    assert by_ray(tmp_path, *LISTED) == 0
    check_same(tmp_path, one_by_one)
    shown = output(tmp_path)
    assert "6 runs, " in shown and "4 new, 2 fork" in shown and "test accuracy" in shown
    assert "\x1b" not in shown and "repeated" not in shown  # plain lines, each of them
    assert ablate(tmp_path, *LISTED, *RAY) == 0
    assert "all 6 runs are done already" in output(tmp_path)


@pytest.mark.slow
def test_a_cluster_that_is_there_already(tmp_path: Path, one_by_one: Path, elsewhere: str) -> None:
    """Its workers enter the command's folder, where runs read and write, and keep running after the command."""
    for _ in range(2):
        address = f"hydra.launcher.ray.init.address={elsewhere}"
        assert end(begin(tmp_path, *FORKING, *RAY, address)) == 0
    check_same(tmp_path, one_by_one)
    shown = output(tmp_path)
    assert "6 runs, 2 in parallel: 4 new, 2 fork" in shown and elsewhere in shown
    assert "all 6 runs are done already" in shown


@pytest.mark.slow
def test_shares_starts_and_passes_over_a_run_that_is_held(tmp_path: Path, one_by_one: Path) -> None:
    """Ray may start tasks in another order than given: if the second run started first, try once more."""
    engine = (*RAY, "hydra.launcher.ray.init.num_cpus=1")
    try:
        check_shares_and_passes_over(tmp_path, one_by_one, *engine, **AS_IMPORTANT)
    except AssertionError:
        told = output(tmp_path)
        if re.findall(r"(\d+)\]?, seed 0: done", told)[:2] != ["8", "20"]:
            raise
        (tmp_path / "again").mkdir()
        check_shares_and_passes_over(tmp_path / "again", one_by_one, *engine, **AS_IMPORTANT)


# Faults


@pytest.mark.slow
def test_row_05_a_killed_worker_is_replaced(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    assert ablate(undisturbed, *SIGNALLING) == 0  # there is no file `fault`
    (tmp_path / "fault").write_text(f"{int(signal.SIGKILL)} own")
    assert by_ray(tmp_path, *SIGNALLING) == 0
    assert (resumed_from(the_run(tmp_path)), attempts(the_run(tmp_path))) == (5, 2)
    assert differences(tmp_path, undisturbed) == []


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)], ids=["term", "ctrl_c"])
def test_row_04_a_stop_of_the_command(tmp_path: Path, halting: Path, signum: int, code: int) -> None:
    """Its cluster ends with it, during a run; the run does not count as failed, and can be resumed."""
    process = begin(tmp_path, *HALTING, *RAY, **AS_IMPORTANT)
    wait_until((tmp_path / "halted").exists)
    process.send_signal(signum)
    assert end(process) == code
    assert "run the same command again to continue from the last checkpoints" in output(tmp_path)
    assert record(the_run(tmp_path))["status"] == "running" and checkpointed(the_run(tmp_path)) == 5
    (tmp_path / "go").touch()
    assert ablate(tmp_path, *HALTING) == 0
    assert differences(tmp_path, halting) == []


# Threads and input


def test_a_run_has_its_tasks_cpus() -> None:
    found = launcher(compose_config("hydra/launcher=cluster", "hydra.launcher.ray.init.num_cpus=7",
                                    "hydra.launcher.ray.remote.num_cpus=3"))  # fmt: skip
    assert (found.threads, found.parallel_runs) == (3, 2)
    assert launcher(compose_config("hydra/launcher=cluster")).parallel_runs == cores()


@pytest.mark.parametrize("number", ["0", "0.5", "null"])
def test_row_23_no_number_of_cpus(tmp_path: Path, number: str) -> None:
    assert ablate(tmp_path, *FORKING, *RAY, f"hydra.launcher.ray.remote.num_cpus={number}") == 2
    assert "hydra.launcher.ray.remote.num_cpus must be a whole number, at least 1" in output(tmp_path)
    assert runs(tmp_path) == {}


def test_row_23_more_cpus_than_there_are(tmp_path: Path) -> None:
    """Ray would wait for a machine that has them."""
    assert ablate(tmp_path, *FORKING, *RAY, "hydra.launcher.ray.remote.num_cpus=100000") == 2
    assert f"must be at most the {cores()}" in output(tmp_path)
    assert runs(tmp_path) == {}


def test_row_25_no_cluster_at_the_address(tmp_path: Path) -> None:
    assert end(begin(tmp_path, *FORKING, *RAY, "hydra.launcher.ray.init.address=127.0.0.1:1")) == 2
    assert "hydra.launcher.ray.init.address must be the address of a running Ray cluster (got 127.0.0.1:1)" in output(
        tmp_path
    )
    assert "Traceback" not in output(tmp_path)
    assert runs(tmp_path) == {}


def test_row_25_without_ray(tmp_path: Path) -> None:
    assert ablate(tmp_path, *FORKING, *RAY, fault=UNINSTALL) == 2
    assert 'pip install "ablate-finetuning[ray]"' in output(tmp_path)
    assert "Traceback" not in output(tmp_path)
    assert runs(tmp_path) == {}
