"""Cost of a step's measures beyond its norms: `python -m tests.benchmarks.measures [overrides]`.

Trains MiniLM on movie snippets, with rules on tensors and without, once as it is and once with measures that do
nothing (`ablate.training.measures`). A turn has as many steps as lie between two measures that need copies, so that
each turn has one of them; turns alternate in one process, and the ratio is the median of the ratios per turn.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest import mock

from ablate.experiment import build_options
from ablate.training import step
from tests.benchmarks.step_time import ours, seconds
from tests.benchmarks.turns import held, in_turns, options, ratio, tell
from tests.tools import compose_settings

COST_AT_MOST = 1.02
ARMS = {"freeze, clip": (), "all weights, clip per tensor": ("freeze=none", "clip=per_tensor")}


class NoMeasures:
    """In place of `Measures`."""

    rows: tuple[Any, ...] = ()
    added = 0.0

    def __init__(self, *_: Any) -> None: ...

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: nullcontext()


def timed(overrides: Sequence[str], turns: int, measured: bool) -> Callable[[], float]:
    """A function that times the next steps, in seconds per step, with measures or without."""
    settings = compose_settings("clip=fixed", *overrides)
    every = settings["trainer"]["track"]["updates_every"]
    settings["trainer"]["steps"] = every * (turns + 1)
    patched = nullcontext() if measured else mock.patch.object(step, "Measures", NoMeasures)
    running: Iterator[float] = ours(build_options(settings))

    def turn() -> float:
        with patched:
            return seconds(running, True, every)

    turn()  # warm-up
    return turn


def main() -> None:
    parser = options(__doc__, turns=6)
    parser.add_argument("overrides", nargs="*")
    said = parser.parse_intermixed_args()
    rows, numbers = [], {}
    for arm, more in ARMS.items():
        side = partial(timed, [*more, *said.overrides], said.turns)
        times = in_turns({"with": side(True), "without": side(False)}, said.turns)
        found = ratio(times["with"], times["without"])
        rows.append([arm, f"{sorted(times['with'])[said.turns // 2]:.3f}", found, held(found, COST_AT_MOST)])
        numbers[arm] = times
    tell(["step", "s", "ratio to a step without measures", "target"], rows, numbers, said)


if __name__ == "__main__":
    main()
