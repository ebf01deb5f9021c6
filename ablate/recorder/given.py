"""Predictions from the arrays that a user's own loop gives (`ablate.Recorder.evaluation`).

Arrays may be tensors on any device, numpy arrays or lists. N is the number of examples of the split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ablate.config.checks import refusal, require
from ablate.schema import UNLABELLED
from ablate.task import TokenClassification
from ablate.task.classification import MOST_CLASSES
from ablate.training.evaluation import Predictions

SUM_TOLERANCE = 1e-2
"""How far a sum of probabilities may be from 1: bf16 keeps three digits."""


@dataclass(frozen=True)
class Given:
    """What a loop gives of an evaluation.

    labels          classes or numbers (N,); of words, one row per example: lists, or an array padded with -100
    predictions     likewise
    probabilities   of all classes, (N, K), or of the predicted class, in the shape of `predictions`
    losses          mean loss of each example, (N,)
    tokens          of causal_lm: number of predicted tokens, (N,)
    """

    labels: Any = None
    predictions: Any = None
    probabilities: Any = None
    losses: Any = None
    tokens: Any = None

    def not_finite(self) -> float:
        """A prediction, probability or loss that is NaN or infinite, as a diverged model gives; 0 if there is none."""
        for values in (self.predictions, self.probabilities, self.losses):
            found = as_array("values", values) if isinstance(values, (Tensor, np.ndarray)) else np.empty(0)
            if found.dtype.kind == "f" and len(bad := found[~np.isfinite(found)]):
                return float(bad[0])
        return 0.0


def predictions_from(kind: str, names: Sequence[str], given: Given) -> Predictions:
    """The predictions of a split; losses are NaN where they are unknown. Raises ValueError for arrays that do not fit.

    kind, names: the kind of task and the names of its classes.
    """
    read = {"classification": of_classes, "regression": of_numbers, "token_classification": of_words}
    if kind == "causal_lm":
        return of_blocks(given)
    require("labels", given.labels, given.labels is not None, f"given in {kind}")
    require("tokens", given.tokens, given.tokens is None, "left out but in causal_lm")
    return read[kind](names, given)


def of_classes(names: Sequence[str], given: Given) -> Predictions:
    label = whole_numbers("labels", given.labels, names)
    p = None if given.probabilities is None else checked_probabilities(given.probabilities, len(label), len(names))
    if given.predictions is None and (p is None or p.ndim == 1):
        raise refusal("predictions", None, "given, unless there are the probabilities of all classes")
    prediction = p.argmax(1) if given.predictions is None else whole_numbers("predictions", given.predictions, names)
    check_length("predictions", prediction, len(label))
    columns = {"label": torch.from_numpy(label), "prediction": torch.from_numpy(prediction)}
    if p is not None:
        check_reach(p, label, prediction)
        columns["probability"] = torch.from_numpy(p if p.ndim == 1 else p[np.arange(len(label)), prediction]).float()
    losses = given_losses(given, len(label))
    if losses is None and p is not None and p.ndim == 2:
        losses = -np.log(np.maximum(p[np.arange(len(label)), label], np.finfo(np.float32).tiny))
    kept = torch.from_numpy(p).float() if p is not None and p.ndim == 2 and 2 < p.shape[1] <= MOST_CLASSES else None
    return Predictions("classification", columns, or_nan(losses, len(label)), torch.ones(len(label)).long(), kept)


def of_numbers(names: Sequence[str], given: Given) -> Predictions:
    label = real_numbers("labels", given.labels)
    require("probabilities", "given", given.probabilities is None, "left out in regression")
    prediction = real_numbers("predictions", given.predictions)
    check_length("predictions", prediction, len(label))
    losses = given_losses(given, len(label))
    losses = np.square(prediction - label) if losses is None else losses
    columns = {"label": torch.from_numpy(label), "prediction": torch.from_numpy(prediction)}
    return Predictions("regression", columns, torch.from_numpy(losses), torch.ones(len(label)).long())


def of_words(names: Sequence[str], given: Given) -> Predictions:
    """Words with the label -100 are none: padding, or tokens that do not begin a word."""
    rows = [as_array("labels", row) for row in given.labels]
    if given.predictions is None:
        raise refusal("predictions", None, "given in token_classification")
    guesses = same_rows("predictions", given.predictions, rows)
    labelled = [row != UNLABELLED for row in rows]
    units = torch.tensor([int(here.sum()) for here in labelled])
    columns = {"word": torch.from_numpy(np.concatenate([np.arange(int(n)) for n in units]))}
    for name, source in (("label", rows), ("prediction", guesses)):
        found = np.concatenate([row[here] for row, here in zip(source, labelled, strict=True)])
        columns[name] = torch.from_numpy(whole_numbers(f"{name}s", found, names))
    if given.probabilities is not None:
        found = same_rows("probabilities", given.probabilities, rows)
        kept = np.concatenate([row[here] for row, here in zip(found, labelled, strict=True)]).astype(float)
        columns["probability"] = torch.from_numpy(checked_probabilities(kept, len(kept), len(names))).float()
    return Predictions("token_classification", columns, or_nan(given_losses(given, len(rows)), len(rows)), units)


def of_blocks(given: Given) -> Predictions:
    """Of a language model, losses and numbers of tokens are the predictions."""
    for name in ("labels", "predictions", "probabilities"):
        require(name, "given", getattr(given, name) is None, "left out in causal_lm, which needs losses and tokens")
    for name in ("losses", "tokens"):
        require(name, None, getattr(given, name) is not None, "given in causal_lm, one number per block of text")
    losses = real_numbers("losses", given.losses)
    tokens = whole_numbers("tokens", given.tokens, ())
    check_length("tokens", tokens, len(losses))
    units = torch.from_numpy(tokens)
    return Predictions(
        "causal_lm", {"tokens": units, "loss": torch.from_numpy(losses)}, torch.from_numpy(losses), units
    )


def of_logits(kind: str, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What a `Given` has of a model's logits, per class (N, K), of numbers (N,) or (N, 1), or per word (N, L, K)."""
    if kind == "regression":
        return {"predictions": logits.float().reshape(-1)}
    if kind == "classification":
        return {"probabilities": logits.float().softmax(-1)}
    losses = TokenClassification().scored(logits.float(), labels).losses
    probability, prediction = logits.float().softmax(-1).max(-1)
    found = {"predictions": prediction, "probabilities": probability}
    return found | {"losses": losses.nan_to_num(0.0)}  # of an example without words


# --- Checks ---


def as_array(key: str, values: Any) -> NDArray:
    """Values as an array; ValueError unless they have one."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    try:
        found = np.asarray(values)
    except ValueError:  # rows of several lengths
        found = np.empty(0, dtype=object)
    if found.dtype.kind not in "iufbU" or found.ndim == 0:
        raise refusal(key, type(values).__name__, "a tensor, an array or a list of numbers, all of one length")
    return found


def whole_numbers(key: str, values: Any, names: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of classes (N,); `values` may be names of classes instead."""
    found = as_array(key, values)
    require(key, f"shape {found.shape}", found.ndim == 1 and len(found) > 0, "one entry per example")
    if found.dtype.kind == "U":
        place = {name: number for number, name in enumerate(names)}
        if unknown := sorted({*found.tolist()} - {*place}):
            raise refusal(key, unknown[0], f"among the declared labels ({', '.join(names) or 'none'})")
        return np.array([place[name] for name in found.tolist()], dtype=np.int64)
    whole = found.dtype.kind in "iub" or (np.isfinite(found).all() and (found == np.round(found)).all())
    require(key, f"{found.dtype}", bool(whole), "whole numbers: class numbers from 0, no logits")
    most = len(names) - 1 if names else np.iinfo(np.int64).max
    if len(outside := found[(found < 0) | (found > most)]):
        raise refusal(key, outside[0], f"from 0 to {most}, the number of the last of the declared labels" if names else
                      "at least 0")  # fmt: skip
    return found.astype(np.int64)


def real_numbers(key: str, values: Any) -> NDArray[np.float64]:
    require(key, values, values is not None, "given")
    found = as_array(key, values)
    fits = found.dtype.kind in "iufb" and found.ndim == 1 and len(found) > 0
    require(key, f"shape {found.shape}", fits, "one number per example")
    return found.astype(np.float64)


def given_losses(given: Given, count: int) -> NDArray[np.float64] | None:
    if given.losses is None:
        return None
    found = real_numbers("losses", given.losses)
    check_length("losses", found, count)
    return found


def or_nan(losses: NDArray[np.float64] | None, count: int) -> Tensor:
    return torch.full((count,), float("nan"), dtype=torch.float64) if losses is None else torch.from_numpy(losses)


def check_length(key: str, found: NDArray, count: int) -> None:
    require(key, len(found), len(found) == count, f"as many as the labels, {count}")


def checked_probabilities(values: Any, count: int, known: int) -> NDArray[np.float64]:
    """Probabilities of all classes (N, K) or of the predicted one (N,). `known`: number of declared labels, or 0."""
    found = as_array("probabilities", values).astype(np.float64)
    shape = found.ndim == 1 or (found.ndim == 2 and found.shape[1] >= 2 and known in (0, found.shape[1]))
    columns = f"{known or 'K'} classes"
    require("probabilities", f"shape {found.shape}", shape, f"one per example, or one row of {columns} per example")
    check_length("probabilities", found, count)
    in_range = bool(((found >= 0) & (found <= 1 + SUM_TOLERANCE)).all())
    if not in_range or (found.ndim == 2 and not np.allclose(found.sum(1), 1, atol=SUM_TOLERANCE)):
        what = "from 0 to 1, with a sum of 1 over the classes: softmax makes them of logits"
        raise refusal("probabilities", f"values from {found.min():g} to {found.max():g}", what)
    return found


def check_reach(p: NDArray[np.float64], label: NDArray[np.int64], prediction: NDArray[np.int64]) -> None:
    if p.ndim == 2 and (largest := int(max(label.max(), prediction.max()))) >= p.shape[1]:
        raise refusal("labels", largest, f"below {p.shape[1]}, the number of columns of the probabilities")


def same_rows(key: str, values: Any, rows: Sequence[NDArray]) -> list[NDArray]:
    """One array per example, as long as the labels of the example."""
    found = [as_array(key, row) for row in values]
    check_length(key, np.empty(len(found)), len(rows))
    for example, (own, row) in enumerate(zip(found, rows, strict=True)):
        require(f"{key} of example {example}", len(own), own.shape == row.shape, f"as many as its labels, {len(row)}")
    return found
