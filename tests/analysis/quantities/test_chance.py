"""The guess that ignores the text, for each kind of task, and which runs learned more than it knows."""

import math

import numpy as np
import pytest

from ablate.metrics import METRICS, Predicted
from analysis.quantities.chance import Chance, did_not_learn
from analysis.quantities.formulas import NotMeasurable


def classes(label, prediction, **more) -> Predicted:
    return Predicted("classification", label=np.asarray(label), prediction=np.asarray(prediction), **more)


@pytest.mark.parametrize(
    ("right", "failed"),
    [(50, True), (60, True), (61, False), (99, False)],  # .5 + 2 · √(.25 / 100) = .6
)
def test_did_not_learn(right, failed):
    label = np.arange(100) % 2
    assert did_not_learn(classes(label, np.where(np.arange(100) < right, label, 1 - label))) is failed


def test_did_not_learn_knows_the_majority_class():
    assert did_not_learn(classes([0] * 90 + [1] * 10, [0] * 100))  # 90 % right, without having learned anything
    with pytest.raises(NotMeasurable, match="predictions"):
        did_not_learn(classes([], []))


def numbers(slope, noise, n=200):
    rng = np.random.default_rng(0)
    label = rng.normal(3, 2, n)
    return Predicted("regression", label=label, prediction=3 + slope * (label - 3) + rng.normal(0, noise, n))


@pytest.mark.parametrize(
    ("slope", "noise", "failed"), [(0.8, 0.5, False), (0, 0, True), (0, 0.5, True), (0.02, 0.01, False), (1, 4, True)]
)
def test_numbers_are_learned_if_the_squared_error_is_below_that_of_the_mean(slope, noise, failed):
    """Also by a model that does hardly better than the mean, as long as it surely does."""
    assert did_not_learn(numbers(slope, noise)) is failed


def sentences(gain, words=6, n=80):
    """Sentences of which the last words are names; a `gain` share of the sentences has them right, else all is O."""
    label = np.tile([2, 2, 2, 2, 0, 1][:words], n)
    example = np.repeat(np.arange(n), words)
    prediction = np.where(example < gain * n, label, 2)
    return Predicted("token_classification", ("B-X", "I-X", "O"), label, prediction, example=example)


@pytest.mark.parametrize(("gain", "failed"), [(0, True), (0.03, True), (0.1, False), (1, False)])
def test_words_are_learned_if_fewer_are_wrong_than_with_the_most_frequent_label(gain, failed):
    """Two standard errors over sentences: 3 of 80 may be chance, by words they would be 6 of 480 and count."""
    assert did_not_learn(sentences(gain)) is failed


def blocks(gain, n=50):
    rng = np.random.default_rng(1)
    baseline = rng.normal(6, 0.2, n)
    tokens = rng.integers(20, 60, n)
    return Predicted("causal_lm", tokens=tokens, loss=baseline - gain + rng.normal(0, 0.1, n), baseline=baseline)


@pytest.mark.parametrize(("gain", "failed"), [(-1, True), (0, True), (0.1, False), (2, False)])
def test_texts_are_learned_if_the_loss_is_below_that_of_single_tokens(gain, failed):
    assert did_not_learn(blocks(gain)) is failed


def test_the_standard_error_is_that_of_the_mean_of_the_gains():
    """With one unit per example it is sd / √n: a mean gain of 2.1 of them is learned, one of 1.9 is not."""
    gains = np.tile([-1.0, 1.0], 50)
    error = gains.std(ddof=1) / math.sqrt(len(gains))
    for times, failed in ((1.9, True), (2.1, False)):
        baseline = gains + times * error
        p = Predicted("causal_lm", tokens=np.ones(100), loss=np.zeros(100), baseline=baseline)
        assert did_not_learn(p) is failed


def test_the_guess_of_each_kind():
    labels = [0] * 60 + [1] * 30 + [2] * 10
    guess = Chance(classes(labels, labels))
    assert guess.loss == pytest.approx(math.log(3)) and guess.of(METRICS["accuracy"]) == 0.6
    assert guess.of(METRICS["f1_macro"]) == pytest.approx(0.75 / 3) and guess.of(METRICS["matthews"]) == 0
    assert guess.of(METRICS["brier"]) == pytest.approx(2 / 3) and math.isnan(guess.of(METRICS["ece"]))
    assert math.isnan(guess.of(METRICS["mse"]))  # of another kind of task
    of_numbers = Chance(numbers(1, 0))
    variance = np.var(of_numbers.predicted.label)
    assert of_numbers.loss == pytest.approx(variance) == of_numbers.of(METRICS["mse"])
    assert of_numbers.of(METRICS["spearman"]) == 0
    of_words = Chance(sentences(1))
    assert of_words.of(METRICS["accuracy"]) == pytest.approx(4 / 6) and of_words.of(METRICS["entity_f1"]) == 0
    of_texts = Chance(blocks(1))
    assert of_texts.of(METRICS["perplexity"]) == pytest.approx(math.exp(of_texts.loss)) and of_texts.loss > 5
    with pytest.raises(NotMeasurable):
        Chance(classes([], []))
