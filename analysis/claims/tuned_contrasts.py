"""Contrasts of tuned arms: each arm at its own best point of a grid, and the ratio of the arms' best values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ablate.config.checks import refusal
from analysis.claims.contrast import ROLES_OF_ARMS, Effects
from analysis.claims.estimand import Estimand, Sample, Settings
from analysis.claims.grid_contrasts import Grid, GridValues, points, without_value
from analysis.claims.pairing import Refused
from analysis.quantities.outcomes import outcomes
from analysis.quantities.registry import validation_of
from analysis.records.study import Study
from analysis.stats.effects import Array, paired_effect
from analysis.stats.tuning import CrossFitted, best_value, beyond_edge, cross_fitted, expected_best


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
class Tuned(Grid):
    """treatment − control with each arm at its own best point of the grid, cross-fitted (`analysis.stats.tuning`).

    For each seed, the mean validation value over the other seeds chooses each arm's point, and the test value of this
    seed counts. Runs that diverged count with their scored values. The quantity is one of the test split.

    control_over   the control's own grid, where the arms' settings are not comparable (learning rates of two
                   optimizers); it has the keys of `over` and as many points, so that both arms are tuned equally
    """

    control_over: GridValues | None = None

    def __post_init__(self) -> None:
        if self.control_over is None:
            return
        if list(self.control_over) != list(self.over):
            raise refusal("control_over", self.control_over, f"a grid of the keys of `over`: {', '.join(self.over)}")
        if len(points(self.control_over)) != (n := len(points(self.over))):
            what = f"a grid of {n} points, as many as `over` has: both arms are tuned equally"
            raise refusal("control_over", self.control_over, what)

    @property
    def grids(self) -> tuple[GridValues, GridValues]:
        return self.over, self.control_over or self.over

    def without(self, key: str, i: int) -> Self:
        own = self.control_over and without_value(self.control_over, key, i)
        return replace(self, over=without_value(self.over, key, i), control_over=own)

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
        budgets, found = self.by_budget(sample), {"validation": name}
        for role, arm, grid in zip(ROLES_OF_ARMS, self.tuned(sample), self.grids, strict=True):
            of_grid = points(grid)
            usual, chosen = of_grid[arm.usual], [of_grid[i] for i in arm.chosen]
            found[role] = {
                "usual": usual,
                "chosen": dict(zip(sample.seeds, chosen, strict=True)),
                "beyond": beyond(grid, usual),
                "by_budget": budgets[role],
            }
        return found

    def extension(self, sample: Sample) -> list[Settings]:
        """The cells that extend the grids beyond the edges that are chosen, at the same ends for both arms.

        They are empty where no chosen point is at an edge.
        """
        ends = {}
        for arm, grid in zip(self.tuned(sample), self.grids, strict=True):
            ends |= {
                (key, value > max(grid[key])): None for key, value in beyond(grid, points(grid)[arm.usual]).items()
            }
        longer = [extended(grid, ends) for grid in self.grids]
        known = self.cells(sample.estimand, sample.study)
        wider = replace(self, over=longer[0], control_over=self.control_over and longer[1])
        return [cell for cell in wider.cells(sample.estimand, sample.study) if cell not in known]

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


def is_above_zero(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def beyond(grid: GridValues, chosen: Settings) -> dict[str, float]:
    """The next value of each number in `chosen` that is at the edge of its geometric grid."""
    numeric = {key: values for key, values in grid.items() if all(map(is_above_zero, values))}
    found = {key: beyond_edge(values, chosen[key]) for key, values in numeric.items()}
    return {key: value for key, value in found.items() if value is not None}


def extended(grid: GridValues, ends: Iterable[tuple[str, bool]]) -> GridValues:
    """A grid with the next value at each of its `ends`: a key, and whether it is the upper end."""
    longer = {key: list(values) for key, values in grid.items()}
    for key, is_upper in ends:
        longer[key].append(beyond_edge(grid[key], (max if is_upper else min)(grid[key])))
    return {key: tuple(values) for key, values in longer.items()}


@dataclass(frozen=True)
class BestValue(Tuned):
    """The ratio of the arms' best values of one setting, such as the learning rate: treatment / control.

    Each seed's best value is where the parabola through the best validation value of the grid and its two neighbours
    has its extremum (`analysis.stats.tuning.best_value`), so it may lie between two points of the grid.
    """

    scales: ClassVar[tuple[str, ...]] = ("log",)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, grid in zip(("over", "control_over"), self.grids, strict=True):
            if len(grid) != 1 or not all(is_above_zero(v) for v in next(iter(grid.values()))):
                raise refusal(name, grid, "one setting with its values, numbers above 0")

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        _, maximise = tuned_by(sample.estimand.quantity)
        validation = self.by_arm(self.validation(sample))
        best = (
            [best_value(*grid.values(), seed, maximise) for seed in validation[:, arm]]
            for arm, grid in enumerate(self.grids)
        )
        return {"": paired_effect(*(np.log(values) for values in best), rng)}
