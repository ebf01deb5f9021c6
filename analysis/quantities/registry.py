"""The registry of quantities: each number that a run is reduced to, in one entry.

Tables, figures, claims and sentences read REGISTRY. To add a quantity, add one entry to QUANTITIES (and its formula to
`analysis.quantities.formulas`): then a claim can name it, and its flags put it into the summary table and the
figures.

A study can have quantities of its own: metrics of the user's (`own_metrics`), and those of a table of results
(`recorded`). They belong to its claims and to the study; `use_quantities` makes them known while these are at work.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablate.metrics import METRICS, PRIMARY, Metric
from analysis.quantities import formulas
from analysis.quantities.chance import TASK_KINDS, Chance, did_not_learn
from analysis.quantities.example_metrics import metric_scores, metric_value
from analysis.quantities.formulas import NotMeasurable
from analysis.quantities.run_records import RunRecords
from analysis.write_up import PROBE_LEVEL

Formula = Callable[[pd.DataFrame], float]
Measure = Callable[[RunRecords], float]
PerExample = Callable[[RunRecords], NDArray[np.float64] | None]


TEST_EXAMPLES, PROBE_EXAMPLES = "predictions.parquet", "probe.parquet"


def no_examples(run: RunRecords) -> None:
    """Of a quantity that is no mean over the examples of a fixed set."""


@dataclass(frozen=True)
class Quantity:
    """One number per run, or per arm.

    name             its key in claims files, in tables of numbers and in run.json
    words            its name in a sentence
    unit             on the raw scale; "" for shares and other numbers without a unit
    scale            the usual scale of its differences, a name of `analysis.stats.scales.SCALES`
    measure          a function of one run's records; None if run.json holds the number under `name`
    diverged         the value of a run that diverged, from the guess, its planned steps and measured value (NaN if
                     not measurable). Only quantities of how well a run does have one, and only they keep runs that did
                     not learn: variances, norms and shares of steps look best if nothing is learned, so they are
                     compared over the seeds whose runs all learn
    per_example      a function of one run's records: the score of each example of a fixed set, (examples,), in the
                     quantity's unit. Their mean is the quantity. Runs with the same data and trainer have the same
                     examples in the same order. None if the records do not determine the scores (the run diverged, or
                     an earlier version made it), and for quantities that are no such mean
    examples_in      the record file with these examples: the test split, or the probe's part of the validation split
    jackknifed       whether these scores are pseudo-values of groups (`analysis.quantities.example_metrics`)
    metric           the metric of `ablate.metrics` that it is, of the test or the validation split
    higher_is_better whether more is better; None if neither is
    per_run          False for a number of several runs, which a contrast of `analysis.claims` computes
    heading          of its column in a table; None if no table has such a column
    decimals         in that column; None for three significant digits
    row              of its row in a table; by default its words and unit
    in_summary       whether the summary table has its column
    in_figures       whether the figures `seeds` and `differences` show it
    has_interaction  whether it has a figure of two factors' interaction
    """

    name: str
    words: str
    unit: str
    scale: str
    measure: Measure | None = None
    diverged: Callable[[Chance, float, float], float] | None = None
    per_example: PerExample = no_examples
    examples_in: str = TEST_EXAMPLES
    jackknifed: bool = False
    metric: Metric | None = None
    higher_is_better: bool | None = None
    per_run: bool = True
    heading: str | None = None
    decimals: int | None = None
    row: str | None = None
    in_summary: bool = False
    in_figures: bool = False
    has_interaction: bool = False

    @property
    def keeps_unlearned(self) -> bool:
        """Whether it is compared over all runs, those that did not learn included."""
        return self.diverged is not None

    @property
    def is_ratio(self) -> bool:
        """Whether its effects are ratios."""
        return self.scale == "log"

    @property
    def row_heading(self) -> str:
        return self.row or ", ".join(filter(None, (self.words, self.unit)))

    @property
    def effect_words(self) -> str:
        """Its words with the unit of its differences; ratios have none."""
        unit = {"raw": self.unit, "points": "points"}.get(self.scale)
        return f"{self.words}, {unit}" if unit else self.words

    @property
    def axis_label(self) -> str:
        """Of its values, shares of the points scale in per cent."""
        unit = "%" if self.scale == "points" else self.unit
        return f"{self.words} ({unit})" if unit else self.words

    @property
    def difference_label(self) -> str:
        """Of its differences between arms."""
        if self.is_ratio:
            return f"{self.words},\nratio"
        unit = "points" if self.scale == "points" else self.unit
        return f"{self.words},\ndifference" + (f" ({unit})" if unit else "")


def at_chance_loss(chance: Chance, planned: float, measured: float) -> float:
    return chance.loss


def all_planned_steps(chance: Chance, planned: float, measured: float) -> float:
    """All planned steps, unless the run reached the level before it diverged."""
    return planned if math.isnan(measured) else measured


def memory_mb(run: RunRecords) -> float:
    """Memory in 10⁶ bytes of weights, gradients and optimizer state, by count."""
    parts = [run.entries.get(f"memory_bytes.{part}") for part in ("weights", "gradients", "optimizer")]
    if pd.isna(parts).any():
        raise NotMeasurable("memory_bytes: not recorded")
    return float(sum(parts)) / 1e6


def of_steps(formula: Formula) -> Measure:
    return lambda run: formula(run.steps)


def at_chance(metric: Metric) -> Callable[[Chance, float, float], float]:
    return lambda chance, planned, measured: chance.of(metric)


def of_examples(scores: PerExample) -> PerExample:
    """The scores of runs that are done: the value of one that diverged is not a mean of what it recorded."""
    return lambda run: scores(run) if run.entries["status"] == "done" else None


def of_probe_losses(formula: Callable[[pd.DataFrame, pd.DataFrame], NDArray[np.float64] | None]) -> PerExample:
    return of_examples(lambda run: formula(run.evals, run.probe_losses) if run.has_probe_losses else None)


def of_evals(formula: Formula) -> Measure:
    return lambda run: formula(run.evals)


# --- Metrics ---


def of_test(metric: Metric) -> Quantity:
    """The quantity of a metric on the test split, computed from the predictions."""
    return of_split(
        metric,
        "test",
        measure=lambda run: metric_value(metric, run.predicted),
        per_example=of_examples(lambda run: metric_scores(metric, run.predicted, run.groups)),
        jackknifed=metric.scores is None,
    )


def of_validation(metric: Metric) -> Quantity:
    """The quantity of a metric on the validation split: run.json has those that were computed while it trained."""
    return of_split(metric, "validation")


def of_split(metric: Metric, split: str, **how: Any) -> Quantity:
    """The quantity of a metric on a split; `how` are further fields, which say how it is measured."""
    return Quantity(
        f"{split}_{metric.name}",
        f"{split} {metric.words}",
        metric.unit,
        metric.scale,
        diverged=at_chance(metric) if metric.chance else None,
        metric=metric,
        higher_is_better=metric.higher_is_better,
        **heading_of(metric, split),
        **how,
    )


def heading_of(metric: Metric, split: str) -> dict[str, Any]:
    """Heading and decimals of a metric's column: per cent with one decimal, three decimals, or three digits."""
    unit = "%" if metric.scale == "points" else metric.unit and f"({metric.unit})"
    decimals = {"points": 1, "raw": 3}.get(metric.scale)
    return {"heading": " ".join(filter(None, (split, metric.words, unit))), "decimals": decimals}


QUANTITIES = (
    replace(of_test(METRICS["accuracy"]), measure=None, in_figures=True, has_interaction=True),
    Quantity("test_loss", "test loss", "nats", "log", diverged=at_chance_loss, higher_is_better=False,
             per_example=of_examples(lambda run: formulas.test_losses(run.predicted, run.entries["test_loss"]))),
    of_validation(METRICS["accuracy"]),
    Quantity("validation_loss", "validation loss", "nats", "log", diverged=at_chance_loss, higher_is_better=False),
    Quantity("capped_test_loss", "test loss, capped at that of a uniform guess", "nats", "log",
             lambda run: formulas.capped_test_loss(run.evals, Chance(run.predicted).loss), at_chance_loss),
    Quantity("learned", "share of runs that learn", "", "raw",
             lambda run: float(not did_not_learn(run.predicted)), lambda chance, planned, measured: 0.0),
    Quantity("last_training_loss", "training loss at the end", "nats", "log", of_steps(formulas.last_training_loss),
             heading="loss at the end", decimals=3, in_summary=True),
    Quantity("mean_training_loss", "mean training loss", "nats", "log", of_steps(formulas.mean_training_loss),
             at_chance_loss, heading="mean training loss, nats", decimals=3),
    Quantity("loss_variance", "variance of the training loss", "nats²", "log", of_steps(formulas.loss_variance)),
    Quantity("last_loss_variance", f"variance of the last {formulas.SPAN} training losses", "nats²", "log",
             of_steps(formulas.last_loss_variance)),
    Quantity("loss_jitter", "jitter of the training loss", "nats²", "log",
             of_steps(formulas.loss_jitter), heading="training jitter, nats²"),
    Quantity("spikes", "share of steps with a loss spike", "", "raw", of_steps(formulas.spikes)),
    Quantity("mean_grad_norm", "mean gradient norm", "", "log", of_steps(formulas.mean_grad_norm),
             heading="‖g‖", decimals=2, in_summary=True),
    Quantity("clip_rate", "share of steps that were clipped", "", "raw", of_steps(formulas.clip_rate),
             heading="clip rate", decimals=2, in_summary=True),
    Quantity("mean_delta_g", "mean Δg", "", "raw", of_steps(formulas.mean_delta_g),
             heading="Δg", decimals=2, in_summary=True),
    Quantity("delta_g_slope", "slope of log(1 + Δg)", "per step", "raw", of_steps(formulas.delta_g_slope)),
    Quantity("early_delta_g_share", "share of all Δg in the first tenth of the steps", "", "logit",
             of_steps(formulas.early_delta_g_share)),
    Quantity("mlp_share_below_one", "share of steps with G_MLP below 1", "", "logit",
             of_steps(formulas.mlp_share_below_one)),
    Quantity("early_classifier_norm", "median G_CLS over the first tenth of the steps", "", "log",
             of_steps(formulas.early_classifier_norm)),
    Quantity("late_classifier_norm", "median G_CLS over the last tenth of the steps", "", "log",
             of_steps(formulas.late_classifier_norm)),
    Quantity("classifier_norm_fall", "early G_CLS over late G_CLS", "", "log", of_steps(formulas.classifier_norm_fall)),
    Quantity("mean_probe_loss", "mean probe loss", "nats", "log", of_evals(formulas.mean_probe_loss), at_chance_loss,
             per_example=of_probe_losses(formulas.mean_losses), examples_in=PROBE_EXAMPLES,
             heading="mean probe loss, nats", decimals=3, in_figures=True),
    Quantity("last_probe_loss", "probe loss at the end", "nats", "log", of_evals(formulas.last_probe_loss),
             at_chance_loss, per_example=of_probe_losses(formulas.last_losses), examples_in=PROBE_EXAMPLES),
    Quantity("probe_jitter", "jitter of the probe loss", "nats²", "log", of_evals(formulas.probe_jitter),
             heading="probe jitter, nats²", in_figures=True, has_interaction=True),
    Quantity("max_drawdown", "largest rise of the probe loss", "nats", "raw", of_evals(formulas.max_drawdown)),
    Quantity("steps_to_probe_loss", f"number of steps to a probe loss of {PROBE_LEVEL:g}", "steps", "raw",
             lambda run: formulas.steps_to_probe_loss(run.evals, run.planned), all_planned_steps,
             row=f"steps to a probe loss of {PROBE_LEVEL:g}, at most all"),
    Quantity("parameters.ratio", "share of parameters trained", "", "log"),
    Quantity("parameters.trained", "number of trained parameters", "", "log"),
    Quantity("parameters.total", "number of parameters", "", "log"),
    Quantity("memory_bytes.weights", "memory for weights", "bytes", "log"),
    Quantity("memory_bytes.gradients", "memory for gradients", "bytes", "log"),
    Quantity("memory_bytes.optimizer", "memory for the optimizer", "bytes", "log"),
    Quantity("memory_mb", "memory of weights, gradients and optimizer", "MB", "log", memory_mb,
             row="memory of weights, gradients and optimizer, MB, by count"),
    Quantity("step_seconds", "time of a step", "s", "log", of_steps(formulas.step_seconds)),
    Quantity("training_seconds", "training time", "s", "log", of_steps(formulas.training_seconds),
             heading="training s", decimals=1, in_summary=True),
    Quantity("timing.seconds", "run time", "s", "log"),
    Quantity("churn", "share of test predictions on which two seeds differ", "", "points", per_run=False),
    *(quantity_of(metric) for quantity_of in (of_test, of_validation) for metric in METRICS.values()
      if metric.name != "accuracy"),
)  # fmt: skip

SHIPPED: Mapping[str, Quantity] = MappingProxyType({quantity.name: quantity for quantity in QUANTITIES})
"""Those that every study of runs has."""

Quantities = Mapping[str, Quantity]
_NONE: Quantities = MappingProxyType({})
_OF_STUDY: ContextVar[Quantities] = ContextVar("quantities of the study at hand", default=_NONE)
_OF_CLAIMS: ContextVar[Quantities] = ContextVar("quantities of the claims at hand", default=_NONE)


class Registry(Mapping[str, Quantity]):
    """The shipped quantities, then those of the study and of the claims at hand."""

    def __getitem__(self, name: str) -> Quantity:
        for quantities in (SHIPPED, _OF_STUDY.get()):
            if name in quantities:
                return quantities[name]
        return _OF_CLAIMS.get()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*SHIPPED, *_OF_STUDY.get(), *_OF_CLAIMS.get())))

    def __len__(self) -> int:
        return sum(1 for _ in self)


REGISTRY = Registry()
"""Name -> quantity, in the order in which tables and figures show them."""


def use_quantities(of_study: Quantities, of_claims: Quantities | None = None) -> None:
    """Make the quantities of a study known, and those of its claims, in place of those of the study before.

    of_claims: None where no claims are at hand: those that are known stay.
    """
    _OF_STUDY.set(of_study)
    if of_claims is not None:
        _OF_CLAIMS.set(of_claims)


def run_quantities() -> tuple[str, ...]:
    """Names of the quantities that are one number per run: those that a claim may name."""
    return tuple(name for name, quantity in REGISTRY.items() if quantity.per_run)


def primary_quantity(primary: str, split: str = "test") -> Quantity:
    """The quantity of a study's primary metric (`Study.primary`)."""
    if primary not in METRICS:  # of a table of results
        return REGISTRY[primary if split == "test" else f"{split}_{primary}"]
    return REGISTRY[f"{split}_{primary}"]


def of_kind(quantity: Quantity, kind: str) -> Quantity:
    """The quantity in runs of a kind of task, where losses may have another unit and guesses are not uniform.

    >>> of_kind(REGISTRY["test_loss"], "regression").unit, of_kind(REGISTRY["probe_jitter"], "regression").unit
    ('squared units', '(squared units)²')
    >>> of_kind(REGISTRY["capped_test_loss"], "causal_lm").words
    'test loss, capped at that of a guess'
    """
    if kind in ("regression", "causal_lm"):
        quantity = replace(quantity, words=quantity.words.replace("a uniform guess", "a guess"))
    unit = TASK_KINDS[kind].loss_unit
    if unit == "nats" or "nats" not in quantity.unit:
        return quantity
    changed = {
        name: text.replace("nats²", f"({unit})²").replace("nats", unit)
        for name in ("unit", "heading", "row")
        if (text := getattr(quantity, name))
    }
    return replace(quantity, **changed)


def validation_of(quantity: str) -> Quantity | None:
    """The same as a quantity of the test split on the validation split; None where there is none.

    >>> validation_of("test_loss").name, validation_of("clip_rate")
    ('validation_loss', None)
    """
    return REGISTRY.get(f"validation_{quantity.removeprefix('test_')}") if quantity.startswith("test_") else None


def selected(flag: str, primary: str = PRIMARY) -> list[Quantity]:
    """The quantities with a flag: in_summary, in_figures or has_interaction; the primary metric instead of accuracy."""
    instead = {f"test_{PRIMARY}": primary_quantity(primary)}
    return [instead.get(q.name, q) for q in REGISTRY.values() if getattr(q, flag)]
