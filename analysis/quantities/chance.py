"""A guess that ignores the text: what it scores in each kind of task, and which runs learned more than it knows.

The guess is the most frequent class of the test labels, their mean, or the frequencies of single tokens. A run that
does no better did not learn; a run that diverged is scored as the guess.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ablate.metrics import METRICS, Floats, Metric, Predicted, Unmeasurable
from ablate.schema import TASKS
from analysis.quantities.formulas import NotMeasurable


@dataclass(frozen=True)
class TaskKind:
    """What a kind of task has of its own.

    guess          the guess in words
    loss_of_guess  its loss: ln k nats for k classes, the variance of the labels, the loss of the token frequencies
    failed         whether predictions are no better than the guess by two standard errors
    loss_unit      the unit of losses
    """

    guess: str
    loss_of_guess: Callable[[Predicted], float]
    failed: Callable[[Predicted], bool]
    loss_unit: str = "nats"


# --- Whether a run learned ---


def fails_on_classes(p: Predicted) -> bool:
    """Whether the accuracy a on n examples is within two standard errors of the majority class, or below.

    a ≤ m + 2 √(m (1 − m) / n), where m is the share of that class. Mosbach et al. 2021 (2006.04884) call such a run
    failed.
    """
    share = majority(p)
    return bool(METRICS["accuracy"].value(p) <= share + 2 * math.sqrt(share * (1 - share) / len(p)))


def fails_on_numbers(p: Predicted) -> bool:
    """Whether the squared error is not below that of the mean label by two standard errors of their difference."""
    return no_gain(np.square(p.label - p.label.mean()) - np.square(p.label - p.prediction), p)


def fails_on_words(p: Predicted) -> bool:
    """Whether no fewer words are wrong than with the most frequent label, by two standard errors over sentences."""
    classes, counts = np.unique(p.label, return_counts=True)
    return no_gain((p.label != classes[counts.argmax()]).astype(float) - (p.label != p.prediction), p)


def fails_on_tokens(p: Predicted) -> bool:
    """Whether the loss per token is not below `baseline` by two standard errors over blocks."""
    return no_gain(p.tokens * (p.baseline - p.loss), p, p.tokens)


def no_gain(gains: Floats, p: Predicted, units: Floats | None = None) -> bool:
    """Whether the mean gain per unit is within two standard errors of 0, or below; gains are (U,).

    The standard error is that of a ratio over examples, whose sums of gains and numbers of units both vary
    (Cochran 1977, Sampling Techniques, section 6.4).
    """
    examples, place = p.examples
    total, size = np.bincount(place, gains), np.bincount(place, units)
    mean, n = total.sum() / size.sum(), len(examples)
    if n < 2:
        return bool(mean <= 0)
    error = math.sqrt(n / (n - 1) * np.square(total - mean * size).sum()) / size.sum()
    return bool(mean <= 2 * error)


def majority(p: Predicted) -> float:
    """Share, 0 to 1, of the most frequent class among the labels."""
    return float(np.unique(p.label, return_counts=True)[1].max() / len(p))


def did_not_learn(p: Predicted) -> bool:
    """Whether a run's test predictions are no better than the guess of its kind of task."""
    if not len(p):
        raise NotMeasurable("predictions: none recorded")
    return TASK_KINDS[p.kind].failed(p)


# --- The guess ---


def uniform_loss(p: Predicted) -> float:
    """ln k nats for the k classes of the labels."""
    return math.log(len(np.unique(p.label)))


TASK_KINDS: dict[str, TaskKind] = {
    "classification": TaskKind("the majority class", uniform_loss, fails_on_classes),
    "regression": TaskKind(
        "the mean of the labels", lambda p: float(np.var(p.label)), fails_on_numbers, "squared units"
    ),
    "token_classification": TaskKind("the most frequent label", uniform_loss, fails_on_words),
    "causal_lm": TaskKind(
        "the frequencies of single tokens",
        lambda p: float(np.average(p.baseline, weights=p.tokens)),
        fails_on_tokens,
    ),
}
"""TaskKind of task -> what it has of its own."""

assert tuple(TASK_KINDS) == TASKS


@dataclass(frozen=True, eq=False)
class Chance:
    """The guess for the labels of `predicted`, the test predictions of any finished run on the same data."""

    predicted: Predicted

    def __post_init__(self) -> None:
        if not len(self.predicted):
            raise NotMeasurable("predictions: none recorded")

    @property
    def loss(self) -> float:
        return TASK_KINDS[self.predicted.kind].loss_of_guess(self.predicted)

    def of(self, metric: Metric) -> float:
        """The value of a metric; NaN where a guess has none."""
        if metric.chance is None or self.predicted.kind not in metric.kinds:
            return math.nan
        try:
            return metric.chance(self.predicted)
        except Unmeasurable:
            return math.nan
