"""The contrasts that a claim can name: how the runs of a seed become one number, and those of all seeds an effect.

`analysis.claims.contrast` has their base class, `analysis.claims.grid_contrasts` those over a grid of settings, and
`analysis.claims.tuned_contrasts` those of arms that are each tuned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.claims.contrast import LINEAR, ROLES_OF_ARMS, Contrast, Effects
from analysis.claims.estimand import Estimand, Sample, Settings
from analysis.claims.example_scores import mean_difference
from analysis.claims.grid_contrasts import Datasets, GridMean, Sensitivity
from analysis.claims.pairing import MissingModels, Refused
from analysis.claims.tuned_contrasts import BestValue, Tuned
from analysis.records.arms import canonical, fits, is_under, overlaid
from analysis.records.study import Study
from analysis.stats.effects import Array, Estimate, one_sample_effect, paired_effect
from analysis.stats.factorials import interaction_contrasts
from analysis.stats.predictions import churn_pseudo_values
from analysis.stats.rates import rate_difference
from analysis.stats.scales import Raw
from analysis.stats.variances import jackknifed_variance_ratio


@dataclass(frozen=True)
class Paired(Contrast):
    """The mean of treatment − control, paired by seed.

    Where the quantity has scores per example (metrics and losses of the test split, losses of the probe), on any scale
    but logit, it is the effect over seeds and examples, a `CrossedEffect`; otherwise the effect over seeds. Where the
    runs of a table of results are unpaired, it is Welch's effect of unpaired runs.
    """

    works_unpaired: ClassVar[bool] = True

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        return {"": mean_difference(sample, rng)}


@dataclass(frozen=True)
class OneSample(Contrast):
    """The mean of treatment − `reference`, a number in the quantity's own unit."""

    control: ClassVar[bool] = False
    works_unpaired: ClassVar[bool] = True

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
class Failures(Contrast):
    """treatment − control of the share of seeds whose run learns, by the exact McNemar test."""

    scales: ClassVar[tuple[str, ...]] = LINEAR
    quantity: ClassVar[str | None] = "learned"

    def usable(self, learned: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """All seeds: runs that did not learn are what is counted."""
        return np.full(len(learned), True)

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        treatment, control = sample.values.T
        return {"": rate_difference(treatment, control, unit=float(sample.scale.forward(1.0)))}

    def details(self, sample: Sample) -> dict[str, Any]:
        """did_not_learn: the number of runs of treatment and control."""
        counts = (sample.values == 0).sum(axis=0).tolist()
        return {"did_not_learn": dict(zip(ROLES_OF_ARMS, counts, strict=True))}


@dataclass(frozen=True)
class OverExamples(Contrast):
    """The same as `paired` for a quantity that has a score per example, to be shown with a claim."""

    judged: ClassVar[bool] = False
    tested: ClassVar[bool] = False
    scales: ClassVar[tuple[str, ...]] = (*LINEAR, "log")
    of_examples: ClassVar[bool] = True

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
    "tuned": Tuned,
    "best_value": BestValue,
    "datasets": Datasets,
    "sizes": Sizes,
    "churn": Churn,
    "failures": Failures,
    "examples": OverExamples,
    "equality": Equality,
}
"""Contrasts by their names in claims files."""
