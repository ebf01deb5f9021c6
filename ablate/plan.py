"""The plan of a sweep: what would run, what is shared, what it costs. Computed from configs and records only."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from ablate import fork
from ablate.display import duration
from ablate.environment import cpu
from ablate.fork import Snapshot
from ablate.identity import factors
from ablate.job import OUTPUTS, Job, finished, steps_done
from ablate.options import build_option
from ablate.records import read_run

SIZES = ("seconds", "memory_bytes", "disk_bytes")
SAME_WORK = ("freeze", "optimizer", "model", "data", "trainer")  # what a step's time depends on


@dataclass(frozen=True)
class PlannedRun:
    """One run of the plan; an entry of plan=json's `runs`, where `origin` is called `from`."""

    run: str
    factors: dict[str, str]
    seed: int
    state: str  # new | done | resume | fork
    origin: dict[str, Any] | None  # {run, step} that it forks from
    steps: int  # still to train
    seconds: float | None  # None: nothing like it was measured on this machine yet
    memory_bytes: int | None  # weights, gradients and optimizer by count
    disk_bytes: int | None  # its folder, and the snapshot that it begins with while that is there


def snapshots(jobs: Sequence[Job]) -> list[Snapshot]:
    """The shared starts of the runs that are to be done (`ablate.fork`)."""
    return fork.plan(
        [
            fork.Arm(
                run=work.folder.name,
                stem=work.stem,
                clip=build_option("clip", work.config),
                scheduler=build_option("scheduler", work.config),
                steps=work.config["trainer"]["steps"],
                done=steps_done(work),
            )
            for work in jobs
            if work.config["trainer"]["fork"]["enabled"] and not work.rerun
        ]
    )


def make(jobs: Sequence[Job], shared: Sequence[Snapshot], costs: Mapping[str, "Cost"]) -> list[PlannedRun]:
    """Each run with what it will do, in the order of work."""
    origin = {child: {"run": s.parent, "step": s.step} for s in shared for child in s.children}
    return [planned(work, origin.get(work.folder.name), costs.get(kind_of_work(work_factors(work)))) for work in jobs]


def planned(work: Job, origin: dict[str, Any] | None, cost: "Cost | None") -> PlannedRun:
    steps, behind = work.config["trainer"]["steps"], steps_done(work)
    if not work.rerun and finished(work):
        state, left = "done", 0
    elif behind and not work.rerun:
        state, left = "resume", steps - behind
    elif origin:
        state, left = "fork", steps - origin["step"]
    else:
        state, left = "new", steps
    start = cost.snapshot if cost and state == "fork" else 0
    return PlannedRun(
        run=work.folder.name,
        factors={factor: found["option"] for factor, found in work_factors(work).items()},
        seed=work.config["seed"],
        state=state,
        origin=origin if state == "fork" else None,
        steps=left,
        seconds=0.0 if state == "done" else cost and cost.of(left),
        memory_bytes=cost and cost.memory,
        disk_bytes=cost and cost.disk + start,
    )


def work_factors(work: Job) -> dict[str, dict[str, Any]]:
    return factors(work.config, work.choices)


def kind_of_work(found: Mapping[str, Any]) -> str:
    return json.dumps([found.get(factor) for factor in SAME_WORK], sort_keys=True)


@dataclass(frozen=True)
class Cost:
    """What a kind of run took on this machine."""

    step: float  # seconds
    beside: float  # seconds that are no step's
    memory: int  # bytes of weights, gradients and optimizer states
    snapshot: int  # bytes of a checkpoint
    disk: int  # bytes of its folder

    def of(self, steps: int) -> float:
        return steps * self.step + self.beside


def measured(outputs: Path = OUTPUTS) -> dict[str, Cost]:
    """Costs by kind of work, from all finished runs of this processor under `outputs`: medians over runs."""
    found: dict[str, list[Cost]] = {}
    for path in outputs.glob("**/run.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # a broken or vanished run tells nothing
            record = read_run(path.parent)
            if record and record["status"] == "done" and record["environment"]["cpu"] == cpu():
                cost = cost_of(path.parent, record)
                if cost:
                    found.setdefault(kind_of_work(record["factors"]), []).append(cost)
    return {kind: typical(costs) for kind, costs in found.items()}


def typical(costs: Sequence[Cost]) -> Cost:
    """Medians."""
    step, beside, *sizes = (median(getattr(cost, f.name) for cost in costs) for f in fields(Cost))
    return Cost(step, beside, *map(int, sizes))


def cost_of(folder: Path, record: Mapping[str, Any]) -> Cost | None:
    seconds = pq.read_table(folder / "steps.parquet", columns=["seconds"])["seconds"].drop_null()
    if len(seconds) == 0 or record["timing"].get("resumed_from"):
        return None
    size = record["memory_bytes"]
    return Cost(
        step=median(seconds.to_pylist()),
        beside=max(0.0, record["timing"]["seconds"] - pc.sum(seconds).as_py()),
        memory=size["weights"] + size["gradients"] + size["optimizer"],
        snapshot=size["gradients"] + size["optimizer"],
        disk=sum(path.stat().st_size for path in folder.iterdir()),
    )


def totals(runs: Iterable[PlannedRun]) -> dict[str, Any]:
    """What is left to do, in all; `seconds` is None where some run's kind of work was not measured yet."""
    left = [run for run in runs if run.state != "done"]
    seconds, memory, disk = ([getattr(run, key) for run in left] for key in SIZES)
    return {
        "runs": len(left),
        "steps": sum(run.steps for run in left),
        "steps_shared": sum(run.origin["step"] for run in left if run.origin),
        "seconds": None if None in seconds else sum(seconds),
        "memory_gb": None if None in memory else max(memory, default=0) / 1e9,
        "disk_gb": None if None in disk else sum(disk) / 1e9,
    }


def as_json(runs: Sequence[PlannedRun]) -> str:
    """plan=json: `runs` and `totals`."""
    entries = [{"from" if key == "origin" else key: value for key, value in asdict(run).items()} for run in runs]
    return json.dumps({"runs": entries, "totals": totals(runs)}, indent=2, ensure_ascii=False)


def in_short(runs: Sequence[PlannedRun]) -> str:
    """One line: what a sweep begins with.

    >>> in_short([PlannedRun("a", {}, 0, "new", None, 300, None, None, None)])
    '1 run: 1 new; 300 steps to train; time unknown: none like it was measured here yet'
    """
    states = [run.state for run in runs]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("new", "fork", "resume", "done") if s in states)
    total = totals(runs)
    shared = f", {total['steps_shared']} more are shared" if total["steps_shared"] else ""
    time = "time unknown: none like it was measured here yet"
    if total["seconds"] is not None:
        sizes = f"{total['memory_gb']:.2g} GB of memory, {total['disk_gb']:.2g} GB of disk"
        time = f"about {duration(total['seconds'])}, {sizes}"
    runs_in_all = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
    return f"{runs_in_all}: {counts}; {total['steps']} steps to train{shared}; {time}"


def power_line(runs: Sequence[PlannedRun]) -> str:
    """What the planned number of seeds can tell: the effect, in sd of the paired differences, found with 80 %."""
    from analysis.statistics import ALPHA, detectable, power_of_t

    n = len({run.seed for run in runs})
    if n < 2:
        return "one seed shows no spread: nothing can be told from chance; seed=0,1,2,3,4 makes five paired seeds"
    effect = detectable(lambda d: power_of_t(d, n, ALPHA))
    return f"{n} paired seeds find an effect of {effect:.2f} sd of the differences with 80 % (two-sided, 5 %)"


def show(runs: Sequence[PlannedRun], console: Console) -> None:
    """The whole plan, for people."""
    table = Table()
    for heading in ("run", "state", "from", "steps", "time"):
        table.add_column(heading, justify="right" if heading in ("steps", "time") else "left", overflow="fold")
    for run in runs:
        origin = f"{run.origin['run']} at step {run.origin['step']}" if run.origin else ""
        time = "-" if run.seconds is None else duration(run.seconds)
        table.add_row(run.run, run.state, origin, str(run.steps), time)
    console.print(table)
    console.print(in_short(runs), power_line(runs), sep="\n", markup=False, highlight=False, soft_wrap=True)
