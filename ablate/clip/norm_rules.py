"""Rules on the global norm: one factor for the whole gradient, so that its direction stays."""

import math
import sys
from bisect import insort
from dataclasses import dataclass
from typing import Any

from ablate.config.checks import require

SMALLEST_FACTOR = sys.float_info.min
"""Stands for 0, which is no allowed factor: a rule whose bound is 0 shortens the gradient to next to nothing."""


def factor_to(bound: float, norm: float) -> float:
    """The factor in (0, 1] that brings a gradient of length `norm` to at most `bound`, a number of at least 0."""
    return 1.0 if norm <= bound else max(bound / norm, SMALLEST_FACTOR)


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
