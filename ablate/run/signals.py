"""SIGTERM and Ctrl-C: within a run asked for now and obeyed at the end of the step, when all is whole."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from ablate.distributed.ranks import Ranks

SIGNALS = (signal.SIGTERM, signal.SIGINT)
TERMINATED = 75  # EX_TEMPFAIL of sysexits.h: try again; what a requeueing scheduler wants to see


class Stopped(BaseException):
    """The command was asked to stop, and what it had begun is whole. Not an Exception: it is no failure."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
        self.exit_code = 130 if signum == signal.SIGINT else TERMINATED

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name}"


class StopRequest:
    """The signal that asked for a stop, if any did."""

    signum: int | None = None

    @property
    def asked(self) -> bool:
        return self.signum is not None

    def agree(self, ranks: Ranks) -> None:
        """A signal to one process of a run is one to all of them: they stop at the same step."""
        self.signum = ranks.most(self.signum or 0) or None

    def obey(self) -> None:
        if self.signum is not None:
            raise Stopped(self.signum)


def terminate(signum: int, frame: FrameType | None) -> None:
    """The command's handler of SIGTERM where there is nothing to finish first."""
    raise Stopped(signum)


def replaceable() -> list[int]:
    """The signals with their usual handlers: neither ignored (nohup) nor a launcher's own (submitit's requeue, say)."""
    usual = {signal.SIGTERM: (signal.SIG_DFL, terminate), signal.SIGINT: (signal.default_int_handler,)}
    return [signum for signum in SIGNALS if signal.getsignal(signum) in usual[signum]]


SCHEDULERS = (
    "submitit.core.job_environment.SignalHandler.checkpoint_and_try_requeue",  # requeues the job and exits
    "ray._private.worker.Worker.main_loop.<locals>.sigterm_handler",  # exits
)


def schedulers() -> list[int]:
    """The signals by which a scheduler ends this process its own way; within a run they wait for the step's end."""
    return [signum for signum in signal.valid_signals() if name_of(signal.getsignal(signum)) in SCHEDULERS]


def name_of(handler: object) -> str:
    return f"{getattr(handler, '__module__', '')}.{getattr(handler, '__qualname__', '')}"


_kept: StopRequest | None = None


def keep_requests() -> None:
    """In a worker, for good: a request is kept whenever it comes, between two runs too, and no further run begins."""
    global _kept
    request = _kept = StopRequest()

    def ask(signum: int, frame: FrameType | None) -> None:
        request.signum = signum

    for signum in replaceable():
        signal.signal(signum, ask)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catch SIGTERM, SIGINT and a scheduler's signal within the block; a second Ctrl-C interrupts at once, as usual.

    A stop that a scheduler asked for is handed to its own handler at the end, when all is whole and let go of.
    Submitit's raises an error of its own where the job has been requeued as often as it may be.
    Signals reach a process's main thread only; elsewhere (a launcher's thread) the block changes nothing, nor where
    `keep_requests` is at work.
    """
    request = _kept or StopRequest()
    if _kept or threading.current_thread() is not threading.main_thread():
        yield request
        return
    ours, theirs = replaceable(), schedulers()
    before = {signum: signal.getsignal(signum) for signum in (*ours, *theirs)}

    def ask(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        if signal.SIGINT in ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    for signum in before:
        signal.signal(signum, ask)
    try:
        yield request
    except Stopped as stop:
        if stop.signum in theirs:
            hand_over(before[stop.signum], stop.signum)
        raise
    finally:
        for signum in before:
            signal.signal(signum, before[signum])


def hand_over(handler: Callable[[int, None], None], signum: int) -> None:
    """Let a scheduler's handler requeue the job and exit.

    Where SLURM pre-empts without time of grace, it has put the job into the queue again before it tells the run, and
    refuses to do so twice ("Job is pending execution"); submitit would take that for a failure of the run.
    """
    try:
        handler(signum, None)
    except subprocess.CalledProcessError as refused:
        again = subprocess.run(refused.cmd, capture_output=True, text=True, timeout=60)
        if again.returncode and "pending" not in again.stderr:
            raise
        sys.exit(TERMINATED)
