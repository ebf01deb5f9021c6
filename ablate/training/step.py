"""The training step, in the six lines of the write-up's method, and the training loop: a generator of step records."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from ablate import clip
from ablate.data.batches import Batch
from ablate.distributed.parallel import Parallel, local_shard
from ablate.distributed.ranks import Ranks
from ablate.optimizer import set_lr
from ablate.scheduler import Scheduler
from ablate.schema import Step
from ablate.training.dropout import Dropout
from ablate.training.norms import Norms, gradient_norms


class Diverged(Exception):
    """The loss or gradient norm of a step is not finite. The step makes no update; this is an outcome, not a crash."""

    def __init__(self, step: int, cause: str) -> None:
        super().__init__(f"step {step}: {cause}")
        self.step, self.cause = step, cause


class Moment(NamedTuple):
    """Yielded by the loop after each update: the step's row, all gradient norms, and the state of the clip rule."""

    row: Step
    norms: Norms
    clip_state: Any


@dataclass(frozen=True)
class Learner:
    """One model with the techniques of one arm."""

    model: nn.Module  # prepared by the accelerator
    wrapped: nn.Module  # called in training: the model, or DDP around it
    trained: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    peak_lrs: tuple[float, ...]  # of the optimizer's parameter groups
    clip: clip.NormRule
    scheduler: Scheduler
    dropout: Dropout
    steps: int
    examples: int  # per step, on all ranks
    accelerator: Accelerator
    ranks: Ranks
    parallel: Parallel
    tracked: tuple[str, str]  # the parameters behind G_MLP and G_CLS


def train(
    learner: Learner, batches: Callable[[int], Sequence[Batch]], first: int = 1, clip_state: Any = None
) -> Iterator[Moment]:
    """Train the steps first, ..., steps. `batches(t)` returns the pieces of step t, whose gradients are summed.

    Yields after each update. Raises Diverged, before the update, if the loss or the gradient norm is not finite.
    """
    learner.model.train()
    for t in range(first, learner.steps + 1):
        began = time.perf_counter()
        row, norms, clip_state = step(learner, batches(t), t, clip_state)
        yield Moment(Step(**row, seconds=time.perf_counter() - began), norms, clip_state)


def step(learner: Learner, pieces: Sequence[Batch], t: int, state: Any) -> tuple[dict[str, Any], Norms, Any]:
    """Update θ_{t+1} = θ_t − η_t · s(‖g_t‖) · g_t by the write-up's method; return row, norms and clip state."""
    loss, correct = 0.0, 0
    with shared_casts(learner), learner.dropout.at(t):
        for piece in pieces:  # piece losses are weighted by size, so that they sum to the batch's mean loss
            with learner.parallel.averaging(learner.wrapped, last=piece is pieces[-1]):
                logits, labels = forward(learner, piece)  # 1 forward: [B, K], [B]
                piece_loss = F.cross_entropy(logits, labels) * (len(labels) / learner.examples)
                learner.accelerator.backward(piece_loss * learner.ranks.count)  # 2 backward
            loss, correct = loss + piece_loss.detach(), correct + (logits.argmax(-1) == labels).sum()
    norms = gradient_norms(learner.trained, learner.parallel.squares)  # 3 record, before anything acts on the gradients
    tokens = sum(int(piece.attention_mask.sum()) for piece in pieces)
    loss, correct, tokens = learner.ranks.sum([float(loss), int(correct), tokens])
    norm = norms.total
    check_finite(t, loss, norm)
    scale, state = clip.checked_scale(learner.clip, norm, t, state)
    clip.apply(scale, (local_shard(p.grad) for p in learner.trained.values() if p.grad is not None))  # 4 clip
    lr = set_lr(learner.optimizer, learner.peak_lrs, learner.scheduler.factor(t, learner.steps))  # 5 schedule
    learner.optimizer.step()  # 6 update
    learner.optimizer.zero_grad()
    mlp, classifier = (math.sqrt(norms.squares[n]) if n in norms.squares else None for n in learner.tracked)
    row = {
        "step": t,
        "loss": loss,
        "accuracy": correct / learner.examples,
        "lr": lr,
        "grad_norm": norm,
        "grad_norm_clipped": scale * norm,
        "delta_g": norm - scale * norm,  # Δg = ‖g‖ − ‖g'‖
        "mlp_grad_norm": mlp,
        "mlp_grad_norm_clipped": mlp and scale * mlp,
        "classifier_grad_norm": classifier,
        "classifier_grad_norm_clipped": classifier and scale * classifier,
        "examples": learner.examples,
        "tokens": int(tokens),
    }
    return row, norms, state


def shared_casts(learner: Learner) -> AbstractContextManager[Any]:
    """Context in which all pieces of a step share one bf16 copy of each trained weight: same bits, fewer casts.

    torch keeps the copies that autocast makes until the outermost autocast context ends. Without this one, that is the
    model's own context, which ends with each piece. This one is disabled: it casts nothing itself and leaves backward
    unchanged. It is not used for sharded weights, where the copies would take up the memory that sharding saves.
    """
    if learner.parallel.name == "fsdp":
        return nullcontext()
    return torch.autocast(learner.accelerator.device.type, enabled=False)


def forward(learner: Learner, piece: Batch) -> tuple[Tensor, Tensor]:
    """Logits [B, K] in float32 and labels [B], on the model's device."""
    piece = piece.to(learner.accelerator.device)
    output = learner.wrapped(input_ids=piece.input_ids, attention_mask=piece.attention_mask)
    return output.logits.float(), piece.labels


def check_finite(t: int, loss: float, norm: float) -> None:
    for name, value in (("loss", loss), ("gradient norm", norm)):
        if not math.isfinite(value):
            raise Diverged(t, f"{name} is {value}")
