"""Which runs may be compared: runs of the same seed in arms that differ only in what the claim changes.

An arm is chosen by its settings, which several arms of a study may have. The arms of one contrast are the only
combination that agrees in everything that the claim does not change. Without such a combination the comparison is
confounded, and refused with the list of differences; with several it is ambiguous, and refused as well.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.records.arms import Arm, canonical, fits, is_under, value_text, varying, words
from analysis.records.study import Study

PAIRING = {
    "numerics": (),
    "environment.key": (),
    "pairing.batches": (),
    "pairing.head": ("model",),
    "pairing.dropout": ("nuisance",),
}
"""Columns that the runs of a seed must share -> keys that change them: claims that change such a key are exempt.

Runs of a user's own loop (`ablate.Recorder`) need not record them: then the seed that they declare pairs them.
"""


class Refused(Exception):
    """Arms that must not or cannot be compared; the message gives the reason, for the report."""


class MissingArm(Refused):
    """The study lacks an arm, and running that arm can add it."""


class MissingModels(Refused):
    """The study lacks models, and only another study can have them."""


@dataclass(frozen=True)
class Pairs:
    """Runs paired by seed.

    arms      label of each cell's arm
    seeds     seeds with a run in every cell that are proven to be paired
    runs      names of the runs, one row per seed, one entry per cell
    absent    seeds that lack a run in at least one cell
    unpaired  seeds whose runs are not paired
    notes     what is left out, and why
    more      where runs are compared unpaired: each cell's runs beyond those that all cells have
    """

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[tuple[str, ...], ...]
    absent: tuple[int, ...]
    unpaired: tuple[int, ...]
    notes: tuple[str, ...]
    more: tuple[tuple[str, ...], ...] = ()


def choose(study: Study, cells: Sequence[Mapping[str, Any]], may_differ: Collection[str]) -> tuple[str, ...]:
    """The label of each cell's arm; the arms agree in everything but `may_differ` (keys, and all settings below them).

    Raises Refused where an arm is missing, the arms are confounded, or several combinations agree.
    """
    counting = set(study.runs["arm"])
    fitting = []
    for cell in cells:
        found = [label for label, arm in study.arms.items() if fits(arm, cell)]
        if not found:
            shown = {key: value for key, value in cell.items() if (key, value) != ("nuisance", 0)}
            raise MissingArm(f"no arm has {words(shown)}{nearest_arm(cell, study.arms.values())}")
        fitting.append([label for label in found if label in counting] or found)
    rest = {label: rest_of(study.arms[label], may_differ) for found in fitting for label in found}
    by_rest = [{canonical(rest[label]): label for label in found} for found in fitting]
    shared = [key for key in by_rest[0] if all(key in others for others in by_rest)]
    if not shared:
        differences = "; ".join(confounds(fitting, rest))
        raise Refused(f"the arms differ in settings that the claim does not change: {differences}")
    chosen = [[label for label in found if canonical(rest[label]) in shared] for found in fitting]
    if several := next((found for found in chosen if len(found) > 1), None):
        arms = [study.arms[label] for label in several]
        differ = "; ".join(values_by_arm(key, arms) for key in sorted(varying(arms)))
        raise Refused(f"{len(several)} arms have the claimed settings and differ in {differ}; choose one in `within`")
    return tuple(found[0] for found in chosen)


def rest_of(arm: Arm, may_differ: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in arm.items() if not is_under(key, may_differ)}


def confounds(fitting: Sequence[Sequence[str]], rest: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The differences of the most similar arms: from an arm of the first cell to the nearest arm of each other cell.

    All pairs of arms are compared, so each arm's values become text once, and words are made for the chosen pair only.
    """
    texts = {label: {(key, canonical(value)) for key, value in arm.items()} for label, arm in rest.items()}

    def differing(first: str, other: str) -> list[tuple[str, str, str]]:
        return [(key, first, other) for key in sorted({key for key, _ in texts[first] ^ texts[other]})]

    of_first = [
        [min((differing(first, other) for other in others), key=len) for others in fitting[1:]] for first in fitting[0]
    ]
    fewest = min(of_first, key=lambda cells: sum(map(len, cells)))
    found = (values_by_arm(key, [rest[first], rest[other]]) for cell in fewest for key, first, other in cell)
    return list(dict.fromkeys(found))


def values_by_arm(key: str, arms: Sequence[Mapping[str, Any]]) -> str:
    """A key with its value in each arm: "optimizer.lr (0.1 / 0.0001)"."""
    values = dict.fromkeys(value_text(arm[key]) if key in arm else "not set" for arm in arms)
    return f"{key} ({' / '.join(values)})"


def nearest_arm(cell: Mapping[str, Any], arms: Collection[Arm]) -> str:
    """The most similar arm's values for the settings that it lacks, for an error message."""
    if not arms:
        return ""
    misses = [[key for key in cell if not fits(arm, {key: cell[key]})] for arm in arms]
    arm, missed = min(zip(arms, misses, strict=True), key=lambda pair: len(pair[1]))
    return f"; the nearest has {', '.join(f'{k}={value_text(arm[k])}' if k in arm else f'no {k}' for k in missed)}"


def pair(study: Study, arms: Sequence[str], may_differ: Collection[str]) -> Pairs:
    """Pairs the runs of these arms by seed: within a seed, the environment and the pairing hashes must be equal.

    Raises Refused where the arms have common seeds and none of them is paired.
    """
    if not study.is_paired:
        return unpaired_runs(study, arms)
    runs = {(row["arm"], int(row["seed"])): row for row in study.rows.values() if row["arm"] in arms}
    begun = study.left_out[study.left_out["arm"].isin(arms)]["seed"]
    rows, unpaired, absent = {}, {}, {}
    for seed in sorted({seed for _, seed in runs} | {int(seed) for seed in begun}):
        if lacking := [arm for arm in dict.fromkeys(arms) if (arm, seed) not in runs]:
            absent[seed] = lacking
            continue
        group = [runs[arm, seed] for arm in arms]
        if study.table is None and (differences := unshared(group, may_differ)):
            unpaired[seed] = f"seed {seed} differs in {', '.join(differences)}"
        else:
            rows[seed] = tuple(row["run"] for row in group)
    if unpaired and not rows:
        raise Refused(f"the arms are not paired: {'; '.join(unpaired.values())}")
    unproven = declared_only([runs[arm, seed] for seed in rows for arm in arms])
    notes = [f"not paired: {reason}" for reason in unpaired.values()] + unproven + absences(absent, study)
    return Pairs(tuple(arms), tuple(rows), tuple(rows.values()), tuple(absent), tuple(unpaired), tuple(notes))


def unpaired_runs(study: Study, arms: Sequence[str]) -> Pairs:
    """The runs of these arms side by side, in the order of their seeds, where no run belongs to one of another arm.

    `seeds` number the runs that all arms have.
    """
    ordered = study.runs.sort_values("seed", kind="stable")
    runs = [tuple(ordered["run"][ordered["arm"] == arm]) for arm in arms]
    n = min(map(len, runs))
    return Pairs(tuple(arms), tuple(range(n)), tuple(zip(*(own[:n] for own in runs), strict=True)), (), (), (),
                 tuple(own[n:] for own in runs))  # fmt: skip


def unshared(group: Sequence[Mapping[str, Any]], may_differ: Collection[str]) -> list[str]:
    """The columns that the runs of a seed, one per cell, must share but do not share or do not record."""
    if len(group) == 1:
        return []
    required = [key for key, changes in PAIRING.items() if not any(is_under(key, changes) for key in may_differ)]
    differ = [key for key in required if not all(is_shared(key, rows) for rows in alike(key, group))]
    return differ + [f"environment within {row['run']} (resumed elsewhere)" for row in group if moved(row)]


def alike(key: str, group: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The runs of a seed among which a column must be shared: all, or for pairing hashes those on the same data.

    Where a run is the only one on its data it is paired with none of them, and all must share the column.
    """
    by_data = defaultdict(list)
    for row in group:
        by_data[row["data"] if key.startswith("pairing.") else None].append(row)
    return [list(group)] if min(map(len, by_data.values())) == 1 else list(by_data.values())


def is_shared(key: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether runs have one value of a column, or lack it and declare that their seed pairs them."""
    values = [row[key] for row in rows]
    if all(is_declared(key, row) for row in rows):
        return True
    return not pd.isna(values[0]) and all(value == values[0] for value in values)


def is_declared(key: str, row: Mapping[str, Any]) -> bool:
    """Whether a run of a user's own loop does not record a column, so that only its declared seed pairs it."""
    return row["pairing.by"] == "seed" and key != "environment.key" and bool(pd.isna(row[key]))


def declared_only(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A note on pairs that the declared seed makes and no record proves."""
    lacking = [key for key in PAIRING if key.startswith("pairing.") and any(is_declared(key, row) for row in rows)]
    if not lacking:
        return []
    return [f"paired by the seed that the runs declare: not all of them record {', '.join(lacking)}"]


def moved(run: Mapping[str, Any]) -> bool:
    """Whether a run was resumed in another environment (trainer.resume=any)."""
    earlier = run["environment.earlier"]
    return isinstance(earlier, tuple) and len(earlier) > 0


def absences(absent: Mapping[int, Sequence[str]], study: Study) -> list[str]:
    """Why runs are missing; `absent` maps seeds to the arms that lack a run."""
    problem_of = dict(zip(study.problems["run"], study.problems["problem"], strict=True))
    left_out = study.left_out.set_index(["arm", "seed"])["run"]
    notes, never = [], defaultdict(list)
    for seed, arms in absent.items():
        for arm in arms:
            if (arm, seed) in left_out.index:
                notes += [f"{run} does not count: {problem_of[run]}" for run in left_out.loc[[(arm, seed)]]]
            else:
                never[arm].append(str(seed))
    return notes + [f"{arm}: no run with seed {', '.join(seeds)}" for arm, seeds in never.items()]
