"""Freezing: which parameters a run trains. θ = θ_frozen ∪ θ_trained, disjoint (§2.2, §3.1)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ablate.config.checks import require
from ablate.model.parameter_roles import Role, role
from ablate.schema import BLOCKS

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class FreezeRule(Protocol):
    """What a freezing rule has to offer."""

    def freezes(self, name: str, role: Role) -> bool:
        """True if the parameter `name`, which plays `role` in the model, stays as it was pretrained."""
        ...


@dataclass(frozen=True)
class Nothing:
    """Every parameter is trained."""

    def freezes(self, name: str, role: Role) -> bool:
        return False


@dataclass(frozen=True)
class Blocks:
    """Freezes whole blocks; [embedding, attention] is the paper's rule (§3.1).

    In BERT that is every parameter whose name holds "embeddings" or "attention", `attention.output` with its
    LayerNorm included.
    """

    blocks: tuple[str, ...]

    def __post_init__(self) -> None:
        for block in self.blocks:
            require("blocks", block, block in BLOCKS, f"one of {', '.join(BLOCKS)}")

    def freezes(self, name: str, role: Role) -> bool:
        return role.block in self.blocks


def freeze(model: "nn.Module", rule: FreezeRule) -> "dict[str, nn.Parameter]":
    """Freeze what `rule` says and return the trained parameters by name, in the model's order.

    A frozen parameter gets no gradient: no memory, no optimizer state, no update.
    Raises ValueError if nothing is left to train, or if a parameter's role is unknown.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not rule.freezes(name, role(name)))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError(f"freeze={rule}: nothing is left to train")
    return trained
