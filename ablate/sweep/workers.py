"""Several runs at once on one machine (hydra/launcher=local): what a command and its workers know of each other.

joblib starts the workers, gives each its next run, and kills them all when one of them dies or the command ends.
What it can't do is stop them: a signal may reach a worker between two runs, or the command alone. So the command
waits, after a signal, until no worker is at work any more. They tell it by locks in a folder of the sweep's own, which
the system frees however a worker ends: `<i>` is held by worker i as long as it lives, `<i>.busy` while it has a run.
"""

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from ablate.run.signals import SIGNALS, Stopped, keep_requests, replaceable
from ablate.trainer import cores

LOOK = 0.05  # seconds between looks at the workers


@dataclass(frozen=True)
class Team:
    """The workers of a sweep."""

    count: int
    folder: Path
    devices: tuple[str, ...]  # CUDA devices of this machine

    def lock(self, name: object) -> FileLock:
        return FileLock(self.folder / str(name))

    def stop(self) -> None:
        """Ask every worker to stop, and return when none has a run any more."""
        for worker in filter(self.is_held, range(self.count)):
            with contextlib.suppress(OSError, ValueError):  # gone, or not so far that there were anything to save
                os.kill(int((self.folder / f"{worker}.pid").read_text()), signal.SIGTERM)
        while any(self.is_held(f"{worker}.busy") for worker in range(self.count)):
            time.sleep(LOOK)

    def dismiss(self) -> None:
        """End the workers, which joblib would keep for another sweep: what follows has their memory."""
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(reuse=True).shutdown(wait=True)

    def is_held(self, name: object) -> bool:
        try:
            with self.lock(name).acquire(timeout=0):
                return False
        except Timeout:
            return True

    def number(self) -> tuple[int, FileLock]:
        """The first number that no worker has, with its lock."""
        while True:
            for number in range(self.count):
                with contextlib.suppress(Timeout):
                    life = self.lock(number)
                    life.acquire(timeout=0)
                    return number, life
            time.sleep(LOOK)  # till a worker that joblib replaces has gone


@dataclass(frozen=True)
class Worker:
    """This process, a worker of a team."""

    team: Team
    number: int
    life: FileLock


_worker: Worker | None = None


# The command's side


def sensible(cores: int, devices: int) -> int:
    """Runs at once where nobody said how many: one a GPU, and at least 2 on one; else one a core, at most 4.

    Small batches gain little from a second thread, so more runs with fewer threads get more done; each worker takes
    about 1 GB for itself.
    """
    return max(devices, 2) if devices else min(cores, 4)


def suggested(*, _root_: DictConfig) -> int:
    """The resolver `workers`: what is sensible on this machine for a composed config."""
    on_cpu = OmegaConf.select(_root_, "trainer.device") == "cpu"
    return sensible(cores(), 0 if on_cpu else len(cuda_devices()))


OmegaConf.register_new_resolver("workers", suggested, replace=True)


def cuda_devices() -> tuple[str, ...]:
    """The CUDA devices that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    number = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(visible.split(",")[:number] if visible else map(str, range(number)))


def gather(count: int) -> Team:
    """A team for the workers that joblib will start. From here on a signal to this command goes to all of them.

    The main thread blocks the signals, and so does every process that it starts, until it can obey (`enrol`): Ctrl-C in
    a terminal goes to the workers as well, while they import. Another thread hears the signals in its place; Python
    runs handlers in the main thread all the same.
    """
    folder = Path(tempfile.mkdtemp(prefix="ablate-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    team, ours = Team(count, folder, cuda_devices()), replaceable()

    def stop(signum: int, frame: FrameType | None) -> None:
        if signal.SIGINT in ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends all at once
        team.stop()
        raise Stopped(signum)

    for signum in ours:
        signal.signal(signum, stop)
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    resource_tracker.ensure_running()  # joblib would start it, and up to Python 3.12 that unblocks the signals
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # joblib takes a worker that has loaded a model since its first run, which was done already, for a leaking one: it
    # starts another, which costs seconds, and warns.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
    return team


# The worker's side


def enrol(team: Team) -> None:
    """Make this process a worker of the team, once: with a number, its own GPU, and ears for signals."""
    global _worker
    if _worker is not None:
        return
    number, life = team.number()
    (team.folder / f"{number}.pid").write_text(str(os.getpid()))
    device = device_of(number, team.devices)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device  # before CUDA starts; a run's random state is of one device so
    _worker = Worker(team, number, life)
    keep_requests()


def device_of(worker: int, devices: Sequence[str]) -> str | None:
    """The device that a worker keeps to; None where there are not several to share.

    >>> [device_of(worker, ("0", "1")) for worker in range(3)]
    ['0', '1', '0']
    """
    return devices[worker % len(devices)] if len(devices) > 1 else None


@contextlib.contextmanager
def at_work() -> Iterator[None]:
    """Around a run: the command waits for its end."""
    if _worker is None:
        yield
    else:
        with _worker.team.lock(f"{_worker.number}.busy"):
            yield
