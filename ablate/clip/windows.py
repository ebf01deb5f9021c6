"""Rules that contain another rule, of either kind, and let it act from a step on or up to a step.

Each has the hook of the rule that it contains: `Delayed(start=50, rule=Fixed())` is a `NormRule`, which can be replayed
over the records of a run, and `Delayed(start=50, rule=AdaptiveClip())` is a `DelayedGradientRule`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablate.clip.protocols import GradientRule, NormRule
from ablate.config.checks import require
from ablate.model.parameter_roles import Role

if TYPE_CHECKING:
    import torch


def acts_on_tensors(rule: object) -> bool:
    """Whether a rule acts on the gradient's tensors. One that has both hooks acts on the global norm."""
    return isinstance(rule, GradientRule) and not isinstance(rule, NormRule)


@dataclass(frozen=True)
class Delayed:
    """c(t) = ∞ for t < T0, and `rule` from step T0 = `start` on: the write-up's delayed clipping.

    A rule with state begins its fold at T0; t remains the step number of the run.
    """

    start: int
    rule: NormRule | GradientRule

    def __new__(cls, start: int = 1, rule: object = None) -> "Delayed":
        return object.__new__(DelayedGradientRule if acts_on_tensors(rule) else cls)

    def __post_init__(self) -> None:
        require("start", self.start, self.start >= 1, "a step, at least 1")

    def scale(self, norm: float, t: int, state: Any) -> tuple[float, Any]:
        return (1.0, state) if t < self.start else self.rule.scale(norm, t, state)


@dataclass(frozen=True)
class DelayedGradientRule(Delayed):
    """What `Delayed` makes of a rule on tensors: it leaves the gradient as it is for t < T0."""

    rule: GradientRule

    scale = None  # so that it is no NormRule

    def clip(
        self,
        gradients: "Mapping[str, torch.Tensor]",
        weights: "Mapping[str, torch.Tensor]",
        roles: Mapping[str, Role],
        t: int,
        state: Any,
    ) -> Any:
        return state if t < self.start else self.rule.clip(gradients, weights, roles, t, state)


@dataclass(frozen=True)
class Until:
    """`rule` up to step `last`, and c(t) = ∞ afterwards: the opposite of `Delayed`. The rule's state ends with it."""

    last: int
    rule: NormRule | GradientRule

    def __new__(cls, last: int = 1, rule: object = None) -> "Until":
        return object.__new__(UntilGradientRule if acts_on_tensors(rule) else cls)

    def __post_init__(self) -> None:
        require("last", self.last, self.last >= 1, "a step, at least 1")

    def scale(self, norm: float, t: int, state: Any) -> tuple[float, Any]:
        return self.rule.scale(norm, t, state) if t <= self.last else (1.0, None)


@dataclass(frozen=True)
class UntilGradientRule(Until):
    """What `Until` makes of a rule on tensors: it leaves the gradient as it is after step `last`."""

    rule: GradientRule

    scale = None  # so that it is no NormRule

    def clip(
        self,
        gradients: "Mapping[str, torch.Tensor]",
        weights: "Mapping[str, torch.Tensor]",
        roles: Mapping[str, Role],
        t: int,
        state: Any,
    ) -> Any:
        return self.rule.clip(gradients, weights, roles, t, state) if t <= self.last else None
