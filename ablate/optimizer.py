"""Optimizers: those of torch, with their settings checked before a run (torch itself accepts lr=inf)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ablate.config.checks import require

if TYPE_CHECKING:
    import torch


@runtime_checkable
class OptimizerRule(Protocol):
    """Interface of an optimizer option."""

    def build(self, parameters: "Iterable[torch.nn.Parameter]") -> "torch.optim.Optimizer":
        """Return the optimizer of the trained parameters, at its peak learning rate."""
        ...


def check_common(lr: float, weight_decay: float) -> None:
    require("lr", lr, 0 < lr < math.inf, "a finite number above 0")
    require("weight_decay", weight_decay, 0 <= weight_decay < math.inf, "a finite number, at least 0")


@dataclass(frozen=True)
class AdamW:
    """`torch.optim.AdamW` (Loshchilov & Hutter 2019, arXiv 1711.05101), fused, with PyTorch's defaults.

    Weight decay acts on every trained parameter, as it does by default in PyTorch and in the original notebook.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        check_common(self.lr, self.weight_decay)
        require("betas", self.betas, all(0 <= beta < 1 for beta in self.betas), "two numbers in [0, 1)")
        require("eps", self.eps, 0 < self.eps < math.inf, "a finite number above 0")

    def build(self, parameters: "Iterable[torch.nn.Parameter]") -> "torch.optim.Optimizer":
        import torch

        return torch.optim.AdamW(
            parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=True
        )


@dataclass(frozen=True)
class SGD:
    """`torch.optim.SGD` with momentum. Clipping shortens its update, whereas AdamW normalises the update's size."""

    lr: float
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_common(self.lr, self.weight_decay)
        require("momentum", self.momentum, 0 <= self.momentum < 1, "a number in [0, 1)")
        require("nesterov", self.nesterov, not self.nesterov or self.momentum > 0, "false where momentum=0")

    def build(self, parameters: "Iterable[torch.nn.Parameter]") -> "torch.optim.Optimizer":
        import torch
        from torch.distributed.tensor import DTensor

        parameters = list(parameters)
        return torch.optim.SGD(
            parameters, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay,
            fused=not isinstance(parameters[0], DTensor),  # torch 2.13 has no fused SGD for sharded parameters
        )  # fmt: skip


def set_lr(optimizer: "torch.optim.Optimizer", peaks: Sequence[float], factor: float) -> float:
    """Set the learning rate of each parameter group to its own peak times the schedule's factor; return the first."""
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["lr"] = peak * factor
    return optimizer.param_groups[0]["lr"]
