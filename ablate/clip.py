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

import math
import numbers
import sys
from bisect import insort
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


# --- Rules that adapt, soften or end ---

SMALLEST_FACTOR = sys.float_info.min
"""Stands for 0, which is no allowed factor: a rule whose bound is 0 shortens the gradient to next to nothing."""


def factor_to(bound: float, norm: float) -> float:
    """The factor in (0, 1] that brings a gradient of length `norm` to at most `bound`, a number of at least 0."""
    return 1.0 if norm <= bound else max(bound / norm, SMALLEST_FACTOR)


@dataclass(frozen=True)
class Until:
    """`rule` up to step `last`, and c(t) = ∞ afterwards: the opposite of `Delayed`. The rule's state ends with it."""

    last: int
    rule: NormRule

    def __post_init__(self) -> None:
        require("last", self.last, self.last >= 1, "a step, at least 1")

    def scale(self, norm: float, t: int, state: Any) -> tuple[float, Any]:
        return self.rule.scale(norm, t, state) if t <= self.last else (1.0, None)


@dataclass(frozen=True)
class Soft:
    """g' = c / (c + ‖g‖) · g: a smooth rule that shortens every gradient, to a norm below c.

    This is the normalised gradient descent of Zhang et al. 2020 (arXiv 1905.11881), η_n / (‖g‖ + β) · g, with β = c and
    η_n = η · c. They show that it equals clipping at c up to a factor of 2: min(1, c/‖g‖) / 2 ≤ c / (c + ‖g‖) ≤
    min(1, c/‖g‖). At ‖g‖ = c the factor is 1/2.
    """

    threshold: float = 1.0

    def __post_init__(self) -> None:
        require("threshold", self.threshold, 0 < self.threshold < float("inf"), "a finite number above 0")

    def scale(self, norm: float, t: int, state: None) -> tuple[float, None]:
        return max(self.threshold / (self.threshold + norm), SMALLEST_FACTOR), state


@dataclass(frozen=True)
class AutoClip:
    """Clips at a percentile of all norms so far, with the current norm among them.

    c(t) = percentile p of ‖g_1‖, ..., ‖g_t‖ (interpolated linearly, as by numpy); g' = g · min(1, c(t) / ‖g‖)

    Seetharaman et al. 2020 (arXiv 2007.14469), algorithm 1, with their p = 10. The first gradient is never clipped.
    Their code adds 1e-6 to the norm, as torch does. The state is the list of norms in ascending order.
    """

    percentile: float = 10.0

    def __post_init__(self) -> None:
        require("percentile", self.percentile, 0 <= self.percentile <= 100, "a number from 0 to 100")

    def scale(self, norm: float, t: int, state: list[float] | None) -> tuple[float, list[float]]:
        history = list(state or ())  # a copy, as the state before the step may be in use elsewhere
        insort(history, norm)
        position = self.percentile / 100 * (len(history) - 1)
        below = int(position)
        low, high = history[below], history[min(below + 1, len(history) - 1)]
        return factor_to(low + (high - low) * (position - below), norm), history


@dataclass(frozen=True)
class ZClip:
    """Clips a norm that is an outlier among recent norms, the more the further out it is.

    With mean μ and standard deviation σ of recent norms, and z = (‖g‖ − μ) / (σ + 1e-6):

    c(t) = μ + σ · z_max² / z   if z > z_max, and ∞ otherwise

    The first `warmup_steps` norms, which are not clipped, give μ and σ². Then each step ends with

    μ ← α · μ + (1 − α) · n   and   σ² ← α · σ² + (1 − α) · (n − μ)², with the new μ and n = min(‖g‖, c(t))

    Kumar et al. 2025 (arXiv 2504.02507) with the "reciprocal" threshold, in their code clip_option="adaptive_scaling".
    Their code has a second bound on the norm, 1.0 by default, that also holds in the warm-up: here `max_norm`, null so
    that an arm shows what this rule does alone. When it clips, it adds 1e-6 to the norm, as torch does.

    The state is {"norms": [...]} in the warm-up, then {"mean": μ, "variance": σ²}.
    """

    alpha: float = 0.97
    z_max: float = 2.5
    warmup_steps: int = 25
    max_norm: float | None = None

    def __post_init__(self) -> None:
        require("alpha", self.alpha, 0 <= self.alpha < 1, "a number in [0, 1)")
        require("z_max", self.z_max, 0 < self.z_max < float("inf"), "a finite number above 0")
        require("warmup_steps", self.warmup_steps, self.warmup_steps >= 2, "at least 2, as one norm has no variance")
        bound = self.max_norm
        require("max_norm", bound, bound is None or 0 < bound < float("inf"), "a finite number above 0, or null")

    def scale(self, norm: float, t: int, state: Any) -> tuple[float, Any]:
        state = state or {"norms": []}
        if "norms" in state:
            bound, following = float("inf"), self.warmed_up([*state["norms"], norm])
        else:
            bound = self.bound(norm, **state)
            following = self.updated(min(norm, bound), **state)
        return factor_to(min(bound, self.max_norm or bound), norm), following

    def bound(self, norm: float, mean: float, variance: float) -> float:
        deviation = math.sqrt(variance)
        z = (norm - mean) / (deviation + 1e-6)
        return mean + deviation * self.z_max**2 / z if z > self.z_max else float("inf")

    def warmed_up(self, norms: list[float]) -> dict[str, Any]:
        if len(norms) < self.warmup_steps:
            return {"norms": norms}
        mean = sum(norms) / len(norms)
        return {"mean": mean, "variance": sum((norm - mean) ** 2 for norm in norms) / len(norms)}

    def updated(self, norm: float, mean: float, variance: float) -> dict[str, float]:
        mean = self.alpha * mean + (1 - self.alpha) * norm
        return {"mean": mean, "variance": self.alpha * variance + (1 - self.alpha) * (norm - mean) ** 2}
