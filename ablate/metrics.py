"""Metrics: numbers that say how well a model's predictions match the labels of a split.

METRICS is the one list of them. The trainer computes the task's primary metric at each evaluation; `analysis` computes
any of them again from the kept predictions, so that a metric can be judged without running anything again.

scikit-learn computes what it has, nervaluate the entities. Nothing here needs torch.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ablate.config.checks import check_extra, import_extra, refusal
from ablate.config.wording import nearest

Floats = NDArray[np.float64]

CALIBRATION_BINS = 15
"""Bins of equal width of the calibration error, as in Guo et al. 2017 (arXiv 1706.04599)."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """The predictions for a split: U units (examples, words, or blocks of text) of N examples.

    kind            the kind of task, a key of `ablate.schema.PREDICTIONS`
    labels          names of the K classes; empty without classes
    label           the true values, (U,): class numbers or numbers; empty for causal_lm
    prediction      the predicted ones, (U,)
    probability     that of the predicted class, (U,); None if there are no classes
    probabilities   those of all classes, (U, K); None if not recorded: with two classes `probability` is enough
    example         the example of each unit, (U,)
    tokens          of causal_lm: number of predicted tokens, (U,)
    loss, baseline  of causal_lm: their mean loss in nats by the model and by frequencies of single tokens, (U,)
    """

    kind: str
    labels: Sequence[str] = ()
    label: NDArray = field(default_factory=lambda: np.empty(0))
    prediction: NDArray = field(default_factory=lambda: np.empty(0))
    probability: NDArray | None = None
    probabilities: NDArray | None = None
    example: NDArray | None = None
    tokens: NDArray | None = None
    loss: NDArray | None = None
    baseline: NDArray | None = None

    @property
    def classes(self) -> int:
        return len(self.labels) or int(max(self.label.max(), self.prediction.max())) + 1

    def __len__(self) -> int:
        return len(self.label if self.loss is None else self.loss)

    @cached_property
    def examples(self) -> tuple[NDArray, NDArray]:
        """The N examples in increasing order, and the place of each unit's example among them, (U,)."""
        if self.example is None:
            return np.arange(len(self)), np.arange(len(self))
        return np.unique(self.example, return_inverse=True)

    def of_units(self, chosen: NDArray) -> "Predicted":
        """The predictions for the chosen units, (U,) bool."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {
            name: value[chosen] for name, value in columns.items() if isinstance(value, np.ndarray) and len(value)
        }
        return replace(self, **arrays)

    def all_probabilities(self) -> Floats:
        """The probabilities of all classes, (U, K). Raises Unmeasurable if they are not recorded."""
        if self.probabilities is not None:
            return self.probabilities.astype(float)
        if self.classes > 2 or self.probability is None:
            raise Unmeasurable("the probabilities of all classes are not recorded")
        first = np.where(self.prediction == 0, self.probability, 1 - self.probability)
        return np.column_stack([first, 1 - first]).astype(float)


class Unmeasurable(ValueError):
    """A metric has no value for some predictions; the message says why."""


@dataclass(frozen=True)
class Metric:
    """A number computed from predictions.

    name        its key in configs and claims; the quantities are called test_<name> and validation_<name>
    words       its name in a sentence
    kinds       the kinds of task that have it
    value       its value for some predictions. Raises Unmeasurable
    chance      its value for a guess that ignores the text: the majority class, uniform probabilities, the mean; None
                if there is no such value
    scale       the usual scale of its differences: points (shares, shown in per cent), raw, or log (ratios)
    higher_is_better, unit
    scores      of a mean over units: their scores, (U,). Raises Unmeasurable
    counts      of a function `of_counts` of sums over examples: what each example adds to the sums, (N, sums)
    module      of the extra `metrics`, which computes it
    """

    name: str
    words: str
    kinds: tuple[str, ...]
    value: Callable[[Predicted], float]
    chance: Callable[[Predicted], float] | None
    scale: str = "points"
    higher_is_better: bool = True
    unit: str = ""
    scores: Callable[[Predicted], Floats] | None = None
    counts: Callable[[Predicted], Floats] | None = None
    of_counts: Callable[[Floats], float] | None = None
    module: str | None = None


def mean(scores: Callable[[Predicted], Floats]) -> Callable[[Predicted], float]:
    """The metric that is the mean of these scores over the units."""

    def value(p: Predicted) -> float:
        return float(scores(p).mean())

    value.__doc__ = f"The mean of: {scores.__doc__}"
    return value


SCIKIT_LEARN, NERVALUATE = "sklearn.metrics", "nervaluate"


def scikit_learn() -> ModuleType:
    """Return scikit-learn's metrics. Raises ValueError if the extra is not installed."""
    return import_extra(SCIKIT_LEARN, "metrics")


# --- Classes ---


def right(p: Predicted) -> Floats:
    """Whether the class of each unit is predicted right, 1 or 0, (U,)."""
    return (p.label == p.prediction).astype(float)


def balanced_accuracy(p: Predicted) -> float:
    """Mean over the classes that occur of the share of their units that are predicted right."""
    score = scikit_learn().recall_score
    return float(score(p.label, p.prediction, labels=np.unique(p.label), average="macro", zero_division=0))


def f1_macro(p: Predicted) -> float:
    """Mean over the classes that occur in labels or predictions of their F1 = 2PR / (P + R)."""
    return float(scikit_learn().f1_score(p.label, p.prediction, average="macro", zero_division=0))


def f1_micro(p: Predicted) -> float:
    """2PR / (P + R) of all classes together: the accuracy, where each unit has one class."""
    return float(scikit_learn().f1_score(p.label, p.prediction, average="micro", zero_division=0))


def matthews(p: Predicted) -> float:
    """Matthews correlation, from -1 to 1; 0 where all predictions or all labels are equal."""
    return float(scikit_learn().matthews_corrcoef(p.label, p.prediction))


def label_losses(p: Predicted) -> Floats:
    """-ln of the label's probability in nats, (U,); probabilities of 0 count as the smallest float32."""
    found = p.all_probabilities()[np.arange(len(p.label)), p.label.astype(int)]
    return -np.log(np.maximum(found, np.finfo(np.float32).tiny))


def brier_scores(p: Predicted) -> Floats:
    """Σ_k (p_k − y_k)², from 0 to 2 (Brier 1950), (U,): with two classes twice (p_1 − y_1)²."""
    found = p.all_probabilities()
    return np.square(found - np.eye(found.shape[1])[p.label.astype(int)]).sum(axis=1)


def calibration_error(p: Predicted) -> float:
    """Expected calibration error: mean over units of |accuracy − confidence| of their bin of confidence.

    Confidence is the probability of the predicted class; the bins are those of `bin_of` (Guo et al. 2017).
    """
    if p.probability is None:
        raise Unmeasurable("no probabilities are recorded")
    gap = np.bincount(
        bin_of(p), weights=(p.label == p.prediction) - p.probability.astype(float), minlength=CALIBRATION_BINS
    )
    return float(np.abs(gap).sum() / len(p.label))


def bin_of(p: Predicted) -> NDArray[np.int64]:
    """The bin of each unit's confidence, 0 to CALIBRATION_BINS - 1, (U,); bins are closed on the right."""
    return np.clip(np.ceil(p.probability.astype(float) * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)


def auroc(p: Predicted) -> float:
    """Area under the ROC curve; with more than two classes the mean over the classes, each against the rest."""
    found = p.all_probabilities()
    if len(np.unique(p.label)) < found.shape[1]:
        raise Unmeasurable("a class has no unit in the split")
    score = scikit_learn().roc_auc_score
    if found.shape[1] == 2:
        return float(score(p.label, found[:, 1]))
    return float(score(p.label, found / found.sum(axis=1, keepdims=True), multi_class="ovr", average="macro"))


# --- Numbers ---


def squared_errors(p: Predicted) -> Floats:
    """In squared units of the label, (U,)."""
    return np.square(p.prediction - p.label)


def absolute_errors(p: Predicted) -> Floats:
    """In units of the label, (U,)."""
    return np.abs(p.prediction - p.label)


def pearson(p: Predicted) -> float:
    """Pearson's correlation of labels and predictions; 0 where all predictions are equal: they carry no information."""
    from scipy.stats import pearsonr

    return float(pearsonr(p.label, p.prediction).statistic) if predictions_vary(p) else 0.0


def spearman(p: Predicted) -> float:
    """Spearman's rank correlation, ties sharing their mean rank; 0 where all predictions are equal."""
    from scipy.stats import spearmanr

    return float(spearmanr(p.label, p.prediction).statistic) if predictions_vary(p) else 0.0


def predictions_vary(p: Predicted) -> bool:
    """Whether the predictions differ by more than rounding. Raises Unmeasurable where all labels are equal."""
    if np.ptp(p.label) == 0:
        raise Unmeasurable("all labels are equal")
    return bool(np.ptp(p.prediction) > 1e-7 * max(1.0, float(np.abs(p.prediction).max())))


# --- Words ---


def entity_f1(p: Predicted) -> float:
    """F1 of entities: a predicted one is right if its first word, last word and type are (Tjong Kim Sang 2003).

    Labels are O, B-<type> and I-<type>; an I- after a word of another type begins an entity. Of the schemes BIOES and
    BILOU, S- and U- count as B-, E- and L- as I-. 0 where there is neither an entity nor a prediction of one. Raises
    Unmeasurable where no label names a type of entity.
    """
    return f1_of_counts(entity_counts(p).sum(axis=0))


def f1_of_counts(counts: Floats) -> float:
    """2PR / (P + R) of the numbers of right, labelled and predicted entities; 0 without any.

    >>> f1_of_counts(np.array([1, 2, 2])), f1_of_counts(np.zeros(3))
    (0.5, 0.0)
    """
    right, labelled, predicted = counts
    return float(2 * right / (labelled + predicted)) if labelled + predicted else 0.0


def entity_counts(p: Predicted, of_type: str | None = None) -> Floats:
    """The numbers of right, labelled and predicted entities of each example, (N, 3): all, or those of one type."""
    if not entity_types(p.labels):
        raise Unmeasurable(f"no label names an entity, such as B-LOC: {', '.join(p.labels) or 'there are none'}")
    found = zip(entities(p, p.label, of_type), entities(p, p.prediction, of_type), strict=True)
    return np.array([(len(true & guessed), len(true), len(guessed)) for true, guessed in found], dtype=float)


def entities(p: Predicted, values: NDArray, of_type: str | None) -> list[set[tuple[str, int, int]]]:
    """Type, first and last word of the entities of each example, as nervaluate finds them."""
    find = import_extra(NERVALUATE, "metrics").collect_named_entities
    found = []
    for words in sentences(p, values):
        spans = [(span["label"], span["start"], span["end"]) for span in find(words)]
        found.append({span for span in spans if of_type in (None, span[0])})
    return found


ENTITY = re.compile("([BISUEL])-(.+)", re.DOTALL)
"""The label of a word in an entity."""


def entity_types(labels: Sequence[str]) -> list[str]:
    """The types of entities that labels name.

    >>> entity_types(["B-LOC", "I-LOC", "O", "NOUN"])
    ['LOC']
    """
    return sorted({found[2] for found in map(ENTITY.fullmatch, labels) if found})


def in_iob(label: str) -> str:
    """The label of a word as O, B-<type> or I-<type>.

    >>> [in_iob(label) for label in ("S-LOC", "E-LOC", "I-LOC", "NOUN")]
    ['B-LOC', 'I-LOC', 'I-LOC', 'O']
    """
    found = ENTITY.fullmatch(label)
    return f"{'B' if found[1] in 'BSU' else 'I'}-{found[2]}" if found else "O"


def sentences(p: Predicted, values: NDArray) -> list[list[str]]:
    """The names of labels or predictions (U,) as `in_iob`, one list per example; units are in order of examples."""
    names = np.array([in_iob(label) for label in p.labels], dtype=object)[values.astype(int)]
    ends = np.flatnonzero(np.diff(p.examples[1])) + 1
    return [part.tolist() for part in np.split(names, ends)]


# --- Texts ---


def perplexity(p: Predicted) -> float:
    """exp of the mean loss per token in nats; infinity is no value."""
    if p.loss is None or p.tokens is None:
        raise Unmeasurable("no losses are recorded")
    with np.errstate(over="ignore"):
        found = float(np.exp(np.average(p.loss, weights=p.tokens)))
    if not np.isfinite(found):
        raise Unmeasurable("the loss is too large for its exponential")
    return found


# --- Values of a guess that ignores the text ---


def constant(value: Callable[[Predicted], float]) -> Callable[[Predicted], float]:
    """The metric of a guess of the most frequent class."""

    def chance(p: Predicted) -> float:
        classes, counts = np.unique(p.label, return_counts=True)
        return value(replace(p, prediction=np.full_like(p.label, classes[counts.argmax()])))

    return chance


def zero(p: Predicted) -> float:
    return 0.0


def half(p: Predicted) -> float:
    return 0.5


def unigrams(p: Predicted) -> float:
    """The perplexity under the frequencies of single tokens in the training split."""
    if p.baseline is None or p.tokens is None:
        raise Unmeasurable("no losses are recorded")
    return float(np.exp(np.average(p.baseline, weights=p.tokens)))


CLASSES = ("classification", "token_classification")
NUMBERS = ("regression",)

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy", CLASSES, mean(right), constant(mean(right)), scores=right),
        Metric("balanced_accuracy", "balanced accuracy", CLASSES, balanced_accuracy, constant(balanced_accuracy),
               module=SCIKIT_LEARN),
        Metric("f1_macro", "macro F1", CLASSES, f1_macro, constant(f1_macro), module=SCIKIT_LEARN),
        Metric("f1_micro", "micro F1", CLASSES, f1_micro, constant(f1_micro), scores=right,
               module=SCIKIT_LEARN),
        Metric("matthews", "Matthews correlation", CLASSES, matthews, zero, "raw",
               module=SCIKIT_LEARN),
        Metric("log_loss", "log loss", ("classification",), mean(label_losses), lambda p: float(np.log(p.classes)),
               "log", False, "nats", label_losses),
        Metric("brier", "Brier score", ("classification",), mean(brier_scores), lambda p: 1 - 1 / p.classes, "raw",
               False, scores=brier_scores),
        Metric("ece", "expected calibration error", CLASSES, calibration_error, None, "points", False),
        Metric("auroc", "area under the ROC curve", ("classification",), auroc, half, "raw",
               module=SCIKIT_LEARN),
        Metric("entity_f1", "entity F1", ("token_classification",), entity_f1, zero, counts=entity_counts,
               of_counts=f1_of_counts, module=NERVALUATE),
        Metric("mse", "mean squared error", NUMBERS, mean(squared_errors), lambda p: float(np.var(p.label)), "log",
               False, "squared units", squared_errors),
        Metric("mae", "mean absolute error", NUMBERS, mean(absolute_errors),
               lambda p: float(np.abs(p.label - np.median(p.label)).mean()), "log", False, "units", absolute_errors),
        Metric("pearson", "Pearson correlation", NUMBERS, pearson, zero, "raw"),
        Metric("spearman", "Spearman correlation", NUMBERS, spearman, zero, "raw"),
        Metric("perplexity", "perplexity", ("causal_lm",), perplexity, unigrams, "log", False),
    )
}  # fmt: skip
"""Name -> metric, in the order in which tables show them."""

MOST_SHOWN = 6
"""Labels that a message lists."""

PRIMARY = "accuracy"
"""The primary metric of runs that name none."""


def metric_names(kind: str) -> list[str]:
    """The names of the metrics that a kind of task has."""
    return [metric.name for metric in METRICS.values() if kind in metric.kinds]


def check_metric(key: str, name: str, kind: str) -> None:
    """Raise ValueError unless a kind of task has a metric of this name, and what computes it is installed."""
    known = metric_names(kind)
    if name not in known:
        allowed = f"a metric of {kind} ({', '.join(known)})"
        raise ValueError(f"{refusal(key, name, allowed)}; {nearest(name, known)}")
    if module := METRICS[name].module:
        check_extra(module.partition(".")[0], "metrics")


def check_entities(key: str, name: str, labels: Sequence[str]) -> None:
    """Raise ValueError if a metric of entities is to be computed, and no label names one."""
    if METRICS[name].value is not entity_f1 or entity_types(labels):
        return
    fitting = [metric for metric in metric_names("token_classification") if metric != name]
    shown = ", ".join(labels[:MOST_SHOWN]) + (", ..." if len(labels) > MOST_SHOWN else "")
    what = f"a metric that these labels have ({', '.join(fitting)})"
    raise ValueError(f"{refusal(key, name, what)}: no label names an entity, as B-LOC does; the labels are {shown}")
