"""The step that a run in another process has reached: a small file in its folder, for the command that waits for it."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ablate.files.reading import read_regular

FILE_NAME = ".step"
BEAT_INTERVAL = 2.0  # seconds


@dataclass
class Heartbeat:
    """Writes the step into the folder of a run, at most every BEAT_INTERVAL, as far as there is room for it."""

    folder: Path
    written: float = field(default=-BEAT_INTERVAL)

    def beat(self, step: int) -> None:
        if time.monotonic() - self.written < BEAT_INTERVAL:
            return
        self.written = time.monotonic()
        temporary = self.folder / f".{FILE_NAME}.{os.getpid()}.tmp"
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # of a killed writer, or a link
            with temporary.open("x") as file:
                file.write(str(step))
            os.replace(temporary, self.folder / FILE_NAME)

    def end(self) -> None:
        with suppress(OSError):
            (self.folder / FILE_NAME).unlink(missing_ok=True)


def step_reached(folder: Path) -> int | None:
    """The step that an unfinished run has reached; None if it has not begun."""
    try:
        return int(read_regular(folder / FILE_NAME, 100))
    except (OSError, ValueError):
        return None
