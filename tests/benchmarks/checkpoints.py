"""Time spent on checkpoints: `python -m tests.benchmarks.checkpoints [overrides]`.

Performs one real run (MiniLM on movie snippets, 300 steps, a checkpoint every 100) and prints the share of its time
spent on checkpoints: serialising, hashing, fsync, and writing the tables that belong to them.
"""

import sys
import tempfile
import time
from pathlib import Path

from ablate.run import run
from tests.tools import compose_settings, run_settings


def main() -> None:
    spent: list[float] = []
    save = run.TrainingRun.save

    def timed(self: run.TrainingRun, step: int) -> None:
        began = time.perf_counter()
        save(self, step)
        spent.append(time.perf_counter() - began)

    run.TrainingRun.save = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        record = run_settings(compose_settings(*sys.argv[1:]), Path(folder))
    seconds = record["timing"]["seconds"]
    print(f"test accuracy {record['metrics']['test_accuracy']:.4f} after {seconds:.1f} s")
    print(f"{len(spent)} checkpoints: {sum(spent):.2f} s, {sum(spent) / seconds:.2%} of the run")


if __name__ == "__main__":
    main()
