"""Averages of the weights over the steps, with which a run is evaluated while training goes on with its own weights.

The state of an average is {"count": number of updates, "values": {name: tensor}}, in float32 on the weights' device.
The tensors are updated in place.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ablate.config.checks import require

if TYPE_CHECKING:
    from torch import Tensor, nn


@runtime_checkable
class Average(Protocol):
    """Interface of an averaging option. Its state is None before the first update, and can be saved by torch."""

    def update(self, trained: "Mapping[str, nn.Parameter]", t: int, state: Any) -> Any:
        """Return the state after the update of step t, given the trained parameters and the state before it."""
        ...

    def evaluating(self, trained: "Mapping[str, nn.Parameter]", state: Any) -> AbstractContextManager[None]:
        """Return a context in which the trained parameters have the averaged values."""
        ...


@dataclass(frozen=True)
class Nothing:
    """Evaluates the weights themselves."""

    def update(self, trained: "Mapping[str, nn.Parameter]", t: int, state: None) -> None:
        return None

    def evaluating(self, trained: "Mapping[str, nn.Parameter]", state: None) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class Ema:
    """Exponential moving average: a_t = d · a_{t−1} + (1 − d) · θ_t, with a_1 = θ_1 after the first update.

    The formula of `torch.optim.swa_utils.get_ema_multi_avg_fn`; d = `decay`. The average begins at weights and not at
    0, so its factors sum to 1 and need no correction of a bias. But θ_1 keeps the factor d^(t−1), which is large in a
    run of few steps. With `warmup`, the decay after n updates is min(d, (1 + n) / (10 + n)), as in TensorFlow's
    ExponentialMovingAverage with `num_updates`.
    """

    decay: float = 0.99
    warmup: bool = False

    def __post_init__(self) -> None:
        require("decay", self.decay, 0 <= self.decay < 1, "a number in [0, 1)")

    def update(self, trained: "Mapping[str, nn.Parameter]", t: int, state: Any) -> dict[str, Any]:
        count = state["count"] if state else 0
        decay = min(self.decay, (1 + count) / (10 + count)) if self.warmup else self.decay
        return moved_state(trained, state, 1 - decay)

    def evaluating(self, trained: "Mapping[str, nn.Parameter]", state: Any) -> AbstractContextManager[None]:
        return with_values(trained, state["values"]) if state else nullcontext()


@dataclass(frozen=True)
class Swa:
    """Stochastic weight averaging: the equal mean of θ_t over t = start, start + every, start + 2 · every, ...

    Izmailov et al. 2018 (arXiv 1803.05407), with the running mean of `torch.optim.swa_utils.get_swa_multi_avg_fn`,
    a_n = a_{n−1} + (θ − a_{n−1}) / n. The paper trains three quarters of the steps first, and then with a constant or
    cyclical learning rate: choose the scheduler to match. Before `start`, evaluation uses the weights themselves.
    """

    start: int = 225
    every: int = 1

    def __post_init__(self) -> None:
        require("start", self.start, self.start >= 1, "a step, at least 1")
        require("every", self.every, self.every >= 1, "a number of steps, at least 1")

    def update(self, trained: "Mapping[str, nn.Parameter]", t: int, state: Any) -> Any:
        if t < self.start or (t - self.start) % self.every:
            return state
        return moved_state(trained, state, 1 / (state["count"] + 1) if state else 1.0)

    def evaluating(self, trained: "Mapping[str, nn.Parameter]", state: Any) -> AbstractContextManager[None]:
        return with_values(trained, state["values"]) if state else nullcontext()


def moved_state(trained: "Mapping[str, nn.Parameter]", state: Any, share: float) -> dict[str, Any]:
    """An average's state, moved towards the weights by a share of the way; the weights themselves at first."""
    import torch

    weights = {name: p.detach() for name, p in trained.items()}
    if not state:
        return {"count": 1, "values": {name: p.to(torch.float32, copy=True) for name, p in weights.items()}}
    values = {name: state["values"][name].to(p.device) for name, p in weights.items()}  # a checkpoint's are on the CPU
    torch._foreach_lerp_(list(values.values()), [p.float() for p in weights.values()], share)
    return {"count": state["count"] + 1, "values": values}


@contextmanager
def with_values(trained: "Mapping[str, nn.Parameter]", values: "Mapping[str, Tensor]") -> Iterator[None]:
    """Context in which the trained parameters have other values; after it they have their own again, bit for bit."""
    import torch

    own = {name: p.detach().clone() for name, p in trained.items()}
    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(values[name])
    try:
        yield
    finally:
        with torch.no_grad():
            for name, p in trained.items():
                p.copy_(own[name])
