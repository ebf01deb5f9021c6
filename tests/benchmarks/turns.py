"""The machine that a benchmark ran on, and measuring in turns.

Machines are noisy: each turn measures each side once, in alternating order. Every result is printed with its machine.
"""

import argparse
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from ablate.training.environment import cpu

# --- The machine ---


BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # instruction sets with bf16 products: two of x86, one of Arm
VERSIONS = ("torch", "transformers", "accelerate")
EMULATED = "no bf16 instructions on this CPU"


def machine() -> dict[str, Any]:
    """CPU model, number of cores that this process may use, whether the CPU has bf16 products, and versions."""
    return {
        "cpu": cpu()["model"],
        "cores": len(os.sched_getaffinity(0)),
        "bf16": multiplies_bf16(Path("/proc/cpuinfo").read_text()),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in VERSIONS},
    }


def in_words(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {found[name]}" for name in ("python", *VERSIONS))
    bf16 = "bf16 instructions" if found["bf16"] else EMULATED
    return f"{found['cpu']}, {found['cores']} cores, {bf16}; {versions}"


def with_reservation(words: str, precision: str) -> str:
    """The text of a result, with a note if this CPU has no instructions for the precision."""
    emulated = precision == "bf16" and not machine()["bf16"]
    return f"{words} ({EMULATED})" if emulated else words


def multiplies_bf16(cpuinfo: str) -> bool:
    """Return True if /proc/cpuinfo lists an instruction set with bf16 products. Without one, bf16 is emulated and slow.

    >>> multiplies_bf16("flags : fpu avx2"), multiplies_bf16("flags : fpu avx512_bf16 amx_bf16")
    (False, True)
    """
    return not BF16_FLAGS.isdisjoint(cpuinfo.split())


# --- Turns ---


K = TypeVar("K")
T = TypeVar("T")


def say_nothing(name: object, result: object) -> None: ...


def in_turns(
    sides: Mapping[K, Callable[[], T]], turns: int, say: Callable[[K, T], None] = say_nothing
) -> dict[K, list[T]]:
    """Return each side's results, one per turn. The order is A B, B A, A B, ..., so that drift affects all sides alike.

    `say` is called with each result at once, so that an interrupted benchmark still reports what it has measured.
    """
    results: dict[K, list[T]] = {name: [] for name in sides}
    for turn in range(turns):
        for name in list(sides) if turn % 2 == 0 else reversed(list(sides)):
            results[name].append(sides[name]())
            say(name, results[name][-1])
    return results


@dataclass(frozen=True)
class Ratio:
    """Median and range of the ratio of two sides per turn; below 1 if the first side needs less."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Ratio of two sides, from their measurements per turn.

    >>> str(ratio([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]))
    '1.00 (0.50 to 1.50)'
    """
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def held(found: Ratio, at_most: float) -> str:
    """The target of a ratio, and whether its median meets it."""
    return f"≤ {at_most:.2f}: {'yes' if found.median <= at_most else 'NO'}"


def options(description: str | None, turns: int) -> argparse.ArgumentParser:
    """Argument parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=turns, help=f"number of measurements per side (default: {turns})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every number to this file")
    return parser


def tell(headings: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Any, arguments: argparse.Namespace) -> None:
    """Print the machine and a Markdown table; write `numbers` with machine and arguments to the --json file."""
    here = machine()
    print(in_words(here))
    for row in (headings, ["---"] * len(headings), *rows):
        print(f"| {' | '.join(map(str, row))} |")
    if arguments.json:
        said = {key: value for key, value in vars(arguments).items() if key != "json"}
        content = {"machine": here, "arguments": said, "results": numbers}
        arguments.json.write_text(json.dumps(content, indent=2, default=vars) + "\n", encoding="utf-8")
