"""Real processes for fault tests, and the comparison of two runs.

The command itself runs in a process forked from a server that has the imports done: a start costs half a second.
Faults come from outside where that is possible (signals, limits, edited files); else the child patches a function
of `ablate` before it starts the command (`tests.faults.injection`), and the package needs no code for that.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import torch
from omegaconf import OmegaConf

from tests.tools import RECORDED, ROOT, compose_config, without_report

if TYPE_CHECKING:
    from ablate.run.job import Job

COMMON = (  # a random 2-layer BERT, dropout 0.1, 64 tokens; 40 examples in batches of 4: 20 steps are two epochs
    "model=tiny", "model.hidden=16", "model.vocabulary=60", "data=synthetic", "data.train_examples=40",
    "data.test_examples=20", "trainer.threads=1", "trainer.batch_size=4", "trainer.length_splits=1",
    "trainer.steps=20", "trainer.checkpoint_every=5", "trainer.probe_every=5", "trainer.probe_examples=4",
    "trainer.track.layers_every=5", "trainer.keep_checkpoint=true", "study=faults", "clip=delayed",
)  # fmt: skip
FIXTURE = (*COMMON, "clip.start=8")
STARTS = (20, 8, 1)  # the sweep's arms; the second shares seven steps with the first, and is FIXTURE's run
SWEEP = ("-m", *COMMON, "clip.start=20,8,1")
PATIENCE = 300.0  # seconds for a command that takes one second: a busy machine is no fault
Fault = Callable[[], None]


# Processes


def server() -> BaseContext:
    """Return a fork server that has imported torch, transformers and Hydra."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.warm"])
    return context


def start(cwd: Path, *arguments: str, fault: Fault | None = None, printed: Sequence[Path] = ()) -> BaseProcess:
    """Start `python -m ablate <arguments>` in `cwd`.

    Its output is appended to `cwd/output.txt`, or to the two files `printed`, for stdout and stderr.
    """
    outputs = printed or (cwd / "output.txt",) * 2
    process = server().Process(target=command, args=(arguments, cwd, outputs, fault))  # type: ignore[attr-defined]
    process.start()
    return process


def command(arguments: Sequence[str], cwd: Path, outputs: Sequence[Path], fault: Fault | None) -> None:
    """In the forked child: become the command, leader of a session and so of a process group of its own."""
    os.setsid()
    os.chdir(cwd)
    for number, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    sys.argv = ["ablate", *without_report(arguments)]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "report=true" in arguments:
        draw_few_figures()
    if fault is not None:
        fault()
    from ablate.__main__ import main

    main()


def draw_few_figures() -> None:
    """Let the report of this process have one figure by step and one by seed, which saves five seconds."""
    from analysis import report

    report.FIGURES = {name: report.FIGURES[name] for name in ("training_loss", "seeds")}


def finish(process: BaseProcess) -> int:
    """Wait for the command and return its exit code; a negative one is the signal that killed it."""
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError("the command did not end")
    return process.exitcode


def ablate(cwd: Path, *arguments: str, fault: Fault | None = None) -> int:
    """Run the command in `cwd` to its end."""
    return finish(start(cwd, *arguments, fault=fault))


def begin(cwd: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start the command as a user does, in a session of its own: for launchers, which start processes themselves."""
    with (cwd / "output.txt").open("a") as printed:
        return subprocess.Popen(
            [sys.executable, "-m", "ablate", *without_report(arguments)], cwd=cwd, stdout=printed,
            stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=heed_ctrl_c,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **environment},
        )  # fmt: skip


def begin_warm(cwd: Path, *arguments: str, **environment: str) -> BaseProcess:
    """Start the command for launchers from the fork server, which saves five seconds of processor time."""
    return start(cwd, *arguments, fault=partial(set_variables, {"PYTHONPATH": str(ROOT), **environment}))


def set_variables(environment: dict[str, str]) -> None:
    os.environ.update(environment)


def heed_ctrl_c() -> None:
    """Reset SIGINT, which a shell's background jobs, and all processes that the tests start there, ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end(process: subprocess.Popen[bytes] | BaseProcess) -> int:
    """Wait for a command that `begin` or `begin_warm` started, end all its processes, and return its exit code."""
    assert process.pid is not None
    try:
        code = finish(process) if isinstance(process, BaseProcess) else process.wait(PATIENCE)
        wait_until(lambda: not alive(process.pid))
        return code
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def alive(session: int) -> list[str]:
    """Return the processes of a session that are not zombies."""
    shown = subprocess.run(["ps", "-o", "stat=,args=", "-s", str(session)], capture_output=True, text=True).stdout
    return [line for line in shown.splitlines() if not line.startswith("Z")]


def wait_until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.1)


def output(cwd: Path) -> str:
    """Return everything that the commands in `cwd` have printed."""
    return (cwd / "output.txt").read_text(encoding="utf-8")


def job_of(*overrides: str) -> "Job":
    """Return the job of FIXTURE's run, to execute it in this process."""
    from ablate.run.job import job

    config = compose_config(*FIXTURE, *overrides)
    return job(config, OmegaConf.to_container(config.hydra.runtime.choices))  # type: ignore[arg-type]


# Their files


def runs(cwd: Path, study: str = "faults") -> dict[str, Path]:
    """Run folders of a study by name; none if there is no such study."""
    return {f.name: f for f in sorted(cwd.glob(f"outputs/{study}/*")) if f.is_dir() and not f.name.startswith(".")}


def the_run(cwd: Path) -> Path:
    """The folder of the only run."""
    (folder,) = runs(cwd).values()
    return folder


def run_of(cwd: Path, start: int) -> Path:
    """The folder of the run whose clipping starts at this step."""
    (folder,) = (f for f in runs(cwd).values() if record(f)["factors"]["clip"]["settings"]["start"] == start)
    return folder


def statuses(cwd: Path) -> dict[int, str]:
    """The status of each run that has started, by the step at which its clipping starts."""
    records = [record(folder) for folder in runs(cwd).values() if (folder / "run.json").exists()]
    return {found["factors"]["clip"]["settings"]["start"]: found["status"] for found in records}


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def resumed_from(folder: Path) -> int | None:
    """The step of the checkpoint from which the last attempt continued; None if it started at step 1."""
    return record(folder)["timing"]["resumed_from"]


def attempts(folder: Path) -> int:
    """How often a process started to work on the run."""
    return (folder / "run.log").read_text(encoding="utf-8").count("parameters by block")


def leftovers(cwd: Path) -> list[Path]:
    """Half-written files in any run's folder."""
    return list(cwd.glob("outputs/**/.*.tmp"))


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """The inode, time and content of every path in a folder."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (status.st_ino, status.st_mtime_ns, content)
    return found


def content(folder: Path) -> dict[str, Any]:
    """The parts that are equal in a disturbed and an undisturbed run: all rows (without timings) and final tensors."""
    parts: dict[str, Any] = {name: pq.read_table(folder / f"{name}.parquet") for name in RECORDED}
    parts["steps"] = parts["steps"].drop_columns(["seconds"])
    kept = torch.load(folder / "checkpoint.pt", weights_only=True) if (folder / "checkpoint.pt").exists() else None
    parts["tensors"] = kept and {name: tensor.numpy().tobytes() for name, tensor in kept["trained"].items()}
    whole = record(folder)
    for key in ("id", "status", "factors", "seed", "nuisance", "parameters", "pairing", "metrics", "memory_bytes"):
        parts[key] = whole.get(key)
    return parts


def differences(one: Path, other: Path) -> list[str]:
    """The parts that differ between two run folders, or between all runs of two working directories; [] if equal."""
    if (one / "outputs").exists():
        ours, theirs = runs(one), runs(other)
        shared = ours.keys() & theirs.keys()
        found = [f"{name}: only in one" for name in sorted(ours.keys() ^ theirs.keys())]
        return found + [f"{name}: {what}" for name in sorted(shared) for what in differences(ours[name], theirs[name])]
    first, second = content(one), content(other)
    return [part for part in first if first[part] != second[part]]


def steps(folder: Path) -> list[int]:
    return pq.read_table(folder / "steps.parquet")["step"].to_pylist()


def checkpointed(folder: Path) -> int:
    """The step of the folder's checkpoint, 0 if there is none."""
    path = folder / "checkpoint.pt"
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0
