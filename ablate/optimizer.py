"""Optimizers: those of torch and a few more, with their settings checked before a run (torch itself accepts lr=inf).

Each parameter group keeps its own learning rate, which the schedule multiplies at every step.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ablate.config.checks import refusal, require
from ablate.model.parameter_roles import Role, role

if TYPE_CHECKING:
    import torch

    Named = Sequence[tuple[str, torch.nn.Parameter]]


@runtime_checkable
class OptimizerRule(Protocol):
    """Interface of an optimizer option."""

    def build(self, parameters: "Named") -> "torch.optim.Optimizer":
        """Return the optimizer of the trained parameters, with each parameter group at its peak learning rate.

        `parameters` lists (name, parameter) in the model's order, as `named_parameters()` does; torch's optimizers
        accept such a list. `ablate.model.parameter_roles.role(name)` says what a parameter is. A group may have a
        "name", by which its learning rate is recorded.
        """
        ...


def check_common(lr: float, weight_decay: float) -> None:
    require("lr", lr, 0 < lr < math.inf, "a finite number above 0")
    require("weight_decay", weight_decay, 0 <= weight_decay < math.inf, "a finite number, at least 0")


@dataclass(frozen=True)
class Grouping:
    """Learning rates and weight decay by layer: settings that every optimizer shares.

    lr              peak learning rate of the top: pooler, final norm and head
    weight_decay    weight decay, for the parameters that `decay_norms_and_biases` leaves it to
    layer_decay     d in (0, 1]: the top layer has lr · d, the layer below it lr · d², ..., the embeddings lr · d^(n+1)
    head_lr         peak learning rate of the head, or null for lr
    decay_norms_and_biases      false: biases and normalisation layers have no weight decay

    Layer-wise decay: Howard & Ruder 2018 (arXiv 1801.06146), with the exponents of Zhang et al. 2021 (2006.05987).
    """

    lr: float
    weight_decay: float = 0.0
    layer_decay: float = 1.0
    head_lr: float | None = None
    decay_norms_and_biases: bool = True

    def __post_init__(self) -> None:
        require("lr", self.lr, 0 < self.lr < math.inf, "a finite number above 0")
        require("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "a finite number, at least 0")
        require("layer_decay", self.layer_decay, 0 < self.layer_decay <= 1, "a number in (0, 1]")
        head_lr = self.head_lr
        require("head_lr", head_lr, head_lr is None or 0 < head_lr < math.inf, "null or a finite number above 0")

    @property
    def needs_roles(self) -> bool:
        """Whether the layer of each parameter counts."""
        return self.layer_decay != 1

    def groups(self, parameters: "Named", among: "Named | None" = None) -> list[dict[str, Any]]:
        """Parameter groups for torch: one for each pair of learning rate and weight decay, in the model's order.

        among: all trained parameters, from which layers are counted, where `parameters` are some of them.
        """
        found: dict[tuple[float, float], dict[str, Any]] = {}
        numbers = (role(name).layer for name, _ in among or parameters)
        layers = 1 + max((number for number in numbers if number is not None), default=-1)
        for name, parameter in parameters:
            part = role(name)
            decays = self.decay_norms_and_biases or part.kind == "weight"
            rate, decay = self.rate(part, layers), self.weight_decay * decays
            group = found.setdefault((rate, decay), {"params": [], "lr": rate, "weight_decay": decay, "name": ""})
            group["params"].append(parameter)
            group["name"] = group["name"] or place_of(part) + ("" if decays else ", not decayed")
        return list(found.values())

    def rate(self, part: Role, layers: int) -> float:
        """The peak learning rate of a parameter in a model of `layers` layers.

        >>> rates = Grouping(lr=1.0, layer_decay=0.5)
        >>> [rates.rate(Role(*each), layers=2) for each in
        ...  (("embedding", "weight", None), ("mlp", "bias", 0), ("mlp", "weight", 1), ("head", "weight", None))]
        [0.125, 0.25, 0.5, 1.0]
        """
        if part.block == "head" and self.head_lr is not None:
            return self.head_lr
        below = layers + 1 if part.block == "embedding" else 0 if part.layer is None else layers - part.layer
        return self.lr * self.layer_decay**below


def place_of(part: Role) -> str:
    """A parameter's place in words: "layer 3", or its block outside the layers."""
    return part.block if part.layer is None else f"layer {part.layer}"


@dataclass(frozen=True)
class AdamW(Grouping):
    """`torch.optim.AdamW` (Loshchilov & Hutter 2019, arXiv 1711.05101), fused, with PyTorch's defaults.

    Weight decay acts on every trained parameter, as it does by default in PyTorch and in the original notebook.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_moments(self.betas, self.eps)

    def build(self, parameters: "Named") -> "torch.optim.Optimizer":
        import torch

        return torch.optim.AdamW(self.groups(parameters), betas=self.betas, eps=self.eps, fused=True)


def check_moments(betas: tuple[float, float], eps: float = 1.0) -> None:
    """Raise ValueError for decay rates or an epsilon that Adam cannot use."""
    require("betas", betas, all(0 <= beta < 1 for beta in betas), "two numbers in [0, 1)")
    require("eps", eps, 0 < eps < math.inf, "a finite number above 0")


@dataclass(frozen=True)
class SGD(Grouping):
    """`torch.optim.SGD` with momentum. Clipping shortens its update, whereas AdamW normalises the update's size."""

    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require("momentum", self.momentum, 0 <= self.momentum < 1, "a number in [0, 1)")
        require("nesterov", self.nesterov, not self.nesterov or self.momentum > 0, "false where momentum=0")

    def build(self, parameters: "Named") -> "torch.optim.Optimizer":
        import torch
        from torch.distributed.tensor import DTensor

        fused = not any(isinstance(p, DTensor) for _, p in parameters)  # torch 2.13 has no fused SGD for shards
        return torch.optim.SGD(
            self.groups(parameters), lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=fused
        )


@dataclass(frozen=True)
class AdamWNoBiasCorrection(AdamW):
    """AdamW whose running means are not corrected for their start at zero, as BERT was published with.

    m ← β1 m + (1 − β1) g, v ← β2 v + (1 − β2) g², θ ← θ − η (m / (√v + ε) + λ θ). AdamW divides m and v by 1 − βᵗ;
    without that, the first updates are larger, the first one by a factor of 3.2. Mosbach et al. 2021 (arXiv
    2006.04884) and Zhang et al. 2021 (2006.05987) find that this makes fine-tuning on few examples unstable.

    The defaults are those of BERT's own optimizer (Devlin et al. 2019), in which ε is 1e-6. There biases and norms have
    no weight decay: decay_norms_and_biases=false.
    """

    eps: float = 1e-6

    def build(self, parameters: "Named") -> "torch.optim.Optimizer":
        from ablate.training.optimizers import BertAdam

        return BertAdam(self.groups(parameters), {"betas": self.betas, "eps": self.eps})


@dataclass(frozen=True)
class Lion(Grouping):
    """Lion, evolved sign momentum: Chen et al. 2023 (arXiv 2302.06675), with the paper's β.

    θ ← θ − η (sign(β1 m + (1 − β1) g) + λ θ), m ← β2 m + (1 − β2) g. Every entry moves by η in each step. The authors
    advise 3 to 10 times smaller rates than AdamW's, and 3 to 10 times larger weight decay.
    """

    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_moments(self.betas)

    def build(self, parameters: "Named") -> "torch.optim.Optimizer":
        from ablate.training.optimizers import LionOptimizer

        return LionOptimizer(self.groups(parameters), {"betas": self.betas})


@dataclass(frozen=True)
class Adafactor(Grouping):
    """`torch.optim.Adafactor`: Shazeer & Stern 2018 (arXiv 1804.04235), with torch's defaults.

    For a matrix it keeps means of g² by row and by column instead of by entry. The step is relative to the weights:
    θ ← θ − max(eps, RMS(θ)) · min(lr, 1/√t) · u / max(1, RMS(u) / threshold), with u = g / √v̂ and 1 − t^decay as β2 at
    step t. So `lr` is a relative step; the paper has 0.01.

    threshold   d, the largest RMS of u
    decay       exponent τ < 0 of β2 = 1 − t^τ
    eps         smallest RMS of the weights that counts
    """

    decay: float = -0.8
    eps: float = 1e-3
    threshold: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require("decay", self.decay, -math.inf < self.decay < 0, "a finite number below 0")
        require("eps", self.eps, 0 < self.eps < math.inf, "a finite number above 0")
        require("threshold", self.threshold, 1 <= self.threshold < math.inf, "a finite number, at least 1")

    def build(self, parameters: "Named") -> "torch.optim.Optimizer":
        import torch

        check_not_sharded("adafactor", parameters)
        return torch.optim.Adafactor(
            self.groups(parameters), lr=self.lr, beta2_decay=self.decay, eps=(None, self.eps), d=self.threshold
        )


MUON_ADJUSTMENTS = ("match_rms_adamw", "original")


@dataclass(frozen=True)
class Muon(AdamW):
    """`torch.optim.Muon` for the matrices inside the layers, AdamW for embeddings, pooler, head, norms and biases.

    Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) makes each update nearly orthogonal: m ← μ m +
    (1 − μ) g, then five Newton-Schulz iterations, which keep the singular vectors of m and bring its singular values
    near 1. torch computes them in bfloat16.

    momentum, nesterov      of Muon's running mean
    adjustment              match_rms_adamw: lr · 0.2 √max(rows, columns), so that lr and weight decay are those of
                            AdamW (Liu et al. 2025, arXiv 2502.16982); original: lr · √max(1, rows / columns)
    betas, eps              of AdamW
    """

    momentum: float = 0.95
    nesterov: bool = True
    adjustment: str = "match_rms_adamw"

    needs_roles = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require("momentum", self.momentum, 0 <= self.momentum < 1, "a number in [0, 1)")
        known = self.adjustment in MUON_ADJUSTMENTS
        require("adjustment", self.adjustment, known, f"one of {', '.join(MUON_ADJUSTMENTS)}")

    def build(self, parameters: "Named") -> "torch.optim.Optimizer":
        import torch

        from ablate.training.optimizers import Joined

        check_not_sharded("muon", parameters)
        matrices = [each for each in parameters if is_inner_matrix(*each)]
        others = [each for each in parameters if not is_inner_matrix(*each)]
        parts: list[torch.optim.Optimizer] = []
        if matrices:
            groups = [group | {"name": f"{group['name']}, Muon"} for group in self.groups(matrices, parameters)]
            how = {"momentum": self.momentum, "nesterov": self.nesterov, "adjust_lr_fn": self.adjustment}
            parts += [torch.optim.Muon(groups, **how)]
        if others:
            groups = self.groups(others, parameters)
            parts += [torch.optim.AdamW(groups, betas=self.betas, eps=self.eps, fused=True)]
        return Joined(*parts)


def is_inner_matrix(name: str, parameter: "torch.nn.Parameter") -> bool:
    """Whether a parameter is a matrix in a transformer layer."""
    return role(name).block in ("attention", "mlp") and parameter.ndim == 2


def check_not_sharded(optimizer: str, parameters: "Named") -> None:
    """Raise ValueError for sharded parameters: an update that depends on a tensor as a whole would differ."""
    from torch.distributed.tensor import DTensor

    if any(isinstance(p, DTensor) for _, p in parameters):
        raise refusal("trainer.distributed", "fsdp", f"ddp with optimizer={optimizer}, which needs whole tensors")


def check_groups(optimizer: "torch.optim.Optimizer", parameters: "Named") -> None:
    """Raise ValueError unless an optimizer has every trained parameter in one group, with a finite learning rate."""
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    missing = [name for name, p in parameters if id(p) not in set(held)]
    if missing or len(held) != len(parameters):
        what = f"an optimizer of each trained parameter, once (without {missing[0]})" if missing else (
            "an optimizer of the trained parameters and of no others"
        )  # fmt: skip
        raise refusal("optimizer", type(optimizer).__qualname__, what)
    for group in optimizer.param_groups:
        rate = float(group["lr"])
        require("optimizer: the learning rate of each parameter group", rate, 0 < rate < math.inf, "finite and above 0")


def group_names(optimizer: "torch.optim.Optimizer") -> list[str]:
    """A name for each parameter group: its own where it has one that no other group has, else its number."""
    own = [str(group.get("name", "")) for group in optimizer.param_groups]
    return [name if name and own.count(name) == 1 else str(i) for i, name in enumerate(own)]


def set_lr(optimizer: "torch.optim.Optimizer", peaks: Sequence[float], factor: float) -> float:
    """Set the learning rate of each parameter group to its own peak times the schedule's factor; return the largest."""
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["lr"] = peak * factor
    return max(group["lr"] for group in optimizer.param_groups)
