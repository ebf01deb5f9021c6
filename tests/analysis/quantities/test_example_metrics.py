"""Scores per example of metrics that are no means: pseudo-values of groups, and how often intervals cover."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ablate.metrics import METRICS, Predicted
from analysis.quantities.example_metrics import groups_of, jackknifed, metric_scores
from analysis.quantities.formulas import per_example
from analysis.stats.predictions import crossed_effect
from tests.test_metrics import drawn, drawn_words, numbers


def test_of_a_mean_they_are_its_scores():
    """Without groups larger than one example, the pseudo-values of a mean are the scores themselves."""
    p = drawn(3, n=40)
    of_jackknife = jackknifed(METRICS["accuracy"], p, np.arange(40))
    np.testing.assert_allclose(of_jackknife, p.label == p.prediction, atol=1e-12)


def test_groups_of_unequal_sizes_estimate_the_same_variance():
    """By Busing's pseudo-values: on average over splits, that of the mean of single scores."""
    p = numbers(np.zeros(125), np.random.default_rng(0).exponential(1, 125))
    scores = per_example(METRICS["mae"].scores(p), p)
    single = scores.var(ddof=1) / len(scores)
    found = []
    for seed in range(200):
        groups = np.random.default_rng(seed).permutation(groups_of(125))
        pair = jackknifed(METRICS["mae"], p, groups), np.zeros(125)
        found.append(crossed_effect(*(np.tile(x, (2, 1)) for x in pair), groups).example_variance)
    assert np.mean(found) == pytest.approx(single, rel=0.05)
    assert np.mean(found) != pytest.approx(2 * single, rel=0.4)  # the control


@pytest.mark.parametrize("name", ["f1_macro", "balanced_accuracy", "matthews", "ece", "auroc"])
def test_their_mean_is_the_metric_and_they_agree_with_leaving_out_single_examples(name):
    p = drawn(3, n=500)
    groups = groups_of(500)
    scores = metric_scores(METRICS[name], p, groups)
    assert (
        scores.mean() == pytest.approx(METRICS[name].value(p), abs=1e-12) and np.bincount(groups).tolist() == [10] * 50
    )
    single = jackknifed(METRICS[name], p, np.arange(500))
    of_groups = np.array([single[groups == g].mean() for g in range(50)])
    assert np.corrcoef(of_groups, [scores[groups == g][0] for g in range(50)])[0, 1] > 0.95


def test_sentences_are_resampled_not_words():
    p = drawn_words(0, 0.3)
    scores = metric_scores(METRICS["entity_f1"], p, groups_of(40))
    assert scores.shape == (40,) and scores.mean() == pytest.approx(METRICS["entity_f1"].value(p))
    of_words = metric_scores(METRICS["accuracy"], p, groups_of(40))
    assert of_words.shape == (40,) and of_words.mean() == pytest.approx(METRICS["accuracy"].value(p))
    assert len(p) > 40


def test_clusters_stay_whole():
    clusters = np.arange(90) // 3
    groups = groups_of(90, clusters)
    assert all(len(set(groups[clusters == c])) == 1 for c in range(30)) and groups.max() == 29
    many = groups_of(300, np.arange(300) // 3)
    assert many.max() == 49 and np.bincount(many).tolist() == [6] * 50
    assert (groups_of(300) == groups_of(300)).all()  # the same in all runs


def test_a_ratio_of_sums_is_linear_in_its_examples():
    """Perplexity's loss per token: longer blocks count for more, and the mean is that over tokens."""
    p = Predicted("causal_lm", tokens=np.array([10.0, 30.0]), loss=np.array([2.0, 4.0]))
    assert per_example(p.loss, p, p.tokens).tolist() == pytest.approx([3.5 - 15 / 20, 3.5 + 15 / 20])


def test_without_a_value_for_a_part_there_are_no_scores():
    label = np.array([0] * 39 + [1])  # without the last example, a class has none
    probabilities = np.random.default_rng(0).dirichlet([1, 1], 40)
    p = Predicted("classification", (), label, probabilities.argmax(axis=1), probabilities.max(axis=1), probabilities)
    assert METRICS["auroc"].value(p) >= 0 and metric_scores(METRICS["auroc"], p, groups_of(40)) is None
    assert metric_scores(METRICS["mse"], p, groups_of(40)) is None  # of another kind of task


POPULATION = 200_000


def confusion_counts(p: Predicted) -> np.ndarray:
    return np.eye(9)[3 * p.label + p.prediction]


def f1_of_confusion(counts: np.ndarray) -> float:
    """Macro F1 of three classes, faster than from predictions."""
    table = counts.reshape(3, 3)
    return float((2 * np.diag(table) / (table.sum(axis=0) + table.sum(axis=1))).mean())


FAST_F1 = replace(
    METRICS["f1_macro"],
    value=lambda p: f1_of_confusion(confusion_counts(p).sum(axis=0)),
    counts=confusion_counts,
    of_counts=f1_of_confusion,
)


def simulated(rng: np.random.Generator, skills: np.ndarray, examples: np.ndarray, hardness: np.ndarray):
    """Runs of an arm on these examples: logits of an example, its own for all seeds, and noise of each seed's run.

    A seed's run is better or worse throughout, and examples differ in difficulty.
    """
    label = np.minimum(examples % 10 // 4, 2)
    runs = []
    for skill in skills:
        logits = hardness[examples] + rng.normal(0, 0.7, (len(examples), 3))
        logits[np.arange(len(examples)), label] += skill
        runs.append(Predicted("classification", (), label, logits.argmax(axis=1)))
    return runs


@pytest.mark.long
def test_intervals_cover_for_new_seeds_and_new_examples():
    """Macro F1, 5 seeds and 300 examples of three classes: 95 % intervals over both cover in 93 to 98 %.

    Those over seeds alone cover less: they do not know that the examples might be others.
    """
    rng, metric = np.random.default_rng(0), FAST_F1
    hardness = rng.normal(0, 1, (2, POPULATION, 3)) * 0.6 + rng.normal(0, 1, (POPULATION, 3)) * 0.6
    whole = np.arange(POPULATION)
    every = stats.norm(1.4, 0.15).ppf((np.arange(30) + 0.5) / 30)
    true = [np.mean([metric.value(p) for p in simulated(rng, every, whole, arm)]) for arm in hardness]
    truth, groups, times = true[0] - true[1], groups_of(300), 1000
    both = alone = 0
    for _ in range(times):
        examples = rng.integers(0, POPULATION, 300)
        arms = [
            [metric_scores(metric, p, groups) for p in simulated(rng, rng.normal(1.4, 0.15, 5), examples, arm)]
            for arm in hardness
        ]
        effect = crossed_effect(*arms, groups)
        both += effect.interval().low <= truth <= effect.interval().high
        interval = effect.seeds_only.interval()
        alone += interval.low <= truth <= interval.high
    print(f"seeds and examples {both / times:.3f}, seeds alone {alone / times:.3f}")
    assert 0.93 <= both / times <= 0.985
    assert alone / times < both / times - 0.02


def test_a_metric_without_counts_gives_the_same_scores_as_one_with_them():
    p, metric = drawn_words(1, 0.4), METRICS["entity_f1"]
    by_counts = metric_scores(metric, p, groups_of(40))
    by_units = metric_scores(replace(metric, counts=None, of_counts=None), p, groups_of(40))
    np.testing.assert_allclose(by_counts, by_units, atol=1e-12)


def test_the_fast_f1_of_the_simulation_is_the_metric():
    p = drawn(3, n=200)
    assert FAST_F1.value(p) == pytest.approx(METRICS["f1_macro"].value(p), abs=1e-12)
