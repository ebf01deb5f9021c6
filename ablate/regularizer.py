"""Regularizers: they change the loss that is minimised, or the weights with which a step computes it.

The loss in the records is that of the task alone, so that the arms of a study stay comparable; what a regularizer adds
to it is recorded as `added_loss` (`ablate.schema.TABLES`).
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ablate.config.checks import require
from ablate.model.parameter_roles import role
from ablate.schema import UNLABELLED

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
            logits: the model's output for the batch in float32, [B, K], or [B, L, K] with one row per token.
            batch: the B examples; `batch.labels` has the classes, numbers, or labels of tokens (`Batch`).
            model: the model; calling it again, `model(**batch.inputs)`, draws other dropout masks, and leaves those of
                later passes as they are in other arms.
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


def by_unit(logits: "Tensor", batch: "Batch") -> "tuple[Tensor, Tensor]":
    """Logits [U, K] and labels [U] of a batch's units: its examples, or its tokens with a label."""
    if batch.labels.ndim == 1:
        return logits, batch.labels
    labelled = batch.labels != UNLABELLED
    return logits[labelled], batch.labels[labelled]


@dataclass(eq=False)
class Beginning:
    """What a regularizer keeps from before the first step: copies of weights by name, and the seed of its draws."""

    weights: "dict[str, Tensor]" = field(default_factory=dict)
    seed: int = 0

    def keep(self, weights: "Mapping[str, Tensor]", seed: int) -> None:
        self.weights = {name: weight.detach().clone() for name, weight in weights.items()}
        self.seed = seed


@dataclass(frozen=True)
class LabelSmoothing:
    """L' = (1 − s) · L + s · ū, where ū = −(1/K) Σ_k log p_k is the mean over the K classes and the units, in nats.

    This is the cross-entropy with a target of 1 − s + s/K for the label and s/K for every other class: the formula of
    `torch.nn.functional.cross_entropy(..., label_smoothing=s)`, from Szegedy et al. 2016 (arXiv 1512.00567). It is
    computed as L + s · (ū − CE), with CE the cross-entropy of the batch, so that another rule's penalty in L stays.
    """

    needs_classes = True

    smoothing: float = 0.1

    def __post_init__(self) -> None:
        require("smoothing", self.smoothing, 0 <= self.smoothing < 1, "a number in [0, 1)")

    def loss(self, loss: "Tensor", logits: "Tensor", batch: "Batch", model: "nn.Module", t: int) -> "Tensor":
        import torch.nn.functional as F

        logits, labels = by_unit(logits, batch)
        uniform = -F.log_softmax(logits, dim=-1).mean()
        return loss + self.smoothing * (uniform - F.cross_entropy(logits, labels))


@dataclass(frozen=True)
class RDrop:
    """L' = (L_1 + L_2) / 2 + α · (KL(p_1 ‖ p_2) + KL(p_2 ‖ p_1)) / 2, over two forward passes with other dropout masks.

    p_1 and p_2 are the predicted distributions over the classes; losses and divergences are means over the examples,
    in nats. Wu et al. 2021 (arXiv 2106.14448). The paper adds L_1 and L_2 up; their mean, as in the authors' README,
    is L if both passes agree, as they do without dropout. A step takes about twice as long.
    """

    needs_classes = True

    alpha: float = 1.0

    def __post_init__(self) -> None:
        require("alpha", self.alpha, 0 <= self.alpha < float("inf"), "a finite number, at least 0")

    def loss(self, loss: "Tensor", logits: "Tensor", batch: "Batch", model: "nn.Module", t: int) -> "Tensor":
        import torch.nn.functional as F

        (logits, labels), (other, _) = (by_unit(x, batch) for x in (logits, model(**batch.inputs).logits.float()))
        one, two = F.log_softmax(logits, dim=-1), F.log_softmax(other, dim=-1)  # [B, K]
        divergence = (F.kl_div(two, one, reduction="batchmean", log_target=True)  # KL(p_1 ‖ p_2)
                      + F.kl_div(one, two, reduction="batchmean", log_target=True))  # fmt: skip
        return (loss + F.cross_entropy(other, labels)) / 2 + self.alpha * divergence / 2


@dataclass(frozen=True)
class L2SP:
    """L' = L + α/2 · ‖w − w⁰‖² + β/2 · ‖v‖², with w the pretrained weights that are trained and v those of the head.

    w⁰ are the values of w before the first step. Li et al. 2018 (arXiv 1802.01483), the penalty named L²-SP. Every
    piece of a step has the whole penalty, weighted by its size, so that a step has it once.
    """

    needs_roles = True

    alpha: float = 0.01
    beta: float = 0.01
    beginning: Beginning = field(default_factory=Beginning, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for key in ("alpha", "beta"):
            value = getattr(self, key)
            require(key, value, 0 <= value < float("inf"), "a finite number, at least 0")

    def begin(self, trained: "Mapping[str, nn.Parameter]", seed: int) -> None:
        self.beginning.keep({name: p for name, p in trained.items() if role(name).block != "head"}, seed)

    def loss(self, loss: "Tensor", logits: "Tensor", batch: "Batch", model: "nn.Module", t: int) -> "Tensor":
        for name, p in model.named_parameters():
            if p.requires_grad and name in self.beginning.weights:
                loss = loss + self.alpha / 2 * (p - self.beginning.weights[name]).square().sum()
            elif p.requires_grad:
                loss = loss + self.beta / 2 * p.square().sum()
        return loss


@dataclass(frozen=True)
class Mixout:
    """w' = (m · w⁰ + (1 − m) · w − p · w⁰) / (1 − p): a share p of the weights w has its initial value w⁰ for a step.

    Each entry of the mask m is 1 with probability p, so that E[w'] = w; the gradient for w is that for w' times
    (1 − m) / (1 − p). Lee et al. 2020, Mixout (arXiv 1909.11299). As in the authors' code, it acts on the
    weight matrices of linear layers, those of the head among them; embeddings, biases and norms stay. The authors draw
    a mask per forward pass; here all pieces of a step share one, which depends on the run's seed and the step alone:
    the same on all ranks and devices, in all arms that train the same weights, and after a resume.
    """

    p: float = 0.9
    beginning: Beginning = field(default_factory=Beginning, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require("p", self.p, 0 <= self.p <= 0.999, "a number from 0 to 0.999")

    def begin(self, trained: "Mapping[str, nn.Parameter]", seed: int) -> None:
        self.beginning.keep({name: p for name, p in trained.items() if p.ndim == 2}, seed)

    @contextmanager
    def weights(self, model: "nn.Module", t: int) -> Iterator[None]:
        import torch

        own = {name: (p, p.detach().clone()) for name, p in self.mixed(model)}
        kept = self.masks({name: value for name, (_, value) in own.items()}, t)  # (1 − m) / (1 − p)
        with torch.no_grad():
            for name, (p, value) in own.items():
                start = self.beginning.weights[name]
                p.copy_(torch.addcmul(start, kept[name], value - start))  # w⁰ + (1 − m) / (1 − p) · (w − w⁰)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, (p, value) in own.items():
                    p.copy_(value)
                    if p.grad is not None:
                        p.grad.mul_(kept[name])

    def mixed(self, model: "nn.Module") -> "Iterator[tuple[str, nn.Parameter]]":
        """The trained weight matrices of the model's layers, in its order, without those of embeddings."""
        from torch import nn

        for place, module in model.named_modules():
            name, weight = f"{place}.weight".removeprefix("."), getattr(module, "weight", None)
            if name in self.beginning.weights and not isinstance(module, nn.Embedding) and weight.requires_grad:
                yield name, weight

    def masks(self, like: "Mapping[str, Tensor]", t: int) -> "dict[str, Tensor]":
        """Of each tensor, in order: entries that are 0 with probability p and 1 / (1 − p) otherwise.

        They are drawn on the CPU, 16 bits each, as `ablate.training.dropout` draws its masks: p is rounded to 2^−16.
        """
        import numpy as np

        from ablate.training.dropout import Masks

        draws = Masks(np.random.SFC64((self.beginning.seed, t)))
        return {name: draws.noise(tensor, self.p).to(tensor.device) for name, tensor in like.items()}
