"""Gradient clipping: rules that turn a gradient's norm into the factor its gradient is scaled by.

A rule on the global norm is a fold over norms: `scale` takes the norm of step t and the state that the step
before left, and returns the factor and the next state. The state starts as None, is plain data (so that it can
be saved), and depends on nothing but the norms seen (so that it can be replayed over a run's record).

    >>> Fixed(threshold=1.0).scale(norm=4.0, t=1, state=None)
    (0.25, None)
    >>> Delayed(start=50, rule=Fixed()).scale(norm=4.0, t=49, state=None)
    (1.0, None)

A rule of your own is a class with a `scale` of this shape; see "Your own technique" in the README.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ablate.config.checks import require

if TYPE_CHECKING:
    import torch


@runtime_checkable
class NormRule(Protocol):
    """What a clipping rule on the global norm has to offer."""

    def scale(self, norm: float, t: int, state: Any) -> tuple[float, Any]:
        """Factor in (0, 1] for the gradient of step t (from 1) whose norm is `norm`, and the next state."""
        ...


@dataclass(frozen=True)
class Nothing:
    """g' = g."""

    def scale(self, norm: float, t: int, state: None) -> tuple[float, None]:
        return 1.0, state


@dataclass(frozen=True)
class Fixed:
    """g' = c / max(‖g‖, c) · g: the gradient's direction, at most c long (§3.2).

    Without the 1e-6 that `torch.nn.utils.clip_grad_norm_` adds to the norm (Pascanu et al. 2013, 1211.5063,
    algorithm 1 has none either).
    """

    threshold: float = 1.0

    def __post_init__(self) -> None:
        require("threshold", self.threshold, 0 < self.threshold < float("inf"), "a finite number above 0")

    def scale(self, norm: float, t: int, state: None) -> tuple[float, None]:
        return self.threshold / max(norm, self.threshold), state


@dataclass(frozen=True)
class Delayed:
    """c(t) = ∞ for t < T0, `rule` from step T0 = start on (§5.1).

    A rule with state begins its fold at T0; t stays the run's own step count.
    """

    start: int
    rule: NormRule

    def __post_init__(self) -> None:
        require("start", self.start, self.start >= 1, "a step, at least 1")

    def scale(self, norm: float, t: int, state: Any) -> tuple[float, Any]:
        return (1.0, state) if t < self.start else self.rule.scale(norm, t, state)


def apply(scale: float, gradients: "Iterable[torch.Tensor]") -> None:
    """Multiply gradients in place by `scale`; a scale of 1 touches nothing, so that "none" costs nothing."""
    import torch

    if scale != 1.0:
        torch._foreach_mul_(list(gradients), scale)
