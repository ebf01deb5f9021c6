"""Checks of a sweep that hold for every launcher: local workers, SLURM, Ray."""

import json
from pathlib import Path

from filelock import FileLock

from tests.faults.harness import (
    COMMON,
    SWEEP,
    ablate,
    attempts,
    begin,
    differences,
    end,
    output,
    record,
    runs,
    statuses,
)  # fmt: skip
from tests.tools import ablate as told

FORKING = (*SWEEP, "seed=0,1")  # three arms × two seeds; the second arm shares seven steps with the first
LISTED = ("-m", *COMMON, "arms={a:{clip.start:20},b:{clip.start:8},c:{clip.start:1}}", "seed=0,1")  # the same six runs
ONE = ("-m", *COMMON, "allow_targets=[tests.faults.rules]", "clip=none", "+clip.at=8")  # at step 8 the rule interferes
HALTING = (*ONE, "clip._target_=tests.faults.rules.Halting")  # it waits for a file `go`
SIGNALLING = (*ONE, "clip._target_=tests.faults.rules.Signalling")  # it sends what a file `fault` says


def check_same(cwd: Path, one_by_one: Path) -> None:
    """Check that the six runs started once each, in the environment and with the bits of runs one by one."""
    assert differences(cwd, one_by_one) == []
    keys = [{record(folder)["environment"]["key"] for folder in runs(each).values()} for each in (cwd, one_by_one)]
    assert keys[0] == keys[1] and len(keys[0]) == 1
    assert [attempts(folder) for folder in runs(cwd).values()] == [1] * 6


def check_shares_and_passes_over(cwd: Path, one_by_one: Path, *engine: str, **environment: str) -> None:
    """With one run at a time: the second forks from the first, and a run that another process has locked is listed."""
    first, fork, last = json.loads(told(*SWEEP, "plan=json", cwd=cwd).stdout)["runs"]
    locked = cwd / "outputs/faults" / last["run"]
    locked.mkdir(parents=True)
    with FileLock(locked / ".lock"):
        assert end(begin(cwd, *SWEEP, *engine, **environment)) == 0
    assert f"locked: {locked.name}: another process is running it" in output(cwd)
    assert statuses(cwd) == {20: "done", 8: "done"}
    assert record(locked.with_name(fork["run"]))["forked_from"] == fork["from"] == {"run": first["run"], "step": 7}
    assert ablate(cwd, *SWEEP) == 0
    for name, folder in runs(cwd).items():
        assert differences(folder, runs(one_by_one)[name]) == []
