"""Real processes for fault tests: the command itself, forked from a server that has the imports done.

A fault is brought in from outside where that is possible (signals, limits, edited files). Where it has to happen
at one very moment, the forked child patches a function of `ablate` before it starts the command: nothing in the
package knows of it.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

FIXTURE = (  # FAULTS.md: a random 2-layer BERT, 1 thread, fp32, dropout 0.1, 40 examples, batch 4, 20 steps
    "model=tiny", "model.hidden=16", "model.vocabulary=60", "data=synthetic", "data.train_examples=40",
    "data.test_examples=20", "trainer.threads=1", "trainer.batch_size=4", "trainer.length_splits=1",
    "trainer.steps=20", "trainer.checkpoint_every=5", "trainer.probe_every=5", "trainer.probe_examples=4",
    "trainer.track.layers_every=5", "trainer.keep_checkpoint=true", "study=faults",
)  # fmt: skip
Fault = Callable[[], None]


def server() -> Any:
    """A fork server with torch, transformers and Hydra imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.warm"])
    return context


def _command(arguments: Sequence[str], cwd: str, output: str, fault: Fault | None) -> None:
    """In the forked child: become `python -m ablate <arguments>`."""
    os.chdir(cwd)
    os.setpgid(0, 0)
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if fault is not None:
        fault()
    from ablate.__main__ import main

    sys.argv = ["ablate", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


def start(cwd: Path, *arguments: str, fault: Fault | None = None) -> BaseProcess:
    """Start the command in `cwd`; what it prints goes to `cwd/output.txt`."""
    process = server().Process(target=_command, args=(arguments, str(cwd), str(cwd / "output.txt"), fault))
    process.start()
    return process


def finish(process: BaseProcess, timeout: float = 120) -> int:
    """Wait for the command's exit code (negative: the signal that killed it)."""
    process.join(timeout)
    if process.is_alive():
        process.kill()
        raise TimeoutError("the command did not end in time")
    assert process.exitcode is not None
    return process.exitcode


def ablate(cwd: Path, *arguments: str, fault: Fault | None = None) -> int:
    return finish(start(cwd, *arguments, fault=fault))


def output(cwd: Path) -> str:
    return (cwd / "output.txt").read_text()


def runs(cwd: Path, study: str = "faults") -> dict[str, Path]:
    """Run folders of a study by name."""
    folder = cwd / "outputs" / study
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")}


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def content(folder: Path) -> dict[str, Any]:
    """All that has to be equal between a disturbed and an undisturbed run: every row (timings apart), every tensor."""
    tables = {name: pq.read_table(folder / f"{name}.parquet") for name in ("steps", "layers", "evals", "predictions")}
    tables["steps"] = tables["steps"].drop_columns(["seconds"])
    with contextlib.suppress(FileNotFoundError):
        found = torch.load(folder / "checkpoint.pt", weights_only=True)
        tables["tensors"] = {name: value.numpy().tobytes() for name, value in found["trained"].items()}
    kept = ("id", "status", "factors", "seed", "nuisance", "parameters", "pairing", "metrics", "error")
    return {**tables, "record": {key: record(folder).get(key) for key in kept}}


def same(one: Path, other: Path) -> bool:
    """≡: equal content of two run folders, or of all runs of two working directories."""
    if (one / "outputs").exists():
        a, b = runs(one), runs(other)
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    first, second = content(one), content(other)
    return first.keys() == second.keys() and all(first[key] == second[key] for key in first)


def wait_for_step(folder_of: Callable[[], Path | None], step: int, timeout: float = 60) -> None:
    """Block until the run's log of progress shows `step`."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        folder = folder_of()
        if (
            folder
            and (folder / "steps.parquet").exists()
            and pq.read_metadata(folder / "steps.parquet").num_rows >= step
        ):
            return
        time.sleep(0.005)
    raise TimeoutError(f"no step {step}")


def kill_at_step(step: int, signum: int = signal.SIGKILL) -> Fault:
    """Send `signum` to the own process right after the update of `step`, before anything is recorded of it."""
    return _AtStep(step, signum)


class _AtStep:
    def __init__(self, step: int, signum: int) -> None:
        self.step, self.signum = step, signum

    def __call__(self) -> None:
        from ablate import run

        train = run.train

        def disturbed(*arguments: Any, **settings: Any) -> Any:
            for moment in train(*arguments, **settings):
                if moment.row.step == self.step:
                    os.kill(os.getpid(), self.signum)
                yield moment

        run.train = disturbed
