"""The classification head: its modules and its initialisation."""

from typing import TYPE_CHECKING, Literal

from ablate.model.parameter_roles import role
from ablate.seeds import stream

if TYPE_CHECKING:
    from torch import nn

HeadInit = Literal["xavier", "default"]


def head_of(model: "nn.Module") -> "list[nn.Module]":
    """The modules that own parameters of the classification head."""
    return [
        module
        for path, module in model.named_modules()
        if any(role(f"{path}.{name}").block == "head" for name, _ in module.named_parameters(recurse=False))
    ]


def initialise_head(model: "nn.Module", rule: HeadInit, seed: int) -> None:
    """Initialise the head's linear layers from the seed's own random stream: Xavier-uniform weights, zero biases.

    The rule "default" keeps transformers' initialisation (normal with sd 0.02 in BERT).
    """
    if rule == "default":
        return
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(stream("head", seed))
    for name, parameter in model.named_parameters():
        if role(name).block != "head" or role(name).kind == "norm":
            continue
        if parameter.ndim >= 2:
            nn.init.xavier_uniform_(parameter, generator=generator)
        else:
            nn.init.zeros_(parameter)
