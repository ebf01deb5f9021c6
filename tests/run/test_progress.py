"""Progress lines: short and without control characters where there is no terminal, with a bar where there is one."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ablate.config.terminal import EscapingConsole
from ablate.run import heartbeat, progress
from ablate.run.heartbeat import Heartbeat, step_reached
from tests.run.test_records import STEP


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, **variables: str) -> str:
    """What two runs of three steps print to a stream, each step 20 s after the one before."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TERM", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm", "COLUMNS": "80"} | variables).items():
        monkeypatch.setenv(name, value)
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(progress, "console", EscapingConsole(file=stream))
    names = {"a": "no clipping and a long name that goes on and on, seed 0", "b": "clipping at 1, seed 0"}
    display = progress.open_display(2, 6, names=names)
    for name in names:
        display.start_run(Path(name), 3, 0)
        for step in (1, 2, 3):
            display.step(replace(STEP, step=step, loss=0.5), 3)
        display.progress.refresh()
        display.end_run()
    progress.close_display()
    return stream.getvalue()


@pytest.mark.parametrize("stream, variables", [
    (io.StringIO, {}), (io.StringIO, {"FORCE_COLOR": "1"}), (Terminal, {"TERM": "dumb"}),
])  # fmt: skip
def test_plain_lines_have_no_control_characters(
    stream: type[io.StringIO], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(monkeypatch, stream(), **variables)
    assert "\x1b" not in text and "\r" not in text
    lines = text.splitlines()
    assert lines[0].startswith("[1/2] no clipping") and lines[-2] == "[2/2] clipping at 1, seed 0"
    assert re.fullmatch(r"\[2/2\] clipping at 1, seed 0: step 2 of 3, loss 0\.500(, .* left)?", lines[-1])
    assert len(lines) == 4  # one per run, and one in 30 s


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_of_80_columns_has_bars_that_do_not_wrap(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(monkeypatch, Terminal(), **variables)
    assert "\x1b[2K" in text  # the control: lines are overwritten
    assert ("\x1b[9" in text) == (not variables)
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", text)]
    assert max(map(len, lines)) <= 80
    assert any(re.match(r"run 2 of 2 .* 6/6 steps", line) for line in lines)
    assert any(re.match(r"clipping at 1, seed 0 .* 3/3 steps +loss 0\.500", line) for line in lines)


def test_the_step_of_a_worker_is_read_by_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert step_reached(tmp_path) is None
    beat = Heartbeat(tmp_path)
    beat.beat(3)
    beat.beat(4)  # too soon
    assert step_reached(tmp_path) == 3
    monkeypatch.setattr(heartbeat, "BEAT_INTERVAL", 0.0)
    beat.beat(5)
    assert step_reached(tmp_path) == 5
    beat.end()
    assert step_reached(tmp_path) is None and not any(tmp_path.iterdir())
    Heartbeat(tmp_path / "missing").beat(1)  # a courtesy: no error
