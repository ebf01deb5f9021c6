"""The training step, in the six lines of the write-up's method, and the training loop: a generator of step records."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ablate.average import Average
from ablate.clip import GradientRule, NormRule
from ablate.data.batches import Batch
from ablate.distributed.parallel import Parallel
from ablate.distributed.ranks import Ranks
from ablate.freeze import Freezing
from ablate.model.parameter_roles import Role
from ablate.optimizer import set_lr
from ablate.regularizer import LossRule, Nothing, WeightRule
from ablate.scheduler import Scheduler
from ablate.schema import Step
from ablate.task import Task
from ablate.techniques import TechniqueSet
from ablate.training.clipping import Clipped, clip_gradient
from ablate.training.dropout import Dropout, rest_frozen
from ablate.training.frozen_prefix import FrozenPrefix
from ablate.training.measures import GradientNoise, Measures
from ablate.training.norms import Norms, gradient_norms


class Diverged(Exception):
    """The loss or gradient norm of a step is not finite. The step makes no update; this is an outcome, not a crash."""

    def __init__(self, step: int, cause: str) -> None:
        super().__init__(f"step {step}: {cause}")
        self.step, self.cause = step, cause


class Moment(NamedTuple):
    """Yielded by the loop after each update: the step's row, all gradient norms, other measures, and the states."""

    row: Step
    norms: Norms
    measures: Measures
    states: dict[str, Any]  # of clip rules and averages, by group


@dataclass(frozen=True)
class Learner:
    """One model with the techniques of one arm."""

    task: Task
    model: nn.Module  # prepared by the accelerator
    wrapped: nn.Module  # called in training: the model, or DDP around it
    trained: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    peak_lrs: tuple[float, ...]  # of the optimizer's parameter groups
    scheduler: Scheduler
    techniques: TechniqueSet
    freezing: Freezing
    clips: dict[str, NormRule | GradientRule]  # by group, in the order in which they act; so are the next three
    losses: dict[str, LossRule]
    weights: dict[str, WeightRule]
    averages: dict[str, Average]
    roles: dict[str, Role]  # of the trained parameters
    parameters: int  # of the whole model
    rate_names: list[str]  # of the optimizer's parameter groups
    updates_every: int  # steps between measures that need copies
    noise_every: int | None  # steps between measures of the gradient noise
    accumulation: int  # mini-batches per step
    dropout: Dropout
    frozen_dropout: bool  # whether modules that are frozen at a step have dropout in it
    prefix: FrozenPrefix | None  # keeps what the frozen first layers compute
    steps: int
    examples: int  # per step, on all ranks
    accelerator: Accelerator
    ranks: Ranks
    parallel: Parallel
    tracked: tuple[str | None, str | None]  # the parameters behind G_MLP and G_CLS; None: unknown

    @property
    def turns_gradient(self) -> bool:
        """Whether a rule on tensors acts, which may change the gradient's direction."""
        return not all(isinstance(rule, NormRule) for rule in self.clips.values())

    def noise_at(self, t: int, pieces: int) -> GradientNoise | None:
        """The measure of the gradient noise at step t, if it is wanted there."""
        wanted = self.noise_every and t % self.noise_every == 0
        return GradientNoise(pieces, self.accumulation, self.examples, self.ranks) if wanted else None


def train(
    learner: Learner, batches: Callable[[int], Sequence[Batch]], first: int = 1, states: Mapping[str, Any] | None = None
) -> Iterator[Moment]:
    """Train the steps first, ..., steps. `batches(t)` returns the pieces of step t, whose gradients are summed.

    `states` are those after step first − 1. Yields after each update. Raises Diverged, before the update, if the loss
    or the gradient norm is not finite.
    """
    learner.model.train()
    states = dict(states or {})
    for t in range(first, learner.steps + 1):
        began = time.perf_counter()
        row, norms, measures, states = step(learner, batches(t), t, states, resuming=t == first)
        yield Moment(Step(**row, seconds=time.perf_counter() - began), norms, measures, states)


def step(
    learner: Learner, pieces: Sequence[Batch], t: int, states: dict[str, Any], resuming: bool = True
) -> tuple[dict[str, Any], Norms, Measures, dict[str, Any]]:
    """Update θ_{t+1} = θ_t − η_t · s(‖g_t‖) · g_t by the write-up's method; return row, norms, measures and states."""
    measures = Measures(t % learner.updates_every == 0, learner.noise_at(t, len(pieces)))
    if enter_freezing(learner, t, resuming):
        measures.trained_share(learner.trained, learner.parameters)
    loss, right, units = 0.0, 0, 0
    with shared_casts(learner), learner.dropout.at(t), changed_weights(learner, t):
        for number, piece in enumerate(pieces):  # weighted by size, their losses sum to the batch's mean loss
            with learner.parallel.averaging(learner.wrapped, last=number == len(pieces) - 1):
                logits, piece = forward(learner, piece)  # 1 forward: [B, K], or [B, L, K]
                piece_loss = learner.task.loss(logits, piece.labels)
                objective = regularised(learner, piece_loss, logits, piece, t, number)
                learner.accelerator.backward(objective * piece.share * learner.ranks.count)  # 2 backward
            measures.piece_done(learner.trained, objective, piece_loss, piece.share)
            loss = loss + piece_loss.detach() * piece.share
            right, units = add_counts(learner.task, logits, piece, right, units)
    norms = gradient_norms(learner.trained, learner.parallel.squares)  # 3 record, before anything acts on the gradients
    tokens = sum(int(piece.attention_mask.sum()) for piece in pieces)
    loss, tokens, added, right, units = learner.ranks.sum(
        [float(loss), tokens, float(measures.added), float(right), float(units)]
    )
    check_finite(t, loss, norms.total)
    with measures.direction(learner.trained, wanted=learner.turns_gradient):
        clipped, states = clip_gradient(learner.clips, learner.trained, learner.roles, norms, t, states)  # 4 clip
    lr = set_lr(learner.optimizer, learner.peak_lrs, learner.scheduler.factor(t, learner.steps))  # 5 schedule
    with measures.update(learner.trained, learner.roles, learner.parallel.squares):
        learner.optimizer.step()  # 6 update
    learner.optimizer.zero_grad()
    for group, average in learner.averages.items():
        states[group] = average.update(learner.trained, t, states.get(group))
    measures.of_techniques(learner.optimizer, learner.rate_names, clipped.shares, added)
    row = {"step": t, "loss": loss, "accuracy": None if math.isnan(right) else right / units, "lr": lr}
    row |= norm_columns(learner.tracked, norms, clipped) | {"examples": learner.examples, "tokens": int(tokens)}
    return row, norms, measures, states


def add_counts(task: Task, logits: Tensor, piece: Batch, right: Any, units: int) -> tuple[Any, int]:
    """The counts of right predictions, NaN in a task without classes, and of units, with those of a piece added."""
    more, count = task.right(logits, piece.labels)
    return right + (math.nan if more is None else more), units + count


def enter_freezing(learner: Learner, t: int, resuming: bool) -> bool:
    """Freeze the weights of step t, with or without their dropout; return whether the set changes at this step."""
    changes = learner.freezing.enter(t, learner.trained, resuming)
    if (changes or resuming) and not learner.frozen_dropout:
        rest_frozen(learner.model)
    if learner.prefix:
        learner.prefix.enter(t)
    return changes


def norm_columns(
    tracked: tuple[str | None, str | None], norms: Norms, clipped: Clipped | None
) -> dict[str, float | None]:
    """The columns of a step's row about norms, before and after clipping. Δg = ‖g‖ − ‖g'‖.

    Args:
        tracked: the parameters behind G_MLP and G_CLS; None: unknown.
        clipped: None where the gradient after clipping is unknown.
    """
    found = {
        "grad_norm": norms.total,
        "grad_norm_clipped": clipped and clipped.total,
        "delta_g": clipped and norms.total - clipped.total,
    }
    for column, name in zip(("mlp", "classifier"), tracked, strict=True):
        known = name in norms.squares  # else it is frozen, or unknown
        found[f"{column}_grad_norm"] = norms.of([name]) if known else None
        found[f"{column}_grad_norm_clipped"] = clipped.of([name]) if clipped and known else None
    return found


def regularised(learner: Learner, loss: Tensor, logits: Tensor, piece: Batch, t: int, number: int) -> Tensor:
    """The loss that a step minimises: the task's, as the regularizers change it one after the other."""
    rules = [rule for rule in learner.losses.values() if not isinstance(rule, Nothing)]
    with learner.dropout.again(t, number) if rules else nullcontext():
        for rule in rules:
            loss = rule.loss(loss, logits, piece, learner.model, t)
    return loss


@contextmanager
def changed_weights(learner: Learner, t: int) -> Iterator[None]:
    """Context in which the regularizers have changed the weights for step t."""
    with ExitStack() as stack:
        for rule in learner.weights.values():
            stack.enter_context(rule.weights(learner.model, t))
        yield


@contextmanager
def averaged_weights(learner: Learner, states: Mapping[str, Any]) -> Iterator[None]:
    """Context in which the trained weights are those that the arm's averages make of them, for an evaluation."""
    with ExitStack() as stack:
        for group, average in learner.averages.items():
            stack.enter_context(average.evaluating(learner.trained, states.get(group)))
        yield


def shared_casts(learner: Learner) -> AbstractContextManager[Any]:
    """Context in which all pieces of a step share one bf16 copy of each trained weight: same bits, fewer casts.

    torch keeps the copies that autocast makes until the outermost autocast context ends. Without this one, that is the
    model's own context, which ends with each piece. This one is disabled: it casts nothing itself and leaves backward
    unchanged. It is not used for sharded weights, where the copies would take up the memory that sharding saves.
    """
    if learner.parallel.name == "fsdp":
        return nullcontext()
    return torch.autocast(learner.accelerator.device.type, enabled=False)


def forward(learner: Learner, piece: Batch) -> tuple[Tensor, Batch]:
    """Logits [B, K] or [B, L, K] in float32, and the piece, both on the model's device."""
    piece = piece.to(learner.accelerator.device)
    output = learner.wrapped(**piece.inputs)
    return output.logits.float(), piece


def check_finite(t: int, loss: float, norm: float) -> None:
    for name, value in (("loss", loss), ("gradient norm", norm)):
        if not math.isfinite(value):
            raise Diverged(t, f"{name} is {value}")
