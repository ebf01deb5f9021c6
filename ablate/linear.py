"""Who multiplies in linear layers: the library that torch takes, or oneDNN.

On x86 torch hands products in fp32 to MKL, which takes AVX2 on AMD's processors whatever they can. oneDNN, which torch
brings along and takes in bf16, uses AVX-512 wherever there is any: on a Zen 5 it makes more than twice as many
operations a second. A product is the same but for rounding, so the environment's key says which it was.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.environment import vendor
from ablate.settings import Trainer

WORTHWHILE = 1 << 14  # weights of a layer, from where on a product takes longer than handing it over


def library(trainer: Trainer) -> str:
    """`torch` or `onednn`: what `trainer.linear` comes to on this machine.

    Raises ValueError where oneDNN is asked for and can't be had, or is what torch takes anyway.
    """
    obstacle = obstacle_to_onednn(trainer)
    if trainer.linear == "onednn" and obstacle:
        raise ValueError(f"trainer.linear=onednn: allowed is auto or torch with {obstacle}")
    asked = trainer.linear == "onednn" or (trainer.linear == "auto" and gains())
    return "onednn" if asked and not obstacle else "torch"


def obstacle_to_onednn(trainer: Trainer) -> str:
    """Why linear layers are not handed to oneDNN; "" where they can be."""
    obstacles = {
        "a GPU": trainer.device != "cpu" and torch.accelerator.is_available(),
        "trainer.precision=bf16, whose products torch hands to it": trainer.precision == "bf16",
        "trainer.compile=true": trainer.compile,
        "trainer.distributed=fsdp": trainer.distributed == "fsdp",
        "a torch that was built without it": not torch.backends.mkldnn.is_available(),
    }
    return next((obstacle for obstacle, is_there in obstacles.items() if is_there), "")


def gains() -> bool:
    """Whether MKL would leave half of this processor unused."""
    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return "AuthenticAMD" in vendor() and has_avx512 and torch.backends.mkl.is_available()


class Linear(nn.Linear):
    """nn.Linear whose three products (output, gradients of input and weight) oneDNN makes."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input.to_mkldnn(), self.weight, self.bias).to_dense()


def hand_to_onednn(model: nn.Module) -> None:
    """Have oneDNN multiply in every large linear layer; parameters and their names stay what they are."""
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.numel() >= WORTHWHILE:
            module.__class__ = Linear
