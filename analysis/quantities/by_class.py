"""Predictions class by class, of the finished runs of some arms: confusions, calibration, precision and recall."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from ablate.metrics import CALIBRATION_BINS, PRIMARY, Predicted, bin_of, entity_counts, entity_types
from analysis.quantities.outcomes import outcomes
from analysis.quantities.registry import primary_quantity
from analysis.quantities.run_records import RunRecords
from analysis.records.study import Study

WITH_CLASSES = ("classification", "token_classification")
"""Kinds of task whose units have classes."""


def shows_classes(study: Study) -> bool:
    """Whether a report shows single classes: words have some, and examples where they say more than the accuracy.

    The accuracy of two classes says enough for a study that is judged by it.
    """
    if study.kind == "classification":
        return study.primary != PRIMARY or len(label_names(study)) > 2
    return study.kind in WITH_CLASSES


def label_names(study: Study) -> tuple[str, ...]:
    """The names of the classes, as the first run that names them does; () where none does."""
    found = (labels for labels in study.runs["labels"] if isinstance(labels, (tuple, list)))
    return tuple(map(str, next(found, ())))


def furthest_arms(study: Study, arms: Sequence[str], most: int) -> list[str]:
    """The first arm and those whose mean primary metric differs most from it, `most` in all; in the order of `arms`.

    A diverged run has the value of a guess; arms without a value come last.
    """
    if len(arms) <= most:
        return list(arms)
    first, *others = arms
    quantity = primary_quantity(study.primary)
    values = outcomes(study, [quantity.name]).values[quantity.name]
    means = values.groupby(study.runs.set_index("run")["arm"]).mean().reindex(arms)
    distance = (means[others] - means[first]).abs().sort_values(ascending=False, kind="stable")
    chosen = {first, *distance.index[: most - 1]}
    return [arm for arm in arms if arm in chosen]


def predictions_of(study: Study, arms: Iterable[str]) -> Iterator[tuple[str, int, Predicted]]:
    """Arm, seed and test predictions of each finished run of these arms that recorded any."""
    arms = set(arms)
    for entries in study.rows.values():
        finished = entries["status"] == "done"
        if finished and entries["arm"] in arms and len(p := RunRecords(study, entries).predicted):
            yield entries["arm"], entries["seed"], p


def confusions(study: Study, arms: Iterable[str]) -> pd.DataFrame:
    """arm, label, prediction (names), n (units of all seeds), share (of the label's units, in per cent), seeds."""
    tables: dict[str, list[np.ndarray]] = {}
    labels: dict[str, Sequence[str]] = {}  # arms on other data have other classes
    for arm, _, p in predictions_of(study, arms):
        table = np.zeros((p.classes, p.classes), int)
        np.add.at(table, (p.label.astype(int), p.prediction.astype(int)), 1)
        tables.setdefault(arm, []).append(table)
        labels[arm] = p.labels
    rows = []
    for arm, found in tables.items():
        size = max(len(table) for table in found)
        names = labels[arm] or [str(i) for i in range(size)]
        total = sum(np.pad(table, (0, size - len(table))) for table in found)
        with np.errstate(invalid="ignore"):
            share = 100 * total / total.sum(axis=1, keepdims=True)
        cells = ((i, j) for i in range(size) for j in range(size))
        rows += [(arm, names[i], names[j], total[i, j], share[i, j], len(found)) for i, j in cells]
    return pd.DataFrame(rows, columns=["arm", "label", "prediction", "n", "share", "seeds"])


def calibrations(study: Study, arms: Iterable[str]) -> pd.DataFrame:
    """arm, seed, bin, confidence and right (means of the bin's units, in per cent), units (share in per cent).

    Bins are those of the expected calibration error; those without a unit have no row.
    """
    rows = []
    for arm, seed, p in predictions_of(study, arms):
        if p.probability is None:
            continue
        place, right = bin_of(p), p.label == p.prediction
        for k in range(CALIBRATION_BINS):
            if (chosen := place == k).any():
                means = 100 * p.probability[chosen].astype(float).mean(), 100 * right[chosen].mean()
                rows.append((arm, seed, k + 1, *means, 100 * chosen.mean()))
    return pd.DataFrame(rows, columns=["arm", "seed", "bin", "confidence", "right", "units"])


def pairs_of_numbers(study: Study, arms: Iterable[str]) -> pd.DataFrame:
    """arm, example, label, prediction (mean over seeds), seeds: of a regression."""
    frames = [
        pd.DataFrame({"arm": arm, "example": p.examples[0], "label": p.label, "prediction": p.prediction})
        for arm, _, p in predictions_of(study, arms)
    ]
    if not frames:
        return pd.DataFrame(columns=["arm", "example", "label", "prediction", "seeds"])
    grouped = pd.concat(frames).groupby(["arm", "example"], sort=False)
    found = grouped.agg(label=("label", "first"), prediction=("prediction", "mean"), seeds=("label", "size"))
    return found.reset_index()


def scores_by_class(study: Study, arms: Iterable[str]) -> pd.DataFrame:
    """arm, seed, class, n, precision, recall, f1 (shares; NaN where they divide by 0): of classes or types of entities.

    n is the number of units, or of entities, with that label. A class that is neither in labels nor in predictions
    has no row.
    """
    rows = []
    for arm, seed, p in predictions_of(study, arms):
        for name, right, labelled, predicted in counts_by_class(p):
            if labelled or predicted:
                precision, recall = ratio(right, predicted), ratio(right, labelled)
                f1 = ratio(2 * right, labelled + predicted)
                rows.append((arm, seed, name, int(labelled), precision, recall, f1))
    return pd.DataFrame(rows, columns=["arm", "seed", "class", "n", "precision", "recall", "f1"])


def counts_by_class(p: Predicted) -> Iterator[tuple[str, float, float, float]]:
    """Name, and numbers of right, labelled and predicted units or entities."""
    if p.kind == "token_classification" and (types := entity_types(p.labels)):
        for name in types:
            yield name, *entity_counts(p, name).sum(axis=0)
        return
    for k in range(p.classes):
        name = p.labels[k] if p.labels else str(k)
        labelled, predicted = p.label == k, p.prediction == k
        yield name, (labelled & predicted).sum(), labelled.sum(), predicted.sum()


def ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
