"""What a person sees while a sweep runs: one line for the sweep, one for the run.

Plain lines, a few a run, where there is no terminal, and from workers, which have one terminal between them.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ablate.config.wording import duration
from ablate.schema import Step

console = Console(stderr=True)
log = logging.getLogger("ablate")
PLAIN_LINES = 4  # a run, where there is no terminal
in_worker = False
"""True in a process that a launcher started: what it shows goes to another's terminal, or to a file."""


def is_live() -> bool:
    """True where lines may be drawn over: in a terminal that is this process's alone."""
    return console.is_terminal and not in_worker


def table_console() -> Console:
    """Where tables go: standard output, wide enough where that is a file or a pipe."""
    console = Console()
    if not console.is_terminal:
        console.width = 140
    return console


said: set[str] = set()
"""Warnings that this process has shown, or, in a worker, the command before it: each worker reads the data, too."""


def configure_logging() -> None:
    """Warnings go to the console, above the progress lines; everything goes to the run's own log file."""
    log.setLevel(logging.INFO)
    log.propagate = False
    log.disabled = False  # Hydra disables all loggers that are there when it sets up its own
    if not log.handlers:
        handler = console_handler()
        handler.addFilter(is_news)
        log.addHandler(handler)


def silence() -> None:
    """Nothing but errors from this process: another one speaks for it (`ablate.distributed.ranks`)."""
    console.quiet = True
    for handler in log.handlers:
        handler.setLevel(logging.ERROR)


def is_news(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    if in_worker:
        return message not in said
    said.add(message)
    return True


def console_handler() -> logging.Handler:
    if is_live():
        return RichHandler(logging.WARNING, console, show_time=False, show_path=False)
    plain = logging.StreamHandler(console.file)  # a line each, so that paths in it stay whole
    plain.setLevel(logging.WARNING)
    plain.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    return plain


@contextlib.contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Within the block, what is logged goes to `path` too, behind what is there."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


class Display:
    """Progress of a sweep of `runs` runs, `begun` of them begun, that still have `steps` steps to make in all."""

    def __init__(self, runs: int, steps: int, begun: int = 0) -> None:
        self.runs, self.begun, self.is_live = runs, begun, is_live()
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.completed}/{task.total} steps"),
            TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[numbers]}"),
            console=console, disable=not self.is_live,
        )  # fmt: skip
        self.sweep = self.progress.add_task("", total=steps, numbers="", visible=runs > 1)
        self.run: TaskID | None = None
        self.progress.start()

    def start_run(self, name: str, steps: int, done: int) -> None:
        """A run of `steps` steps begins, `done` of them behind it (resumed)."""
        self.begun += 1
        self.name = name
        self.progress.update(self.sweep, description=f"sweep: run {self.begun} of {self.runs}")
        self.run = self.progress.add_task(name, total=steps, completed=done, numbers="")
        if not self.is_live:
            console.print(f"[{self.begun}/{self.runs}] {name}", markup=False, highlight=False)

    def step(self, row: Step, steps: int) -> None:
        assert self.run is not None
        numbers = f"loss {row.loss:.3f}  |g| {row.grad_norm:.2f}  lr {row.lr:.1e}"
        self.progress.update(self.run, completed=row.step, numbers=numbers)
        self.progress.update(self.sweep, advance=1)
        if not self.is_live and row.step % max(1, steps // PLAIN_LINES) == 0:
            left = self.progress.tasks[self.sweep].time_remaining if self.runs > 1 else None
            console.print(
                f"[{self.begun}/{self.runs}] {self.name}  step {row.step}/{steps}  {numbers}"
                + (f"  {duration(left)} left" if left else ""),
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip

    def end_run(self) -> None:
        if self.run is not None:
            self.progress.remove_task(self.run)
            self.run = None

    def close(self) -> None:
        self.progress.stop()


_current: list[Display] = []


def current() -> Display:
    """The display of this process's sweep; a new one for a run that has none (in a worker, say)."""
    if not _current:
        open_display(runs=1, steps=0)
    return _current[0]


def open_display(runs: int, steps: int, begun: int = 0) -> None:
    close_display()
    _current.append(Display(runs, steps, begun))


def close_display() -> None:
    while _current:
        _current.pop().close()
