"""The state of this process between runs: the only object at module level that changes.

Hydra calls the command's function with nothing but a config, and pickles the sweep's callback to the processes that a
launcher starts. `current` holds what such a process has to know between these calls, and other modules read it as
`process.current`. Import the module, not the object: a launcher pickles the function in `__main__` with a copy of
every object that it refers to, and a copy would not see the changes.
"""

import contextlib
import signal
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from filelock import FileLock

from ablate.config.start import CONTINUE
from ablate.run.signals import StopRequest
from ablate.trainer import cores

if TYPE_CHECKING:  # torch and rich, which --help and tab completion do without
    from ablate.data.corpus import Corpus
    from ablate.run.progress import Display
    from ablate.sweep.watch import Watch


@dataclass
class Process:
    """The state of this process: the command, a rank of it, or a worker that a launcher started."""

    threads: int = field(default_factory=cores)  # of a run whose trainer.threads is null
    after_stop: str = CONTINUE  # what the command prints when a signal stops it
    end_sweep: Callable[[], None] | None = None  # in the command, once every check has passed: prints the table
    interrupted_by: int = signal.SIGINT  # the signal that raised KeyboardInterrupt
    shown: set[str] = field(default_factory=set)  # warnings on the console; a worker starts with the command's
    display: "Display | Watch | None" = None
    corpora: "dict[str, Corpus]" = field(default_factory=dict)  # by key of the token cache
    is_worker: bool = False  # its output goes to the command's terminal, or to a file
    alive: FileLock | None = None  # a worker of hydra/launcher=local holds it until the worker ends ...
    busy: FileLock | None = None  # ... and this one during a run
    release: Callable[[], None] | None = None  # in the command: ends what its launcher started
    flags: tuple[str, ...] = ()  # of the command: --config-dir and --config-name with their values
    stop: StopRequest | None = None  # of a worker that keeps stop requests between runs

    def become_worker(self, threads: int, shown: Iterable[str]) -> None:
        """Set up a process that a launcher started, before each of its runs."""
        self.is_worker, self.threads = True, threads
        self.shown.update(shown)

    def working(self) -> AbstractContextManager[object]:
        """Around a run: the command waits for the end of the block before it stops."""
        return self.busy or contextlib.nullcontext()

    def is_news(self, message: str) -> bool:
        """Return whether to show a warning: a worker skips those of the command, as it reads the same data."""
        if self.is_worker:
            return message not in self.shown
        self.shown.add(message)
        return True


current = Process()
