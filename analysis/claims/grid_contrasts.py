"""Contrasts over a grid of settings: sensitivity, means, and several data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from analysis.claims.contrast import Contrast, Effects
from analysis.claims.estimand import Estimand, Sample, Settings
from analysis.claims.example_scores import mean_difference
from analysis.claims.pairing import Refused
from analysis.records.arms import fits, is_under, overlaid, varying
from analysis.records.study import Study
from analysis.stats.effects import paired_effect
from analysis.stats.predictions import effect_over_data_sets

GridValues = Mapping[str, tuple[Any, ...]]
"""A grid: settings, each with its values."""


def points(grid: GridValues) -> list[Settings]:
    """The points of a grid, in the order of the cells."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def without_value(grid: GridValues, key: str, i: int) -> GridValues:
    """A grid without value `i` of a key."""
    return dict(grid) | {key: (*grid[key][:i], *grid[key][i + 1 :])}


@dataclass(frozen=True)
class Grid(Contrast):
    """Treatment and control over a grid of settings, `over` (key -> values), reduced to one value per arm and seed."""

    over: GridValues

    @property
    def grids(self) -> tuple[GridValues, GridValues]:
        """The grids of treatment and control, which have equal numbers of points."""
        return self.over, self.over

    def cells(self, estimand: Estimand, study: Study) -> list[Settings]:
        arms = zip(super().cells(estimand, study), self.grids, strict=True)
        return [overlaid(arm, point) for arm, grid in arms for point in points(grid)]

    def free(self) -> tuple[str, ...]:
        return tuple(self.over)

    def without(self, key: str, i: int) -> Self:
        """The same without value `i` of a key of the grid."""
        return replace(self, over=without_value(self.over, key, i))

    def by_arm(self, cells: NDArray[Any]) -> NDArray[Any]:
        """The cells, (seeds, cells), as (seeds, treatment and control, points of the grid)."""
        return cells.reshape(len(cells), 2, cells.shape[1] // 2)


@dataclass(frozen=True)
class Sensitivity(Grid):
    """treatment − control of the mean of the quantity L over the grid minus its minimum over the grid.

    This is the learning-rate sensitivity where the grid consists of learning rates and L is a capped loss (Wortsman
    et al. 2023, 2309.14322). A seed on which an arm learns nowhere on the grid has no minimum and does not count.
    """

    keeps_unlearned: ClassVar[bool] = False

    def usable(self, learned: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return self.by_arm(learned).any(axis=2).all(axis=1)

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        loss = self.by_arm(sample.values)
        x = sample.scale.forward(loss.mean(axis=2) - loss.min(axis=2))
        return {"": paired_effect(x[:, 0], x[:, 1], rng)}


@dataclass(frozen=True)
class GridMean(Grid):
    """treatment − control of the mean over the grid; for `learned`, the share of the grid on which an arm learns."""

    def usable(self, learned: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.full(len(learned), True)

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        x = sample.scale.forward(self.by_arm(sample.values).mean(axis=2))
        return {"": paired_effect(x[:, 0], x[:, 1], rng)}


@dataclass(frozen=True)
class Datasets(Grid):
    """The mean over data sets of treatment − control, for new seeds and new data sets; one effect per data set beside.

    The data sets are those of `over: {data: [...]}`, or all options of `data` with which the study has the control.
    """

    over: GridValues | None = None

    def cells(self, estimand: Estimand, study: Study) -> list[Settings]:
        if self.over is not None and set(self.over) != {"data"}:
            raise Refused(f"contrast datasets needs `over` with the key data only (got {', '.join(self.over)})")
        names = self.over["data"] if self.over else self.found(estimand, study)
        if len(names) < 2:
            raise Refused(f"contrast datasets needs at least 2 data sets; the study has {', '.join(names) or 'none'}")
        arms = Contrast.cells(self, estimand, study)
        return [overlaid(arm, {"data": name}) for arm in arms for name in names]

    @staticmethod
    def found(estimand: Estimand, study: Study) -> list[str]:
        control = overlaid(estimand.within, estimand.control or {})
        wanted = {key: value for key, value in control.items() if not is_under(key, ["data"])}
        return list(dict.fromkeys(arm["data"] for arm in study.arms.values() if fits(arm, wanted)))

    def free(self) -> tuple[str, ...]:
        return ("data",)

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        for pair in self.pairs(sample):
            self.check_same_data(sample, pair)
        x = sample.scale.forward(self.by_arm(sample.values))
        if len(x) < 2:
            return {"": paired_effect(*x.mean(axis=2).T, rng)}
        return {"": effect_over_data_sets(x[:, 0], x[:, 1], rng)}

    def by_data_set(self, sample: Sample, rng: np.random.Generator) -> Effects:
        """One effect per data set, by its name, as contrast `paired` computes it."""
        option = sample.study.runs.set_index("run")["data"]
        return {
            option[sample.runs[0, pair[0]]]: mean_difference(of_cells(sample, pair), rng) for pair in self.pairs(sample)
        }

    def pairs(self, sample: Sample) -> NDArray[np.intp]:
        """The numbers of the cells of treatment and control on each data set, (data sets, 2)."""
        return np.arange(sample.runs.shape[1]).reshape(2, -1).T

    @staticmethod
    def check_same_data(sample: Sample, pair: NDArray[np.intp]) -> None:
        """Raises ValueError where treatment and control have other settings of one data set."""
        label = sample.study.runs.set_index("run")["arm"]
        arms = [sample.study.arms[label[run]] for run in sample.runs[0, pair]]
        if differ := sorted(varying([{k: v for k, v in arm.items() if is_under(k, ["data"])} for arm in arms])):
            raise ValueError(f"treatment and control differ in {', '.join(differ)} on {arms[0]['data']}")


def of_cells(sample: Sample, cells: NDArray[np.intp]) -> Sample:
    """The sample of some of its cells."""
    parts = {name: getattr(sample, name)[:, cells] for name in ("runs", "values", "learned")}
    return replace(sample, **parts)
