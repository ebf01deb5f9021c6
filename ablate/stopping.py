"""SIGTERM and Ctrl-C: asked for now, obeyed at the end of the step, when all is whole."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

TERMINATED = 75  # EX_TEMPFAIL of sysexits.h: try again; what a requeueing scheduler wants to see


class Stopped(BaseException):
    """The run was asked to stop and has left a checkpoint. Not an Exception: nothing may take it for a failure."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 130 if signum == signal.SIGINT else TERMINATED


class StopRequest:
    """The signal that asked for a stop, if any did."""

    signum: int | None = None

    @property
    def asked(self) -> bool:
        return self.signum is not None

    def obey(self) -> None:
        if self.signum is not None:
            raise Stopped(self.signum)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catch SIGTERM and SIGINT within the block; a second Ctrl-C interrupts at once, as usual.

    Signals reach a process's main thread only; elsewhere (a launcher's thread) the block changes nothing. A
    handler that a launcher has installed for SIGTERM (submitit's requeue, say) is left in its place.
    """
    request = StopRequest()

    def ask(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    ours = [
        s for s, usual in zip(before, (signal.SIG_DFL, signal.default_int_handler), strict=True) if before[s] == usual
    ]
    for signum in ours:
        signal.signal(signum, ask)
    try:
        yield request
    finally:
        for signum in ours:
            signal.signal(signum, before[signum])
