"""Dropout's random numbers: a pure function of the run's stream and the step.

Nothing that was drawn before decides what is drawn at step t. So there is no generator to save with a checkpoint or to
hand on to a fork, and the arms of a seed share each step's masks for as long as they live.

Srivastava et al. 2014, Dropout: A Simple Way to Prevent Neural Networks from Overfitting, in its inverted form: an
entry is zero with probability p, the rest are divided by 1 − p.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

LEVELS = 1 << 16  # of a draw; p is rounded to a multiple of 1 / LEVELS


class Dropout(Protocol):
    """Where a run's dropout draws from."""

    @property
    def algorithm(self) -> str:
        """What two runs have in common if they draw the same masks: run.json's `pairing.dropout`."""
        ...

    def at(self, t: int) -> Any:
        """A context in which a model draws what belongs to step t."""
        ...


@dataclass(frozen=True)
class TorchDropout:
    """torch's own generators, seeded anew at each step: on CUDA, and where torch itself has to know of the draws.

    That is so in a compiled model, and under gradient checkpointing, which runs parts of the forward pass once more
    and sets torch's generators back for it.
    """

    seed: int
    compiled: bool = False  # torch.compile draws other numbers from the same seed

    @property
    def algorithm(self) -> str:
        return f"torch {self.seed:016x}" + ", compiled" * self.compiled

    @contextmanager
    def at(self, t: int) -> Iterator[None]:
        torch.manual_seed(step_seed(self.seed, t))
        yield


@dataclass(frozen=True)
class FastDropout:
    """16 bits of numpy's SFC64 an entry, in place of torch's draws, which are slow on a CPU.

    torch (2.13) draws each entry by one thread there, 9 ns each; these take 0.6 ns. Layers' dropout and that inside of
    `scaled_dot_product_attention` draw so, in any model; whatever else a model draws is torch's, seeded by the step.
    """

    seed: int

    @property
    def algorithm(self) -> str:
        return f"sfc64 {self.seed:016x}"

    @contextmanager
    def at(self, t: int) -> Iterator[None]:
        with TorchDropout(self.seed).at(t), Masks(np.random.SFC64((self.seed, t))):
            yield


def dropout_of(seed: int, device: torch.device, compiled: bool = False, checkpointed: bool = False) -> Dropout:
    """The fastest that there is for a model on `device`."""
    fast = device.type == "cpu" and not compiled and not checkpointed
    return FastDropout(seed) if fast else TorchDropout(seed, compiled)


def step_seed(seed: int, t: int) -> int:
    """63 bits for step t."""
    return int(np.random.SeedSequence((seed, t)).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Masks(TorchFunctionMode):
    """Where torch's functions with dropout in them draw from `bits`, in the order in which they are called."""

    def __init__(self, bits: np.random.BitGenerator) -> None:
        super().__init__()
        self.bits = bits

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs: Mapping[str, Any] = kwargs or {}
        if func is F.dropout:
            return self.dropout(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self.attention(*args, **kwargs)
        return func(*args, **kwargs)

    def dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """torch.nn.functional.dropout."""
        if not training or not 0 < round(p * LEVELS) < LEVELS:
            return F.dropout(input, p, training, inplace)  # which draws nothing that matters
        noise = self.noise(input, p)
        return input.mul_(noise) if inplace else input * noise

    def noise(self, like: Tensor, p: float) -> Tensor:
        """0 or 1 / (1 − p) for each entry of `like`, in its shape and dtype."""
        count, zeros = like.numel(), round(p * LEVELS)
        draws = self.bits.random_raw(-(-count // 4)).view(np.int16)[:count]  # even over −LEVELS/2 … LEVELS/2 − 1
        kept = torch.from_numpy(draws).view(like.shape) >= zeros - LEVELS // 2
        return (kept * (LEVELS / (LEVELS - zeros))).to(like.dtype)

    def attention(
        self,
        query: Tensor,  # [..., H, L, D]
        key: Tensor,  # [..., H or fewer, S, D]
        value: Tensor,  # [..., H or fewer, S, V]
        attn_mask: Tensor | None = None,  # to [..., H, L, S]: True = attend, or numbers to be added
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """torch.nn.functional.scaled_dot_product_attention, by its documented formula where there is dropout."""
        if dropout_p == 0:
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
            )
        if enable_gqa:
            key, value = (x.repeat_interleave(query.size(-3) // x.size(-3), -3) for x in (key, value))
        scale = 1 / math.sqrt(query.size(-1)) if scale is None else scale
        scores = (query * scale) @ key.transpose(-2, -1)  # [..., H, L, S]
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None:
            scores = scores + additive(attn_mask, scores.dtype)
        weights = scores.softmax(-1)
        return self.dropout(weights, dropout_p) @ value


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask as numbers to be added to scores, all finite: so a query that may attend to nothing gets no NaN."""
    lowest = torch.finfo(dtype).min
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, lowest)
    return mask.to(dtype).clamp(min=lowest)
