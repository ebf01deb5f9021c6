"""Faults that have to happen at one very moment: patches that a forked child makes before it starts the command.

    ablate(cwd, *FIXTURE, fault=partial(at_step, 7, kill))
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

Act = Callable[[], None]


# What happens


def send(signum: int) -> None:
    os.kill(os.getpid(), signum)


def kill() -> None:
    send(signal.SIGKILL)


def fail() -> None:
    raise RuntimeError("a fault of the test")


def leave() -> None:
    sys.exit(0)


def then(*acts: Act) -> None:
    """One after the other; of faults as well."""
    for act in acts:
        act()


# When it happens


def at_step(step: int, act: Act, clip: str = "") -> None:
    """`act` right after the update of `step`, before anything is recorded of it; `clip`: under this rule only."""
    from ablate import run

    train = run.train

    def disturbed(learner: Any, *rest: Any) -> Iterator[Any]:
        for moment in train(learner, *rest):
            if moment.row.step == step and type(learner.clip).__name__.lower().startswith(clip):
                act()
            yield moment

    run.train = disturbed


def before_training(act: Act) -> None:
    """`act` while the first run's model is made."""
    from ablate import run

    make_learner = run.make_learner

    def disturbed(*arguments: Any) -> Any:
        act()
        return make_learner(*arguments)

    run.make_learner = disturbed


def before_evaluation(split: Literal["validation", "test"], act: Act) -> None:
    """`act` before a run looks at a whole split."""
    from ablate import run

    evaluate = run.Run.evaluate

    def disturbed(self: Any, examples: Any) -> Any:
        if examples is getattr(self.texts, split):
            act()
        return evaluate(self, examples)

    run.Run.evaluate = disturbed


def in_write(name: str, when: Literal["midway", "unmoved", "moved"], act: Act, nth: int = 1) -> None:
    """`act` in the nth write of a file: half of it written, whole but not in its place yet, or just put there."""
    from ablate import checkpoint, records

    replacing, seen = records.replacing, []

    @contextlib.contextmanager
    def disturbed(path: Path) -> Iterator[Any]:
        seen.extend([path] if path.name == name else [])
        hit = path.name == name and len(seen) == nth
        with replacing(path) as file:
            yield Halved(file, act) if hit and when == "midway" else file
            if hit and when == "unmoved":
                act()
        if hit and when == "moved":
            act()

    records.replacing = checkpoint.replacing = disturbed


class Halved:
    """A file whose first write gets half of the bytes to the disk and then acts."""

    def __init__(self, file: IO[bytes], act: Act) -> None:
        self.file, self.act = file, act

    def write(self, data: Any) -> int:
        half = bytes(data)[: len(data) // 2]
        self.file.write(half)
        self.file.flush()
        self.act()
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def full_disk(*names: str) -> None:
    """Writes of files of these names go to a device that is full; `*`: all writes."""
    from ablate import checkpoint, records

    replacing = records.replacing

    @contextlib.contextmanager
    def disturbed(path: Path) -> Iterator[Any]:
        with replacing(path) as file:
            if path.name in names or "*" in names:
                with open("/dev/full", "wb") as device:
                    yield device
            else:
                yield file

    records.replacing = checkpoint.replacing = disturbed
