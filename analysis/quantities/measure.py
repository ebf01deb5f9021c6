"""Measure every quantity (`analysis.quantities.formulas`) of every run of a study from the run's own records."""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property

import pandas as pd

from analysis.quantities import formulas
from analysis.quantities.formulas import NotMeasurable
from analysis.records.run_folder import Unreadable
from analysis.records.study import Study


def batch_parts(study: Study) -> dict[str, pd.DataFrame]:
    """What the batches themselves do to the training loss, by `pairing.batches`: its mean over arms.

    Over the finished runs that share one planned order of examples, so over the arms of a seed. Index step;
    columns loss (the mean), runs (of how many).
    """
    done = study.runs[study.runs["status"] == "done"]
    return {
        batches: study.steps(["loss"], group["run"]).groupby("step")["loss"].agg(loss="mean", runs="size")
        for batches, group in done.groupby("pairing.batches")
    }


@dataclass(frozen=True)
class Run:
    """One run of a study; its records are read when a quantity asks for them."""

    study: Study
    name: str
    planned: int
    batches: str
    parts: Callable[[], dict[str, pd.DataFrame]]

    @cached_property
    def steps(self) -> pd.DataFrame:
        return self.study.read(self.name, "steps.parquet").to_pandas()

    @cached_property
    def evals(self) -> pd.DataFrame:
        return self.study.read(self.name, "evals.parquet").to_pandas()

    @cached_property
    def predictions(self) -> pd.DataFrame:
        return self.study.read(self.name, "predictions.parquet", ["label", "prediction"]).to_pandas()

    @property
    def batch_part(self) -> pd.DataFrame:
        return self.parts().get(self.batches, pd.DataFrame(columns=["loss", "runs"], dtype=float))


METRICS: dict[str, Callable[[Run], float]] = {
    "last_training_loss": lambda run: formulas.last_training_loss(run.steps),
    "loss_variance": lambda run: formulas.loss_variance(run.steps),
    "last_loss_variance": lambda run: formulas.last_loss_variance(run.steps),
    "loss_jitter": lambda run: formulas.loss_jitter(run.steps, run.batch_part),
    "spikes": lambda run: formulas.spikes(run.steps),
    "mean_grad_norm": lambda run: formulas.mean_grad_norm(run.steps),
    "clip_rate": lambda run: formulas.clip_rate(run.steps),
    "mean_delta_g": lambda run: formulas.mean_delta_g(run.steps),
    "delta_g_slope": lambda run: formulas.delta_g_slope(run.steps),
    "early_delta_g_share": lambda run: formulas.early_delta_g_share(run.steps),
    "mlp_share_below_one": lambda run: formulas.mlp_share_below_one(run.steps),
    "early_classifier_norm": lambda run: formulas.early_classifier_norm(run.steps),
    "late_classifier_norm": lambda run: formulas.late_classifier_norm(run.steps),
    "classifier_norm_fall": lambda run: formulas.classifier_norm_fall(run.steps),
    "training_seconds": lambda run: formulas.training_seconds(run.steps),
    "mean_probe_loss": lambda run: formulas.mean_probe_loss(run.evals),
    "probe_jitter": lambda run: formulas.probe_jitter(run.evals),
    "max_drawdown": lambda run: formulas.max_drawdown(run.evals),
    "steps_to_probe_loss": lambda run: formulas.steps_to_probe_loss(run.evals, run.planned),
    "capped_test_loss": lambda run: formulas.capped_test_loss(run.evals, run.predictions),
    "learned": lambda run: float(not formulas.did_not_learn(run.predictions)),
}
"""Quantity -> how it is read off a run."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Quantities of a study's runs.

    values   one row a run, indexed by its name; a column a quantity, NaN where it could not be measured
    lacking  run, quantity, reason: every such NaN, explained
    """

    values: pd.DataFrame
    lacking: pd.DataFrame


def measure(study: Study, quantities: Iterable[str] = tuple(METRICS)) -> Measured:
    """The named quantities of METRICS of all runs that count; one gone since is warned of and left out.

    Raises ValueError for a quantity that METRICS has not.
    """
    names = list(quantities)
    if unknown := [name for name in names if name not in METRICS]:
        raise ValueError(f"no quantity {', '.join(unknown)}; there are {', '.join(METRICS)}")
    parts = cache(lambda: batch_parts(study))
    rows, lacking = {}, []
    for row in study.runs.to_dict("records"):
        run = Run(study, row["run"], row["trainer.steps"], row["pairing.batches"], parts)
        try:
            found = {name: measured_or_why(run, name) for name in names}
        except Unreadable as problem:
            warnings.warn(f"{run.name} is not measured: {problem}", stacklevel=2)
            continue
        rows[run.name] = {k: math.nan if isinstance(v, NotMeasurable) else v for k, v in found.items()}
        lacking += [(run.name, k, str(v)) for k, v in found.items() if isinstance(v, NotMeasurable)]
    return Measured(
        pd.DataFrame.from_dict(rows, orient="index", columns=names, dtype=float).rename_axis("run"),
        pd.DataFrame(lacking, columns=["run", "quantity", "reason"]),
    )


def measured_or_why(run: Run, quantity: str) -> float | NotMeasurable:
    try:
        return METRICS[quantity](run)
    except NotMeasurable as reason:
        return reason
