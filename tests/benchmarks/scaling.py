"""How time grows with runs, steps, arms and parameters: `python -m tests.benchmarks.scaling [options]`.

For runs, steps, arms and the plan we time whole commands on the tiny model and synthetic reviews, where most of the
time is the framework's own work. For parameters we time steps of random BERTs of growing width, in this process. A
straight line is fitted to the medians over turns; it gives the cost of one more and the constant cost. `bend` is the
slope between the last two sizes over the slope between the first two: 1 for linear growth, more for faster growth.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ablate.experiment import build_options
from ablate.training.memory import count_parameters
from tests.benchmarks.processes import spend
from tests.benchmarks.step_time import Side, ours, plain
from tests.benchmarks.turns import in_turns, options, tell
from tests.tools import compose_settings

TINY = ("model=tiny", "data=synthetic", "freeze=none", "trainer.batch_size=16", "trainer.length_splits=1",
        "trainer.threads=1", "data.test_examples=100", "trainer.eval_batch_size=100")  # fmt: skip
WIDE = ("model=tiny", "model.layers=4", "model.heads=8", "data=synthetic", "freeze=embeddings_attention",
        "trainer.length_splits=1")  # fmt: skip


@dataclass(frozen=True)
class Growth:
    """Time as a function of size: `start + each · size`, fitted by least squares."""

    sizes: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def line(self) -> tuple[float, float]:
        """Slope and intercept: (each, start)."""
        each, start = np.polyfit(self.sizes, self.seconds, deg=1)
        return float(each), float(start)

    @property
    def bend(self) -> float:
        """
        >>> round(Growth((1, 2, 4), (3.0, 5.0, 9.0)).bend, 6), round(Growth((1, 2, 3), (1.0, 4.0, 9.0)).bend, 2)
        (1.0, 1.67)
        """
        slopes = np.diff(self.seconds) / np.diff(self.sizes)
        return float(slopes[-1] / slopes[0])


def runs(n: int) -> list[str]:
    return [f"seed=range({n})", "trainer.steps=5"]


def steps(n: int) -> list[str]:
    return ["seed=0", f"trainer.steps={n}"]


def arms(n: int) -> list[str]:
    """Arms of one seed that share prefixes: clipping from step 1, 2, ..., n."""
    return ["seed=0", "trainer.steps=40", "clip=delayed", f"clip.start={','.join(map(str, range(1, n + 1)))}"]


def plan(n: int) -> list[str]:
    return [f"seed=range({n})", "clip=none,fixed", "plan=json"]


COMMANDS: dict[str, Callable[[int], list[str]]] = {"runs": runs, "steps": steps, "arms": arms, "plan": plan}


def commands(kind: str, sizes: list[int], turns: int, folder: Path) -> dict[str, list[float]]:
    """Median seconds and largest memory (MB) of the command of each size, run in an empty folder."""
    fresh = (folder / f"{kind}-{turn}" for turn in count())

    def command(n: int) -> tuple[float, float]:
        cwd = next(fresh)
        cwd.mkdir()
        spent = spend([["-m", "ablate", "-m", *TINY, *COMMANDS[kind](n)]], cwd, threads=1)
        return spent.seconds, spent.megabytes

    found = in_turns({str(n): partial(command, n) for n in sizes}, turns)
    return {
        "seconds": [median(s for s, _ in found[str(n)]) for n in sizes],
        "megabytes": [max(m for _, m in found[str(n)]) for n in sizes],
    }


def widths(hidden: list[int], turns: int) -> dict[str, list[float]]:
    """For each width: trained parameters, seconds per step, and their ratio to the plain loop's."""
    found: dict[str, list[float]] = {"trained": [], "seconds": [], "over_plain": []}
    for width in hidden:
        settings = compose_settings(*WIDE, f"model.hidden={width}", f"trainer.steps={5 * turns + 2}")
        sides: Mapping[str, Callable[[], float]] = {f.__name__: Side(f, settings).timed(5) for f in (ours, plain)}
        seconds = in_turns(sides, turns)
        found["trained"].append(trained(settings))
        found["seconds"].append(median(seconds["ours"]))
        found["over_plain"].append(median(a / b for a, b in zip(seconds["ours"], seconds["plain"], strict=True)))
    return found


def trained(settings: Mapping[str, Any]) -> int:
    from ablate.data.corpus import corpus
    from ablate.freeze import freeze

    built = build_options(settings)
    texts = corpus(built.model, built.data)
    model = built.model.build(texts.classes, 0, texts.tokenizer)
    freeze(model, built.freeze)
    return count_parameters(model)["trained"]


def row(what: str, sizes: list[float], found: dict[str, list[float]], unit: float, more: str) -> list[str]:
    growth = Growth(tuple(sizes), tuple(found["seconds"]))
    each, start = growth.line
    return [
        what, ", ".join(f"{size:,.0f}" for size in sizes), ", ".join(f"{s:.3g}" for s in found["seconds"]),
        f"{each * unit:.3g}", f"{start:.3g}", f"{growth.bend:.2f}", more,
    ]  # fmt: skip


def main() -> None:
    parser = options(__doc__, turns=3)
    parser.add_argument("--runs", type=int, nargs="*", default=[5, 10, 20, 40])
    parser.add_argument("--steps", type=int, nargs="*", default=[250, 500, 1000, 2000])
    parser.add_argument("--arms", type=int, nargs="*", default=[4, 8, 16, 32])
    parser.add_argument(
        "--plan", type=int, nargs="*", default=[50, 100, 200, 400], help="numbers of seeds, with two arms each"
    )
    parser.add_argument("--hidden", type=int, nargs="*", default=[128, 256, 512, 768])
    said = parser.parse_args()
    for name in (*COMMANDS, "hidden"):
        if len(getattr(said, name)) in (1, 2):
            parser.error(f"--{name}: give at least three sizes, or none to skip this part")
    numbers, rows = measure(said)
    tell(["growth with", "sizes", "seconds", "s for one more", "constant s", "bend", ""], rows, numbers, said)


def measure(said: argparse.Namespace) -> tuple[dict[str, Any], list[list[str]]]:
    numbers: dict[str, Any] = {}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in COMMANDS:
            if sizes := getattr(said, kind):
                found = commands(kind, sizes, said.turns, Path(folder))
                numbers[kind] = {"sizes": sizes, **found}
                memory = f"{found['megabytes'][0]:.0f} to {found['megabytes'][-1]:.0f} MB"
                rows.append(row(kind, sizes, found, 1, memory))
    if said.hidden:
        numbers["parameters"] = found = widths(said.hidden, said.turns)
        over = ", ".join(f"{ratio:.2f}" for ratio in found["over_plain"])
        rows.append(row("trained parameters, one step (per million)", found["trained"], found, 1e6,
                        f"ratio to the plain loop {over}"))  # fmt: skip
    return numbers, rows


if __name__ == "__main__":
    main()
