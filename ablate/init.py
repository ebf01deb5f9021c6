"""Initialisation: which pretrained weights are drawn anew before training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ablate.model.parameter_roles import Role

if TYPE_CHECKING:
    import torch
    from torch import nn


@runtime_checkable
class Initialiser(Protocol):
    """Interface of an initialisation option."""

    def initialise(self, model: "nn.Module", roles: Mapping[str, Role], generator: "torch.Generator") -> None:
        """Change weights of a loaded model in place, before anything is frozen.

        Args:
            roles: the place of each of the model's parameters, by name.
            generator: a random stream of its own, which differs from seed to seed. torch's global generator has the
                same seed during the call, and is put back after it.
        """
        ...


@dataclass(frozen=True)
class Nothing:
    """Keeps the pretrained weights; the head is fresh in any case."""

    def initialise(self, model: "nn.Module", roles: Mapping[str, Role], generator: "torch.Generator") -> None:
        pass
