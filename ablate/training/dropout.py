"""Dropout masks as a pure function of the run's dropout stream and the step.

The masks of step t do not depend on earlier draws. Checkpoints and forks therefore save no generator state, and the
arms of a seed use the same masks at every step.

Srivastava et al. 2014, Dropout: A Simple Way to Prevent Neural Networks from Overfitting, in its inverted form: an
entry is zero with probability p, and the others are divided by 1 − p.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

LEVELS = 1 << 16  # number of values of a draw; p is rounded to a multiple of 1 / LEVELS


class Dropout(Protocol):
    """Source of a run's dropout masks."""

    @property
    def algorithm(self) -> str:
        """Name shared by all runs that draw the same masks: run.json's `pairing.dropout`."""
        ...

    def at(self, t: int) -> Any:
        """Return a context manager in which a model draws the masks of step t."""
        ...

    def again(self, t: int, piece: int) -> Any:
        """Return one, inside that of step t, for a further pass over a piece: other masks, and no draw of step t less.

        So the arms of a seed share the masks of their own forward passes, also where a regularizer has more passes.
        """
        ...


@dataclass(frozen=True)
class TorchDropout:
    """Draws from torch's own generators, seeded at each step. Used on CUDA and where torch must control the draws.

    torch must control them in a compiled model, and under gradient checkpointing, which runs parts of the forward pass
    again and resets torch's generators for that.
    """

    seed: int
    compiled: bool = False  # from the same seed, torch.compile draws other numbers

    @property
    def algorithm(self) -> str:
        return f"torch {self.seed:016x}" + ", compiled" * self.compiled

    @contextmanager
    def at(self, t: int) -> Iterator[None]:
        torch.manual_seed(step_seed(self.seed, t))
        yield

    @contextmanager
    def again(self, t: int, piece: int) -> Iterator[None]:
        devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(step_seed(self.seed, t, piece + 1))
            yield


@dataclass(frozen=True)
class FastDropout:
    """Draws 16 bits per entry from numpy's SFC64, because torch's own draws are slow on a CPU.

    On a CPU, torch 2.13 takes 9 ns per entry, on one thread; SFC64 takes 0.6 ns. It serves dropout layers and the
    dropout inside `scaled_dot_product_attention`, in any model. All other draws use torch's generators, seeded by step.
    """

    seed: int

    @property
    def algorithm(self) -> str:
        return f"sfc64 {self.seed:016x}"

    @contextmanager
    def at(self, t: int) -> Iterator[None]:
        # torch.manual_seed also prepares generators of devices that this run does not use, which takes 0.8 ms
        torch.default_generator.manual_seed(step_seed(self.seed, t))
        with Masks(np.random.SFC64((self.seed, t))):
            yield

    @contextmanager
    def again(self, t: int, piece: int) -> Iterator[None]:
        with TorchDropout(self.seed).again(t, piece), Masks(np.random.SFC64((self.seed, t, piece + 1))):
            yield


def make_dropout(seed: int, device: torch.device, compiled: bool = False, checkpointed: bool = False) -> Dropout:
    """The fastest source of masks that works for a model on `device`."""
    fast = device.type == "cpu" and not compiled and not checkpointed
    return FastDropout(seed) if fast else TorchDropout(seed, compiled)


def rest_frozen(model: nn.Module) -> None:
    """Put a model in training mode, but modules whose parameters are all frozen in evaluation mode: without dropout.

    Modules inside such a module follow it, also those without parameters.
    """
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def step_seed(seed: int, *place: int) -> int:
    """63-bit seed of a place in a run: step t, or t and a number above 0."""
    return int(np.random.SeedSequence((seed, *place)).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Masks(TorchFunctionMode):
    """Within this context, torch functions that apply dropout draw from `bits`, in the order of the calls."""

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
        """Applies dropout, like torch.nn.functional.dropout."""
        if not training or not 0 < round(p * LEVELS) < LEVELS:
            return F.dropout(input, p, training, inplace)  # here torch's draws have no effect on the result
        noise = self.noise(input, p)
        return input.mul_(noise) if inplace else input * noise

    def noise(self, like: Tensor, p: float) -> Tensor:
        """Mask with the shape and dtype of `like`: each entry is 0 or 1 / (1 − p)."""
        count, zeros = like.numel(), round(p * LEVELS)
        draws = self.bits.random_raw(-(-count // 4)).view(np.int16)[:count]  # uniform on −LEVELS/2 … LEVELS/2 − 1
        kept = torch.from_numpy(draws).view(like.shape) >= zeros - LEVELS // 2
        return (kept * (LEVELS / (LEVELS - zeros))).to(like.dtype)

    def attention(
        self,
        query: Tensor,  # [..., H, L, D]
        key: Tensor,  # [..., H or fewer, S, D]
        value: Tensor,  # [..., H or fewer, S, V]
        attn_mask: Tensor | None = None,  # broadcasts to [..., H, L, S]: True = attend, or numbers to add to the scores
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Like torch.nn.functional.scaled_dot_product_attention; with dropout, by the formula in its documentation."""
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
    """The mask as numbers to add to the scores. They are finite, so that a fully masked query does not give NaN."""
    lowest = torch.finfo(dtype).min
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, lowest)
    return mask.to(dtype).clamp(min=lowest)
