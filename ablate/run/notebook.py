"""Progress lines in a notebook."""

import time
from typing import Any

from rich.progress import Progress, TaskID

REFRESH_INTERVAL = 0.5  # seconds


class NotebookProgress(Progress):
    """Rich's progress lines as one output of a cell, which is replaced while they move.

    Rich's own needs the package ipywidgets, and leaves an empty output in a notebook that is saved.
    """

    def __init__(self, *columns: Any, **settings: Any) -> None:
        super().__init__(*columns, **settings, auto_refresh=False)
        self.output: Any = None
        self.shown = 0.0

    def start(self) -> None:
        from IPython.display import display

        if not self.disable:
            self.output, self.shown = display(self.make_tasks_table(self.tasks), display_id=True), time.monotonic()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        if time.monotonic() - self.shown > REFRESH_INTERVAL:
            self.refresh()

    def refresh(self) -> None:
        if self.output is not None:
            self.output.update(self.make_tasks_table(self.tasks))
            self.shown = time.monotonic()

    def stop(self) -> None:
        self.refresh()
        self.output = None
