"""Gradient clipping: rules that act on the gradient of a step before the optimizer does.

A `NormRule` turns the norm of the whole gradient into the factor by which the gradient is multiplied. A `GradientRule`
changes the gradient's tensors in place; the norm after it is measured.

A rule on the global norm is a fold over norms: `scale` takes the norm of step t and the rule's state after the previous
step, and returns the factor and the next state. The state starts as None, is plain data (so that it can be saved), and
depends only on the norms seen so far (so that the rule can be replayed over the records of a run).

    >>> Fixed(threshold=1.0).scale(norm=4.0, t=1, state=None)
    (0.25, None)
    >>> Delayed(start=50, rule=Fixed()).scale(norm=4.0, t=49, state=None)
    (1.0, None)

To write your own rule, define a class with such a `scale`; the README has an example.
"""

import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ablate.config.checks import refusal, require
from ablate.model.parameter_roles import Role

if TYPE_CHECKING:
    import torch

PROBED_NORMS = (0.01, 1.0, 100.0)


@runtime_checkable
class NormRule(Protocol):
    """Interface of a clipping rule on the global norm."""

    def scale(self, norm: float, t: int, state: Any) -> tuple[float, Any]:
        """Return the factor in (0, 1] for the gradient of step t (from 1), whose norm is `norm`, and the next state."""
        ...


@runtime_checkable
class GradientRule(Protocol):
    """Interface of a clipping rule on the tensors of the gradient."""

    def clip(
        self,
        gradients: "Mapping[str, torch.Tensor]",
        weights: "Mapping[str, torch.Tensor]",
        roles: Mapping[str, Role],
        t: int,
        state: Any,
    ) -> Any:
        """Change the gradients of step t (from 1) in place, and return the next state.

        Args:
            gradients: gradient by name of parameter; only of parameters that are trained at this step.
            weights: the same parameters' values, which must not change.
            roles: their places in the model: block, kind and layer.
            state: None at the first call, then what the call before returned: plain data or tensors.
        """
        ...


@dataclass(frozen=True)
class Nothing:
    """g' = g."""

    def scale(self, norm: float, t: int, state: None) -> tuple[float, None]:
        return 1.0, state


@dataclass(frozen=True)
class Fixed:
    """g' = c / max(‖g‖, c) · g: the gradient keeps its direction, and its norm is at most c.

    This is the write-up's formula and algorithm 1 of Pascanu et al. 2013 (arXiv 1211.5063). Unlike
    `torch.nn.utils.clip_grad_norm_`, neither adds 1e-6 to the norm.
    """

    threshold: float = 1.0

    def __post_init__(self) -> None:
        require("threshold", self.threshold, 0 < self.threshold < float("inf"), "a finite number above 0")

    def scale(self, norm: float, t: int, state: None) -> tuple[float, None]:
        return self.threshold / max(norm, self.threshold), state


@dataclass(frozen=True)
class Delayed:
    """c(t) = ∞ for t < T0, and `rule` from step T0 = `start` on: the write-up's delayed clipping.

    A rule with state begins its fold at T0; t remains the step number of the run.
    """

    start: int
    rule: NormRule

    def __post_init__(self) -> None:
        require("start", self.start, self.start >= 1, "a step, at least 1")

    def scale(self, norm: float, t: int, state: Any) -> tuple[float, Any]:
        return (1.0, state) if t < self.start else self.rule.scale(norm, t, state)


def checked_scale(rule: NormRule, norm: float, t: int, state: Any) -> tuple[float, Any]:
    """What `rule.scale` returns, checked. Raises ValueError, which names the rule, for a factor outside (0, 1]."""
    found = rule.scale(norm, t, state)
    if not isinstance(found, tuple) or len(found) != 2:
        raise refusal(f"clip: {rule_name(rule)}.scale", found, "a method that returns the factor and the next state")
    if not isinstance(found[0], numbers.Real) or not 0 < found[0] <= 1:  # NaN is not in the interval
        what = f"in (0, 1] at step {t}, for a gradient norm of {norm:g}"
        raise refusal(f"clip: the factor that {rule_name(rule)} returns", found[0], what)
    return found


def check_rule(rule: NormRule) -> None:
    """Call a rule, and the rules that it contains, once for a few norms: its mistakes are found before the first run.

    Raises ValueError for a rule that raises, or that returns a factor outside (0, 1].
    """
    inner = getattr(rule, "rule", None)
    for norm in PROBED_NORMS:
        try:
            checked_scale(rule, norm, 1, None)
        except ValueError:
            raise
        except Exception as error:
            message = f"clip: {rule_name(rule)} must accept a gradient norm of {norm:g} at step 1"
            raise ValueError(f"{message} (got {type(error).__name__}: {error})") from error
    if isinstance(inner, NormRule):
        check_rule(inner)


def rule_name(rule: object) -> str:
    return f"{type(rule).__module__}.{type(rule).__qualname__}"


def apply(scale: float, gradients: "Iterable[torch.Tensor]") -> None:
    """Multiply gradients in place by `scale`. A scale of 1 skips the multiplication, so "none" costs nothing."""
    import torch

    if scale != 1.0:
        torch._foreach_mul_(list(gradients), scale)
