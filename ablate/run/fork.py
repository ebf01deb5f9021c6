"""Shared starts: runs whose first steps are equal train these steps once.

The configs of two planned arms determine the step up to which they are equal. The earlier arm writes a snapshot there,
a checkpoint in `outputs/<study>/.shared/`. The later arm forks from the latest snapshot of its stem. It first replays
its own clip rule and schedule over the rows of the snapshot, and forks only if norm after clipping, learning rate and
trained parameters are the same at every step. It owns the rows that it inherits and never waits: where its parent has
not come to the snapshot yet, it forks from an earlier one, or trains from step 1.

The idea is that of stage trees (Hippo, PVLDB 15-5, 2022), here within one sweep and bit for bit.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ablate.clip import Delayed, GradientRule, NormRule, Nothing, Until, checked_scale
from ablate.files.atomic import remove_files, write_json
from ablate.files.links import refuse_links
from ablate.files.reading import hashed, parse_json, read_regular, unhashed
from ablate.run import checkpoint
from ablate.run.checkpoint import Checkpoint
from ablate.run.records import Rows
from ablate.scheduler import Scheduler
from ablate.training.step import Learner

log = logging.getLogger("ablate")
SNAPSHOTS_FOLDER = ".shared"  # in the folder of a study
PLAN = "plan.json"  # in that folder


@dataclass(frozen=True)
class PlannedArm:
    """The parts of a planned run that decide how many first steps it shares with another."""

    run: str  # name of its folder
    stem: str  # `experiment.stem_id`: equal for runs that may share steps
    clip: NormRule | GradientRule
    scheduler: Scheduler
    steps: int
    done: int = 0  # steps in its own checkpoint


@dataclass(frozen=True)
class Snapshot:
    """The state of run `parent` after `step`, and the runs of its stem that fork from it."""

    parent: str
    step: int
    children: tuple[str, ...]
    stem: str

    @property
    def file(self) -> str:
        return f"{self.parent}@{self.step}"


def plan_snapshots(arms: Sequence[PlannedArm]) -> list[Snapshot]:
    """Choose the snapshots that save most steps: the parent of a run is the earlier run with the longest prefix."""
    wanted: dict[tuple[str, int, str], list[str]] = {}
    by_stem: dict[str, list[PlannedArm]] = {}
    rates = Rates()
    for arm in arms:
        earlier = by_stem.setdefault(arm.stem, [])
        if not arm.done:
            shared = {other.run: steps for other in earlier if (steps := shared_steps(other, arm, rates)) > other.done}
            if shared:
                parent = max(shared, key=lambda run: shared[run])
                wanted.setdefault((parent, shared[parent], arm.stem), []).append(arm.run)
        earlier.append(arm)
    return [Snapshot(parent, step, tuple(children), stem) for (parent, step, stem), children in wanted.items()]


class Rates:
    """Factors of the learning rate at every step, computed once for arms with equal schedulers."""

    def __init__(self) -> None:
        self.known: list[tuple[Scheduler, int, tuple[float, ...]]] = []

    def of(self, arm: PlannedArm) -> tuple[float, ...]:
        for scheduler, steps, factors in self.known:
            if steps == arm.steps and scheduler == arm.scheduler:
                return factors
        factors = tuple(arm.scheduler.factor(t, arm.steps) for t in range(1, arm.steps + 1))
        self.known.append((arm.scheduler, arm.steps, factors))
        return factors


def shared_steps(one: PlannedArm, other: PlannedArm, rates: Rates) -> int:
    """Number of first steps that are equal in two arms of one stem, by their configs.

    >>> from ablate.clip import Fixed
    >>> from ablate.scheduler import Constant
    >>> none, late = (PlannedArm(run, "", clip, Constant(), 300) for run, clip in
    ...               (("none", Nothing()), ("late", Delayed(start=50, rule=Fixed()))))
    >>> shared_steps(none, late, Rates())
    49

    A rule on tensors cannot be replayed over norms, so its arms share nothing.
    """
    if not (isinstance(one.clip, NormRule) and isinstance(other.clip, NormRule)):
        return 0
    changes = sorted({*starts(one.clip), *starts(other.clip)})
    steps = next((t - 1 for t in changes if active(one.clip, t) != active(other.clip, t)), one.steps)
    ours, theirs = rates.of(one), rates.of(other)
    if ours is theirs:
        return min(steps, one.steps)
    return next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if i >= steps or a != b), one.steps)


def starts(rule: NormRule) -> tuple[int, ...]:
    """The steps at which the acting rule changes, and step 1."""
    if isinstance(rule, Delayed):
        return (1, rule.start, *starts(rule.rule))
    return (1, rule.last + 1, *starts(rule.rule)) if isinstance(rule, Until) else (1,)


def active(rule: NormRule, t: int, since: int = 1) -> tuple[NormRule, int]:
    """Return the rule that acts at step t, and the step from which its state has been folded."""
    if isinstance(rule, Delayed):
        return active(rule.rule, t, max(since, rule.start)) if t >= rule.start else (Nothing(), 1)
    if isinstance(rule, Until):
        return active(rule.rule, t, since) if t <= rule.last else (Nothing(), 1)
    return rule, 1 if rule == Nothing() else since


def shared_folder(run_folder: Path) -> Path:
    return run_folder.parent / SNAPSHOTS_FOLDER


def announce(folder: Path, snapshots: Sequence[Snapshot]) -> None:
    """Write down which snapshots are wanted, for the runs of a study in whatever process."""
    if snapshots:
        try:
            refuse_links(folder)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / PLAN, hashed({"snapshots": [asdict(snapshot) for snapshot in snapshots]}))
        except (OSError, ValueError) as error:  # a full disk, or another process that removes the folder just now
            log.warning("%s: no starts are shared", error)


def announced(folder: Path) -> list[Snapshot]:
    try:
        found = unhashed(parse_json(read_regular(folder / PLAN)))["snapshots"]
        return [snapshot_of(entry) for entry in found]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s): no starts are shared", folder / PLAN, error)
        return []


def snapshot_of(entry: Mapping[str, Any]) -> Snapshot:
    """The snapshot that an entry of plan.json describes. Raises ValueError, KeyError or TypeError."""
    found = Snapshot(entry["parent"], entry["step"], tuple(entry["children"]), entry["stem"])
    names = (found.parent, *found.children)
    if not all(isinstance(text, str) for text in (*names, found.stem)) or type(found.step) is not int:
        raise ValueError("names must be text, and steps whole numbers")
    if not all(name == Path(name).name for name in names):
        raise ValueError("runs must be names of folders")
    return found


def snapshots_of(run_folder: Path) -> dict[int, Snapshot]:
    """The snapshots that a run has to write, by step."""
    return {s.step: s for s in announced(shared_folder(run_folder)) if s.parent == run_folder.name}


def write_snapshot(snapshot: Snapshot, state: Checkpoint, folder: Path, max_gb: float) -> None:
    """Write a snapshot, unless those in the folder already fill `max_gb`. A failure costs time, and no run."""
    size = sum(t.numel() * t.element_size() for t in state.trained.values()) * 3  # with the optimizer's two moments
    try:
        used = sum(path.stat().st_size for path in folder.glob("*/" + checkpoint.NAME))
        if used + size > max_gb * 1e9:
            log.info("no snapshot after step %d: it would exceed trainer.fork.max_gb=%s", snapshot.step, max_gb)
            return
        refuse_links(folder, folder / snapshot.file)
        (folder / snapshot.file).mkdir(parents=True, exist_ok=True)
        checkpoint.save_checkpoint(state, folder / snapshot.file)
    except (OSError, ValueError) as error:
        log.warning("no snapshot after step %d: %s", snapshot.step, error)


def find_snapshot(run_folder: Path, run_id: str, environment: str, learner: Learner) -> Checkpoint | None:
    """Return the latest snapshot that this run would have come to by itself, as its own checkpoint, or None."""
    folder, run = shared_folder(run_folder), run_folder.name
    known = announced(folder)
    stems = {snapshot.stem for snapshot in known if run in snapshot.children}
    for snapshot in sorted(known, key=lambda s: -s.step):
        if snapshot.stem in stems and snapshot.parent != run and (folder / snapshot.file).is_dir():
            found = checkpoint.load_checkpoint(folder / snapshot.file)
            if found and not is_of(found, snapshot):
                log.warning("%s is not the state of its run and step: it is not used", folder / snapshot.file)
                continue
            if found and found.environment["key"] == environment and found.trained.keys() == learner.trained.keys():
                state = replay(found.rows.steps, learner)
                if state is not None:
                    log.info("forked from %s after step %d", snapshot.parent, snapshot.step)
                    return as_own(found, run_id, found.states | {"clip": state.value}, snapshot)
    return None


def is_of(found: Checkpoint, snapshot: Snapshot) -> bool:
    """Whether a checkpoint is that of the snapshot's run, whose name ends in its id, after the snapshot's step."""
    return bool(found.id) and snapshot.parent.endswith(f"-{found.id}") and found.step == snapshot.step


@dataclass(frozen=True)
class ClipState:
    """The state of a clip rule; `value` may be None."""

    value: Any


def replay(rows: Sequence[Mapping[str, Any]], learner: Learner) -> ClipState | None:
    """Fold the learner's clip rule and schedule over a run's rows; None if a norm or rate would have differed.

    None, too, where another rule than that of the group `clip` acts on the gradient, or one that needs its tensors.
    """
    rule, state = learner.clips["clip"], None
    if not isinstance(rule, NormRule) or len(learner.clips) > 1:
        return None
    for row in rows:
        norm, t = row["grad_norm"], row["step"]
        scale, state = checked_scale(rule, norm, t, state)
        lr = max(learner.peak_lrs) * learner.scheduler.factor(t, learner.steps)
        if (scale * norm, lr) != (row["grad_norm_clipped"], row["lr"]):
            return None
    return ClipState(state)


def as_own(found: Checkpoint, run_id: str, states: dict[str, Any], snapshot: Snapshot) -> Checkpoint:
    """Return a snapshot as the checkpoint of the run that forks from it; inherited steps cost this run no time."""
    rows = Rows(
        steps=[row | {"seconds": None} for row in found.rows.steps], layers=found.rows.layers, evals=found.rows.evals,
        probe=found.rows.probe, measures=found.rows.measures,
    )  # fmt: skip
    origin = {"run": snapshot.parent, "step": snapshot.step}
    return replace(found, id=run_id, states=states, rows=rows, seconds=0.0, forked_from=origin)


def remove_unwanted(folder: Path, is_finished: Callable[[str], bool]) -> None:
    """Remove snapshots that no unfinished run forks from and those that a kill left incomplete; the folder comes last.

    Another process may do the same at the same time. Files and folders of other names stay.
    """
    if folder.is_dir() and not folder.is_symlink():
        wanted = {s.file for s in announced(folder) if not all(map(is_finished, s.children))}
        for path in folder.glob("*"):
            if re.fullmatch(r".+@\d+", path.name) and path.name not in wanted:
                remove_files(path, checkpoint.NAME)
        if not wanted:
            remove_files(folder, PLAN)
