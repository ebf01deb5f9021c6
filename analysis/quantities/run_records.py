"""The records of one run, read when a formula needs them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.records.study import Study


@dataclass(frozen=True)
class RunRecords:
    """Records of one run of a study; each file is read on first use.

    entries   the run's row of Study.runs: the entries of run.json by their path
    means     returns the `batch_means` of the study
    """

    study: Study
    entries: Mapping[str, Any]
    means: Callable[[], dict[str, pd.DataFrame]]

    @property
    def name(self) -> str:
        return self.entries["run"]

    @property
    def planned(self) -> int:
        """The number of steps that the run was planned to have."""
        return self.entries["trainer.steps"]

    @cached_property
    def steps(self) -> pd.DataFrame:
        return self.study.read(self.name, "steps.parquet").to_pandas()

    @cached_property
    def evals(self) -> pd.DataFrame:
        return self.study.read(self.name, "evals.parquet").to_pandas()

    @cached_property
    def predictions(self) -> pd.DataFrame:
        return self.study.read(self.name, "predictions.parquet", ["label", "prediction"]).to_pandas()

    @property
    def batches(self) -> pd.DataFrame:
        return self.means().get(self.entries["pairing.batches"], pd.DataFrame(columns=["loss", "runs"], dtype=float))


def batch_means(study: Study) -> dict[str, pd.DataFrame]:
    """Mean training loss per step over the finished runs that share one order of examples, by `pairing.batches`.

    The arms of a seed share that order, so the mean is the effect of the batches. Each frame is indexed by step and
    has the columns loss (the mean) and runs (the number of runs).
    """
    done = study.runs[study.runs["status"] == "done"]
    return {
        batches: study.steps(["loss"], group["run"]).groupby("step")["loss"].agg(loss="mean", runs="size")
        for batches, group in done.groupby("pairing.batches")
    }
