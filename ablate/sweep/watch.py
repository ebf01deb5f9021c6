"""One progress line for a sweep whose runs are in other processes: the command reads how far their folders are."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ablate.config.wording import duration
from ablate.files.run_record import RUN_JSON
from ablate.run import process, progress
from ablate.run.heartbeat import step_reached
from ablate.run.job import Job, rerun_folder
from ablate.run.records import read_run
from ablate.schema import FINISHED

LOOK_INTERVAL = 1.0  # seconds between two looks at the folders
ENDED = (*FINISHED, "failed")


@dataclass
class WatchedRun:
    """A run that another process does: its folder, its short name, all of its steps, and how many are left to train."""

    folder: Path
    name: str
    all_steps: int
    left: int
    step: int | None = None
    status: str = ""
    seen: dict[Path, int] = field(default_factory=dict)  # time stamps of the records that were read

    def __post_init__(self) -> None:
        self.seen = {record: changed for record in self.records if (changed := time_stamp(record)) is not None}

    @property
    def records(self) -> tuple[Path, ...]:
        return self.folder / RUN_JSON, rerun_folder(self.folder) / RUN_JSON

    def look(self) -> None:
        """Read what is new: the outcome, or else the step."""
        for record in self.records:
            changed = time_stamp(record)
            if changed is not None and changed != self.seen.get(record):
                self.seen[record] = changed
                with suppress(OSError, ValueError, KeyError, TypeError):  # damaged or gone
                    self.status = read_run(record.parent)["status"]
            if (step := step_reached(record.parent)) is not None:
                self.step = step

    @property
    def is_ended(self) -> bool:
        return self.status in ENDED

    @property
    def trained(self) -> int:
        """The steps that this sweep has trained."""
        return self.left if self.is_ended else max(0, (self.step or 0) - (self.all_steps - self.left))


def time_stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


class Watch:
    """The progress of all runs: one line with a bar in a terminal, else a line when a run ends or time has passed."""

    def __init__(self, runs: Sequence[WatchedRun]) -> None:
        self.runs, self.ended, self.printed = runs, 0, time.monotonic()
        self.progress = progress.progress_lines(others=45)
        self.task = self.progress.add_task(self.words, total=sum(run.left for run in runs), numbers="")
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.progress.start()
        self.thread.start()

    def watch(self) -> None:
        while not self.is_over.wait(LOOK_INTERVAL):
            self.look()

    def look(self) -> None:
        """Look at the folders of all runs that have not ended, and show what has changed."""
        for run in self.runs:
            if not run.is_ended:
                run.look()
                if run.is_ended:
                    self.ended += 1
                    self.print_plain(f"{run.name}: {run.status}")
        self.progress.update(self.task, completed=sum(run.trained for run in self.runs), description=self.words)
        if time.monotonic() - self.printed > progress.PLAIN_INTERVAL:
            task = self.progress.tasks[0]
            left = f", {duration(task.time_remaining)} left" if task.time_remaining else ""
            started = f"{self.running} running, step {task.completed:.0f} of {task.total:.0f}{left}"
            self.print_plain(started if self.running or self.ended else "no run has started yet")

    @property
    def running(self) -> int:
        return sum(run.step is not None and not run.is_ended for run in self.runs)

    @property
    def words(self) -> str:
        return f"{self.ended}/{len(self.runs)} runs done, {self.running} running"

    def print_plain(self, text: str) -> None:
        self.printed = time.monotonic()
        if self.progress.disable:
            progress.print_line(f"[{self.ended}/{len(self.runs)}] {text}")

    def close(self) -> None:
        self.is_over.set()
        self.thread.join()
        self.look()
        self.progress.stop()


def open_watch(jobs: Sequence[Job], left: Mapping[str, int], names: Mapping[str, str]) -> None:
    """Show the progress of these jobs, which other processes do; `left`: steps to train, by the folder's name."""
    progress.close_display()
    process.current.display = Watch(
        [WatchedRun(work.folder, names[work.folder.name], work.trainer.steps, left[work.folder.name]) for work in jobs]
    )
