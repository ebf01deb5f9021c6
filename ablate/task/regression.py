"""Regression: a number for a text, or for a pair of texts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ablate.task.base import Scored, Task

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Regression(Task):
    """Predicts a number; the loss is the mean squared error of the examples, in squared units of the label."""

    primary: str = "spearman"
    kind: ClassVar[str] = "regression"

    def outputs(self, classes: int) -> int:
        return 1

    def loss(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        import torch.nn.functional as F

        return F.mse_loss(logits.squeeze(-1), labels)

    def right(self, logits: "Tensor", labels: "Tensor") -> "tuple[None, int]":
        return None, len(labels)

    def scored(self, logits: "Tensor", labels: "Tensor") -> Scored:
        import torch

        prediction, label = logits.squeeze(-1).double(), labels.double()
        columns = {"label": label, "prediction": prediction}
        return Scored(columns, (prediction - label).square(), torch.ones(len(labels), dtype=torch.long))
