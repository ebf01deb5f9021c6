"""Contrasts: how the runs of a seed become one number, and the numbers of all seeds an effect.

A contrast names the cells that it needs, each an arm by its settings, and turns their values, (seeds, cells), into
effects. Its fields are the keys that it adds to a claim in YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.claims.estimand import Estimand, Sample, Settings
from analysis.claims.example_scores import example_scores
from analysis.claims.pairing import MissingModels, Refused
from analysis.records.arms import canonical, fits, is_under, overlaid
from analysis.records.study import Study
from analysis.stats.effects import Array, Estimate, one_sample_effect, paired_effect
from analysis.stats.factorials import interaction_contrasts
from analysis.stats.predictions import churn_pseudo_values, crossed_effect
from analysis.stats.scales import Raw
from analysis.stats.variances import jackknifed_variance_ratio

LINEAR = ("raw", "points")
"""Scales on which the mean of the differences is the difference of the means."""

Effects = dict[str, Estimate | None]
"""Effects by name ("" for the only one); None where the values do not determine the effect."""


class Contrast:
    """Base class of all contrasts.

    control           whether there is a control arm
    judged            whether the contrast can have a verdict; otherwise it is only shown alongside one
    tested            whether the verdict comes from a test, and so counts among the judged claims
    keeps_unlearned   whether runs that did not learn count (accuracies, losses); otherwise their seeds are left out
    scales            names of the scales on which the contrast is meaningful; empty: all
    quantity          the only quantity of the contrast, where a claim cannot choose one
    measures          the quantity that is measured of each run, where it differs from the claim's quantity
    """

    control: ClassVar[bool] = True
    judged: ClassVar[bool] = True
    tested: ClassVar[bool] = True
    keeps_unlearned: ClassVar[bool] = True
    scales: ClassVar[tuple[str, ...]] = ()
    quantity: ClassVar[str | None] = None
    measures: ClassVar[str | None] = None

    def cells(self, estimand: Estimand, study: Study) -> list[Settings]:
        """The settings of each arm that is needed. Raises Refused where the study cannot have these arms."""
        arms = [estimand.treatment] if estimand.control is None else [estimand.treatment, estimand.control]
        return [overlaid(estimand.within, arm) for arm in arms]

    def free(self) -> tuple[str, ...]:
        """Keys in which cells may differ in addition to those that the claim changes."""
        return ()

    def usable(self, learned: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which seeds, (seeds,), can be used without the runs that did not learn; `learned` is (seeds, cells)."""
        return learned.all(axis=1)

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        """Effects on the sample's scale. Raises ValueError for values that the scale or the test does not allow."""
        raise NotImplementedError

    def holds(self, name: str, effect: Estimate, sample: Sample) -> bool:
        """Robustness check: whether effect `name` keeps its sign on the raw scale, where the contrast asks for that."""
        return True


@dataclass(frozen=True)
class Paired(Contrast):
    """The mean of treatment − control, paired by seed.

    Where the quantity is a mean over test examples whose scores are recorded (accuracy), and the scale is linear, it
    is the effect over seeds and examples, a `CrossedEffect`; otherwise the effect over seeds.
    """

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        linear = sample.estimand.scale in LINEAR and len(sample.seeds) > 1
        if linear and (scores := example_scores(sample)) is not None:
            x = sample.scale.forward(scores)
            return {"": crossed_effect(x[:, 0], x[:, 1], rng=rng)}
        x = sample.scale.forward(sample.values)
        return {"": paired_effect(x[:, 0], x[:, 1], rng)}


@dataclass(frozen=True)
class OneSample(Contrast):
    """The mean of treatment − `reference`, a number in the quantity's own unit."""

    control: ClassVar[bool] = False

    reference: float

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        x, reference = sample.scale.forward(sample.values[:, 0]), float(sample.scale.forward(self.reference))
        return {"": one_sample_effect(x, reference, rng)}


@dataclass(frozen=True)
class Variance(Contrast):
    """The ln of the ratio of across-seed variances, treatment / control, by the jackknife."""

    keeps_unlearned: ClassVar[bool] = False
    scales: ClassVar[tuple[str, ...]] = ("log",)

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        return {"": jackknifed_variance_ratio(sample.values[:, 0], sample.values[:, 1], rng)}


@dataclass(frozen=True)
class Interactions(Contrast):
    """All interactions of the factors that the claim changes, which are off in control and on in treatment."""

    def cells(self, estimand: Estimand, study: Study) -> list[Settings]:
        levels = [
            [{k: v for k, v in arm.items() if is_under(k, [factor])} for arm in (estimand.control, estimand.treatment)]
            for factor in estimand.changes
        ]
        cells = [{k: v for part in parts for k, v in part.items()} for parts in product(*levels)]
        return [overlaid(estimand.within, cell) for cell in cells]

    def contrasts(self, values: Array, factors: tuple[str, ...]) -> dict[str, Array]:
        return interaction_contrasts(values.reshape(-1, *(2 for _ in factors)), factors)

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        found = self.contrasts(sample.scale.forward(sample.values), sample.estimand.changes)
        return {name: one_sample_effect(contrast, 0.0, rng) for name, contrast in found.items()}

    def holds(self, name: str, effect: Estimate, sample: Sample) -> bool:
        """An interaction whose sign changes on the raw scale comes from the scale, not from the factors."""
        raw = self.contrasts(Raw().forward(sample.values), sample.estimand.changes)[name].mean()
        return bool(np.sign(raw) == np.sign(effect.estimate))


@dataclass(frozen=True)
class Grid(Contrast):
    """Treatment and control over a grid of settings, `over` (key -> values), reduced to one value per arm and seed."""

    over: Mapping[str, tuple[Any, ...]]

    def cells(self, estimand: Estimand, study: Study) -> list[Settings]:
        points = [dict(zip(self.over, values, strict=True)) for values in product(*self.over.values())]
        return [overlaid(cell, point) for cell in super().cells(estimand, study) for point in points]

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
class Sizes(Contrast):
    """The slope of treatment − control over log10 of the model's parameters, one slope per seed.

    It uses all pretrained models of the study, each at its only learning rate there. The study needs at least
    `at_least` sizes, one of them with more than `above` parameters.
    """

    at_least: int
    above: float

    def cells(self, estimand: Estimand, study: Study) -> list[Settings]:
        totals = study.runs.groupby("arm")["parameters.total"].first()
        control = overlaid(estimand.within, estimand.control or {})
        found = [
            (float(totals[label]), {k: v for k, v in arm.items() if is_under(k, self.free())})
            for label, arm in study.arms.items()
            if label in totals.index and fits(arm, control) and is_pretrained(arm)
        ]
        models = {total: model for total, model in found}
        if len(models) < self.at_least or max(models) <= self.above:
            sizes = ", ".join(f"{total:.3g}" for total in sorted(models)) or "none"
            raise MissingModels(
                f"the claim needs at least {self.at_least} sizes of pretrained models, one of them with more than "
                f"{self.above:.3g} parameters; the study has {sizes}"
            )
        if len({canonical(model) for _, model in found}) > len(models):
            raise Refused("one size has several models or learning rates; choose one in `within`")
        arms = super().cells(estimand, study)
        return [overlaid(arm, models[total]) for total in sorted(models) for arm in arms]

    def free(self) -> tuple[str, ...]:
        return ("model", "optimizer.lr")

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        x = sample.scale.forward(sample.values)
        totals = sample.study.runs.set_index("run")["parameters.total"]
        decades = np.log10(totals.loc[list(sample.runs[0, ::2])].to_numpy(float))
        slopes = np.polyfit(decades - decades.mean(), (x[:, ::2] - x[:, 1::2]).T, deg=1)[0]
        return {"": one_sample_effect(slopes, 0.0, rng)}


def is_pretrained(arm: Mapping[str, Any]) -> bool:
    """Whether an arm starts from pretrained weights: run.json then has their hash or path."""
    return "model.sha256" in arm or "model.path" in arm


@dataclass(frozen=True)
class Churn(Contrast):
    """treatment − control of the share of test predictions in which two seeds differ, by the jackknife."""

    keeps_unlearned: ClassVar[bool] = False
    scales: ClassVar[tuple[str, ...]] = LINEAR
    quantity: ClassVar[str | None] = "churn"
    measures: ClassVar[str | None] = "learned"

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        x, y = (sample.scale.forward(churn_pseudo_values(sample.predictions(cell, "prediction"))) for cell in (0, 1))
        return {"": paired_effect(x, y, rng)}


@dataclass(frozen=True)
class OverExamples(Contrast):
    """The same as `paired` for the test accuracy, to be shown with a claim."""

    judged: ClassVar[bool] = False
    tested: ClassVar[bool] = False
    scales: ClassVar[tuple[str, ...]] = LINEAR
    quantity: ClassVar[str | None] = "test_accuracy"

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        return Paired().effects(sample, rng)


@dataclass(frozen=True)
class Equality(Contrast):
    """Whether an exact number is within `tolerance` of `reference`, the claimed number. There is no test."""

    control: ClassVar[bool] = False
    tested: ClassVar[bool] = False
    scales: ClassVar[tuple[str, ...]] = ("raw",)

    reference: float
    tolerance: float


CONTRASTS: dict[str, type[Contrast]] = {
    "paired": Paired,
    "one_sample": OneSample,
    "variance": Variance,
    "interactions": Interactions,
    "sensitivity": Sensitivity,
    "grid_mean": GridMean,
    "sizes": Sizes,
    "churn": Churn,
    "examples": OverExamples,
    "equality": Equality,
}
"""Contrasts by their names in claims files."""
