"""Scores per example: what a quantity is the mean of, for intervals over seeds *and* examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ablate.config.wording import count
from analysis.claims.contrast import LINEAR
from analysis.claims.estimand import Sample
from analysis.quantities.registry import REGISTRY, TEST_EXAMPLES, no_examples
from analysis.quantities.run_records import RunRecords, records_of
from analysis.records.run_folder import Unreadable
from analysis.records.study import Study
from analysis.stats.effects import Array, Effect, paired_effect
from analysis.stats.predictions import CrossedEffect, crossed_effect, log_mean_scores
from analysis.stats.unpaired import UnpairedEffect, unpaired_effect

ROUNDING = 1e-6
"""Largest difference between a recorded value and the mean of its scores that counts as rounding."""


def example_scores(sample: Sample) -> Array | None:
    """The scores that the sample's values are the means of, (seeds, cells, examples), on the raw scale.

    A run that diverged or that recorded no predictions has its value, e.g. that of the majority class, as the score
    of each example. None where the quantity is no mean over recorded scores, where a finished run's records do not
    determine them, where runs have other examples, and where the scores do not explain a recorded value. Raises
    Unreadable for a file that changed since it was loaded.
    """
    read = REGISTRY[sample.estimand.quantity].per_example
    found = []
    for run in sample.runs.flat:
        entries = sample.study.rows[run]
        scores = read(RunRecords(sample.study, entries)) if entries["status"] == "done" else np.empty(0)
        if scores is None:
            return None
        found.append(scores)
    lengths = {scores.size for scores in found} - {0}
    if len(lengths) != 1:
        return None
    (examples,) = lengths
    flat = sample.values.ravel()
    scores = np.array([own if own.size else np.full(examples, value) for own, value in zip(found, flat, strict=True)])
    if np.abs(scores.mean(axis=1) - flat).max() > ROUNDING:
        return None
    return scores.reshape(*sample.runs.shape, examples)


def scores_on_scale(sample: Sample) -> Array | None:
    """`example_scores`, (seeds, cells, examples), whose means are the sample's values on its scale.

    None where there are none: for one seed, on a scale that is neither linear nor the logarithm, or without scores.
    """
    scale = sample.estimand.scale
    if (
        sample.study.table is not None
        or len(sample.seeds) < 2
        or scale not in (*LINEAR, "log")
        or (scores := example_scores(sample)) is None
    ):
        return None
    return log_mean_scores(scores) if scale == "log" else sample.scale.forward(scores)


def mean_difference(sample: Sample, rng: np.random.Generator) -> Effect | CrossedEffect | UnpairedEffect:
    """The mean of treatment − control of a sample of two cells, over seeds *and* examples where that is possible.

    It is possible where `scores_on_scale` finds scores. Where `data.cluster` names groups of test examples, these
    groups count instead of the examples. Raises ValueError where the runs do not agree on the groups.
    Unpaired runs have Welch's effect.
    """
    if not sample.study.is_paired:
        return unpaired_effect(sample.of_cell(0), sample.of_cell(1))
    if (scores := scores_on_scale(sample)) is not None:
        return crossed_effect(scores[:, 0], scores[:, 1], example_clusters(sample), rng)
    x = sample.scale.forward(sample.values)
    return paired_effect(x[:, 0], x[:, 1], rng)


# --- Groups of examples ---


def example_clusters(sample: Sample) -> NDArray[np.int64] | None:
    """The group of each example of `example_scores`, (examples,); None where each example is a group of its own.

    They are those that `data.cluster` names or, where the scores are pseudo-values, those of the jackknife. Only test
    examples have groups. Raises ValueError where the runs do not agree on them.
    """
    quantity, runs = sample.estimand.quantity, list(dict.fromkeys(sample.runs.flat))
    clusters = shared_clusters(sample.study, runs) if is_over_test_examples(quantity) else None
    if not REGISTRY[quantity].jackknifed:
        return clusters
    done = sample.study.runs["run"][sample.study.runs["status"] == "done"]
    return next((records_of(sample.study, run).groups for run in runs if run in set(done)), None)


def is_over_test_examples(quantity: str) -> bool:
    """Whether a quantity is a mean over test examples."""
    return REGISTRY[quantity].per_example is not no_examples and REGISTRY[quantity].examples_in == TEST_EXAMPLES


def shared_clusters(study: Study, runs: Sequence[str]) -> NDArray[np.int64] | None:
    """The group of each test example, (examples,), in all of these runs that are done; None if none records groups.

    Raises ValueError where they do not agree, and Unreadable for a file that changed since it was loaded.
    """
    done = set(study.runs["run"][study.runs["status"] == "done"])
    runs = [run for run in runs if run in done]
    grouped = [run for run in runs if study.has(run, "clusters.parquet")]
    if not grouped:
        return None
    one, must = grouped[0], "the runs must have the same groups of test examples (data.cluster)"
    clusters, sha256 = records_of(study, one).clusters, study.sha256[one]["clusters.parquet"]
    for run in runs:
        if run not in grouped:
            raise ValueError(f"{must}, and {run} has none")
        # other bytes may hold the same groups, if another version of Parquet's library wrote them
        if study.sha256[run]["clusters.parquet"] != sha256 and not np.array_equal(
            records_of(study, run).clusters, clusters
        ):
            raise ValueError(f"{must}, and those of {one} and {run} differ")
    return clusters


def check_clusters(sample: Sample) -> None:
    """Raises ValueError where runs on the same data have other groups of the examples that the quantity is a mean of.

    Runs on several data sets have groups of their own for each. Raises Unreadable as `shared_clusters` does.
    """
    if not is_over_test_examples(sample.estimand.quantity):
        return
    runs = sample.study.runs[sample.study.runs["run"].isin(list(sample.runs.flat))]
    for _, on_data in runs.groupby("data", sort=False, dropna=False):
        shared_clusters(sample.study, list(on_data["run"]))


def clusters_note(sample: Sample) -> str | None:
    """Says that the examples of a treatment and a control arm come in groups, where the effect takes them as such.

    None where they do not, and where the effect cannot be computed, which its own note explains.
    """
    try:
        if sample.runs.shape[1] != 2 or not is_over_test_examples(sample.estimand.quantity):
            return None
        clusters = shared_clusters(sample.study, list(dict.fromkeys(sample.runs.flat)))
        if clusters is None or scores_on_scale(sample) is None:
            return None
    except (ValueError, Unreadable):
        return None
    groups = count(len(np.unique(clusters)), "group")
    return f"the {clusters.size} test examples are clustered in {groups} (data.cluster); the interval is for new groups"
