"""Scores per test example: what a quantity is the mean of, for intervals over seeds *and* examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from analysis.claims.contrast import LINEAR
from analysis.claims.estimand import Sample
from analysis.records.study import Study
from analysis.stats.effects import Array, Effect, paired_effect
from analysis.stats.predictions import CrossedEffect, crossed_effect


def right(study: Study, run: str) -> Array:
    """Whether each test prediction of a run is right, 1 or 0, (examples,); empty where none are recorded."""
    table = study.read(run, "predictions.parquet", ["label", "prediction"])
    return (table["label"].to_numpy() == table["prediction"].to_numpy()).astype(float)


SCORES: dict[str, Callable[[Study, str], Array]] = {"test_accuracy": right}
"""Quantity -> the function that reads a run's scores per example, whose mean the quantity is."""

ROUNDING = 1e-6
"""Largest difference between a recorded value and the mean of its scores that counts as rounding."""


def example_scores(sample: Sample) -> Array | None:
    """The scores that the sample's values are the means of, (seeds, cells, examples), on the raw scale.

    A run that diverged or that recorded no predictions has its value, e.g. that of the majority class, as the score
    of each example. None where the quantity is no mean over recorded scores, where runs have other test examples, and
    where the scores do not explain a recorded value. Raises Unreadable for a file that changed since it was loaded.
    """
    read = SCORES.get(sample.estimand.quantity)
    if read is None:
        return None
    done = sample.study.runs.set_index("run")["status"] == "done"
    found = [read(sample.study, run) if done[run] else np.empty(0) for run in sample.runs.flat]
    lengths = {scores.size for scores in found} - {0}
    if len(lengths) != 1:
        return None
    (examples,) = lengths
    flat = sample.values.ravel()
    scores = np.array([own if own.size else np.full(examples, value) for own, value in zip(found, flat, strict=True)])
    if np.abs(scores.mean(axis=1) - flat).max() > ROUNDING:
        return None
    return scores.reshape(*sample.runs.shape, examples)


def mean_difference(sample: Sample, rng: np.random.Generator) -> Effect | CrossedEffect:
    """The mean of treatment − control of a sample of two cells, over seeds *and* examples where that is possible.

    It is possible on a linear scale, for at least two seeds, where `example_scores` finds scores.
    """
    linear = sample.estimand.scale in LINEAR and len(sample.seeds) > 1
    if linear and (scores := example_scores(sample)) is not None:
        x = sample.scale.forward(scores)
        return crossed_effect(x[:, 0], x[:, 1], rng=rng)
    x = sample.scale.forward(sample.values)
    return paired_effect(x[:, 0], x[:, 1], rng)
