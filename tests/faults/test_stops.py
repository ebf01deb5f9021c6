"""SIGTERM (pre-emption) and Ctrl-C: a checkpoint at the step's end, an exit code for "try again", no process left."""

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from ablate.run.signals import Stopped, StopRequest, stop_requests, terminate
from tests.faults.harness import (
    FIXTURE,
    SWEEP,
    ablate,
    attempts,
    begin,
    checkpointed,
    differences,
    end,
    finish,
    output,
    record,
    resumed_from,
    run_of,
    runs,
    start,
    statuses,
    steps,
    the_run,
    wait_until,
)
from tests.faults.injection import at_step, before_evaluation, before_training, send, then

SIGNALS = [(signal.SIGTERM, 75), (signal.SIGINT, 130)]


@pytest.mark.parametrize(("signum", "code"), SIGNALS)
def test_row_04_stop_at_the_steps_end(tmp_path: Path, undisturbed: Path, signum: int, code: int) -> None:
    process = start(tmp_path, *FIXTURE, fault=partial(at_step, 8, partial(send, signum)))
    assert finish(process) == code
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no process of its group is left
    assert checkpointed(the_run(tmp_path)) == 8
    assert steps(the_run(tmp_path)) == list(range(1, 9))
    assert "run the same command again to continue" in output(tmp_path)
    assert "Traceback" not in output(tmp_path)
    assert ablate(tmp_path, *FIXTURE) == 0
    assert resumed_from(the_run(tmp_path)) == 8
    assert differences(tmp_path, undisturbed) == []


@pytest.mark.parametrize(("signum", "code"), SIGNALS)
def test_row_04_a_stop_ends_the_sweep(tmp_path: Path, undisturbed_sweep: Path, signum: int, code: int) -> None:
    assert ablate(tmp_path, *SWEEP, fault=partial(at_step, 12, partial(send, signum), 8)) == code
    assert statuses(tmp_path) == {20: "done", 8: "running"}  # the third arm has not started
    assert ablate(tmp_path, *SWEEP) == 0
    assert attempts(run_of(tmp_path, 20)) == 1
    assert resumed_from(run_of(tmp_path, 8)) == 12
    assert differences(tmp_path, undisturbed_sweep) == []


@pytest.mark.parametrize(("signum", "code"), SIGNALS)
def test_row_04_stop_before_the_first_step(tmp_path: Path, undisturbed: Path, signum: int, code: int) -> None:
    """While the model loads: obeyed at the end of the first step."""
    assert ablate(tmp_path, *FIXTURE, fault=partial(before_training, partial(send, signum))) == code
    assert checkpointed(the_run(tmp_path)) == 1
    assert ablate(tmp_path, *FIXTURE) == 0
    assert differences(tmp_path, undisturbed) == []


@pytest.mark.parametrize("step", [15, 20])  # where a checkpoint is due anyway, and the last
def test_row_04_stop_at_a_special_step(tmp_path: Path, undisturbed: Path, step: int) -> None:
    assert ablate(tmp_path, *FIXTURE, fault=partial(at_step, step, partial(send, signal.SIGTERM))) == 75
    assert ablate(tmp_path, *FIXTURE) == 0
    assert resumed_from(the_run(tmp_path)) == step
    assert differences(tmp_path, undisturbed) == []


def test_row_04_stop_in_the_last_evaluation(tmp_path: Path, undisturbed_sweep: Path) -> None:
    """Too late for a checkpoint: the run is finished, and the sweep still ends."""
    disturb = partial(before_evaluation, "test", partial(send, signal.SIGTERM))
    assert ablate(tmp_path, *SWEEP, fault=disturb) == 75
    (first,) = runs(tmp_path).values()
    assert record(first)["status"] == "done"
    assert ablate(tmp_path, *SWEEP) == 0
    assert attempts(first) == 1
    assert differences(tmp_path, undisturbed_sweep) == []


def test_row_04_second_ctrl_c_interrupts_at_once(tmp_path: Path, undisturbed: Path) -> None:
    twice = partial(then, partial(send, signal.SIGINT), partial(send, signal.SIGINT))
    assert ablate(tmp_path, *FIXTURE, fault=partial(at_step, 8, twice)) == 130
    assert checkpointed(the_run(tmp_path)) == 5  # no time for one at step 8
    assert ablate(tmp_path, *FIXTURE) == 0
    assert differences(tmp_path, undisturbed) == []


def test_row_04_a_storm_of_signals(tmp_path: Path) -> None:
    """Until the process is gone, while Python itself shuts down too."""
    process = begin(tmp_path, *FIXTURE, "trainer.steps=100000")
    wait_until(lambda: any(tmp_path.glob("outputs/faults/*/checkpoint.pt")))
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.003)
    assert end(process) == 75
    assert "Traceback" not in output(tmp_path) and "run the same command again to continue" in output(tmp_path)


def test_row_04_ctrl_c_in_a_terminal_gives_the_cursor_back(tmp_path: Path) -> None:
    fault = partial(then, in_a_terminal, partial(at_step, 8, partial(send, signal.SIGINT)))
    assert ablate(tmp_path, *FIXTURE, fault=fault) == 130
    shown = (tmp_path / "terminal.txt").read_text()
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert hide in shown and shown.rindex(show) > shown.rindex(hide)


def in_a_terminal() -> None:
    """Write the progress lines to terminal.txt, as to a terminal."""
    from ablate.run import progress

    progress.console.file = open("terminal.txt", "w", encoding="utf-8")  # noqa: SIM115
    progress.console.file.isatty = lambda: True
    progress.console._force_terminal = True


# The handlers


def test_row_04_a_launchers_handler_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit's handler requeues the job and ends it; it has to get the signal."""
    seen = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: seen.append(signum))
    try:
        with stop_requests() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


@pytest.mark.parametrize("handler", [signal.SIG_DFL, terminate])
def test_row_04_handlers_are_put_back(handler: object) -> None:
    before = signal.signal(signal.SIGTERM, handler)  # type: ignore[arg-type]
    try:
        with stop_requests() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.asked
        assert signal.getsignal(signal.SIGTERM) == handler
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
        with pytest.raises(Stopped, match="SIGTERM"):
            stop.obey()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_row_04_an_ignored_ctrl_c_stays_ignored() -> None:
    """As under nohup, after a SIGTERM as well."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_requests() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.signum == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_row_04_in_a_thread_nothing_is_caught() -> None:
    """For a launcher that runs jobs in threads: Python allows only the main thread to set handlers."""
    found: list[StopRequest] = []

    def work() -> None:
        with stop_requests() as stop:
            found.append(stop)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [stop.asked for stop in found] == [False]
