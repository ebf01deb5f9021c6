"""Classification of a text, or of a pair of texts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ablate.task.base import Scored, Task

if TYPE_CHECKING:
    from torch import Tensor

MOST_CLASSES = 50
"""With more, the probabilities of all classes are not recorded: they would be most of a run's records."""


@dataclass(frozen=True)
class Classification(Task):
    """Predicts one of K classes; the loss is the mean cross-entropy of the examples, in nats."""

    primary: str = "accuracy"
    kind: ClassVar[str] = "classification"

    def outputs(self, classes: int) -> int:
        return classes

    def loss(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        import torch.nn.functional as F

        return F.cross_entropy(logits, labels)

    def right(self, logits: "Tensor", labels: "Tensor") -> "tuple[Tensor, int]":
        return (logits.argmax(-1) == labels).sum(), len(labels)

    def scored(self, logits: "Tensor", labels: "Tensor") -> Scored:
        import torch
        import torch.nn.functional as F

        probabilities = logits.softmax(-1)
        probability, prediction = probabilities.max(-1)
        return Scored(
            {"label": labels, "prediction": prediction, "probability": probability},
            F.cross_entropy(logits, labels, reduction="none").double(),
            torch.ones_like(labels),
            probabilities if 2 < logits.shape[-1] <= MOST_CLASSES else None,
        )
