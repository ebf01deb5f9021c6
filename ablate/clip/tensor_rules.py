"""Rules on the gradient's tensors: by value, per tensor, per block, relative to the weights, or to a length of 1.

Norms are computed in float64, where the square of no float32 number overflows, to a relative 1e-14. The gradients
themselves are multiplied in float32, which rounds each entry by a relative 6e-8 at most: a bound on a norm holds up to
that. A tensor whose norm is within its bound keeps its bits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablate.config.checks import require
from ablate.model.parameter_roles import Role

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]


def require_positive(key: str, value: float) -> None:
    require(key, value, 0 < value < math.inf, "a finite number above 0")


@dataclass(frozen=True)
class Value:
    """g'_i = min(max(g_i, −c), c) for each entry g_i: it shortens the gradient and may turn it.

    The same as `torch.nn.utils.clip_grad_value_`, bit for bit.
    """

    threshold: float = 1.0

    def __post_init__(self) -> None:
        require_positive("threshold", self.threshold)

    def clip(self, gradients: "Tensors", weights: "Tensors", roles: Mapping[str, Role], t: int, state: None) -> None:
        import torch

        tensors = list(gradients.values())
        torch._foreach_clamp_min_(tensors, -self.threshold)
        torch._foreach_clamp_max_(tensors, self.threshold)


@dataclass(frozen=True)
class PerTensor:
    """g'_k = c / max(‖g_k‖, c) · g_k for each tensor g_k of the gradient: its norm is at most c.

    Yang & Ma 2022 (arXiv 2210.10325) fine-tune with such a bound per component of the model. With K tensors, the whole
    gradient has a norm of at most c · √K.
    """

    threshold: float = 1.0

    def __post_init__(self) -> None:
        require_positive("threshold", self.threshold)

    def clip(self, gradients: "Tensors", weights: "Tensors", roles: Mapping[str, Role], t: int, state: None) -> None:
        multiply(gradients, {name: limit(self.threshold, norm) for name, norm in norms_of(gradients).items()})


@dataclass(frozen=True)
class PerRole:
    """g'_b = c / max(‖g_b‖, c) · g_b for each block b of the model, whose tensors share one norm and one factor.

    The blocks are those of `ablate.schema.BLOCKS`: embedding, attention, mlp, ... With `by_layer`, each block of each
    layer has a norm of its own.
    """

    threshold: float = 1.0
    by_layer: bool = False

    needs_roles = True

    def __post_init__(self) -> None:
        require_positive("threshold", self.threshold)

    def clip(self, gradients: "Tensors", weights: "Tensors", roles: Mapping[str, Role], t: int, state: None) -> None:
        blocks: dict[tuple[str, int | None], list[str]] = {}
        for name in gradients:
            blocks.setdefault((roles[name].block, roles[name].layer if self.by_layer else None), []).append(name)
        norms = norms_of(gradients)
        factors = {}
        for names in blocks.values():
            factor = limit(self.threshold, math.hypot(*(norms[name] for name in names)))
            factors |= dict.fromkeys(names, factor)
        multiply(gradients, factors)


@dataclass(frozen=True)
class AdaptiveClip:
    """Adaptive gradient clipping (AGC): each unit's gradient is at most a share λ of the unit's weights.

    g'_i = λ · w_i / ‖g_i‖ · g_i   if ‖g_i‖ > λ · w_i, with w_i = max(‖W_i‖, ε) for unit i of a tensor

    A unit is a row of a weight matrix, the weights into one output (all dimensions but the first); a vector is one
    unit. Brock et al. 2021 (arXiv 2102.06171, equation 3), with their λ = `clipping` = 0.01 and ε = 1e-3. They leave
    the last layer out, and so does this rule the model's head unless `head` is true. The formula is that of timm's
    `adaptive_clip_grad`. The weights of GPT-2 are transposed: there a row has the weights out of one input.
    """

    needs_roles = True

    clipping: float = 0.01
    eps: float = 1e-3
    head: bool = False

    def __post_init__(self) -> None:
        require_positive("clipping", self.clipping)
        require_positive("eps", self.eps)

    def clip(self, gradients: "Tensors", weights: "Tensors", roles: Mapping[str, Role], t: int, state: None) -> None:
        for name, gradient in gradients.items():
            if self.head or roles[name].block != "head":
                bounds = unit_norms(weights[name]).clamp_(min=self.eps).mul_(self.clipping)
                factors = bounds.div_(unit_norms(gradient)).clamp_(max=1.0)  # a norm of 0 gives infinity, and so 1
                gradient.mul_(factors.to(gradient.dtype))


@dataclass(frozen=True)
class AdaGC:
    """Clips each tensor relative to a moving average of its own norms after clipping.

    Step s of the rule, for each tensor k with gradient g_k and whole gradient g:

    g'_k = min(1, λ_abs / ‖g‖) · g_k,         γ_k ← min(γ_k, ‖g'_k‖)              for s < warmup_steps
    g'_k = min(1, λ_rel · γ_k / ‖g_k‖) · g_k, γ_k ← β · γ_k + (1 − β) · ‖g'_k‖    from then on

    Wang et al. 2025, AdaGC (arXiv 2502.11034, algorithm 1), with their λ_abs = 1, λ_rel = 1.05, β = 0.98 and 100 steps.
    A tensor without a γ_k above 0 after the warm-up, such as one that was frozen until then, is not clipped at its
    first step, which gives its γ_k.

    The state is {"step": s, "norms": {name: γ_k}}.
    """

    lambda_abs: float = 1.0
    lambda_rel: float = 1.05
    beta: float = 0.98
    warmup_steps: int = 100

    def __post_init__(self) -> None:
        require_positive("lambda_abs", self.lambda_abs)
        require_positive("lambda_rel", self.lambda_rel)
        require("beta", self.beta, 0 <= self.beta < 1, "a number in [0, 1)")
        require("warmup_steps", self.warmup_steps, self.warmup_steps >= 0, "a number of steps, at least 0")

    def clip(
        self, gradients: "Tensors", weights: "Tensors", roles: Mapping[str, Role], t: int, state: Any
    ) -> dict[str, Any]:
        step, known = (state["step"] + 1, state["norms"]) if state else (1, {})
        norms = norms_of(gradients)
        if step < self.warmup_steps:
            factors = dict.fromkeys(norms, limit(self.lambda_abs, math.hypot(*norms.values())))
            following = {name: min(known.get(name, math.inf), factors[name] * norms[name]) for name in norms}
        else:
            averages = {name: known.get(name) or norms[name] for name in norms}
            factors = {
                name: limit(self.lambda_rel * averages[name], norm) if known.get(name) else 1.0
                for name, norm in norms.items()
            }
            following = {
                name: self.beta * averages[name] + (1 - self.beta) * factors[name] * norms[name] for name in norms
            }
        multiply(gradients, factors)
        return {"step": step, "norms": known | following}


@dataclass(frozen=True)
class Normalize:
    """g' = g / (‖g‖ + ε): every gradient has a norm of 1, a shorter one too, and so only its direction counts.

    Normalised gradient descent: Nesterov 1984; Hazan, Levy & Shalev-Shwartz 2015 (arXiv 1507.02030). A gradient of 0
    stays 0. Unlike a rule on the global norm it may lengthen the gradient; then Δg = ‖g‖ − ‖g'‖ is below 0.
    """

    eps: float = 1e-8

    def __post_init__(self) -> None:
        require_positive("eps", self.eps)

    def clip(self, gradients: "Tensors", weights: "Tensors", roles: Mapping[str, Role], t: int, state: None) -> None:
        norm = math.hypot(*norms_of(gradients).values())
        multiply(gradients, dict.fromkeys(gradients, 1 / (norm + self.eps)))


def limit(bound: float, norm: float) -> float:
    """The factor that brings a length `norm` to at most `bound`, a number above 0."""
    return bound / max(norm, bound)


def norms_of(tensors: "Tensors") -> dict[str, float]:
    """L2 norm of each tensor, in float64, with one host synchronisation."""
    import torch

    norms = torch.stack([torch.linalg.vector_norm(tensor, dtype=torch.float64) for tensor in tensors.values()])
    return dict(zip(tensors, norms.tolist(), strict=True))


def unit_norms(tensor: "torch.Tensor") -> "torch.Tensor":
    """L2 norms in float64, [units, 1, ...], over all dimensions but the first; of a vector, its norm, a scalar."""
    import torch

    dims = tuple(range(1, tensor.ndim)) or None
    return torch.linalg.vector_norm(tensor, dim=dims, keepdim=dims is not None, dtype=torch.float64)


def multiply(tensors: "Tensors", factors: Mapping[str, float]) -> None:
    """Multiply each tensor in place by its factor. A factor of 1 skips the multiplication."""
    import torch

    names = [name for name, factor in factors.items() if factor != 1.0]
    if names:
        torch._foreach_mul_([tensors[name] for name in names], [factors[name] for name in names])
