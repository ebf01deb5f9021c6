"""The plan of a sweep: what would run, what is shared, what it costs. Computed from configs and records only."""

import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from ablate.config.paths import OUTPUTS
from ablate.config.wording import duration
from ablate.distributed.ranks import here
from ablate.experiment import FACTORS, OWN, build_option, build_options, factors
from ablate.run import fork
from ablate.run.fork import Snapshot
from ablate.run.job import Job, finished, steps_done
from ablate.run.records import read_run
from ablate.sweep import sizes
from ablate.sweep.sizes import Size
from ablate.training.device import matmul_backend
from ablate.training.environment import cpu

SIZES = ("seconds", "memory_bytes", "disk_bytes")


@dataclass(frozen=True)
class PlannedRun:
    """One run of the plan; an entry of plan=json's `runs`, where `origin` is called `from`."""

    run: str
    factors: dict[str, str]
    seed: int
    state: str  # new | done | resume | fork
    origin: dict[str, Any] | None  # {run, step} that it forks from
    steps: int  # still to train
    seconds: float | None  # None: nothing like it was measured with as many threads on this machine yet
    memory_bytes: int | None  # weights, gradients and optimizer by count
    disk_bytes: int | None  # its folder, and what is kept for its start until it has taken it up


def snapshots(jobs: Sequence[Job]) -> list[Snapshot]:
    """The shared starts of the runs that are to be done (`ablate.run.fork`)."""
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


def make(jobs: Sequence[Job], shared: Sequence[Snapshot], known: "Known") -> list[PlannedRun]:
    """Each run with what it will do, in the order of work."""
    origin = {child: {"run": s.parent, "step": s.step} for s in shared for child in s.children}
    kept = bytes_kept(jobs, shared, known)
    runs = []
    for work in jobs:
        name, kind = work.folder.name, kind_of_work(work_factors(work))
        backend = matmul_backend(build_option("trainer", work.config))
        pace = known.paces.get((kind, work.config["trainer"]["threads"], backend))
        runs.append(planned(work, origin.get(name), pace, known.sizes.get(kind), kept.get(name, 0)))
    return runs


def bytes_kept(jobs: Sequence[Job], shared: Sequence[Snapshot], known: "Known") -> dict[str, int]:
    """What lies on disk for shared starts, at most: each snapshot's bytes, by the first run that takes it up.

    All that are there at a time have to fit into trainer.fork.max_gb.
    """
    work_of = {work.folder.name: work for work in jobs}
    kept: dict[str, int] = {}
    for snapshot in shared:
        work = work_of[snapshot.children[0]]
        room = int(work.config["trainer"]["fork"]["max_gb"] * 1e9) - sum(kept.values())
        if size := known.sizes.get(kind_of_work(work_factors(work))):
            kept[work.folder.name] = min(size.snapshot, max(0, room))
    return kept


def planned(work: Job, origin: dict[str, Any] | None, pace: "Pace | None", size: Size | None, kept: int) -> PlannedRun:
    steps, behind = work.config["trainer"]["steps"], steps_done(work)
    if not work.rerun and finished(work):
        state, left = "done", 0
    elif behind and not work.rerun:
        state, left = "resume", steps - behind
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
        seconds=0.0 if state == "done" else pace and pace.of(left),
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
    """How fast a kind of run went on this machine."""

    step: float  # seconds
    beside: float  # seconds that are no step's

    def of(self, steps: int) -> float:
        return steps * self.step + self.beside


@dataclass(frozen=True)
class Known:
    """What runs take: their pace by kind of work, number of threads and who multiplies; their size by kind of work."""

    paces: Mapping[tuple[str, int, str], Pace]
    sizes: Mapping[str, Size]


def known(jobs: Sequence[Job], outputs: Path = OUTPUTS) -> Known:
    """From all finished runs of this processor and as many processes under `outputs`; sizes not found, by count."""
    paces: dict[tuple[str, int, str], list[Pace]] = {}
    found: dict[str, list[Size]] = {}
    for path in outputs.glob("**/run.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # a broken or vanished run tells nothing
            record = read_run(path.parent)
            where = record and record["environment"]
            if record and record["status"] == "done" and (where["cpu"], where["world_size"]) == (cpu(), here().count):
                kind = kind_of_work(record["factors"])
                found.setdefault(kind, []).append(sizes.measured(path.parent, record))
                if pace := pace_of(path.parent, record):
                    paces.setdefault((kind, where["threads"], where.get("linear", "torch")), []).append(pace)
    measured = {kind: Size(*map(int, medians(each))) for kind, each in found.items()}
    planned = {kind_of_work(work_factors(work)): work for work in jobs}
    counted = {k: sizes.counted(build_options(w.config)) for k, w in planned.items() if k not in measured}
    return Known(
        paces={kind: Pace(*medians(each)) for kind, each in paces.items()},
        sizes=measured | {kind: size for kind, size in counted.items() if size},
    )


def medians(each: Sequence[Pace] | Sequence[Size]) -> list[float]:
    """Of each field."""
    return [median(values) for values in zip(*map(astuple, each), strict=True)]


def pace_of(folder: Path, record: Mapping[str, Any]) -> Pace | None:
    seconds = pq.read_table(folder / "steps.parquet", columns=["seconds"])["seconds"].drop_null()
    if len(seconds) == 0 or record["timing"].get("resumed_from"):
        return None
    beside = record["timing"]["seconds"] - pc.sum(seconds).as_py()
    return Pace(step=median(seconds.to_pylist()), beside=max(0.0, beside))


def totals(runs: Iterable[PlannedRun], at_once: int = 1) -> dict[str, Any]:
    """What is left to do, in all; None where some run's kind of work was neither measured nor counted yet.

    With several runs at once `steps_shared` is an upper bound: no run waits for the start that it could share.
    """
    left = [run for run in runs if run.state != "done"]
    seconds, memory, disk = ([getattr(run, key) for run in left] for key in SIZES)
    return {
        "runs": len(left),
        "steps": sum(run.steps for run in left),
        "steps_shared": sum(run.origin["step"] for run in left if run.origin),
        "seconds": None if None in seconds else makespan(seconds, at_once),
        "memory_gb": None if None in memory else sum(sorted(memory)[-at_once:]) / 1e9,
        "disk_gb": None if None in disk else sum(disk) / 1e9,
    }


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Seconds until all are done, where each goes to the worker that is free first.

    >>> makespan([3, 1, 1, 2], 1), makespan([3, 1, 1, 2], 2)
    (7.0, 4.0)
    """
    busy = [0.0] * workers
    for each in seconds:
        heapq.heapreplace(busy, busy[0] + each)
    return max(busy)


def as_json(runs: Sequence[PlannedRun], at_once: int = 1) -> str:
    """plan=json: `runs` and `totals`."""
    entries = [{"from" if key == "origin" else key: value for key, value in asdict(run).items()} for run in runs]
    return json.dumps({"runs": entries, "totals": totals(runs, at_once)}, indent=2, ensure_ascii=False)


def in_short(runs: Sequence[PlannedRun], at_once: int = 1) -> str:
    """One line: what a sweep begins with.

    >>> in_short([PlannedRun("a", {}, 0, "new", None, 300, None, None, None)])
    '1 run: 1 new; 300 steps to train; time, memory and disk unknown: none like it was measured here yet'
    """
    states = [run.state for run in runs]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("new", "fork", "resume", "done") if s in states)
    total = totals(runs, at_once)
    bound = "up to " if at_once > 1 else ""
    shared = f", {bound}{total['steps_shared']} more are shared" if total["steps_shared"] else ""
    runs_in_all = f"{len(runs)} run{'s' if len(runs) > 1 else ''}" + (f", {at_once} at once" if at_once > 1 else "")
    return f"{runs_in_all}: {counts}; {total['steps']} steps to train{shared}; {costs(total)}"


def costs(total: Mapping[str, Any]) -> str:
    """`totals` in words."""
    unknown = "unknown: none like it was measured here yet"
    if total["memory_gb"] is None:
        return f"time, memory and disk {unknown}"
    time = f"time {unknown}" if total["seconds"] is None else f"about {duration(total['seconds'])}"
    return f"{time}; {in_bytes(total['memory_gb'])} of memory, {in_bytes(total['disk_gb'])} of disk"


def in_bytes(gigabytes: float) -> str:
    return f"{gigabytes:.2g} GB" if gigabytes >= 0.1 else f"{1000 * gigabytes:.2g} MB"


def advice(now: Mapping[str, Any], local: Mapping[str, Any], at_once: int, threads: int) -> str:
    """What several runs at once would bring, by the totals of both ways; "" where nothing speaks for them."""
    if at_once < 2 or now["runs"] < 2:
        return ""
    each = f"{threads} thread{'s' if threads > 1 else ''}"
    way = f"hydra/launcher=local ({at_once} runs at once, {each} each)"
    if local["seconds"] is None:
        return f"{way} may take less: none like it was measured here with {each} yet"
    if now["seconds"] is None or local["seconds"] < now["seconds"]:
        return f"{way} would take about {duration(local['seconds'])}"
    return ""


def power_line(runs: Sequence[PlannedRun]) -> str:
    """What the planned number of seeds can tell: the effect, in sd of the paired differences, found with 80 %."""
    from analysis.stats.effects import ALPHA, detectable, power_of_t

    n = len({run.seed for run in runs})
    if n < 2:
        return "one seed shows no spread: nothing can be told from chance; seed=0,1,2,3,4 makes five paired seeds"
    effect = detectable(lambda d: power_of_t(d, n, ALPHA))
    return f"{n} paired seeds find an effect of {effect:.2f} sd of the differences with 80 % (two-sided, 5 %)"


def show(runs: Sequence[PlannedRun], console: Console, at_once: int = 1, advice: str = "") -> None:
    """The whole plan, for people."""
    table = Table()
    for heading in ("run", "state", "from", "steps", "time"):
        table.add_column(heading, justify="right" if heading in ("steps", "time") else "left", overflow="fold")
    for run in runs:
        origin = f"{run.origin['run']} at step {run.origin['step']}" if run.origin else ""
        time = "-" if run.seconds is None else duration(run.seconds)
        table.add_row(run.run, run.state, origin, str(run.steps), time)
    console.print(table)
    lines = filter(None, (in_short(runs, at_once), advice, power_line(runs)))
    console.print(*lines, sep="\n", markup=False, highlight=False, soft_wrap=True)
