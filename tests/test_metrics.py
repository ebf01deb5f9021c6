"""Each metric against scikit-learn, scipy and seqeval 1.2.2; ties, absent classes, constant predictions."""

import math
import sys
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from ablate.metrics import METRICS, Predicted, Unmeasurable, check_metric, entity_counts, entity_types
from ablate.schema import TASKS


def classes(label, prediction, probabilities=None, labels=()) -> Predicted:
    label, prediction = np.asarray(label), np.asarray(prediction)
    probability = None if probabilities is None else probabilities.max(axis=1)
    return Predicted("classification", labels, label, prediction, probability, probabilities)


def drawn(k: int, n: int = 200, seed: int = 0) -> Predicted:
    """Predictions of k classes, the first of which is twice as frequent as the others."""
    rng = np.random.default_rng(seed)
    label = rng.choice([0, *range(k)], n)
    logits = rng.normal(size=(n, k)) + 1.5 * np.eye(k)[label]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return classes(label, probabilities.argmax(axis=1), probabilities)


REFERENCES = {
    "accuracy": lambda p: reference.accuracy_score(p.label, p.prediction),
    "balanced_accuracy": lambda p: reference.balanced_accuracy_score(p.label, p.prediction),
    "f1_macro": lambda p: reference.f1_score(p.label, p.prediction, average="macro"),
    "f1_micro": lambda p: reference.f1_score(p.label, p.prediction, average="micro"),
    "matthews": lambda p: reference.matthews_corrcoef(p.label, p.prediction),
    "log_loss": lambda p: reference.log_loss(p.label, p.probabilities),
    "brier": lambda p: np.square(p.probabilities - np.eye(p.probabilities.shape[1])[p.label]).sum(axis=1).mean(),
    "auroc": lambda p: (
        reference.roc_auc_score(p.label, p.probabilities, multi_class="ovr")
        if p.probabilities.shape[1] > 2
        else reference.roc_auc_score(p.label, p.probabilities[:, 1])
    ),
}


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("name", REFERENCES)
def test_metrics_of_classes(name, k):
    p = drawn(k)
    assert METRICS[name].value(p) == pytest.approx(REFERENCES[name](p), abs=1e-12)
    assert METRICS[name].value(drawn(k, seed=1)) != pytest.approx(REFERENCES[name](p), abs=1e-6)  # the control


def test_every_metric_of_classes_has_a_reference():
    known = {name for name, metric in METRICS.items() if "classification" in metric.kinds}
    assert known == {*REFERENCES, "ece"}


def test_of_two_classes_the_probability_of_the_prediction_is_enough():
    p = drawn(2)
    recorded = Predicted("classification", (), p.label, p.prediction, p.probability.astype(np.float32))
    for name in ("log_loss", "brier", "auroc", "ece"):
        assert METRICS[name].value(recorded) == pytest.approx(METRICS[name].value(p), abs=1e-6)
    three = drawn(3)
    lacking = Predicted("classification", (), three.label, three.prediction, three.probability)
    for name in ("log_loss", "brier", "auroc"):
        with pytest.raises(Unmeasurable, match="probabilities of all classes"):
            METRICS[name].value(lacking)


def test_calibration_error_by_hand():
    """Bins of 1/15: confidences .52 and .53 are in one, of which half is right; .9 is in another, always right."""
    probability = np.array([0.52, 0.53, 0.9, 0.9])
    p = Predicted("classification", (), np.array([1, 1, 0, 1]), np.array([1, 0, 0, 1]), probability)
    assert METRICS["ece"].value(p) == pytest.approx((abs(1 - 1.05) + abs(2 - 1.8)) / 4)
    sure = Predicted("classification", (), np.array([0, 1]), np.array([0, 1]), np.ones(2))
    assert METRICS["ece"].value(sure) == 0  # a probability of 1 is in the last bin
    assert METRICS["ece"].value(drawn(4)) == pytest.approx(binned(drawn(4)))


def binned(p: Predicted) -> float:
    """The definition of Guo et al. 2017, bin by bin."""
    total = 0.0
    for low in np.arange(15) / 15:
        inside = (p.probability > low) & (p.probability <= low + 1 / 15)
        if inside.any():
            right = (p.label[inside] == p.prediction[inside]).mean()
            total += inside.mean() * abs(right - p.probability[inside].mean())
    return total


def test_constant_predictions_and_absent_classes():
    """scikit-learn's values, without its warnings."""
    label, constant = np.array([0, 0, 0, 1, 1]), np.zeros(5, int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p = classes(label, constant, labels=("a", "b", "c"))  # class c is in neither
        assert METRICS["matthews"].value(p) == 0
        assert METRICS["f1_macro"].value(p) == pytest.approx(0.75 / 2)
        assert METRICS["balanced_accuracy"].value(p) == 0.5
        only = classes(np.zeros(4, int), np.array([0, 0, 0, 1]))  # a class that only predictions have
        assert METRICS["balanced_accuracy"].value(only) == 0.75
        assert METRICS["f1_macro"].value(only) == pytest.approx(6 / 7 / 2)
    with pytest.raises(Unmeasurable, match="a class has no unit"):
        METRICS["auroc"].value(classes(np.zeros(4, int), np.zeros(4, int), np.full((4, 2), 0.5)))


def test_ties_count_half():
    label = np.array([0, 1, 0, 1])
    assert METRICS["auroc"].value(classes(label, np.zeros(4, int), np.full((4, 2), 0.5))) == 0.5
    tied = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.1, 0.9]])
    expected = reference.roc_auc_score(label, tied[:, 1])
    assert METRICS["auroc"].value(classes(label, tied.argmax(axis=1), tied)) == expected == 0.875


def numbers(label, prediction) -> Predicted:
    return Predicted("regression", (), np.asarray(label, float), np.asarray(prediction, float))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mse", lambda y, q: reference.mean_squared_error(y, q)),
        ("mae", lambda y, q: reference.mean_absolute_error(y, q)),
        ("pearson", lambda y, q: stats.pearsonr(y, q).statistic),
        ("spearman", lambda y, q: stats.spearmanr(y, q).statistic),
    ],
)
def test_metrics_of_numbers(name, expected):
    """With ties: labels are in steps of a half."""
    rng = np.random.default_rng(0)
    label = np.round(2 * rng.uniform(0, 5, 100)) / 2
    prediction = label + rng.normal(0, 1, 100).round(1)
    assert METRICS[name].value(numbers(label, prediction)) == pytest.approx(expected(label, prediction), abs=1e-12)


def test_correlations_of_constants():
    for name in ("pearson", "spearman"):
        assert METRICS[name].value(numbers([1, 2, 3], [2, 2, 2])) == 0
        assert METRICS[name].value(numbers([1, 2, 3], [2 + 1e-9, 2, 2 - 1e-9])) == 0  # equal but for rounding
        with pytest.raises(Unmeasurable, match="all labels are equal"):
            METRICS[name].value(numbers([1, 1, 1], [1, 2, 3]))


# --- Entities ---

NAMES = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")


def words(label: list[list[str]], prediction: list[list[str]], names=NAMES) -> Predicted:
    numbers = {name: i for i, name in enumerate(names)}
    flat = [np.array([numbers[word] for sentence in each for word in sentence]) for each in (label, prediction)]
    example = np.repeat(np.arange(len(label)), [len(sentence) for sentence in label])
    return Predicted("token_classification", names, *flat, example=example)


def drawn_words(seed: int, error: float) -> Predicted:
    rng = np.random.default_rng(seed)
    chances = [0.15, 0.15, 0.15, 0.15, 0.4]
    label = [rng.choice(NAMES, size=rng.integers(1, 9), p=chances).tolist() for _ in range(40)]
    return words(label, [[str(rng.choice(NAMES)) if rng.random() < error else w for w in s] for s in label])


@pytest.mark.parametrize(
    ("seed", "error", "f1", "of_types"),
    [  # f1_score and classification_report of seqeval 1.2.2: of LOC and PER precision, recall and support
        (0, 0.3, 0.7549019608, ((0.7192982456, 0.8039215686, 51), (0.7058823529, 0.8, 45))),
        (1, 0.1, 0.8645833333, ((0.829787234, 0.975, 40), (0.8461538462, 0.8301886792, 53))),
        (2, 0.8, 0.3056768559, ((0.3235294118, 0.431372549, 51), (0.2321428571, 0.2407407407, 54))),
    ],
)
def test_entities_as_seqeval_counts_them(seed, error, f1, of_types):
    p = drawn_words(seed, error)
    assert METRICS["entity_f1"].value(p) == pytest.approx(f1, abs=1e-9)
    for name, expected in zip(entity_types(NAMES), of_types, strict=True):
        right, labelled, predicted = entity_counts(p, name).sum(axis=0)
        assert (right / predicted, right / labelled, labelled) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("label", "prediction", "f1"),
    [  # each as seqeval 1.2.2
        pytest.param("I-LOC I-LOC O", "B-LOC I-LOC O", 1, id="an I- begins an entity (IOB1)"),
        pytest.param("B-LOC I-PER O", "B-LOC B-PER O", 1, id="another type begins an entity"),
        pytest.param("B-LOC I-LOC O", "B-LOC I-PER O", 0, id="another type inside"),
        pytest.param("B-LOC B-LOC", "B-LOC I-LOC", 0, id="neighbours of one type"),
        pytest.param("B-LOC O", "O O", 0, id="nothing predicted"),
        pytest.param("O O", "B-LOC O", 0, id="nothing labelled"),
        pytest.param("O O", "O O", 0, id="neither labelled nor predicted"),
        pytest.param("O B-LOC / I-LOC O", "O B-LOC / I-LOC O", 1, id="not across sentences"),
        pytest.param("B-LOC I-LOC O B-PER", "B-LOC I-LOC O B-LOC", 0.5, id="another type at the right place"),
        pytest.param("B-LOC I-LOC I-LOC", "B-LOC I-LOC O", 0, id="part of an entity"),
        pytest.param("B-LOC O B-PER O B-PER", "B-LOC O O O O", 0.5, id="one of three"),
        pytest.param("S-LOC S-LOC O B-PER E-PER", "S-LOC O O B-PER E-PER", 0.8, id="BIOES"),
    ],
)
def test_entities_at_their_edges(label, prediction, f1):
    names = (*NAMES, "S-LOC", "E-PER")
    sentences = ([part.split() for part in each.split(" / ")] for each in (label, prediction))
    assert METRICS["entity_f1"].value(words(*sentences, names)) == f1


def test_labels_that_name_no_entity_have_no_entity_f1():
    with pytest.raises(Unmeasurable, match="no label names an entity, such as B-LOC: NOUN, VERB"):
        METRICS["entity_f1"].value(words([["NOUN"]], [["VERB"]], ("NOUN", "VERB")))


def test_words_cut_off_leave_the_entities_of_other_sentences_in_place():
    """Examples are numbered with gaps, and their words come in order."""
    p = words([["B-LOC", "I-LOC"], ["B-PER"]], [["B-LOC", "I-LOC"], ["O"]])
    gaps = Predicted(p.kind, p.labels, p.label, p.prediction, example=np.array([3, 3, 9]))
    assert entity_counts(gaps).tolist() == [[1, 1, 1], [0, 1, 0]]


# --- Texts, and what all have in common ---


def test_perplexity():
    p = Predicted("causal_lm", tokens=np.array([10, 30]), loss=np.array([2.0, 4.0]), baseline=np.array([5.0, 6.0]))
    assert METRICS["perplexity"].value(p) == pytest.approx(math.exp((10 * 2 + 30 * 4) / 40))
    assert METRICS["perplexity"].chance(p) == pytest.approx(math.exp((10 * 5 + 30 * 6) / 40))
    with pytest.raises(Unmeasurable, match="too large"):
        METRICS["perplexity"].value(Predicted("causal_lm", tokens=np.ones(1), loss=np.array([1000.0])))


def test_units_are_chosen_with_all_that_belongs_to_them():
    p = drawn_words(0, 0.3)
    some = p.of_units(p.example < 10)
    assert len(some) == (p.example < 10).sum() and some.example.max() == 9 and some.labels == p.labels
    assert entity_counts(some).tolist() == entity_counts(p)[:10].tolist()


@pytest.mark.parametrize("kind", TASKS)
def test_unknown_metrics_are_refused_with_those_of_the_kind(kind):
    for name, metric in METRICS.items():
        if kind in metric.kinds:
            check_metric("task.primary", name, kind)
        else:
            with pytest.raises(ValueError, match=f"task.primary must be a metric of {kind}"):
                check_metric("task.primary", name, kind)


@pytest.mark.parametrize("name", ["f1_macro", "entity_f1"])
def test_a_metric_of_an_extra_that_is_missing_names_the_extra(name, monkeypatch):
    check_metric("task.primary", name, "token_classification")
    monkeypatch.setitem(sys.modules, METRICS[name].module.partition(".")[0], None)
    with pytest.raises(ValueError, match=r'is needed: pip install "ablate-finetuning\[metrics\]"'):
        check_metric("task.primary", name, "token_classification")
    check_metric("task.primary", "accuracy", "token_classification")
