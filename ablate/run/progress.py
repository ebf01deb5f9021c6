"""The console during a sweep: warnings, one progress line for the sweep and one for the run.

Where there is no terminal, and in workers, which share one terminal, the lines are plain: a few per run.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ablate.config.output import LenientStream
from ablate.config.terminal import EscapingConsole, EscapingFormatter
from ablate.config.wording import duration
from ablate.run import process
from ablate.run.notebook import NotebookProgress
from ablate.schema import Step

console = EscapingConsole(stderr=True)
log = logging.getLogger("ablate")
PLAIN_LINES = 4  # per run, where there is no terminal


def is_live() -> bool:
    """Whether lines may be overwritten: in a notebook, or a terminal, that only this process writes to."""
    return (console.is_terminal or console.is_jupyter) and not process.current.is_worker


def table_console() -> EscapingConsole:
    """Return a console on standard output for tables, 140 characters wide where that is a file or a pipe."""
    # by isatty, as FORCE_COLOR makes rich take a pipe for a terminal
    return EscapingConsole(width=None if sys.stdout.isatty() or console.is_jupyter else 140)


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


class Display:
    """Progress display for `runs` runs: `started` already started, `steps` steps left in total."""

    def __init__(self, runs: int, steps: int, started: int = 0) -> None:
        self.runs, self.started, self.is_live = runs, started, is_live()
        kind = NotebookProgress if console.is_jupyter else Progress
        self.progress = kind(
            TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.completed}/{task.total} steps"),
            TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[numbers]}"),
            console=console, disable=not self.is_live,
        )  # fmt: skip
        self.sweep = self.progress.add_task("", total=steps, numbers="", visible=runs > 1)
        self.run: TaskID | None = None
        self.progress.start()

    def start_run(self, name: str, steps: int, done: int) -> None:
        """Show a run of `steps` steps that starts after step `done` (0 for a new run)."""
        self.started += 1
        self.name = name
        self.progress.update(self.sweep, description=f"sweep: run {self.started} of {self.runs}")
        self.run = self.progress.add_task(name, total=steps, completed=done, numbers="")
        if not self.is_live:
            console.print(f"[{self.started}/{self.runs}] {name}", markup=False, highlight=False)

    def step(self, row: Step, steps: int) -> None:
        assert self.run is not None
        numbers = f"loss {row.loss:.3f}  |g| {row.grad_norm:.2f}  lr {row.lr:.1e}"
        self.progress.update(self.run, completed=row.step, numbers=numbers)
        self.progress.update(self.sweep, advance=1)
        if not self.is_live and row.step % max(1, steps // PLAIN_LINES) == 0:
            left = self.progress.tasks[self.sweep].time_remaining if self.runs > 1 else None
            console.print(
                f"[{self.started}/{self.runs}] {self.name}  step {row.step}/{steps}  {numbers}"
                + (f"  {duration(left)} left" if left else ""),
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip

    def end_run(self) -> None:
        if self.run is not None:
            self.progress.remove_task(self.run)
            self.run = None

    def close(self) -> None:
        self.progress.stop()


def current_display() -> Display:
    """Return the display of this process; a new one for a single run where none is open, as in a SLURM job."""
    return process.current.display or open_display(runs=1, steps=0)


def open_display(runs: int, steps: int, started: int = 0) -> Display:
    """Replace the display of this process."""
    close_display()
    process.current.display = Display(runs, steps, started)
    return process.current.display


def close_display() -> None:
    if process.current.display:
        process.current.display.close()
        process.current.display = None
