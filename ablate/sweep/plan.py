"""The plan of a sweep, from configs and records only: what would run, what is shared, and the costs."""

import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from ablate.config.paths import OUTPUTS
from ablate.config.wording import count, duration
from ablate.distributed.ranks import current_ranks
from ablate.experiment import FACTORS, OWN, build_option, build_options, factors
from ablate.files.reading import LARGEST_TABLE, read_regular
from ablate.files.run_record import read_columns
from ablate.run import fork
from ablate.run.fork import Snapshot
from ablate.run.job import Job, finished_status, steps_done
from ablate.run.records import read_run
from ablate.sweep import sizes
from ablate.sweep.sizes import Size
from ablate.training.device import matmul_backend
from ablate.training.environment import cpu

COSTS = ("seconds", "memory_bytes", "disk_bytes")
PROCESS_MEMORY = "each process needs about 0.5 GB more for its libraries, plus its activations"
"""Measured on Linux with torch's CPU build: 0.55 GB for a run of `model=tiny`."""
UNKNOWN = "unknown: no run of this kind has been measured here yet"


@dataclass(frozen=True)
class PlannedRun:
    """One run of the plan; an entry of `runs` in plan=json, where `origin` is named `from`."""

    run: str
    factors: dict[str, str]
    seed: int
    state: str  # new | done | resume | fork
    origin: dict[str, Any] | None  # {run, step} that it forks from
    steps: int  # still to train
    seconds: float | None  # None: no run of this kind and number of threads has been measured on this machine
    memory_bytes: int | None  # weights, gradients and optimizer states, by count
    disk_bytes: int | None  # its folder, and the snapshot that is kept until it has forked


def shared_starts(jobs: Sequence[Job]) -> list[Snapshot]:
    """The snapshots from which the runs that are to be done can fork (`ablate.run.fork`)."""
    return fork.plan_snapshots(
        [
            fork.PlannedArm(
                run=work.folder.name,
                stem=work.stem,
                clip=build_option("clip", work.config),
                scheduler=build_option("scheduler", work.config),
                steps=work.trainer.steps,
                done=steps_done(work),
            )
            for work in jobs
            if work.trainer.fork.enabled and not work.rerun
        ]
    )


def plan_runs(jobs: Sequence[Job], shared: Sequence[Snapshot], measured: "MeasuredCosts") -> list[PlannedRun]:
    """Plan each run, in the order of work."""
    origin = {child: {"run": s.parent, "step": s.step} for s in shared for child in s.children}
    kept = bytes_kept(jobs, shared, measured)
    runs = []
    for work in jobs:
        name, kind = work.folder.name, kind_of_work(work_factors(work))
        threads, backend = work.trainer.threads, matmul_backend(work.trainer)
        pace = measured.paces.get((kind, threads, backend))
        runs.append(planned_run(work, origin.get(name), pace, measured.sizes.get(kind), kept.get(name, 0)))
    return runs


def bytes_kept(jobs: Sequence[Job], shared: Sequence[Snapshot], measured: "MeasuredCosts") -> dict[str, int]:
    """Disk space of the snapshots, at most: bytes of each by the first run that forks from it.

    All snapshots that exist at a time have to fit into trainer.fork.max_gb.
    """
    work_of = {work.folder.name: work for work in jobs}
    kept: dict[str, int] = {}
    for snapshot in shared:
        work = work_of[snapshot.children[0]]
        room = int(work.trainer.fork.max_gb * 1e9) - sum(kept.values())
        if size := measured.sizes.get(kind_of_work(work_factors(work))):
            kept[work.folder.name] = min(size.snapshot, max(0, room))
    return kept


def planned_run(
    work: Job, origin: dict[str, Any] | None, pace: "Pace | None", size: Size | None, kept: int
) -> PlannedRun:
    steps, done = work.trainer.steps, steps_done(work)
    if not work.rerun and finished_status(work):
        state, left = "done", 0
    elif done and not work.rerun:
        state, left = "resume", steps - done
    elif origin:
        state, left = "fork", steps - origin["step"]
    else:
        state, left = "new", steps
    return PlannedRun(
        run=work.folder.name,
        factors={factor: found["option"] for factor, found in work_factors(work).items()},
        seed=work.config["seed"],
        state=state,
        origin=origin if state == "fork" else None,
        steps=left,
        seconds=0.0 if state == "done" else pace and pace.seconds(left),
        memory_bytes=size and size.memory,
        disk_bytes=size and size.disk + (kept if state == "fork" else 0),
    )


def work_factors(work: Job) -> dict[str, dict[str, Any]]:
    return factors(work.config, work.choices)


def kind_of_work(found: Mapping[str, Any]) -> str:
    """What a step's time depends on: every factor but those that act on a finished gradient."""
    slow = {name: entry for name, entry in found.items() if not FACTORS.get(name, OWN).shares_starts}
    return json.dumps(slow, sort_keys=True)


@dataclass(frozen=True)
class Pace:
    """Measured speed of a kind of run on this machine."""

    step: float  # seconds per step
    overhead: float  # seconds per run outside of its steps

    def seconds(self, steps: int) -> float:
        return steps * self.step + self.overhead


@dataclass(frozen=True)
class MeasuredCosts:
    """Measured step times by (kind of work, threads, matmul backend) and sizes by kind of work."""

    paces: Mapping[tuple[str, int, str], Pace]
    sizes: Mapping[str, Size]


def measured_costs(jobs: Sequence[Job], outputs: Path = OUTPUTS) -> MeasuredCosts:
    """Collect timings and sizes from finished runs under `outputs`, on this CPU with the same number of ranks.

    Sizes that were never measured are estimated.
    """
    paces: dict[tuple[str, int, str], list[Pace]] = {}
    found: dict[str, list[Size]] = {}
    here = cpu(), current_ranks().count
    for path in outputs.glob("**/run.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged or vanished run is left out
            record = read_run(path.parent)
            where = record and record["environment"]
            if record and record["status"] == "done" and (where["cpu"], where["world_size"]) == here:
                kind = kind_of_work(record["factors"])
                found.setdefault(kind, []).append(sizes.measured_size(path.parent, record))
                if pace := pace_of(path.parent, record):
                    paces.setdefault((kind, where["threads"], where.get("linear", "torch")), []).append(pace)
    measured = {kind: Size(*map(int, medians(each))) for kind, each in found.items()}
    planned = {kind_of_work(work_factors(work)): work for work in jobs}
    estimated = {k: sizes.estimated_size(build_options(w.config)) for k, w in planned.items() if k not in measured}
    return MeasuredCosts(
        paces={kind: Pace(*medians(each)) for kind, each in paces.items()},
        sizes=measured | {kind: size for kind, size in estimated.items() if size},
    )


def medians(each: Sequence[Pace] | Sequence[Size]) -> list[float]:
    """The median of each field."""
    return [median(values) for values in zip(*map(astuple, each), strict=True)]


def pace_of(folder: Path, record: Mapping[str, Any]) -> Pace | None:
    """Measure the speed of a finished run; None if it was resumed or inherited every step."""
    content = read_regular(folder / "steps.parquet", LARGEST_TABLE)
    seconds = read_columns(content, "steps", ("seconds",))["seconds"].drop_null()
    if len(seconds) == 0 or record["timing"].get("resumed_from"):
        return None
    overhead = record["timing"]["seconds"] - pc.sum(seconds).as_py()
    return Pace(step=median(seconds.to_pylist()), overhead=max(0.0, overhead))


def totals(runs: Iterable[PlannedRun], parallel_runs: int = 1) -> dict[str, Any]:
    """Total costs of the runs that are not done; None where the cost of some run is unknown.

    With parallel runs, `steps_shared` is an upper bound: no run waits for a start that it could share.
    """
    left = [run for run in runs if run.state != "done"]
    seconds, memory, disk = ([getattr(run, key) for run in left] for key in COSTS)
    return {
        "runs": len(left),
        "steps": sum(run.steps for run in left),
        "steps_shared": sum(run.origin["step"] for run in left if run.origin),
        "seconds": None if None in seconds else makespan(seconds, parallel_runs),
        "memory_gb": None if None in memory else sum(sorted(memory)[-parallel_runs:]) / 1e9,
        "disk_gb": None if None in disk else sum(disk) / 1e9,
    }


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Seconds until all runs are done, if each goes to the worker that is free first.

    >>> makespan([3, 1, 1, 2], 1), makespan([3, 1, 1, 2], 2)
    (7.0, 4.0)
    """
    busy = [0.0] * workers
    for each in seconds:
        heapq.heapreplace(busy, busy[0] + each)
    return max(busy)


def plan_entries(runs: Sequence[PlannedRun]) -> list[dict[str, Any]]:
    """The runs as in plan=json."""
    return [{"from" if key == "origin" else key: value for key, value in asdict(run).items()} for run in runs]


def as_json(runs: Sequence[PlannedRun], parallel_runs: int = 1) -> str:
    """The output of plan=json: `runs` and `totals`."""
    return json.dumps({"runs": plan_entries(runs), "totals": totals(runs, parallel_runs)}, indent=2, ensure_ascii=False)


def in_short(runs: Sequence[PlannedRun], parallel_runs: int = 1) -> str:
    """The line that a sweep prints first: the work and its time, if runs of this kind have been measured here.

    >>> in_short([PlannedRun("a", {}, 0, "new", None, 300, None, None, None)])
    '1 run: 1 new; 300 steps to train'
    """
    seconds = totals(runs, parallel_runs)["seconds"]
    return work_in_words(runs, parallel_runs) + ("" if seconds is None else f"; about {duration(seconds)}")


def work_in_words(runs: Sequence[PlannedRun], parallel_runs: int) -> str:
    """The numbers of runs and steps."""
    states = [run.state for run in runs]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("new", "fork", "resume", "done") if s in states)
    total = totals(runs, parallel_runs)
    bound = "up to " if parallel_runs > 1 else ""
    shared = f", {bound}{total['steps_shared']} more are shared" if total["steps_shared"] else ""
    in_parallel = f", {parallel_runs} in parallel" if parallel_runs > 1 else ""
    return f"{count(len(runs), 'run')}{in_parallel}: {counts}; {total['steps']} steps to train{shared}"


def costs_in_words(total: Mapping[str, Any]) -> str:
    """Time, memory and disk of `totals`."""
    if total["memory_gb"] is None:
        return f"time, memory and disk {UNKNOWN}"
    time = f"time {UNKNOWN}" if total["seconds"] is None else f"about {duration(total['seconds'])}"
    memory = f"{in_bytes(total['memory_gb'])} of memory for weights, gradients and optimizer states ({PROCESS_MEMORY})"
    return f"{time}; {memory}; {in_bytes(total['disk_gb'])} of disk"


def in_bytes(gigabytes: float) -> str:
    return f"{gigabytes:.2g} GB" if gigabytes >= 0.1 else f"{1000 * gigabytes:.2g} MB"


def advice(now: Mapping[str, Any], local: Mapping[str, Any], parallel_runs: int, threads: int) -> str:
    """Recommend parallel runs, given the totals without and with them; "" where they are no faster."""
    if parallel_runs < 2 or now["runs"] < 2:
        return ""
    each = count(threads, "thread")
    way = f"hydra/launcher=local ({parallel_runs} parallel runs, {each} each)"
    if local["seconds"] is None:
        return f"{way} may be faster: no run of this kind has been measured here with {each} yet"
    if now["seconds"] is None or local["seconds"] < now["seconds"]:
        return f"{way} would take about {duration(local['seconds'])}"
    return ""


def power_line(runs: Sequence[PlannedRun]) -> str:
    """The effect that the planned seeds detect with 80 % power, in sd of the paired differences."""
    from analysis.stats.effects import ALPHA, detectable, power_of_t

    n = len({run.seed for run in runs})
    if n < 2:
        return "one seed cannot separate an effect from chance; seed=0,1,2,3,4 gives five paired seeds"
    effect = detectable(lambda d: power_of_t(d, n, ALPHA))
    return f"{n} paired seeds detect an effect of {effect:.2f} sd of the differences with 80 % power (two-sided, 5 %)"


def claims_power(claims: Path, study: Path, allow: Sequence[str] = ()) -> list[str]:
    """The power of each claim at its smallest effect (`analysis.claims.planned_power`); none for an invalid file."""
    from analysis.claims.planned_power import power_lines
    from analysis.claims.reading import for_study, read_claims
    from analysis.records.study import load

    with suppress(ValueError):  # the report says what is wrong
        found = load(study) if study.is_dir() else None
        read = read_claims(claims, allow)
        if read.compare is None:
            return power_lines(read, found)
        return power_lines(for_study(read, found), found) if found and found.arms else []
    return []


@dataclass(frozen=True)
class Plan:
    """What a command with `plan` shows instead of running: `form` is true, for people, or json, for programs."""

    form: bool | str
    runs: Sequence[PlannedRun]
    parallel_runs: int
    advice: str  # "" where there is none
    of_claims: Sequence[str]  # the power of each claim

    @property
    def lines(self) -> list[str]:
        """Costs, advice and power."""
        costs = costs_in_words(totals(self.runs, self.parallel_runs))
        work = f"{work_in_words(self.runs, self.parallel_runs)}; {costs}"
        lines = (work, self.advice, power_line(self.runs), *self.of_claims)
        return [line for line in lines if line]

    def show(self, console: Console) -> None:
        """Print the whole plan."""
        if self.form == "json":
            print(as_json(self.runs, self.parallel_runs))
            return
        table = Table()
        for heading in ("run", "state", "from", "steps", "time"):
            table.add_column(heading, justify="right" if heading in ("steps", "time") else "left", overflow="fold")
        for run in self.runs:
            origin = f"{run.origin['run']} at step {run.origin['step']}" if run.origin else ""
            time = "-" if run.seconds is None else duration(run.seconds)
            table.add_row(run.run, run.state, origin, str(run.steps), time)
        console.print(table)
        console.print(*self.lines, sep="\n", markup=False, highlight=False, soft_wrap=True)
