"""Undisturbed runs to compare with, made once; and an end for every process that a test leaves behind."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.faults.harness import FIXTURE, SWEEP, ablate
from tests.faults.injection import at_step, kill


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    for process in multiprocessing.active_children():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of an undisturbed run."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    assert ablate(cwd, *FIXTURE) == 0
    return cwd


@pytest.fixture(scope="session")
def undisturbed_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for a sweep of three arms."""
    cwd = tmp_path_factory.mktemp("sweep")
    assert ablate(cwd, *SWEEP) == 0
    return cwd


@pytest.fixture(scope="session")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `undisturbed`, killed at step 12: it has a checkpoint of step 10."""
    cwd = tmp_path_factory.mktemp("killed")
    assert ablate(cwd, *FIXTURE, fault=partial(at_step, 12, kill)) == -signal.SIGKILL
    return cwd
