"""Optimizers that torch lacks: AdamW without bias correction, Lion, and Muon with AdamW for what is no matrix.

The update of a parameter θ with gradient g has a learning rate η and decoupled weight decay λ. A parameter without a
gradient is left as it is, and its state rests.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class ElementwiseOptimizer(torch.optim.Optimizer):
    """An optimizer whose update of an entry depends on that entry alone, and so is the same for a shard of a tensor."""

    means: tuple[str, ...]  # names of its running means, which start at zero

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for parameter, group in self.active():
            state = self.state[parameter]
            for name in self.means:
                if name not in state:
                    state[name] = torch.zeros_like(parameter)
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            self.update(parameter, parameter.grad, state, group)

    def active(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    yield parameter, group

    def update(self, parameter: Tensor, grad: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        """Change a parameter, which has decayed already, and its running means in place."""
        raise NotImplementedError


class BertAdam(ElementwiseOptimizer):
    """AdamW without bias correction, as BERT was published with (Devlin et al. 2019, `AdamWeightDecayOptimizer`).

        m ← β1 m + (1 − β1) g        v ← β2 v + (1 − β2) g²        θ ← θ − η (m / (√v + ε) + λ θ)

    m and v start at zero. AdamW divides them by 1 − βᵗ; without that, the first updates are larger: with β = (0.9,
    0.999) the first one is (1 − β1) / √(1 − β2) = 3.2 times as large. Mosbach et al. 2021 (arXiv 2006.04884) and Zhang
    et al. 2021 (2006.05987) find that this makes fine-tuning on few examples unstable.
    """

    means = ("exp_avg", "exp_avg_sq")

    def update(self, parameter: Tensor, grad: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        m, v = (state[name] for name in self.means)
        m.lerp_(grad, 1 - beta1)
        v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        parameter.addcdiv_(m, v.sqrt().add_(group["eps"]), value=-group["lr"])


class LionOptimizer(ElementwiseOptimizer):
    """Lion, evolved sign momentum: Chen et al. 2023 (arXiv 2302.06675), Algorithm 2.

        θ ← θ − η (sign(β1 m + (1 − β1) g) + λ θ)        m ← β2 m + (1 − β2) g

    m starts at zero. Every entry moves by η in each step, whatever the gradient's size.
    """

    means = ("exp_avg",)

    def update(self, parameter: Tensor, grad: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        m = state["exp_avg"]
        parameter.add_(torch.lerp(m, grad, 1 - beta1).sign_(), alpha=-group["lr"])
        m.lerp_(grad, 1 - beta2)


class Joined(torch.optim.Optimizer):
    """Several optimizers of torch as one: each updates its own parameter groups; states and groups are shared."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.share()

    def share(self) -> None:
        """Let the parts work on this optimizer's groups and states, which loading replaces."""
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.share()

    def step(self, closure: None = None) -> None:
        for part in self.parts:
            part.step()
