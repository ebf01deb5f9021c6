"""Step time beside busy processes, by how threads wait: `python -m tests.benchmarks.busy_cores [--busy 0 1 2 4]`.

Real commands (`python -m ablate`, MiniLM on movie snippets) beside processes that compute without end. Sides: ours, as
shipped; GNU OpenMP's own waiting (`GOMP_SPINCOUNT=300000`, its default, which switches ours off); sleeping at once
(`OMP_WAIT_POLICY=passive`); one thread, which waits for none. The step time is the median of a run's steps.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq

from tests.benchmarks.turns import held, in_turns, options, ratio, tell

IDLE_AT_MOST, BUSY_AT_MOST = 1.03, 2.0
WARM_UP = 5  # steps
SIDES = {
    "ours": ({}, []),
    "OpenMP's default": ({"GOMP_SPINCOUNT": "300000"}, []),
    "passive": ({"OMP_WAIT_POLICY": "passive"}, []),
    "one thread": ({}, ["trainer.threads=1"]),
}


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Processes that compute without end."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def step_time(side: str, processes: int, steps: int) -> float:
    """Median seconds of a run's steps."""
    variables, settings = SIDES[side]
    command = [sys.executable, "-m", "ablate", f"trainer.steps={steps}", "data.test_examples=64", *settings]
    with tempfile.TemporaryDirectory() as folder, busy(processes):
        environment = {**os.environ, "PYTHONPATH": os.getcwd(), **variables}
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        table = pq.read_table(next(Path(folder).glob("outputs/*/*/steps.parquet")), columns=["seconds"])
    return median(table["seconds"].to_pylist()[WARM_UP:])


def main() -> None:
    parser = options(__doc__, turns=2)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2, 4], help="numbers of busy processes")
    parser.add_argument("--steps", type=int, default=25)
    arguments = parser.parse_args()
    found = {
        n: in_turns({side: partial(step_time, side, n, arguments.steps) for side in SIDES}, arguments.turns, print)
        for n in arguments.busy
    }
    rows = [[n, *(f"{median(found[n][side]):.2f}" for side in SIDES)] for n in found]
    tell(["busy processes", *(f"{side}, s" for side in SIDES)], rows, found, arguments)
    if 0 in found:
        idle = ratio(found[0]["ours"], found[0]["OpenMP's default"])
        print(f"idle, ours / OpenMP's default: {idle}; {held(idle, IDLE_AT_MOST)}")
        if 1 in found:
            slower = ratio(found[1]["ours"], found[0]["ours"])
            print(f"ours, beside one busy process / idle: {slower}; {held(slower, BUSY_AT_MOST)}")


if __name__ == "__main__":
    main()
