"""Faults at an exact moment: patches that a forked child makes before it starts the command.

Used as `ablate(cwd, *FIXTURE, fault=partial(at_step, 7, kill))`.
"""

import contextlib
import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import torch

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
    """Act, or inject faults, one after the other."""
    for act in acts:
        act()


def uninstall(launcher: str) -> None:
    """Hide a launcher from Hydra, as if its extra were not installed."""
    from hydra.core.plugins import Plugins

    del Plugins.instance().class_name_to_class[f"hydra_plugins.{launcher}"]


# When it happens


def at_step(step: int, act: Act, start: int | None = None) -> None:
    """Call `act` right after the update of `step`, before it is recorded; `start` limits this to one arm."""
    from ablate.run import run

    train = run.train

    def disturbed(learner: Any, *rest: Any) -> Iterator[Any]:
        for moment in train(learner, *rest):
            if moment.row.step == step and (start is None or start == learner.clips["clip"].start):
                act()
            yield moment

    run.train = disturbed


def before_training(act: Act) -> None:
    """Call `act` while the model of the first run is built."""
    from ablate.run import run

    make_learner = run.make_learner

    def disturbed(*arguments: Any) -> Any:
        act()
        return make_learner(*arguments)

    run.make_learner = disturbed


def before_evaluation(split: Literal["validation", "test"], act: Act) -> None:
    """Call `act` before a run evaluates a whole split."""
    from ablate.run import run

    evaluate = run.TrainingRun.evaluate

    def disturbed(self: Any, examples: Any, *batch_size: int) -> Any:
        if examples is getattr(self.texts, split):
            act()
        return evaluate(self, examples, *batch_size)

    run.TrainingRun.evaluate = disturbed


def in_write(name: str, when: Literal["midway", "unmoved", "moved"], act: Act, nth: int = 1) -> None:
    """Call `act` in the nth write of a file: after half of it, before the rename, or after the rename."""
    from ablate.files import atomic
    from ablate.run import checkpoint

    replacing, seen = atomic.replacing, []

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

    atomic.replacing = checkpoint.replacing = disturbed


class Halved:
    """A file whose first write puts half of the bytes on disk and then acts."""

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
    """Redirect writes of files of these names to a full device; `*` means all writes."""
    from ablate.files import atomic
    from ablate.run import checkpoint

    replacing = atomic.replacing

    @contextlib.contextmanager
    def disturbed(path: Path) -> Iterator[Any]:
        with replacing(path) as file:
            if path.name in names or "*" in names:
                with open("/dev/full", "wb") as device:
                    yield device
            else:
                yield file

    atomic.replacing = checkpoint.replacing = disturbed


def limit_files(kilobytes: int) -> None:
    """Let no file grow beyond this size, as after `ulimit -f`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, resource.RLIM_INFINITY))


WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.truncate",
    "os.utime",
    "os.chmod",
    "os.link",
    "os.symlink",
)


def read_only(folder: str = ".") -> None:
    """From now on, refuse every change below this folder, as a disk does that is mounted read-only."""
    top, access = os.path.realpath(folder), os.access

    def is_below(path: Any) -> bool:
        return not isinstance(path, int) and os.path.realpath(os.fsdecode(path)).startswith(top)

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in CHANGES or (event == "open" and (arguments[2] or 0) & WRITING)
        if writes and is_below(arguments[0]):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))

    sys.addaudithook(refuse)
    os.access = lambda path, mode, **rest: not (mode & os.W_OK and is_below(path)) and access(path, mode, **rest)


def read_only_at_the_end() -> None:
    """Make the disk read-only when all runs are done."""
    from ablate.sweep import callback

    def report(*arguments: Any) -> str:
        read_only()
        return write_study_report(*arguments)

    write_study_report, callback.write_study_report = callback.write_study_report, report


# What is not finite


def spoil_loss(size: float, step: int, start: int) -> None:
    """At `step`, in the arm that clips from `start` on, make the logits -`size` for the right class, else `size`.

    The loss is 2 · size: infinite in float32 from 1.8e38 on.
    """
    from ablate.training import step as training

    forward, now = training.forward, watch_steps()

    def disturbed(learner: Any, piece: Any) -> Any:
        logits, piece = forward(learner, piece)
        if now == [step, start]:
            logits = logits * 0 + size * (1 - 2 * torch.nn.functional.one_hot(piece.labels, logits.shape[1]))
        return logits, piece

    training.forward = disturbed


def spoil_gradient(value: float, step: int, start: int) -> None:
    """Set one entry of the gradient of `step` to `value`; the loss is finite."""
    from ablate.training import step as training

    gradient_norms, now = training.gradient_norms, watch_steps()

    def disturbed(trained: Any, *of_whole: Any) -> Any:
        if now == [step, start]:
            next(iter(trained.values())).grad.view(-1)[0] = value
        return gradient_norms(trained, *of_whole)

    training.gradient_norms = disturbed


def watch_steps() -> list[int]:
    """Return a list that always holds the current step, and the step at which the arm's clipping starts."""
    from ablate.training import step as training

    step, now = training.step, [0, 0]

    def watched(learner: Any, pieces: Any, t: int, *rest: Any, **more: Any) -> Any:
        now[:] = [t, learner.clips["clip"].start]
        return step(learner, pieces, t, *rest, **more)

    training.step = watched
    return now


# Parts of a checkpoint that a resumed run ignores


def forget_optimizer() -> None:
    torch.optim.Optimizer.load_state_dict = lambda self, state: None  # type: ignore[method-assign]


def forget_position() -> None:
    """Start again with the first batch."""
    from ablate.run import run

    train = run.train
    run.train = lambda learner, batches, first, state: train(learner, lambda t: batches(t - first + 1), first, state)


def forget_rows() -> None:
    forget_field("rows")


def forget_rule_state() -> None:
    forget_field("states")


def forget_field(name: str) -> None:
    import dataclasses

    from ablate.run import checkpoint
    from ablate.run.records import Rows

    load, empty = checkpoint.load_checkpoint, {"rows": Rows(), "states": {}, "kept": {}}
    checkpoint.load_checkpoint = lambda folder: dataclasses.replace(load(folder), **{name: empty[name]})
