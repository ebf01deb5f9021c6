"""The estimand of a question (quantity, scale, arms), and the sample of runs that it is estimated from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.records.study import Study
from analysis.stats.effects import Array
from analysis.stats.scales import Scale

Settings = Mapping[str, Any]
"""An arm, or a part of one, by its settings: {"clip": "fixed", "clip.threshold": 1.0}."""


@dataclass(frozen=True)
class Estimand:
    """One quantity, on one scale, of a treatment arm and, where the contrast has one, a control arm.

    within     settings of all arms, unless treatment or control set them
    changes    keys in which the arms may differ, including all settings below these keys
    """

    quantity: str
    scale: str
    treatment: Settings
    control: Settings | None
    within: Settings
    changes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Sample:
    """The runs of one estimand: `runs` (names), `values` of its quantity and `learned` are (seeds, cells).

    more   where runs are compared unpaired: the values of each cell's further runs
    """

    study: Study
    estimand: Estimand
    scale: Scale
    seeds: tuple[int, ...]
    runs: NDArray[np.object_]
    values: Array
    learned: NDArray[np.bool_]
    more: tuple[Array, ...] = ()

    @property
    def numbers(self) -> tuple[int, ...]:
        """Number of runs of each cell."""
        more = self.more or [()] * self.runs.shape[1]
        return tuple(len(self.seeds) + len(further) for further in more)

    def of_cell(self, cell: int) -> Array:
        """All values of a cell, on the sample's scale."""
        own = self.values[:, cell]
        return self.scale.forward(np.concatenate([own, self.more[cell]]) if self.more else own)

    def where(self, chosen: NDArray[np.bool_]) -> Sample:
        """The sample of the `chosen` seeds, (seeds,)."""
        seeds = tuple(np.array(self.seeds, dtype=int)[chosen].tolist())
        parts = (self.runs[chosen], self.values[chosen], self.learned[chosen])
        return Sample(self.study, self.estimand, self.scale, seeds, *parts, self.more if chosen.all() else ())

    def predictions(self, cell: int, column: str) -> Array:
        """One column of a cell's test predictions, (seeds, examples)."""
        tables = [self.study.read(run, "predictions.parquet", [column]) for run in self.runs[:, cell]]
        return np.array([table[column].to_numpy() for table in tables], dtype=float)
