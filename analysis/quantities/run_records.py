"""The records of one run, read when a formula needs them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablate.metrics import Predicted
from ablate.schema import PREDICTIONS, TASKS
from analysis.quantities.example_metrics import groups_of
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

    @property
    def kind(self) -> str:
        """The kind of task (`ablate.schema.TASKS`)."""
        return self.study.kinds.get(self.name, TASKS[0])

    @cached_property
    def predicted(self) -> Predicted:
        """The predictions for the test split."""
        table = self.study.read(self.name, "predictions.parquet")
        columns = {name: table[name].to_numpy() for name in PREDICTIONS[self.kind] if name != "word"}
        labels = self.entries.get("labels")
        names = tuple(map(str, labels)) if isinstance(labels, (tuple, list)) else ()
        return Predicted(self.kind, names, probabilities=self._probabilities(len(table)), **columns)

    def _probabilities(self, examples: int) -> NDArray[np.float32] | None:
        """Those of all classes, (examples, classes); None if they are not recorded."""
        if not self.study.has(self.name, "probabilities.parquet"):
            return None
        table = self.study.read(self.name, "probabilities.parquet").to_pandas()
        found = table.pivot(index="example", columns="label", values="probability").to_numpy()
        return found if len(found) == examples and not np.isnan(found).any() else None

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
    def groups(self) -> NDArray[np.int64]:
        """The group of each predicted test example for the jackknife, (examples,)."""
        examples, _ = self.predicted.examples
        clusters = self.clusters
        return groups_of(len(examples), None if clusters is None else clusters[examples.astype(int)])

    @cached_property
    def clusters(self) -> NDArray[np.int64] | None:
        """The group of each test example, (examples,), as numbers; None if the run recorded no groups."""
        if not self.study.has(self.name, "clusters.parquet"):
            return None
        return self.study.read(self.name, "clusters.parquet")["cluster"].to_numpy()


def records_of(study: Study, run: str) -> RunRecords:
    """The records of a run that counts, by its name. Raises KeyError for another name."""
    return RunRecords(study, study.rows[run])
