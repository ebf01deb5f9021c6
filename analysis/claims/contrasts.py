"""Contrasts: how the runs of a seed become one number, and the numbers of all seeds an effect.

A contrast names the cells it needs, each an arm by its settings, and takes their values, (seeds, cells), to
effects. Its fields are the keys that it adds to a claim in YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.claims.pairing import OtherModels, Refused
from analysis.claims.samples import Sample
from analysis.records.arms import canonical, fits, is_under, overlaid
from analysis.records.study import Study
from analysis.stats.effects import Array, Effect, one_sample_effect, paired_effect
from analysis.stats.factorials import interaction_contrasts
from analysis.stats.predictions import OverExamples, accuracy_difference, churn
from analysis.stats.scales import Raw
from analysis.stats.variances import VarianceRatio, pitman_morgan

if TYPE_CHECKING:
    from analysis.claims.reading import Question

Settings = Mapping[str, Any]


Estimate = Effect | VarianceRatio | OverExamples
Effects = dict[str, Estimate | None]
"""By name ("" where there is one only); None where nothing can be told."""


class Contrast:
    """What contrasts have in common.

    control           whether it compares with a control arm
    judged            whether it can bear a verdict; else it is only shown beside one
    tested            whether that verdict comes from a test, and so counts among the judged claims
    keeps_unlearned   whether runs that did not learn count (accuracies, losses), or their seeds are left out
    scales            names of the scales that it makes sense on; empty: all
    quantity          the quantity that it is always of, where that is no number of a single run
    measures          what has to be measured of each run then
    """

    control: ClassVar[bool] = True
    judged: ClassVar[bool] = True
    tested: ClassVar[bool] = True
    keeps_unlearned: ClassVar[bool] = True
    scales: ClassVar[tuple[str, ...]] = ()
    quantity: ClassVar[str | None] = None
    measures: ClassVar[str | None] = None

    def cells(self, question: Question, study: Study) -> list[Settings]:
        """The settings of each arm that is needed. Raises Refused where the study can't have them."""
        arms = [question.treatment] if question.control is None else [question.treatment, question.control]
        return [overlaid(question.within, arm) for arm in arms]

    def free(self) -> tuple[str, ...]:
        """Keys in which cells may differ beside those that the claim changes."""
        return ()

    def usable(self, learned: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(seeds,) that are left when runs that did not learn, (seeds, cells), do not count."""
        return learned.all(axis=1)

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        """Effects on the sample's scale. Raises ValueError for values that the scale or the test can't take."""
        raise NotImplementedError

    def holds(self, name: str, effect: Estimate, sample: Sample) -> bool:
        """Whether what the effect called `name` says stands when it is looked at in another way, too."""
        return True


@dataclass(frozen=True)
class Paired(Contrast):
    """treatment − control, seed by seed."""

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        x = sample.scale.forward(sample.values)
        return {"": paired_effect(x[:, 0], x[:, 1], rng)}


@dataclass(frozen=True)
class OneSample(Contrast):
    """treatment against a number, `reference`, in the quantity's own unit."""

    control: ClassVar[bool] = False

    reference: float

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        x, reference = sample.scale.forward(sample.values[:, 0]), float(sample.scale.forward(self.reference))
        return {"": one_sample_effect(x, reference, rng)}


@dataclass(frozen=True)
class Variance(Contrast):
    """Across-seed variance, treatment / control, by Pitman-Morgan; the effect is ln of the ratio."""

    keeps_unlearned: ClassVar[bool] = False
    scales: ClassVar[tuple[str, ...]] = ("log",)

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        return {"": pitman_morgan(sample.values[:, 0], sample.values[:, 1])}


@dataclass(frozen=True)
class Interactions(Contrast):
    """Any interaction of the factors that the claim changes, off in control and on in treatment."""

    def cells(self, question: Question, study: Study) -> list[Settings]:
        levels = [
            [{k: v for k, v in arm.items() if is_under(k, [factor])} for arm in (question.control, question.treatment)]
            for factor in question.changes
        ]
        cells = [{k: v for part in parts for k, v in part.items()} for parts in product(*levels)]
        return [overlaid(question.within, cell) for cell in cells]

    def contrasts(self, values: Array, factors: tuple[str, ...]) -> dict[str, Array]:
        return interaction_contrasts(values.reshape(-1, *(2 for _ in factors)), factors)

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        found = self.contrasts(sample.scale.forward(sample.values), sample.question.changes)
        return {name: one_sample_effect(contrast, 0.0, rng) for name, contrast in found.items()}

    def holds(self, name: str, effect: Estimate, sample: Sample) -> bool:
        """An interaction that turns round on the raw scale is one of the scale, not of the factors."""
        raw = self.contrasts(Raw().forward(sample.values), sample.question.changes)[name].mean()
        return bool(np.sign(raw) == np.sign(effect.estimate))


@dataclass(frozen=True)
class Grid(Contrast):
    """Treatment and control over a grid of settings, `over` (key -> values): each seed's values taken together."""

    over: Mapping[str, tuple[Any, ...]]

    def cells(self, question: Question, study: Study) -> list[Settings]:
        points = [dict(zip(self.over, values, strict=True)) for values in product(*self.over.values())]
        return [overlaid(cell, point) for cell in super().cells(question, study) for point in points]

    def free(self) -> tuple[str, ...]:
        return tuple(self.over)

    def by_arm(self, cells: NDArray[Any]) -> NDArray[Any]:
        """(seeds, cells) -> (seeds, treatment and control, points of the grid)"""
        return cells.reshape(len(cells), 2, cells.shape[1] // 2)


@dataclass(frozen=True)
class Sensitivity(Grid):
    """How much is lost on average over the grid against the arm's own best: mean of L less its minimum.

    Learning-rate sensitivity where the grid is one of learning rates and L a capped loss (Wortsman et al. 2023,
    2309.14322). An arm that learns nowhere on a seed's grid has no best: the seed does not count.
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
    """treatment − control of the mean over the grid; of `learned`, the share of the grid that an arm can use."""

    def usable(self, learned: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.full(len(learned), True)

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        x = sample.scale.forward(self.by_arm(sample.values).mean(axis=2))
        return {"": paired_effect(x[:, 0], x[:, 1], rng)}


@dataclass(frozen=True)
class Sizes(Contrast):
    """By how much treatment − control rises with each tenfold of the model's parameters: a slope a seed.

    Over all pretrained models of the study, each at the one learning rate it has there; `at_least` so many sizes,
    one of them of more than `above` parameters.
    """

    at_least: int
    above: float

    def cells(self, question: Question, study: Study) -> list[Settings]:
        totals = study.runs.groupby("arm")["parameters.total"].first()
        control = overlaid(question.within, question.control or {})
        found = [
            (float(totals[label]), {k: v for k, v in arm.items() if is_under(k, self.free())})
            for label, arm in study.arms.items()
            if label in totals.index and fits(arm, control) and is_pretrained(arm)
        ]
        models = {total: model for total, model in found}
        if len(models) < self.at_least or max(models) <= self.above:
            raise OtherModels(
                f"at least {self.at_least} sizes of pretrained models are needed, one of more than {self.above:.3g} "
                f"parameters; the study has {', '.join(f'{total:.3g}' for total in sorted(models)) or 'none'}"
            )
        if len({canonical(model) for _, model in found}) > len(models):
            raise Refused("a size has several models or learning rates: say in `within` which is meant")
        arms = super().cells(question, study)
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
    """Whether an arm's weights came from somewhere: run.json then says which ones."""
    return "model.sha256" in arm or "model.path" in arm


@dataclass(frozen=True)
class Churn(Contrast):
    """Share of test predictions on which two seeds of an arm differ, treatment − control, by the jackknife."""

    keeps_unlearned: ClassVar[bool] = False
    scales: ClassVar[tuple[str, ...]] = ("raw", "points")
    quantity: ClassVar[str | None] = "churn"
    measures: ClassVar[str | None] = "learned"

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        x, y = (sample.scale.forward(churn(sample.predictions(cell, "prediction")).pseudo_values) for cell in (0, 1))
        return {"": paired_effect(x, y, rng)}


@dataclass(frozen=True)
class Examples(Contrast):
    """Test accuracy, treatment − control, with its error over seeds and examples (variance components)."""

    judged: ClassVar[bool] = False
    tested: ClassVar[bool] = False
    keeps_unlearned: ClassVar[bool] = False
    scales: ClassVar[tuple[str, ...]] = ("raw", "points")
    quantity: ClassVar[str | None] = "test_accuracy"

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        found = accuracy_difference(sample.right(0), sample.right(1))
        estimate, error = (float(sample.scale.forward(v)) for v in (found.estimate, found.standard_error))
        return {"": OverExamples(estimate, len(sample.seeds), error)}


@dataclass(frozen=True)
class Equality(Contrast):
    """An exact number against the one that is claimed: within `tolerance` of `reference`, or not. No test."""

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
    "examples": Examples,
    "equality": Equality,
}
"""The word for it in a claims file -> the contrast."""
