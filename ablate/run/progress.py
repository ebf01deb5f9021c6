"""The console during a sweep: warnings, one progress line for the sweep and one for the run.

Where there is no terminal the lines are plain: one when a run starts, and one every PLAIN_INTERVAL. Workers show none,
as their command watches them (`ablate.sweep.watch`), unless they have a log of their own.
"""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from ablate.config.output import LenientStream
from ablate.config.terminal import EscapingConsole, EscapingFormatter
from ablate.config.wording import duration
from ablate.run import process
from ablate.run.heartbeat import Heartbeat
from ablate.run.notebook import NotebookProgress
from ablate.schema import Step

console = EscapingConsole(stderr=True)
log = logging.getLogger("ablate")
PLAIN_INTERVAL = 30.0  # seconds between lines on a run, where there is no terminal


def is_live() -> bool:
    """Whether lines may be overwritten: in a notebook, or a terminal, that only this process writes to."""
    is_terminal = console.is_terminal and console.file.isatty() and not console.is_dumb_terminal  # whatever FORCE_COLOR
    return (is_terminal or console.is_jupyter) and not process.current.is_worker


def table_console() -> EscapingConsole:
    """Return a console on standard output for tables: in a file or a pipe 140 characters wide, or as COLUMNS says."""
    # by isatty, as FORCE_COLOR makes rich take a pipe for a terminal
    knows_width = sys.stdout.isatty() or console.is_jupyter or os.environ.get("COLUMNS")
    return EscapingConsole(width=None if knows_width else 140)


def configure_logging() -> None:
    """Show new warnings on the console, above the progress lines; the run's log file gets everything."""
    log.setLevel(logging.INFO)
    log.propagate = False
    log.disabled = False  # Hydra disables all existing loggers when it sets up its own
    if not log.handlers:
        handler = console_handler()
        handler.addFilter(lambda record: process.current.is_news(record.getMessage()))
        log.addHandler(handler)


def silence() -> None:
    """Show only errors of this process: rank 0 reports for all ranks (`ablate.distributed.ranks`)."""
    console.quiet = True
    for handler in log.handlers:
        handler.setLevel(logging.ERROR)


def console_handler() -> logging.Handler:
    if is_live():
        live = RichHandler(logging.WARNING, console, show_time=False, show_path=False)
        live.setFormatter(EscapingFormatter("%(message)s"))
        return live
    plain = logging.StreamHandler(console.file)  # one line per warning, so that paths in it are not broken
    plain.setLevel(logging.WARNING)
    plain.setFormatter(EscapingFormatter("%(levelname)s: %(message)s"))
    return plain


@contextlib.contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append everything that is logged within the block to `path` as well, as far as there is room for it."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setStream(LenientStream(handler.stream))
    handler.setFormatter(EscapingFormatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


class TimeLeft(ProgressColumn):
    """The estimated time that is left."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = "" if task.finished or task.time_remaining is None else f"{duration(task.time_remaining)} left"
        return Text(left)


def progress_lines(others: int = 51) -> Progress:
    """Lines with a bar, for a terminal of 80 columns or more; nothing where lines cannot be overwritten.

    others: characters that all columns but the first may need.
    """
    kind = NotebookProgress if console.is_jupyter else Progress
    names = Column(no_wrap=True, overflow="ellipsis", max_width=max(16, console.width - others))
    return kind(
        TextColumn("{task.description}", table_column=names, markup=False), BarColumn(10),
        TextColumn("{task.completed}/{task.total} steps"), TimeLeft(), TextColumn("{task.fields[numbers]}"),
        console=console, disable=not is_live(),
    )  # fmt: skip


def print_line(line: str) -> None:
    """Print a line as it is, however long."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


class Display:
    """Progress display for `runs` runs: `started` already started, `steps` steps left in total.

    names      short names of runs by the names of their folders
    is_silent  whether to show nothing, as in a worker whose command shows the progress of all
    """

    def __init__(
        self, runs: int, steps: int, started: int = 0, names: Mapping[str, str] | None = None, is_silent: bool = False
    ) -> None:
        self.runs, self.started, self.names = runs, started, names or {}
        self.is_plain = not is_live() and not is_silent
        self.progress = progress_lines()
        self.sweep = self.progress.add_task("", total=steps, numbers="", visible=runs > 1)
        self.run: TaskID | None = None
        self.heartbeat: Heartbeat | None = None
        self.printed = 0.0
        self.progress.start()

    def start_run(self, folder: Path, steps: int, done: int) -> None:
        """Show a run of `steps` steps that starts after step `done` (0 for a new run)."""
        self.started += 1
        self.name = self.names.get(folder.name, folder.name)
        self.progress.update(self.sweep, description=f"run {self.started} of {self.runs}")
        self.run = self.progress.add_task(self.name, total=steps, completed=done, numbers="")
        if process.current.is_worker:
            self.heartbeat = Heartbeat(folder)
            self.heartbeat.beat(done)
        self.print_plain("")

    def step(self, row: Step, steps: int) -> None:
        assert self.run is not None
        self.progress.update(self.run, completed=row.step, numbers=f"loss {row.loss:.3f}")
        self.progress.update(self.sweep, advance=1)
        if self.heartbeat:
            self.heartbeat.beat(row.step)
        if time.monotonic() - self.printed > PLAIN_INTERVAL:
            tasks = self.progress.tasks
            task = tasks[self.sweep] if tasks[self.sweep].total else tasks[-1]  # a launcher's process has its run only
            left = f", {duration(task.time_remaining)} left" if task.time_remaining else ""
            self.print_plain(f": step {row.step} of {steps}, loss {row.loss:.3f}{left}")

    def print_plain(self, text: str) -> None:
        self.printed = time.monotonic()
        if self.is_plain:
            print_line(f"[{self.started}/{self.runs}] {self.name}{text}")

    def end_run(self) -> None:
        if self.run is not None:
            self.progress.remove_task(self.run)
            self.run = None
        if self.heartbeat:
            self.heartbeat.end()
            self.heartbeat = None

    def close(self) -> None:
        self.progress.stop()


def current_display() -> Display:
    """Return the display of this process; a new one for a single run where none is open, as in a SLURM job."""
    return process.current.display or open_display(runs=1, steps=0)


def open_display(
    runs: int, steps: int, started: int = 0, names: Mapping[str, str] | None = None, is_silent: bool = False
) -> Display:
    """Replace the display of this process."""
    close_display()
    process.current.display = Display(runs, steps, started, names, is_silent)
    return process.current.display


def close_display() -> None:
    if process.current.display:
        process.current.display.close()
        process.current.display = None
