"""Shared starts: runs that agree up to a step train it once.

Where planned arms part is computed from their configs. The earlier of two leaves a snapshot there, a checkpoint in
`outputs/<study>/.shared/`. The later one takes the latest that any arm of its stem has left, after it has replayed its
own clip rule and schedule over the snapshot's record: the same norm after clipping, the same learning rate, the same
parameters trained at every step, or it does not fork. It owns the rows it inherits and never waits: where its own
parent is still on the way it takes an earlier snapshot, and trains from step 1 where there is none. The idea is that of
stage trees (Hippo, PVLDB 15-5, 2022), here within one sweep and bit for bit.
"""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ablate.clip import Delayed, NormRule, Nothing
from ablate.files.atomic import write_json
from ablate.run import checkpoint
from ablate.run.checkpoint import Checkpoint
from ablate.run.records import Rows
from ablate.scheduler import Scheduler
from ablate.training.step import Learner

log = logging.getLogger("ablate")
FOLDER = ".shared"  # of a study


@dataclass(frozen=True)
class Arm:
    """What of a planned run decides how long it goes with another."""

    run: str  # its folder's name
    stem: str  # `identity.stem_id`: all that has to be equal
    clip: NormRule
    scheduler: Scheduler
    steps: int
    done: int = 0  # steps behind it already, in its own checkpoint


@dataclass(frozen=True)
class Snapshot:
    """What `parent` leaves after `step`, and the runs of its stem that want it."""

    parent: str
    step: int
    children: tuple[str, ...]
    stem: str

    @property
    def file(self) -> str:
        return f"{self.parent}@{self.step}"


def plan(arms: Sequence[Arm]) -> list[Snapshot]:
    """The snapshots that spare most steps: each run's parent is the earlier one that it goes with longest."""
    wanted: dict[tuple[str, int, str], list[str]] = {}
    by_stem: dict[str, list[Arm]] = {}
    for arm in arms:
        earlier = by_stem.setdefault(arm.stem, [])
        if not arm.done:
            shared = {other.run: steps for other in earlier if (steps := shared_steps(other, arm)) > other.done}
            if shared:
                parent = max(shared, key=lambda run: shared[run])
                wanted.setdefault((parent, shared[parent], arm.stem), []).append(arm.run)
        earlier.append(arm)
    return [Snapshot(parent, step, tuple(children), stem) for (parent, step, stem), children in wanted.items()]


def shared_steps(one: Arm, other: Arm) -> int:
    """Number of steps that two arms of one stem surely share, by their configs.

    >>> none, late = (Arm(run, "", clip, Constant(), 300) for run, clip in
    ...               (("none", Nothing()), ("late", Delayed(start=50, rule=Fixed()))))
    >>> shared_steps(none, late)
    49
    """
    for t in range(1, one.steps + 1):
        same_lr = one.scheduler.factor(t, one.steps) == other.scheduler.factor(t, one.steps)
        if not same_lr or active(one.clip, t) != active(other.clip, t):
            return t - 1
    return one.steps


def active(rule: NormRule, t: int, since: int = 1) -> tuple[NormRule, int]:
    """The rule that acts at step t, and the step from which its state has been folded."""
    if isinstance(rule, Delayed):
        return active(rule.rule, t, max(since, rule.start)) if t >= rule.start else (Nothing(), 1)
    return rule, 1 if rule == Nothing() else since


def shared_folder(run_folder: Path) -> Path:
    return run_folder.parent / FOLDER


def announce(folder: Path, snapshots: Sequence[Snapshot]) -> None:
    """Tell the runs of a study, in whatever process they run, which snapshots are wanted."""
    if snapshots:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "plan.json", {"snapshots": [asdict(snapshot) for snapshot in snapshots]})
        except OSError as error:  # a full disk, or another process that sweeps the folder at this moment
            log.warning("%s can't be written (%s): no starts are shared", folder / "plan.json", error)


def announced(folder: Path) -> list[Snapshot]:
    try:
        found = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["snapshots"]
        return [Snapshot(s["parent"], s["step"], tuple(s["children"]), s["stem"]) for s in found]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s is not readable (%s): no starts are shared", folder / "plan.json", error)
        return []


def steps_to_leave(run_folder: Path) -> dict[int, Snapshot]:
    """The snapshots that a run is asked to leave, by step."""
    return {s.step: s for s in announced(shared_folder(run_folder)) if s.parent == run_folder.name}


def leave(snapshot: Snapshot, state: Checkpoint, folder: Path, max_gb: float) -> None:
    """Write a snapshot, unless those that are there already fill `max_gb`. What fails here costs time, not a run."""
    size = sum(t.numel() * t.element_size() for t in state.trained.values()) * 3  # and two moments in the optimizer
    try:
        used = sum(path.stat().st_size for path in folder.glob("*/" + checkpoint.NAME))
        if used + size > max_gb * 1e9:
            log.info("no snapshot after step %d: trainer.fork.max_gb=%s would be passed", snapshot.step, max_gb)
            return
        (folder / snapshot.file).mkdir(parents=True, exist_ok=True)
        checkpoint.save(state, folder / snapshot.file)
    except OSError as error:
        log.warning("no snapshot after step %d: %s", snapshot.step, error)


def take(run_folder: Path, run_id: str, environment: str, learner: Learner) -> Checkpoint | None:
    """The latest snapshot that this run would itself have come to, as its own checkpoint; None where there is none."""
    folder, run = shared_folder(run_folder), run_folder.name
    known = announced(folder)
    stems = {snapshot.stem for snapshot in known if run in snapshot.children}
    for snapshot in sorted(known, key=lambda s: -s.step):
        if snapshot.stem in stems and snapshot.parent != run and (folder / snapshot.file).is_dir():
            found = checkpoint.load(folder / snapshot.file)
            if found and found.environment["key"] == environment and found.trained.keys() == learner.trained.keys():
                state = replay(found.rows.steps, learner)
                if state is not None:
                    log.info("forked from %s after step %d", snapshot.parent, snapshot.step)
                    return own(found, run_id, state.value, snapshot)
    return None


@dataclass(frozen=True)
class ClipState:
    """A clip rule's state (None is one, too)."""

    value: Any


def replay(rows: Sequence[Mapping[str, Any]], learner: Learner) -> ClipState | None:
    """Fold the learner's clip rule and schedule over a record; None where they would have done otherwise."""
    state = None
    for row in rows:
        norm, t = row["grad_norm"], row["step"]
        scale, state = learner.clip.scale(norm, t, state)
        lr = learner.peak_lr * learner.scheduler.factor(t, learner.steps)
        if (scale * norm, lr) != (row["grad_norm_clipped"], row["lr"]):
            return None
    return ClipState(state)


def own(found: Checkpoint, run_id: str, clip_state: Any, snapshot: Snapshot) -> Checkpoint:
    """A snapshot as the checkpoint of the run that takes it. Inherited steps have cost it no time."""
    rows = Rows(
        steps=[row | {"seconds": None} for row in found.rows.steps], layers=found.rows.layers, evals=found.rows.evals
    )
    origin = {"run": snapshot.parent, "step": snapshot.step}
    return replace(found, id=run_id, clip_state=clip_state, rows=rows, seconds=0.0, forked_from=origin)


def sweep(folder: Path, is_finished: Callable[[str], bool]) -> None:
    """Remove the snapshots that no unfinished run wants, and what a kill left half done; at the end, the folder."""
    if folder.is_dir():
        wanted = {s.file for s in announced(folder) if not all(map(is_finished, s.children))}
        for path in folder.glob("*"):  # it minds no other process that sweeps, too
            if path.is_dir() and path.name not in wanted:
                shutil.rmtree(path, ignore_errors=True)
        if not wanted:
            shutil.rmtree(folder, ignore_errors=True)
