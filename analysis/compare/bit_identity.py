"""Check whether two runs are identical to the bit, by their records' values rather than by their files."""

from typing import Any

import pandas as pd

from analysis.records.run_folder import RECORDS
from analysis.records.study import Study


def identity(ours: Study, our_runs: pd.DataFrame, theirs: Study, their_runs: pd.DataFrame) -> dict[str, Any]:
    """Compare the runs of one arm in two studies; our_runs, their_runs: rows of Study.runs by seed.

    Returns the number of common seeds, the number of these whose records are identical (apart from the seconds), and
    the first step at which any of the others differs.
    """
    seeds = our_runs.index.intersection(their_runs.index)
    pairs = [(our_runs["run"][seed], their_runs["run"][seed]) for seed in seeds]
    steps = [first_difference(steps_of(ours, a), steps_of(theirs, b)) for a, b in pairs]
    identical = [step is None and same_outcome(ours, a, theirs, b) for (a, b), step in zip(pairs, steps, strict=True)]
    first = min((step for step in steps if step is not None), default=None)
    return {"common_seeds": len(pairs), "identical": sum(identical), "first_difference": first}


def steps_of(study: Study, run: str) -> pd.DataFrame:
    """steps.parquet indexed by step, without the column `seconds`, which is never the same twice."""
    return study.read(run, "steps.parquet").drop_columns(["seconds"]).to_pandas().set_index("step")


def first_difference(ours: pd.DataFrame, theirs: pd.DataFrame) -> int | None:
    """The first step at which two records with the same columns differ or that only one has; None if there is none."""
    a, b = ours.align(theirs)
    differ = ((a != b) & ~(a.isna() & b.isna())).any(axis=1)
    return int(differ.idxmax()) if differ.any() else None


def same_outcome(ours: Study, run: str, theirs: Study, other: str) -> bool:
    """Whether all other records that both runs have are equal: layers, evaluations, predictions, probe."""
    return all(
        ours.sha256[run][file] == theirs.sha256[other][file]
        or ours.read(run, file).to_pandas().equals(theirs.read(other, file).to_pandas())
        for file in RECORDS
        if file != "steps.parquet" and ours.has(run, file) and theirs.has(other, file)
    )
