"""A run on several ranks, as torchrun starts them, and its comparison with a run on one process."""

import functools
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tests.faults.harness import PATIENCE, output, start

NUMBERS = ["loss", "accuracy", "grad_norm", "grad_norm_clipped", "mlp_grad_norm", "classifier_grad_norm", "tokens"]
Fault = Callable[[], None]


def become(rank: int, count: int, port: int, fault: Fault | None) -> None:
    """In the forked child: set the variables that torchrun sets, and inject the fault of this rank, if it has one."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    if fault is not None:
        fault()


def together(cwd: Path, *arguments: str, count: int = 2, faults: dict[int, Fault] | None = None) -> list[int]:
    """Run the command on `count` ranks, as torchrun does; return exit codes by rank.

    When one rank fails, ranks that do not end soon are killed. `faults` is by rank. All ranks print into one file.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    ranks = [
        start(cwd, *arguments, fault=functools.partial(become, rank, count, port, (faults or {}).get(rank)))
        for rank in range(count)
    ]
    deadline = time.monotonic() + PATIENCE
    while any(process.exitcode is None for process in ranks):
        assert time.monotonic() < deadline, output(cwd)
        if any(process.exitcode for process in ranks):  # the others may be about to end by themselves
            for process in ranks:
                process.join(60)
                process.kill()
        time.sleep(0.05)
    return [process.exitcode for process in ranks]


def agree(one: Path, several: Path) -> bool:
    """Whether two runs are equal within the effect of another order of summation in float32 over 20 steps."""
    ours, theirs = (table(folder, "steps")[NUMBERS] for folder in (one, several))
    seen, said = (table(folder, "predictions")["probability"] for folder in (one, several))
    unknown = ours.isna() & theirs.isna()  # norms of a weight that is frozen
    close = (((ours - theirs).abs() <= 1e-4 * ours.abs() + 1e-6) | unknown).all().all() and ours.shape == theirs.shape
    return bool(close and ((seen - said).abs() < 1e-4).all())


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / f"{name}.parquet")
