"""SIGTERM and Ctrl-C: during a run, a signal is a request to stop that the run obeys at the end of the step."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from ablate.config.start import INTERRUPTED, TERMINATED, exit_at_once
from ablate.distributed.ranks import Ranks

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """A signal stopped the command, and everything on disk is complete. Not an Exception: it is no failure."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
        self.exit_code = INTERRUPTED if signum == signal.SIGINT else TERMINATED

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name}"


class StopRequest:
    """The signal that asked for a stop, if any did."""

    signum: int | None = None

    @property
    def asked(self) -> bool:
        return self.signum is not None

    def share(self, ranks: Ranks) -> None:
        """Pass a signal that reached one rank to all ranks of a run, so that they stop at the same step."""
        self.signum = ranks.max(self.signum or 0) or None

    def obey(self) -> None:
        if self.signum is not None:
            raise Stopped(self.signum)


def terminate(signum: int, frame: FrameType | None) -> None:
    """Handle SIGTERM in the command outside of runs: stop at once, once."""
    signal.signal(signum, signal.SIG_IGN)
    raise Stopped(signum)


def stop_by_exception() -> None:
    """From the checks on, let SIGTERM raise `Stopped` and Ctrl-C KeyboardInterrupt: there are files to close."""
    for signum, handler in ((signal.SIGTERM, terminate), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(signum) is exit_at_once:
            signal.signal(signum, handler)


def stop_behind(error: BaseException | None) -> "Stopped | KeyboardInterrupt | None":
    """Return the stop request that other code turned into `error`, as class definitions and Hydra do; else None.

    A user's code can make an error its own cause.
    """
    seen: list[BaseException] = []
    while error is not None and error not in seen and not isinstance(error, (Stopped, KeyboardInterrupt)):
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None if error in seen else error


def ignore_signals() -> None:
    """Ignore further stop requests while the command ends, where Python removes its handlers and the system's kill."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def in_main_thread() -> bool:
    """Whether this thread may install handlers of signals, which reach no other."""
    return threading.current_thread() is threading.main_thread()


def replaceable() -> list[int]:
    """Return the signals that have their usual handlers: not ignored (nohup), not handled by submitit, for example.

    None in another thread than the main one.
    """
    if not in_main_thread():
        return []
    usual = {signal.SIGTERM: (signal.SIG_DFL, terminate), signal.SIGINT: (signal.default_int_handler,)}
    return [signum for signum in SIGNALS if signal.getsignal(signum) in usual[signum]]


SCHEDULER_HANDLERS = (
    "submitit.core.job_environment.SignalHandler.checkpoint_and_try_requeue",  # requeues the job and exits
    "ray._private.worker.Worker.main_loop.<locals>.sigterm_handler",  # exits
)


def scheduler_signals() -> list[int]:
    """Return the signals that a scheduler handles in this process; during a run they wait for the end of the step."""
    return [signum for signum in signal.valid_signals() if name_of(signal.getsignal(signum)) in SCHEDULER_HANDLERS]


def name_of(handler: object) -> str:
    return f"{getattr(handler, '__module__', '')}.{getattr(handler, '__qualname__', '')}"


def keep_requests() -> StopRequest:
    """Install permanent handlers in a worker and return the request that they record a signal in.

    A stop request that arrives between runs also prevents the next run.
    """
    request = StopRequest()

    def ask(signum: int, frame: FrameType | None) -> None:
        request.signum = signum

    for signum in replaceable():
        signal.signal(signum, ask)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return request


@contextlib.contextmanager
def stop_requests(kept: StopRequest | None = None) -> Iterator[StopRequest]:
    """Catch SIGTERM, SIGINT and a scheduler's signal within the block; a second Ctrl-C interrupts at once, as usual.

    A scheduler's signal goes to the scheduler's handler at the end of the block, when everything on disk is complete
    and unlocked. Submitit's handler raises an error of its own if the job has been requeued as often as allowed.

    Signals reach only the main thread of a process. In another thread (of a launcher), the block changes nothing; nor
    does it in a worker, which passes the request that `keep_requests` returned.
    """
    if kept or not in_main_thread():
        yield kept or StopRequest()
        return
    request, ours, theirs = StopRequest(), replaceable(), scheduler_signals()
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

    Where SLURM pre-empts a job without grace time, it requeues the job before it signals the run, and refuses to
    requeue it twice ("Job is pending execution"). Submitit would report that as a failure of the run.
    """
    try:
        handler(signum, None)
    except subprocess.CalledProcessError as refused:
        again = subprocess.run(refused.cmd, capture_output=True, text=True, timeout=60)
        if again.returncode and "pending" not in again.stderr:
            raise
        sys.exit(TERMINATED)
