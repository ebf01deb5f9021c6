"""The evaluations of a run: their rows in the tables, and the metrics that they give the run."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from ablate.config.checks import require
from ablate.recorder.declaration import Declaration
from ablate.recorder.given import Given, predictions_from
from ablate.recorder.record import EVALUATED, OpenRecord
from ablate.training.evaluation import Predictions


class Evaluations:
    """Adds evaluations to an open record, and keeps the metrics of the last one of each split."""

    def __init__(self, declared: Declaration, record: OpenRecord) -> None:
        self._declared, self._record = declared, record
        self._last: dict[str, tuple[int, dict[str, float]]] = {}  # split -> step and metrics

    def add(
        self, step: int, split: str, given: Given, loss: Any, index: Sequence[int] | None, examples: int | None
    ) -> dict[str, float]:
        """Record an evaluation after a step; returns its metrics. Raises Diverged for what is not finite."""
        require("split", split, split in EVALUATED, f"one of {', '.join(EVALUATED)}")
        require("loss", loss, loss is None or given.losses is None, "left out where there are losses")
        self._record.check_finite(f"a value of the {split} predictions", given.not_finite(), step)
        found, values = self._measured(given, scalar(loss), examples)
        self._record.rows.evals.append({"step": step, "split": split, **values})
        if values["loss"] is not None:
            self._record.check_finite(f"{split} loss", values["loss"], step)
        metrics = {name: value for name, value in values.items() if name != "examples" and value is not None}
        metrics |= self._scored(step, split, found) if found else {}
        if split == "probe" and found and not bool(found.losses.isnan().any()):
            self._record.rows.add_probe(step, probe_numbers(index, len(found.losses)), found)
        if split == "test" and found:
            self._record.rows.set_predictions(found)
        self._last[split] = (step, metrics)
        return metrics

    def _measured(
        self, given: Given, loss: float | None, examples: int | None
    ) -> tuple[Predictions | None, dict[str, Any]]:
        """The predictions, if there are any, and loss, accuracy and number of examples."""
        if all(each is None for each in vars(given).values()):
            require("loss", None, loss is not None, "given, or else labels and predictions")
            return None, {"loss": loss, "accuracy": None, "examples": examples}
        found = predictions_from(self._declared.kind, self._declared.labels, given)
        known = given.losses is not None or not bool(found.losses.isnan().all())
        values = {"loss": found.loss if known else loss, "accuracy": found.accuracy, "examples": len(found.losses)}
        return found, values

    def _scored(self, step: int, split: str, found: Predictions) -> dict[str, float]:
        """The primary metric, if it is not the accuracy and has a value."""
        primary = self._declared.primary
        value = found.score(primary, self._declared.labels)
        if primary == "accuracy" or not math.isfinite(value):
            return {}
        self._record.rows.add_score(step, split, primary, value)
        return {primary: value}

    def metrics_after(self, step: int) -> dict[str, float]:
        """The metrics of a run that ends after a step: those of the evaluations there, except the probe's."""
        return {
            f"{split}_{name}": value
            for split, (last, found) in self._last.items()
            for name, value in found.items()
            if split != "probe" and last == step
        }


def scalar(value: Any) -> float | None:
    """A number or a tensor with one, as a number."""
    return None if value is None else float(value.detach() if isinstance(value, torch.Tensor) else value)


def probe_numbers(index: Sequence[int] | None, count: int) -> list[int]:
    found = list(range(count)) if index is None else [int(each) for each in index]
    require("index", len(found), len(found) == count, f"as many numbers as the probe has examples, {count}")
    return found
