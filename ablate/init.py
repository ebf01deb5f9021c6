"""Initialisation: which pretrained weights are drawn anew before training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ablate.config.checks import refusal, require
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


@dataclass(frozen=True)
class TopLayers:
    """Draws the pooler and the top n layers anew: Zhang et al. 2021 (arXiv 2006.05987).

    The values are those of a model that was never trained, by transformers' own initialisation of its family: in BERT
    weights from N(0, 0.02²), biases 0, norms 1 and 0. The authors tried n up to 6; which n is best depends on the
    data. A final norm after the layers keeps its weights, and the head is fresh in any case. In a family without a
    pooler, `pooler` has no effect.
    """

    n: int = 1
    pooler: bool = True

    def __post_init__(self) -> None:
        require("n", self.n, self.n >= 0, "a number of layers, at least 0")
        require("n", self.n, self.n > 0 or self.pooler, "at least 1 where pooler=false")

    def initialise(self, model: "nn.Module", roles: Mapping[str, Role], generator: "torch.Generator") -> None:
        import torch

        from ablate.model.head import draw_anew

        layers = 1 + max((part.layer for part in roles.values() if part.layer is not None), default=-1)
        if self.n > layers:
            what = f"at most {layers}, the number of the model's layers that have their own parameters"
            raise refusal("init.n", self.n, what)
        chosen = {
            name
            for name, part in roles.items()
            if (part.layer is not None and part.layer >= layers - self.n) or (self.pooler and part.block == "pooler")
        }
        owners = [
            module
            for path, module in model.named_modules()
            if any(f"{path}.{name}" in chosen for name, _ in module.named_parameters(recurse=False))
        ]
        with torch.random.fork_rng():
            torch.manual_seed(generator.initial_seed())
            draw_anew(model, owners)
