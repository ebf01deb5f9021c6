"""A user's own clipping rules: one with state, and two that disturb a run."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Running:
    """Clip at `threshold` times the mean of the norms so far."""

    threshold: float

    def scale(self, norm: float, t: int, state: dict | None) -> tuple[float, dict]:
        seen = state or {"sum": 0.0, "count": 0}
        seen = {"sum": seen["sum"] + norm, "count": seen["count"] + 1}
        limit = self.threshold * seen["sum"] / seen["count"]
        return limit / max(norm, limit), seen


@dataclass(frozen=True)
class Signalling:
    """Clips nothing. At step `at` it sends, once, the signal in the file `fault` to the process named there.

    joblib starts the workers, and the tests cannot patch them: so the fault comes with the config.
    """

    at: int

    def scale(self, norm: float, t: int, state: None) -> tuple[float, None]:
        if t == self.at:
            with suppress(FileNotFoundError):
                signum, whom = Path("fault").read_text().split()
                Path("fault").unlink()
                os.kill({"own": os.getpid(), "parent": os.getppid(), "group": 0}[whom], int(signum))
                time.sleep(1)  # stay within this step until the signal has been handled
        return 1.0, state


@dataclass(frozen=True)
class Halting:
    """Clips nothing. At step `at` it creates a file `halted`, and continues when there is a file `go`."""

    at: int

    def scale(self, norm: float, t: int, state: None) -> tuple[float, None]:
        if t == self.at and not Path("go").exists():
            Path("halted").touch()
            while not Path("go").exists():
                time.sleep(0.05)
        return 1.0, state
