"""How the threads of a step wait for each other: they spin on idle cores, and sleep where others want the cores.

torch splits most operations among threads of OpenMP, which wait for the slowest at the end of each. GNU's OpenMP lets
them spin for milliseconds. That is fast on idle cores; beside other busy processes a thread then spins away the time
that the thread it waits for would need. tests/benchmarks/busy_cores.py has both ways, idle and busy. Results do not
depend on it, as each thread computes the same part.

How long threads spin is fixed when the library loads, with one exception: they spin only for a moment while the
process has more threads of OpenMP than cores (`gomp_throttled_spin_count_var` in libgomp's env.c). `Waiting` brings
that about, with a few threads that do nothing, for as long as this run has to wait for cores.
"""

import ctypes
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch

from ablate.trainer import available_cores

log = logging.getLogger("ablate")

INTERVAL = 1.0  # seconds between two looks at the cores
BUSY = 0.2  # waiting for cores, in seconds per second and over all threads: above it, threads sleep ...
IDLE = 0.05  # ... and below it, they spin; measured: 0.01 on idle cores, from 0.45 beside a busy process


class Waiting:
    """Call `adapt` after each step, in a `with` block. It does nothing without GNU's OpenMP.

    It does nothing either for one thread, which waits for none, or for more than cores, which spin only for a moment.

    seconds_waited  returns the time in seconds that this process's threads have waited for a core, None if unknown
    """

    def __init__(self, threads: int, seconds_waited: Callable[[], float | None] | None = None) -> None:
        cores = available_cores()
        self.idle_threads = cores - threads + 2  # one of them is the thread that starts the others
        self.seconds_waited = seconds_waited or run_delay
        self.parallel = gnu_parallel() if 1 < threads <= cores and not chosen_by_user() else None
        self.asleep: threading.Event | None = None  # set: the idle threads end
        self.looked, self.waited = time.monotonic(), self.seconds_waited() if self.parallel else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.spin()

    def adapt(self) -> None:
        """Let threads sleep or spin, by how long they waited for cores since the last look."""
        elapsed = time.monotonic() - self.looked
        if self.waited is None or elapsed < INTERVAL:
            return
        waited = self.seconds_waited()
        share = (waited - self.waited) / elapsed if waited is not None else IDLE
        self.looked, self.waited = time.monotonic(), waited
        if share > BUSY and not self.asleep:
            log.info("threads waited %.1f s per second for a core: they sleep while they wait for each other", share)
            self.sleep()
        elif share < IDLE and self.asleep:
            log.info("cores are idle again: threads spin while they wait for each other")
            self.spin()

    def sleep(self) -> None:
        """Make this process have more threads of OpenMP than cores."""
        self.asleep, ready = threading.Event(), threading.Event()
        threading.Thread(target=self.hold, args=(self.asleep, ready), daemon=True, name="idle OpenMP threads").start()
        ready.wait()

    def spin(self) -> None:
        if self.asleep:
            self.asleep.set()
            self.asleep = None

    def hold(self, end: threading.Event, ready: threading.Event) -> None:
        """Start the idle threads. They belong to the thread that runs this, and end with it."""
        nothing = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
        self.parallel(nothing, None, self.idle_threads, 0)  # type: ignore[misc]
        ready.set()
        end.wait()


def chosen_by_user() -> bool:
    return bool({"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys())


def gnu_parallel() -> Callable[..., None] | None:
    """GNU OpenMP's GOMP_parallel(function, data, threads, flags), of the library that torch uses; None without it."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        return ctypes.CDLL(str(library)).GOMP_parallel  # type: ignore[no-any-return]
    except (OSError, AttributeError):
        return None


def run_delay() -> float | None:
    """Seconds that the threads of this process have waited for a core; None where Linux does not report them.

    The second number of /proc/<process>/task/<thread>/schedstat, in nanoseconds (Linux, sched-stats.rst).
    """
    total = 0
    try:
        for thread in Path("/proc/self/task").iterdir():
            try:
                total += int((thread / "schedstat").read_text().split()[1])
            except (FileNotFoundError, ProcessLookupError):  # the thread has ended
                continue
    except (OSError, IndexError, ValueError):
        return None
    return total / 1e9
