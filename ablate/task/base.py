"""What the training step, the evaluation and the records need from a task."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ablate.metrics import check_metric

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scored:
    """The predictions for the B examples of a batch, which have U units: examples, or tokens with a label.

    columns         of predictions.parquet, each [U], such as label and prediction
    losses          mean loss of each example, [B] float64
    units           number of units of each example, [B]
    probabilities   of all classes, [U, K], where they are recorded
    """

    columns: "dict[str, Tensor]"
    losses: "Tensor"
    units: "Tensor"
    probabilities: "Tensor | None" = None


@dataclass(frozen=True)
class Task(ABC):
    """What the options of the group share. Logits are float32: [B, K], or [B, L, K] with one row per token."""

    primary: str  # the name of a metric of this kind of task
    kind: ClassVar[str]  # one of `ablate.schema.TASKS`

    def __post_init__(self) -> None:
        check_metric("primary", self.primary, self.kind)

    @abstractmethod
    def outputs(self, classes: int) -> int:
        """The size K of the model's output, from the number of classes; 0 = that of the vocabulary."""

    @abstractmethod
    def loss(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        """The mean loss over the units, a scalar."""

    @abstractmethod
    def right(self, logits: "Tensor", labels: "Tensor") -> "tuple[Tensor | None, int]":
        """The number of right predictions, None in a task without classes, and the number of units."""

    @abstractmethod
    def scored(self, logits: "Tensor", labels: "Tensor") -> Scored:
        """Predictions and losses, of logits on the CPU."""
