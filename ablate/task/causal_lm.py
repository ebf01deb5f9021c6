"""Causal language modelling: the next token of a text."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ablate.schema import UNLABELLED
from ablate.task.base import Scored, Task
from ablate.task.token_classification import example_losses, mean_over_tokens, right_tokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CausalLM(Task):
    """Predicts each token of a block from those before it; the loss is the mean cross-entropy of the tokens, in nats.

    Labels are shifted: that of a token is the token after it (`ablate.data.batches`).
    """

    primary: str = "perplexity"
    kind: ClassVar[str] = "causal_lm"

    def outputs(self, classes: int) -> int:
        return 0

    def loss(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        return mean_over_tokens(logits, labels)

    def right(self, logits: "Tensor", labels: "Tensor") -> "tuple[Tensor, int]":
        return right_tokens(logits, labels)

    def scored(self, logits: "Tensor", labels: "Tensor") -> Scored:
        units, losses = (labels != UNLABELLED).sum(1), example_losses(logits, labels)
        return Scored({"tokens": units, "loss": losses}, losses, units)
