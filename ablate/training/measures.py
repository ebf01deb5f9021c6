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
    noise_trace       estimate of tr Σ, the summed variance over the examples of the gradient's entries
    noise_signal      estimate of ‖G‖², the squared norm of the gradient's expectation

`cosine` and the updates need copies: they are measured at every `trainer.track.updates_every`-th step. The last two
are measured at every `trainer.track.noise_every`-th step, if that is set.

The gradient noise scale of a run is tr Σ / ‖G‖², a number of examples: the mean of `noise_trace` over its steps divided
by that of `noise_signal` (`GradientNoise`).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ablate.distributed.parallel import local_shard
from ablate.distributed.ranks import Ranks
from ablate.model.parameter_roles import Role
from ablate.training.norms import gradient_norms, sum_of_squares


class Measures:
    """The measures of one step.

    With `copies` those that need a copy of gradient or weights are among them, and with `noise` the gradient noise.
    """

    def __init__(self, copies: bool, noise: "GradientNoise | None" = None) -> None:
        self.copies = copies
        self.noise = noise
        self.rows: list[tuple[str, str, float]] = []
        self.regularised = False
        self.added: Tensor | float = 0.0

    def add(self, name: str, place: str, value: float) -> None:
        self.rows.append((name, place, value))

    def trained_share(self, trained: Mapping[str, nn.Parameter], total: int) -> None:
        """`total`: number of the model's parameters."""
        self.add("trained_share", "", sum(p.numel() for p in trained.values() if p.requires_grad) / total)

    def piece_done(self, trained: Mapping[str, nn.Parameter], objective: Tensor, loss: Tensor, share: float) -> None:
        """After backward of a piece, whose share of the step's examples is `share`.

        Adds up what regularizers changed in its loss, and measures the gradient noise, if that is wanted.
        """
        if objective is not loss:
            self.regularised = True
            self.added = self.added + (objective - loss).detach() * share
        if self.noise and self.noise.complete(trained):
            trace, signal = self.noise.estimates()
            self.add("noise_trace", "", trace)
            self.add("noise_signal", "", signal)

    def of_techniques(
        self, optimizer: torch.optim.Optimizer, names: Sequence[str], shortened: Mapping[str, float], added: float
    ) -> None:
        """After the update: the rate of each parameter group, shares of clipped tensors by group, the added loss."""
        if len(names) > 1:
            for name, group in zip(names, optimizer.param_groups, strict=True):
                self.add("lr", name, float(group["lr"]))
        for group, share in shortened.items():
            self.add("clipped_share", group, share)
        if self.regularised:
            self.add("added_loss", "", added)

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
    def update(
        self,
        trained: Mapping[str, nn.Parameter],
        roles: Mapping[str, Role],
        sum_over_ranks: Callable[[Tensor], Tensor] = lambda squares: squares,
    ) -> Iterator[None]:
        """Around the optimizer's step: measure how far it moves each block.

        `sum_over_ranks` adds up the squares of weights that are sharded over several ranks.
        """
        if not self.copies:
            yield
            return
        before = {name: local_shard(p.detach()).clone() for name, p in trained.items()}
        yield
        blocks = list(dict.fromkeys(roles[name].block for name in trained))
        sums = torch.zeros(len(blocks), 2, dtype=torch.float64)  # squares of update and weights
        for name, p in trained.items():
            moved = local_shard(p.detach()) - before[name]
            sums[blocks.index(roles[name].block)] += torch.tensor(
                [squares(moved), squares(before[name])], dtype=torch.float64
            )
        for block, (update, weight) in zip(blocks, sum_over_ranks(sums).sqrt().tolist(), strict=True):
            self.add("update_norm", block, update)
            self.add("update_ratio", block, update / weight if weight else 0.0)


class GradientNoise:
    """Estimates of the gradient noise from the gradients of a step's first mini-batch and of the whole step.

    With b and B examples in them, and the gradients G_b and G_B of their mean losses,

    ‖G‖² ≈ (B · ‖G_B‖² − b · ‖G_b‖²) / (B − b)   and   tr Σ ≈ (‖G_b‖² − ‖G_B‖²) / (1/b − 1/B)

    Both are unbiased for examples drawn independently, as E‖G_n‖² = ‖G‖² + tr Σ / n; each may be below 0 in one step,
    and only the ratio of their means over many steps is meaningful. McCandlish et al. 2018 (arXiv 1812.06162, appendix
    A.1). The gradients are those of what a step minimises, before clipping, and dropout is part of the noise. With
    several ranks, G_b is that of each rank's part of the mini-batch, and its square the mean over the ranks.
    """

    def __init__(self, pieces: int, accumulation: int, examples: int, ranks: Ranks) -> None:
        """pieces, accumulation: pieces and mini-batches per step, at least 2; examples: per step, on all ranks."""
        self.pieces, self.accumulation, self.examples, self.ranks = pieces, accumulation, examples, ranks
        self.done = 0  # pieces
        self.small = self.whole = 0.0  # ‖G_b‖² and ‖G_B‖²

    def complete(self, trained: Mapping[str, nn.Parameter]) -> bool:
        """After a piece, measure the gradient if the first mini-batch or the step ends; return if the step does."""
        self.done += 1
        if self.done * self.accumulation == self.pieces:
            # so far it is the mini-batch's mean gradient divided by the number of mini-batches
            square = gradient_norms(trained).total ** 2 * self.accumulation**2
            self.small = self.ranks.sum([square])[0] / self.ranks.count
        if self.done == self.pieces:
            self.whole = gradient_norms(trained).total ** 2
        return self.done == self.pieces

    def estimates(self) -> tuple[float, float]:
        """tr Σ and ‖G‖²."""
        small, whole = self.examples / self.accumulation / self.ranks.count, self.examples
        trace = (self.small - self.whole) / (1 / small - 1 / whole)
        return trace, (whole * self.whole - small * self.small) / (whole - small)


def squares(tensor: Tensor) -> float:
    """Σ x² in float64."""
    return float(sum_of_squares(tensor))
