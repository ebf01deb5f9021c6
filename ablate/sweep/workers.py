"""Parallel runs on one machine (hydra/launcher=local): how the command stops its workers.

joblib starts the workers, gives each its next run, and kills them all when one of them dies or the command ends. It
cannot stop them: a signal may reach a worker between two runs, or the command alone. So after a signal the command
waits until no worker has a run. The workers show this by locks in a folder of the sweep, which the system frees however
a worker ends: worker i holds `<i>` as long as it lives, and `<i>.busy` during a run. If the command is killed, the
workers save and end by themselves.
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
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from ablate.files.atomic import remove_files
from ablate.run import process
from ablate.run.signals import SIGNALS, TERMINATED, Stopped, StopRequest, keep_requests, replaceable
from ablate.trainer import cores

POLL_INTERVAL = 0.05  # seconds
RECEIVER = "ablate-signals"  # name of the thread that receives the command's signals
WATCH_INTERVAL = 1.0  # seconds: how often a worker looks whether the command is alive


@dataclass(frozen=True)
class Team:
    """The workers of a sweep."""

    count: int
    folder: Path
    devices: tuple[str, ...]  # CUDA devices of this machine
    command: int = 0  # its process

    def lock(self, name: object) -> FileLock:
        return FileLock(self.folder / str(name))

    def stop(self) -> None:
        """Ask every worker to stop, and return when none has a run any more."""
        for worker in filter(self.is_locked, range(self.count)):
            with contextlib.suppress(OSError, ValueError):  # it has ended, or has nothing to save yet
                os.kill(int((self.folder / f"{worker}.pid").read_text()), signal.SIGTERM)
        while any(self.is_locked(f"{worker}.busy") for worker in range(self.count)):
            time.sleep(POLL_INTERVAL)

    def dismiss(self) -> None:
        """End the workers and free their memory; joblib would keep them for another sweep."""
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(reuse=True).shutdown(wait=True)

    def is_locked(self, name: object) -> bool:
        try:
            with self.lock(name).acquire(timeout=0):
                return False
        except Timeout:
            return True

    def claim_number(self) -> tuple[int, FileLock]:
        """Return the first number that no worker has, and its lock, which this process now holds."""
        while True:
            for number in range(self.count):
                with contextlib.suppress(Timeout):
                    alive = self.lock(number)
                    alive.acquire(timeout=0)
                    return number, alive
            time.sleep(POLL_INTERVAL)  # until a worker that joblib replaces has ended


# In the command


def default_workers(cores: int, devices: int) -> int:
    """The default number of parallel runs: one per GPU, but 2 on a single one; without a GPU one per core, at most 4.

    Small batches gain little from a second thread, so more runs with fewer threads are faster in total; each worker
    needs about 1 GB of its own.
    """
    return max(devices, 2) if devices else min(cores, 4)


def suggested(*, _root_: DictConfig) -> int:
    """The resolver `workers`: the default number of parallel runs on this machine, for a composed config."""
    on_cpu = OmegaConf.select(_root_, "trainer.device") == "cpu"
    return default_workers(cores(), 0 if on_cpu else len(cuda_devices()))


OmegaConf.register_new_resolver("workers", suggested, replace=True)


def cuda_devices() -> tuple[str, ...]:
    """The CUDA devices that this process may use, named as in CUDA_VISIBLE_DEVICES."""
    import torch

    number = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(visible.split(",")[:number] if visible else map(str, range(number)))


def gather(count: int) -> Team:
    """Return a team for the workers that joblib will start. From now on this command passes a signal to all of them.

    The main thread blocks the signals, and so do the workers that it starts, until they can obey (`enrol`): in a
    terminal, Ctrl-C reaches the workers too, even while they import. Another thread receives the signals instead;
    Python still runs their handlers in the main thread.
    """
    folder = Path(tempfile.mkdtemp(prefix="ablate-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    team, ours = Team(count, folder, cuda_devices(), os.getpid()), replaceable()

    def stop(signum: int, frame: FrameType | None) -> None:
        if signal.SIGINT in ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends everything at once
        team.stop()
        raise Stopped(signum)

    for signum in ours:
        signal.signal(signum, stop)
    if not any(thread.name == RECEIVER for thread in threading.enumerate()):  # of an earlier study in this process
        threading.Thread(target=threading.Event().wait, name=RECEIVER, daemon=True).start()
    resource_tracker.ensure_running()  # otherwise joblib starts it, which up to Python 3.12 unblocks the signals
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # joblib suspects a memory leak in a worker whose first run was already done and which loads a model only later: it
    # starts a new worker, which costs seconds, and warns.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
    return team


# In a worker


def enrol(team: Team) -> None:
    """Make this process a worker of the team, once: assign it a number and a GPU, and install signal handlers."""
    if process.current.alive:
        return
    number, process.current.alive = team.claim_number()
    process.current.busy = team.lock(f"{number}.busy")
    (team.folder / f"{number}.pid").write_text(str(os.getpid()))
    device = device_of(number, team.devices)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device  # before CUDA starts: a run's random state covers one device
    process.current.stop = keep_requests()
    watching = (team, number, process.current.stop)
    threading.Thread(target=end_with_command, args=watching, daemon=True).start()


def end_with_command(team: Team, number: int, stop: StopRequest) -> None:
    """Wait until the command is gone, killed for example; then let the run save at the end of its step, and exit.

    joblib's workers would otherwise wait minutes for work, with the memory that they have.
    """
    while os.getppid() == team.command:
        time.sleep(WATCH_INTERVAL)
    stop.signum = signal.SIGTERM
    with team.lock(f"{number}.busy"):  # free when there is no run
        remove_files(team.folder, *(f"{number}{kind}" for kind in ("", ".busy", ".pid")))
        os._exit(TERMINATED)


def device_of(worker: int, devices: Sequence[str]) -> str | None:
    """The device that a worker uses; None unless there are several.

    >>> [device_of(worker, ("0", "1")) for worker in range(3)]
    ['0', '1', '0']
    """
    return devices[worker % len(devices)] if len(devices) > 1 else None
