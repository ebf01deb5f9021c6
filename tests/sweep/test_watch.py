"""One line for runs in other processes, from what their folders say."""

import json
from pathlib import Path

import pytest

from ablate.run import process, progress
from ablate.run.heartbeat import Heartbeat
from ablate.run.job import rerun_folder
from ablate.sweep import watch
from ablate.sweep.watch import Watch, WatchedRun


def end(folder: Path, status: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"status": status}))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "read_run", lambda folder: json.loads((folder / "run.json").read_text()))
    monkeypatch.setattr(watch, "LOOK_INTERVAL", 3600.0)


def test_steps_and_outcomes_of_all_runs_add_up(
    tmp_path: Path, read: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run continues at step 40, the third forks at step 90."""
    monkeypatch.setattr(progress.console, "_file", None)  # that of pytest; `file` would stay set
    to_train = {"a": 100, "b": 60, "c": 10}
    for name in to_train:
        (tmp_path / name).mkdir()
    runs = [WatchedRun(tmp_path / name, f"arm {name}", 100, left) for name, left in to_train.items()]
    shown = Watch(runs)
    assert shown.words == "0/3 runs done, 0 running"
    Heartbeat(tmp_path / "a").beat(30)
    Heartbeat(tmp_path / "b").beat(50)
    shown.look()
    task = shown.progress.tasks[0]
    assert (task.completed, task.total, shown.words) == (30 + 10, 170, "0/3 runs done, 2 running")
    end(tmp_path / "a", "done")
    end(tmp_path / "c", "failed")
    end(tmp_path / "b", "running")
    shown.look()
    assert (task.completed, shown.words) == (100 + 10 + 10, "2/3 runs done, 1 running")
    shown.close()
    printed = capsys.readouterr().err
    assert "[1/3] arm a: done\n[2/3] arm c: failed\n" in printed and "\x1b" not in printed


def test_a_record_from_before_is_no_outcome(tmp_path: Path, read: None) -> None:
    """Of a rerun, the outcome is what replaces the old record; a failure stays in the rerun's own folder."""
    for name in ("a", "b"):
        end(tmp_path / name, "done")
    runs = [WatchedRun(tmp_path / name, name, 10, 10) for name in ("a", "b")]
    for run in runs:
        run.look()
    assert not any(run.is_ended for run in runs)
    end(rerun_folder(tmp_path / "b"), "failed")
    end(tmp_path / "a", "diverged")
    for run in runs:
        run.look()
    assert [run.status for run in runs] == ["diverged", "failed"]


def test_closing_the_display_ends_the_watch(tmp_path: Path, read: None) -> None:
    process.current.display = shown = Watch([WatchedRun(tmp_path, "a", 10, 10)])
    progress.close_display()
    assert process.current.display is None and not shown.thread.is_alive()
