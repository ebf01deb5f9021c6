"""Programs as a user starts them: how long they take and how much memory (Linux)."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.tools import ROOT

LOOK_EVERY = 0.5  # seconds between looks at the memory
END_EVERY = 0.02  # seconds between looks at whether a program has ended


@dataclass(frozen=True)
class Spent:
    """What a side took: wall time of all its programs, and the most memory at once.

    `megabytes` is the sum over the processes alive together of each one's peak resident size (VmHWM): what several
    processes share, libraries above all, counts in each, and peaks add up that never were at once. `proportional` is
    what they took of the machine at one look, the most of all looks: what is shared by n counts 1/n in each (PSS).
    `output` is standard output, program by program.
    """

    seconds: float
    megabytes: float
    proportional: float
    output: tuple[str, ...]

    @property
    def numbers(self) -> dict[str, float]:
        return {"seconds": self.seconds, "megabytes": self.megabytes, "proportional": self.proportional}


def spend(commands: Sequence[Sequence[str]], folder: Path, threads: int, at_once: int = 1) -> Spent:
    """Run Python programs (`commands` are their arguments) in `folder`, so many at once, each on so many threads.

    Raises RuntimeError with the end of its output where one fails.
    """
    began, looked = time.perf_counter(), 0.0
    waiting, running, done, peak = list(commands), [], [], (0.0, 0.0)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(Program(waiting.pop(0), folder, threads))
            time.sleep(END_EVERY)
            if time.perf_counter() - looked > LOOK_EVERY:
                taken = [megabytes(pid) for program in running for pid in program.processes()]
                looked = time.perf_counter()
                peak = max(peak[0], sum(most for most, _ in taken)), max(peak[1], sum(now for _, now in taken))
            done += [program for program in running if program.process.poll() is not None]
            running = [program for program in running if program not in done]
    finally:
        for program in running:  # a signal, or an error
            program.process.terminate()
        signal.signal(signal.SIGTERM, before)
    seconds = time.perf_counter() - began
    return Spent(seconds, *peak, tuple(program.output() for program in done))


class Program:
    """A running Python program, its output in a temporary file."""

    def __init__(self, arguments: Sequence[str], folder: Path, threads: int) -> None:
        self.arguments = arguments
        self.out, self.err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115, till `output`
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache"), "PYTHONPATH": os.pathsep.join(paths),
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment, stdout=self.out, stderr=self.err
        )

    def processes(self) -> list[int]:
        """Itself and all that it started."""
        try:
            return [self.process.pid, *(child.pid for child in psutil.Process(self.process.pid).children(True))]
        except psutil.NoSuchProcess:
            return []

    def output(self) -> str:
        with self.out, self.err:
            self.out.seek(0), self.err.seek(0)
            out, err = self.out.read(), self.err.read()
        if code := self.process.returncode:
            raise RuntimeError(f"{' '.join(self.arguments)}: exit code {code}\n{(out + err)[-3000:]}")
        return out


def megabytes(pid: int) -> tuple[float, float]:
    """Peak resident size of a process since its program began, and its proportional size now (PSS), in MB."""
    return peak_megabytes(pid), kilobytes(f"/proc/{pid}/smaps_rollup", "Pss") / 1024


def peak_megabytes(pid: int | str = "self") -> float:
    """Peak resident size of a process since its program began, in MB; 0 for one that has ended.

    Not `ru_maxrss`: that begins with the size of the process that started it.
    """
    return kilobytes(f"/proc/{pid}/status", "VmHWM") / 1024


def kilobytes(file: str, name: str) -> int:
    """A line of a file in /proc; 0 of a process that has ended."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(file).read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) if found else 0
