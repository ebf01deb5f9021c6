"""The state of a process: what a worker knows from the command, and that nothing else at module level changes."""

import ast
from pathlib import Path

import pytest
from filelock import FileLock

import ablate.__main__ as main
from ablate.run.process import Process
from ablate.run.signals import Stopped, stop_behind
from tests.tools import ROOT


def test_a_worker_shows_what_the_command_has_not_shown() -> None:
    command, worker = Process(), Process()
    assert command.is_news("cut") and command.is_news("cut")  # progress lines of two runs may repeat a warning
    worker.become_worker(threads=2, shown=command.shown)
    assert not worker.is_news("cut") and worker.is_news("diverged") and worker.is_news("diverged")
    assert worker.threads == 2 and worker.is_worker


def test_a_worker_is_busy_during_a_run(tmp_path: Path) -> None:
    worker = Process(busy=FileLock(tmp_path / "busy"))
    with worker.working():
        assert worker.busy.is_locked
    assert not worker.busy.is_locked
    with Process().working():  # the command has no lock
        pass


def test_a_launcher_pickles_no_copy_of_the_state() -> None:
    """Joblib, submitit and Ray pickle functions of `__main__` by value, with the objects that they refer to."""
    cloudpickle = pytest.importorskip("cloudpickle")
    cloudpickle.register_pickle_by_value(main)
    try:
        app = cloudpickle.loads(cloudpickle.dumps(main.app.__wrapped__))
    finally:
        cloudpickle.unregister_pickle_by_value(main)
    assert app is not main.app.__wrapped__
    assert not any(isinstance(value, Process) for value in app.__globals__.values())


def test_no_function_rebinds_a_name_of_its_module() -> None:
    modules = [path for folder in ("ablate", "analysis") for path in (ROOT / folder).rglob("*.py")]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in modules}
    assert [path for path, tree in trees.items() if any(isinstance(n, ast.Global) for n in ast.walk(tree))] == []


# --- Requests to stop, and errors that are none ---


def test_an_error_that_is_its_own_cause_is_no_stop() -> None:
    error, other = ValueError("a"), ValueError("b")
    error.__cause__ = error
    assert stop_behind(error) is None
    error.__cause__, other.__cause__ = other, error
    assert stop_behind(error) is None
    other.__cause__ = Stopped(15)
    assert isinstance(stop_behind(error), Stopped)
