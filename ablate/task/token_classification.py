"""Token classification: a label for each word of a text, such as the entities in it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ablate.schema import UNLABELLED
from ablate.task.base import Scored, Task

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenClassification(Task):
    """Predicts the label of each word at its first token; the loss is the mean cross-entropy of the words, in nats."""

    primary: str = "entity_f1"
    kind: ClassVar[str] = "token_classification"

    def outputs(self, classes: int) -> int:
        return classes

    def loss(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        return mean_over_tokens(logits, labels)

    def right(self, logits: "Tensor", labels: "Tensor") -> "tuple[Tensor, int]":
        return right_tokens(logits, labels)

    def scored(self, logits: "Tensor", labels: "Tensor") -> Scored:
        import torch

        labelled = labels != UNLABELLED
        probability, prediction = logits[labelled].softmax(-1).max(-1)
        units = labelled.sum(1)
        word = torch.cat([torch.arange(int(n)) for n in units])
        columns = {"word": word, "label": labels[labelled], "prediction": prediction, "probability": probability}
        return Scored(columns, example_losses(logits, labels), units)


def mean_over_tokens(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """Mean cross-entropy of the tokens with a label, from logits [B, L, K] and labels [B, L]."""
    import torch.nn.functional as F

    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=UNLABELLED)


def right_tokens(logits: "Tensor", labels: "Tensor") -> "tuple[Tensor, int]":
    """The number of tokens whose label is predicted, and the number of those with a label."""
    labelled = labels != UNLABELLED
    return ((logits.argmax(-1) == labels) & labelled).sum(), int(labelled.sum())


def example_losses(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """The mean cross-entropy of each example's tokens with a label, [B] float64."""
    import torch.nn.functional as F

    losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=UNLABELLED, reduction="none").double()
    return losses.sum(1) / (labels != UNLABELLED).sum(1)
