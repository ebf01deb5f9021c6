"""The records of one run, read when a formula needs them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.records.run_folder import RECORDS
from analysis.records.study import Study


@dataclass(frozen=True)
class RunRecords:
    """Records of one run of a study; each file is read on first use.

    entries   the run's row of Study.runs: the entries of run.json by their path
    """

    study: Study
    entries: Mapping[str, Any]

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

    @cached_property
    def probabilities(self) -> pd.DataFrame:
        """`predictions` with the probability of each predicted class."""
        return self.study.read(self.name, "predictions.parquet", ["label", "prediction", "probability"]).to_pandas()

    @property
    def has_probe_losses(self) -> bool:
        return self.study.has(self.name, "probe.parquet")

    @cached_property
    def probe_losses(self) -> pd.DataFrame:
        """probe.parquet: step, example, loss; without rows for runs of earlier versions, which have no such file."""
        if not self.has_probe_losses:
            return pd.DataFrame(columns=list(RECORDS["probe.parquet"]), dtype=float)
        return self.study.read(self.name, "probe.parquet").to_pandas()

    @cached_property
    def clusters(self) -> NDArray[np.int64] | None:
        """The group of each test example, (examples,), as numbers; None if the run recorded no groups."""
        if not self.study.has(self.name, "clusters.parquet"):
            return None
        return self.study.read(self.name, "clusters.parquet")["cluster"].to_numpy()


def records_of(study: Study, run: str) -> RunRecords:
    """The records of a run that counts, by its name. Raises KeyError for another name."""
    return RunRecords(study, {"run": run, **study.runs.set_index("run").loc[run].to_dict()})
