"""Time and memory of programs, started as a user starts them (Linux only)."""

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

LOOK_EVERY = 0.5  # seconds between measurements of memory
END_EVERY = 0.02  # seconds between checks whether a program has ended


@dataclass(frozen=True)
class Spent:
    """Wall time of all programs of one side, and their peak memory in two measures.

    `megabytes` adds up the peak resident sizes (VmHWM) of the processes that are alive at the same time. It counts
    memory that processes share, mainly libraries, once per process, and adds peaks of different moments.
    `proportional` is the largest sum, over all measurements, of the proportional sizes (PSS), which count memory that n
    processes share as 1/n in each. `output` is the standard output of each program.
    """

    seconds: float
    megabytes: float
    proportional: float
    output: tuple[str, ...]

    @property
    def numbers(self) -> dict[str, float]:
        return {"seconds": self.seconds, "megabytes": self.megabytes, "proportional": self.proportional}


def spend(commands: Sequence[Sequence[str]], folder: Path, threads: int, at_once: int = 1) -> Spent:
    """Run Python programs, given by their arguments, in `folder`: `at_once` in parallel, each on `threads` threads.

    Raises RuntimeError with the end of its output if a program fails.
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
        for program in running:  # after a signal or an error
            program.process.terminate()
        signal.signal(signal.SIGTERM, before)
    seconds = time.perf_counter() - began
    return Spent(seconds, *peak, tuple(program.output() for program in done))


class Program:
    """A running Python program with its output in temporary files."""

    def __init__(self, arguments: Sequence[str], folder: Path, threads: int) -> None:
        self.arguments = arguments
        self.out, self.err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115, closed by `output`
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache"), "PYTHONPATH": os.pathsep.join(paths),
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment, stdout=self.out, stderr=self.err
        )

    def processes(self) -> list[int]:
        """Ids of the program's process and of all its descendants."""
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
    """Peak resident size of a process since its start, and its proportional size (PSS) now, both in MB."""
    return peak_megabytes(pid), kilobytes(f"/proc/{pid}/smaps_rollup", "Pss") / 1024


def peak_megabytes(pid: int | str = "self") -> float:
    """Peak resident size of a process since its start, in MB; 0 if it has ended.

    `ru_maxrss` would not do: it starts at the size of the parent process.
    """
    return kilobytes(f"/proc/{pid}/status", "VmHWM") / 1024


def kilobytes(file: str, name: str) -> int:
    """The value of one line of a file in /proc; 0 if the process has ended."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(file).read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) if found else 0
