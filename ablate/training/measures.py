"""Measures of a step beyond its norms: what freezing, optimizer and regularizers did. Rows of measures.parquet.

Each measure is a name, the place that it is of (a block, a parameter group, a config group; "" for the whole model) and
a number:

    trained_share     share of the model's parameters that are trained, at step 1 and where it changes
    lr                learning rate of each parameter group, where there are several
    added_loss        what the regularizers add to the task's loss, in nats
    clipped_share     share of tensors that a rule on tensors made shorter, by config group
    cosine            cos(g, g') between the gradient before and after a rule on tensors
    update_norm       ‖θ_{t+1} − θ_t‖ by block
    update_ratio      ‖θ_{t+1} − θ_t‖ / ‖θ_t‖ by block

The last three need copies: they are measured at every `trainer.track.updates_every`-th step.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ablate.distributed.parallel import local_shard
from ablate.model.parameter_roles import Role
from ablate.training.norms import sum_of_squares


class Measures:
    """The measures of one step. With `copies` those that need a copy of gradient or weights are among them."""

    def __init__(self, copies: bool) -> None:
        self.copies = copies
        self.rows: list[tuple[str, str, float]] = []
        self.regularised = False
        self.added: Tensor | float = 0.0

    def add(self, name: str, place: str, value: float) -> None:
        self.rows.append((name, place, value))

    def trained_share(self, trained: Mapping[str, nn.Parameter], total: int) -> None:
        """`total`: number of the model's parameters."""
        self.add("trained_share", "", sum(p.numel() for p in trained.values() if p.requires_grad) / total)

    def add_loss(self, objective: Tensor, loss: Tensor, share: float) -> None:
        """Add up what regularizers changed in the loss of a piece, whose share of the step's examples is `share`."""
        if objective is not loss:
            self.regularised = True
            self.added = self.added + (objective - loss).detach() * share

    def rates(self, optimizer: torch.optim.Optimizer, names: Sequence[str]) -> None:
        if len(names) > 1:
            for name, group in zip(names, optimizer.param_groups, strict=True):
                self.add("lr", name, float(group["lr"]))

    @contextmanager
    def direction(self, trained: Mapping[str, nn.Parameter], wanted: bool) -> Iterator[None]:
        """Around a rule on tensors: measure the angle by which it turns the gradient."""
        if not (self.copies and wanted):
            yield
            return
        before = {name: p.grad.clone() for name, p in trained.items() if p.grad is not None}
        yield
        pairs = [(before[name], trained[name].grad) for name in before]
        inner = sum(float(torch.sum(a.double() * b.double())) for a, b in pairs)
        lengths = math.sqrt(sum(squares(a) for a, _ in pairs) * sum(squares(b) for _, b in pairs))
        self.add("cosine", "", inner / lengths if lengths else 1.0)

    @contextmanager
    def update(self, trained: Mapping[str, nn.Parameter], roles: Mapping[str, Role]) -> Iterator[None]:
        """Around the optimizer's step: measure how far it moves each block."""
        if not self.copies:
            yield
            return
        before = {name: local_shard(p.detach()).clone() for name, p in trained.items()}
        yield
        moved: dict[str, list[float]] = {}
        for name, p in trained.items():
            sums = moved.setdefault(roles[name].block, [0.0, 0.0])
            sums[0] += squares(local_shard(p.detach()) - before[name])
            sums[1] += squares(before[name])
        for block, (update, weight) in moved.items():
            self.add("update_norm", block, math.sqrt(update))
            self.add("update_ratio", block, math.sqrt(update / weight) if weight else 0.0)


def squares(tensor: Tensor) -> float:
    """Σ x² in float64."""
    return float(sum_of_squares(tensor))
