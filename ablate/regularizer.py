"""Regularizers: they change the loss that is minimised, or the weights with which a step computes it.

The loss in the records is that of the task alone, so that the arms of a study stay comparable; what a regularizer adds
to it is recorded as `added_loss` (`ablate.schema.TABLES`).
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ablate.data.batches import Batch


@runtime_checkable
class LossRule(Protocol):
    """A regularizer that changes the loss."""

    def loss(
        self,
        loss: "Tensor",
        logits: "Tensor",
        batch: "Batch",
        model: "nn.Module",
        t: int,
    ) -> "Tensor":
        """Return the loss to minimise at step t, a scalar.

        Args:
            loss: the mean loss of the batch, a scalar, or what an earlier rule made of it.
            logits: the model's output for the batch, [B, K] in float32.
            batch: the B examples; `batch.labels` has the classes.
            model: the model; calling it again, `model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)`,
                draws other dropout masks.
            t: the step, from 1.

        A step may come in pieces: the rule is called for each, and the results are averaged by their sizes.
        """
        ...


@runtime_checkable
class WeightRule(Protocol):
    """A regularizer that changes the weights while a step computes its gradient."""

    def weights(self, model: "nn.Module", t: int) -> AbstractContextManager[None]:
        """Return the context of forward and backward of step t, from 1.

        On leaving it, the weights have their own values again, and `grad` holds the gradient for them.
        """
        ...


@dataclass(frozen=True)
class Nothing:
    """Minimises the loss of the task."""

    def loss(self, loss: "Tensor", logits: "Tensor", batch: "Batch", model: "nn.Module", t: int) -> "Tensor":
        return loss
