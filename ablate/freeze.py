"""Freezing: which parameters a run trains. θ is the disjoint union of θ_frozen and θ_trained."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ablate.config.checks import refusal, require
from ablate.model.parameter_roles import Role, role
from ablate.schema import BLOCKS

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class FreezeRule(Protocol):
    """Interface of a freezing rule."""

    def freezes(self, name: str, role: Role) -> bool:
        """Return True if the parameter `name`, whose role in the model is `role`, keeps its pretrained value."""
        ...


@dataclass(frozen=True)
class Nothing:
    """Trains every parameter."""

    def freezes(self, name: str, role: Role) -> bool:
        return False


@dataclass(frozen=True)
class Blocks:
    """Freezes whole blocks; [embedding, attention] is the write-up's rule.

    In BERT that rule freezes every parameter with "embeddings" or "attention" in its name, including
    `attention.output` with its LayerNorm.
    """

    blocks: tuple[str, ...]

    def __post_init__(self) -> None:
        for block in self.blocks:
            require("blocks", block, block in BLOCKS, f"one of {', '.join(BLOCKS)}")

    def freezes(self, name: str, role: Role) -> bool:
        return role.block in self.blocks


def freeze(model: "nn.Module", rule: FreezeRule) -> "dict[str, nn.Parameter]":
    """Freeze the parameters that `rule` names and return the trained ones by name, in the model's order.

    A frozen parameter gets no gradient, no optimizer state and no update.
    Raises ValueError if no parameter is left to train, or if the role of a parameter is unknown.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not rule.freezes(name, role(name)))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise refusal("freeze", rule, "a rule that leaves at least one parameter to train")
    return trained
