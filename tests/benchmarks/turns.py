"""Measuring in turns, because machines are noisy: each turn measures each side once, in alternating order."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from tests.benchmarks.machine import in_words, machine

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
