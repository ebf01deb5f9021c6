"""Interfaces of clipping rules, and the checked call of a rule on the global norm: in every step, and before a run."""

import numbers
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ablate.config.checks import refusal
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


def checked_scale(rule: NormRule, norm: float, t: int, state: Any, group: str = "clip") -> tuple[float, Any]:
    """What `rule.scale` returns, checked. Raises ValueError, which names group and rule, for a factor not in (0, 1]."""
    found = rule.scale(norm, t, state)
    if not isinstance(found, tuple) or len(found) != 2:
        raise refusal(f"{group}: {rule_name(rule)}.scale", found, "a method that returns the factor and the next state")
    if not isinstance(found[0], numbers.Real) or not 0 < found[0] <= 1:  # NaN is not in the interval
        what = f"in (0, 1] at step {t}, for a gradient norm of {norm:g}"
        raise refusal(f"{group}: the factor that {rule_name(rule)} returns", found[0], what)
    return found


def check_rule(rule: NormRule, group: str = "clip") -> None:
    """Call a rule, and the rules that it contains, once for a few norms: its mistakes are found before the first run.

    Raises ValueError for a rule that raises, or that returns a factor outside (0, 1].
    """
    inner = getattr(rule, "rule", None)
    if isinstance(inner, NormRule):  # first, so that the message names the rule that is wrong
        check_rule(inner, group)
    for norm in PROBED_NORMS:
        try:
            checked_scale(rule, norm, 1, None, group)
        except ValueError:
            raise
        except Exception as error:
            message = f"{group}: {rule_name(rule)} must accept a gradient norm of {norm:g} at step 1"
            raise ValueError(f"{message} (got {type(error).__name__}: {error})") from error


def rule_name(rule: object) -> str:
    return f"{type(rule).__module__}.{type(rule).__qualname__}"


def apply(scale: float, gradients: "Iterable[torch.Tensor]") -> None:
    """Multiply gradients in place by `scale`. A scale of 1 skips the multiplication, so "none" costs nothing."""
    import torch

    if scale != 1.0:
        torch._foreach_mul_(list(gradients), scale)
