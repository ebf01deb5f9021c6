"""Adapters: a few new weights inside a pretrained model, which are trained in place of its own weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ablate.model.parameter_roles import Role

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class Adapter(Protocol):
    """Interface of an adapter option."""

    def wrap(self, model: "nn.Module", roles: Mapping[str, Role]) -> "nn.Module":
        """Return the model with the adapter in it; `roles` has the place of each of the model's parameters, by name.

        Parameters that keep their value have `requires_grad` False. Random draws use torch's global generator, which
        is seeded for this call and put back after it.
        """
        ...


@dataclass(frozen=True)
class Nothing:
    """Leaves the model as it is."""

    def wrap(self, model: "nn.Module", roles: Mapping[str, Role]) -> "nn.Module":
        return model
