"""SIGKILL at random times, again and again until the sweep is done: nothing is lost, done twice or falsified.

The long version takes 200 kills: `pytest -m long tests/faults/test_random_kills.py -s`.
"""

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import (
    COMMON,
    PATIENCE,
    ablate,
    checkpointed,
    differences,
    finish,
    leftovers,
    record,
    runs,
    snapshot,
    start,
)

SIX = ("-m", *COMMON, "clip.start=20,8,1", "seed=0,1")
STEPS = 20
LONGEST = 0.8  # seconds from a step to the kill: about two runs


@pytest.fixture(scope="module")
def undisturbed_six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("six")
    assert ablate(cwd, *SIX) == 0
    return cwd


@pytest.mark.slow
@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.long)])
def test_row_03_random_kills(tmp_path: Path, undisturbed_six: Path, kills: int) -> None:
    hit, sweeps, chance = Counter[str](), 0, random.Random(kills)
    while (left := kills - hit.total()) > 0:
        cwd = tmp_path / str(sweeps)
        cwd.mkdir()
        hit += kill_until_done(cwd, chance, left)
        assert differences(cwd, undisturbed_six) == []
        assert leftovers(cwd) == []
        assert not (cwd / "outputs/faults/.shared").exists()
        sweeps += 1
    print(f"\n{hit.total()} kills in {sweeps} sweeps of six runs; hit: {dict(hit)}")


def kill_until_done(cwd: Path, chance: random.Random, most: int) -> Counter[str]:
    """Run the sweep to its end and kill it up to `most` times; return counts of what the kills hit."""
    hit, reached, finished = Counter[str](), {}, {}
    while True:
        code = finish_or_kill(cwd, chance.uniform(0, LONGEST) if hit.total() < most else None)
        now = progress(cwd)
        assert all(now[run] >= step for run, step in reached.items()), "progress went back"
        assert all(snapshot(runs(cwd)[run]) == files for run, files in finished.items()), "a finished run was touched"
        reached = now
        finished = {run: snapshot(runs(cwd)[run]) for run, step in now.items() if step > STEPS}
        if code == 0:
            return hit
        assert code == -signal.SIGKILL
        hit["a write" if leftovers(cwd) else "a run" if unfinished(cwd) else "between runs"] += 1


def finish_or_kill(cwd: Path, delay: float | None) -> int:
    """The exit code of the sweep, killed `delay` seconds after the first step that it makes."""
    stepped, tell = Pipe(duplex=False)
    process = start(cwd, *SIX, fault=partial(tell_of_steps, tell))
    tell.close()  # this process's end: if the other ends without a step, `poll` finds the pipe closed
    if delay is not None and stepped.poll(PATIENCE):
        process.join(delay)
        if process.exitcode is None:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
    code = finish(process)
    stepped.close()
    return code


def tell_of_steps(tell: Connection) -> None:
    """In the child: send a message after the first step."""
    from ablate.run import run

    train, told = run.train, []

    def telling(*arguments: Any) -> Iterator[Any]:
        for moment in train(*arguments):
            if not told:
                tell.send_bytes(b"step")
                told.append(True)
            yield moment

    run.train = telling


def progress(cwd: Path) -> dict[str, int]:
    """The step of each run's checkpoint; more than all steps if the run is done."""
    return {name: STEPS + 1 if is_done(folder) else checkpointed(folder) for name, folder in runs(cwd).items()}


def is_done(folder: Path) -> bool:
    return (folder / "run.json").exists() and record(folder)["status"] == "done"


def unfinished(cwd: Path) -> bool:
    return any((folder / "run.json").exists() and not is_done(folder) for folder in runs(cwd).values())
