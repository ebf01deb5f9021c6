"""The classification head: its modules and its initialisation."""

from collections.abc import Iterable
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


def reset_head(model: "nn.Module") -> None:
    """Initialise the head of a model of transformers as transformers does, from torch's global generator."""
    draw_anew(model, head_of(model))


def draw_anew(model: "nn.Module", modules: "Iterable[nn.Module]") -> None:
    """Initialise some modules of a model of transformers as transformers does, from torch's global generator.

    Only the parameters that these modules own are drawn. The modules around them are asked, too: in some families it is
    they that initialise them.
    """
    owners = set(modules)
    drawn = {parameter for module in owners for parameter in module.parameters(recurse=False)}
    for parameter in model.parameters():
        parameter._is_hf_initialized = parameter not in drawn
    for module in model.modules():
        module._is_hf_initialized = owners.isdisjoint(module.modules())
    model.initialize_weights()


def initialise_head(model: "nn.Module", rule: HeadInit, seed: int) -> None:
    """Initialise the head's linear layers from the seed's own random stream: Xavier-uniform weights, zero biases.

    The rule "default" keeps transformers' initialisation (normal with sd 0.02 in BERT). A head's norms keep it, too.
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
