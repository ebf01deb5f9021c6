"""Threads spin on idle cores and sleep on busy ones, and what they compute does not depend on it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ablate.trainer import available_cores
from ablate.training import waiting
from ablate.training.waiting import Waiting, gnu_parallel, run_delay

needs_gnu = pytest.mark.skipif(gnu_parallel() is None or run_delay() is None, reason="needs Linux and GNU's OpenMP")


class Cores:
    """Time that threads have waited for cores, as a test sets it, and a clock."""

    def __init__(self, monkeypatch):
        self.now = self.waited = 0.0
        monkeypatch.setattr(waiting.time, "monotonic", lambda: self.now)

    def pass_second(self, waited):
        self.now, self.waited = self.now + 1, self.waited + waited


def threads_of_process():
    """Their number, once no thread of an earlier test is about to end."""
    counts = [0, 1]
    while counts[-1] != counts[-2]:
        time.sleep(0.2)
        counts.append(len(list(Path("/proc/self/task").iterdir())))
    return counts[-1]


@pytest.fixture
def cores(monkeypatch):
    for variable in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(variable, raising=False)
    return Cores(monkeypatch)


@needs_gnu
def test_threads_sleep_while_others_want_the_cores_and_spin_again_afterwards(cores):
    threads = max(2, available_cores())
    with Waiting(threads, lambda: cores.waited) as found:
        states = []
        for waited in (0.0, 0.04, 0.9, 0.1, 0.0, 0.9):
            cores.pass_second(waited)
            found.adapt()
            states.append(found.asleep is not None)
        assert states == [False, False, True, True, False, True]
    assert found.asleep is None


@needs_gnu
def test_the_cores_are_looked_at_once_a_second(cores):
    with Waiting(2, lambda: cores.waited) as found:
        cores.now, cores.waited = 0.9, 0.9
        found.adapt()
        assert found.asleep is None


@needs_gnu
def test_sleeping_makes_more_threads_of_openmp_than_cores_until_it_ends():
    before, found = threads_of_process(), Waiting(2)
    found.sleep()
    assert threads_of_process() == before + available_cores()  # with the run's 2 threads: one more than cores
    found.spin()
    assert threads_of_process() == before


@needs_gnu
@pytest.mark.parametrize("variable", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_a_users_own_choice_stays(monkeypatch, variable):
    monkeypatch.setenv(variable, "passive" if "POLICY" in variable else "5")
    assert Waiting(2).waited is None


def test_nothing_is_done_for_one_thread_more_than_cores_or_where_the_wait_is_unknown(cores):
    more = available_cores() + 5  # they spin for a moment only
    for found in (Waiting(1, lambda: cores.waited), Waiting(more, lambda: cores.waited), Waiting(2, lambda: None)):
        cores.pass_second(0.9)
        found.adapt()
        assert found.asleep is None


@needs_gnu
def test_the_wait_for_a_core_is_measured():
    """Two processes on one core: ours waits for about half of the time. Alone, it does not."""
    code = (
        "import os, time; from ablate.training.waiting import run_delay\n"
        "core = min(os.sched_getaffinity(0)); os.sched_setaffinity(0, {core}); child = None\n"
        "def share():\n"
        "    began, before = time.monotonic(), run_delay()\n"
        "    while time.monotonic() - began < 0.5: pass\n"
        "    return (run_delay() - before) / (time.monotonic() - began)\n"
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'while True: pass'])\n"
        "time.sleep(0.3); print(share()); child.kill()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) > waiting.BUSY


@needs_gnu
def test_numbers_do_not_depend_on_how_threads_wait():
    a = torch.randn(512, 512, generator=torch.Generator().manual_seed(0))

    def numbers():
        return torch.cat([(a @ a).flatten(), torch.softmax(a, 0).flatten(), a.sum()[None]])

    usual, found = numbers(), Waiting(2)
    found.sleep()
    try:
        assert torch.equal(numbers(), usual)
    finally:
        found.spin()
