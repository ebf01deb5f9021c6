"""Contrasts over a grid of settings: sensitivity, means, arms that are each tuned, and several data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.claims.contrast import ROLES_OF_ARMS, Contrast, Effects
from analysis.claims.estimand import Estimand, Sample, Settings
from analysis.claims.example_scores import mean_difference
from analysis.claims.pairing import Refused
from analysis.quantities.outcomes import outcomes
from analysis.quantities.registry import validation_of
from analysis.records.arms import fits, is_under, overlaid, varying
from analysis.records.study import Study
from analysis.stats.effects import Array, paired_effect
from analysis.stats.predictions import effect_over_data_sets
from analysis.stats.tuning import CrossFitted, beyond_edge, cross_fitted, expected_best


def tuned_by(quantity: str) -> tuple[str, bool]:
    """What a quantity of the test split is tuned by: the same on the validation split, and whether more is better.

    Raises Refused for other quantities.

    >>> tuned_by("test_accuracy"), tuned_by("test_loss")
    (('validation_accuracy', True), ('validation_loss', False))
    """
    found = validation_of(quantity)
    if found is None:
        raise Refused(
            f"contrast tuned needs a metric or the loss of the test split, such as test_accuracy (got {quantity})"
        )
    return found.name, bool(found.higher_is_better)


@dataclass(frozen=True)
class Grid(Contrast):
    """Treatment and control over a grid of settings, `over` (key -> values), reduced to one value per arm and seed."""

    over: Mapping[str, tuple[Any, ...]]

    def cells(self, estimand: Estimand, study: Study) -> list[Settings]:
        return [overlaid(cell, point) for cell in super().cells(estimand, study) for point in self.points()]

    def points(self) -> list[Settings]:
        """The points of the grid, in the order of the cells."""
        return [dict(zip(self.over, values, strict=True)) for values in product(*self.over.values())]

    def free(self) -> tuple[str, ...]:
        return tuple(self.over)

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
class Tuned(Grid):
    """treatment − control with each arm at its own best point of the grid, cross-fitted (`analysis.stats.tuning`).

    For each seed, the mean validation value over the other seeds chooses each arm's point, and the test value of this
    seed counts. Runs that diverged count with their scored values. The quantity is one of the test split.
    """

    def cells(self, estimand: Estimand, study: Study) -> list[Settings]:
        tuned_by(estimand.quantity)
        return super().cells(estimand, study)

    def usable(self, learned: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """All seeds: a point at which runs do not learn is not chosen."""
        return np.full(len(learned), True)

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        treatment, control = (sample.scale.forward(arm.values) for arm in self.tuned(sample))
        return {"": paired_effect(treatment, control, rng)}

    def tuned(self, sample: Sample) -> tuple[CrossFitted, CrossFitted]:
        """Treatment and control at their chosen points. Raises ValueError where a run has no validation value."""
        _, maximise = tuned_by(sample.estimand.quantity)
        validation, test = self.by_arm(self.validation(sample)), self.by_arm(sample.values)
        treatment, control = (cross_fitted(validation[:, arm], test[:, arm], maximise) for arm in (0, 1))
        return treatment, control

    def validation(self, sample: Sample) -> Array:
        """The validation values of the sample's runs, (seeds, cells)."""
        name, _ = tuned_by(sample.estimand.quantity)
        found = outcomes(sample.study, {name}).values[name].reindex(sample.runs.ravel())
        if lacking := found.index[found.isna()].tolist():
            raise ValueError(f"tuning needs {name} of all runs; {lacking[0]} has none")
        return found.to_numpy(float).reshape(sample.runs.shape)

    def details(self, sample: Sample) -> dict[str, Any]:
        """validation (the quantity that chooses), and for treatment and control:

        usual      the point that is chosen for most seeds
        chosen     seed -> its point
        beyond     key -> next value, where `usual` is at the edge of the grid and a better one may lie beyond
        by_budget  expected best validation value of 1, 2, ... trials of the grid, averaged over seeds (Dodge 2019)
        """
        name, _ = tuned_by(sample.estimand.quantity)
        points, budgets, found = self.points(), self.by_budget(sample), {"validation": name}
        for role, arm in zip(ROLES_OF_ARMS, self.tuned(sample), strict=True):
            usual, chosen = points[arm.usual], [points[i] for i in arm.chosen]
            found[role] = {
                "usual": usual,
                "chosen": dict(zip(sample.seeds, chosen, strict=True)),
                "beyond": self.beyond(usual),
                "by_budget": budgets[role],
            }
        return found

    def beyond(self, chosen: Settings) -> dict[str, float]:
        """The next value of each number in `chosen` that is at the edge of its geometric grid."""
        numeric = {
            key: values
            for key, values in self.over.items()
            if all(isinstance(v, (int, float)) and not isinstance(v, bool) and v > 0 for v in values)
        }
        found = {key: beyond_edge(values, chosen[key]) for key, values in numeric.items()}
        return {key: value for key, value in found.items() if value is not None}

    def extension(self, sample: Sample) -> list[Settings]:
        """The cells that extend the grid beyond the edges that are chosen, for both arms: equal tuning.

        They are empty where no chosen point is at an edge.
        """
        further = [self.beyond(self.points()[arm.usual]) for arm in self.tuned(sample)]
        longer = {
            key: (*values, *dict.fromkeys(beyond[key] for beyond in further if key in beyond))
            for key, values in self.over.items()
        }
        known = self.cells(sample.estimand, sample.study)
        cells = replace(self, over=longer).cells(sample.estimand, sample.study)
        return [cell for cell in cells if cell not in known]

    def by_budget(self, sample: Sample) -> dict[str, list[float]]:
        """Arm -> expected best validation value of 1, 2, ... trials of its grid, averaged over seeds (Dodge 2019)."""
        _, maximise = tuned_by(sample.estimand.quantity)
        by_arm = self.by_arm(self.validation(sample))
        return {
            role: [
                float(np.mean([expected_best(seed, k, maximise) for seed in by_arm[:, arm]]))
                for k in range(1, by_arm.shape[2] + 1)
            ]
            for arm, role in enumerate(ROLES_OF_ARMS)
        }


@dataclass(frozen=True)
class Datasets(Grid):
    """The mean over data sets of treatment − control, for new seeds and new data sets; one effect per data set beside.

    The data sets are those of `over: {data: [...]}`, or all options of `data` with which the study has the control.
    """

    over: Mapping[str, tuple[Any, ...]] | None = None

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
