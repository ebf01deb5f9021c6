"""What other processes leave of this machine's cores when a sweep starts."""

import os
import time
from dataclasses import dataclass, field

import psutil

from ablate.run.progress import log

BACKGROUND = 0.5
"""Cores: less than this, used by others, is what any machine does in the background."""


def seconds_in_use() -> float:
    """Core-seconds since the start of the machine in which a core was in use."""
    spent = psutil.cpu_times()
    return sum(spent) - spent.idle - getattr(spent, "iowait", 0.0) - getattr(spent, "guest", 0.0)


@dataclass(frozen=True)
class CoreUse:
    """Measures what others use from its making on."""

    since: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=seconds_in_use)
    own: float = field(default_factory=time.process_time)

    def by_others(self) -> float:
        """Cores that other processes used on average."""
        others = seconds_in_use() - self.used - (time.process_time() - self.own)
        return max(0.0, others / (time.monotonic() - self.since))


def warn_if_busy(others: float, threads: int, parallel_runs: int) -> None:
    """Warn if other processes, which use `others` cores, leave too few for parallel runs with so many threads each."""
    cores = os.cpu_count() or 1
    free = cores - others
    if others >= BACKGROUND and threads * parallel_runs > free + BACKGROUND:
        log.warning(
            "other processes use %.1f of the %d cores: steps take longer, and their times cannot be compared; all "
            "other results stay the same. %s", others, cores, remedy(free, threads, parallel_runs),
        )  # fmt: skip


def remedy(free: float, threads: int, parallel_runs: int) -> str:
    """What to do beside busy processes that leave `free` cores, as a sentence.

    >>> remedy(free=1.1, threads=1, parallel_runs=2)
    'Use hydra.launcher.n_jobs=1, or wait until they have ended'
    """
    fewer = max(1, round(free / (threads if parallel_runs > 1 else 1)))
    if 1 < parallel_runs > fewer:
        return f"Use hydra.launcher.n_jobs={fewer}, or wait until they have ended"
    if parallel_runs == 1 and threads > fewer:
        return (
            f"Wait until they have ended, or use trainer.threads={fewer}: a run with all cores beside another load was "
            "measured 7 × slower than with one thread. Only runs with the same number of threads are paired"
        )
    return "Wait until they have ended"
