"""Whether two runs are the same to the bit: their records compared exactly, whichever versions wrote the files."""

from typing import Any

import pandas as pd

from analysis.records.run_folder import RECORDS
from analysis.records.study import Study


def identity(ours: Study, our_runs: pd.DataFrame, theirs: Study, their_runs: pd.DataFrame) -> dict[str, Any]:
    """The runs of one arm in two studies, rows of Study.runs by seed: how many seeds they share, on how many of these
    the records are identical (seconds aside), and the first step at which any of the others differs.
    """
    seeds = our_runs.index.intersection(their_runs.index)
    pairs = [(our_runs["run"][seed], their_runs["run"][seed]) for seed in seeds]
    parted = [first_difference(steps_of(ours, a), steps_of(theirs, b)) for a, b in pairs]
    identical = [step is None and same_outcome(ours, a, theirs, b) for (a, b), step in zip(pairs, parted, strict=True)]
    first = min((step for step in parted if step is not None), default=None)
    return {"common_seeds": len(pairs), "identical": sum(identical), "first_difference": first}


def steps_of(study: Study, run: str) -> pd.DataFrame:
    """steps.parquet less what the clock said, by step."""
    return study.read(run, "steps.parquet").drop_columns(["seconds"]).to_pandas().set_index("step")


def first_difference(ours: pd.DataFrame, theirs: pd.DataFrame) -> int | None:
    """The first step at which two records of the same columns differ, or which only one has; None where none does."""
    a, b = ours.align(theirs)
    differ = ((a != b) & ~(a.isna() & b.isna())).any(axis=1)
    return int(differ.idxmax()) if differ.any() else None


def same_outcome(ours: Study, run: str, theirs: Study, other: str) -> bool:
    """Whether the records of two runs are equal in all but the steps: layers, evaluations, predictions."""
    return all(
        ours.sha256[run][file] == theirs.sha256[other][file]
        or ours.read(run, file).to_pandas().equals(theirs.read(other, file).to_pandas())
        for file in RECORDS
        if file != "steps.parquet"
    )
