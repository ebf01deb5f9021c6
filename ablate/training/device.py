"""How torch runs a model: its device, precision and threads, compiled or not, with its activations kept or not."""

import os

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn

from ablate.config.checks import refusal
from ablate.trainer import Trainer
from ablate.training.environment import vendor


def accelerate(trainer: Trainer) -> Accelerator:
    """Device and precision of a run, and torch's global switches: set anew for each run of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)  # or a second precision raises
    GradientState._reset_state()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic CUDA asks for
    torch.use_deterministic_algorithms(trainer.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False
    if trainer.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("trainer.device=cuda: there is no CUDA device here")
    precision = {"fp32": "no", "bf16": "bf16"}[trainer.precision]
    accelerator = Accelerator(mixed_precision=precision, cpu=trainer.device == "cpu")
    torch.set_num_threads(trainer.thread_count())  # after accelerate, which has its own mind for several processes
    return accelerator


def checkpoint_activations(model: nn.Module) -> None:
    """Keep each layer's input only and run the layer once more in backward: less memory, a third more work.

    Chen et al. 2016, 1604.06174. Raises ValueError for a model that transformers can't do this with.
    """
    if not model.supports_gradient_checkpointing:
        raise ValueError(f"trainer.gradient_checkpointing=true: not to be had with {type(model).__name__}")
    newer = hasattr(
        model, "activation_checkpointing_enable"
    )  # transformers' name of it from 5.23 on; in 6 the only one
    enable = model.activation_checkpointing_enable if newer else model.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # a reentrant one would stop gradients at frozen embeddings


def compile_forward(model: nn.Module) -> None:
    """Compile the model's forward in place (its parameters keep their names), once for batches of all shapes.

    Evaluation has a graph of its own. Dropout draws other numbers than without, from the same stream. A model that
    torch can't compile whole is an error, as is a shape beyond torch's limit of graphs: nothing runs uncompiled.

    A run that goes on from a checkpoint or a snapshot compiles anew, with another batch first. On CPU the bits were
    the same nevertheless, compiled from nothing, in the tiny model and in MiniLM. On CUDA they rest on
    `trainer.deterministic`, which keeps inductor from choosing kernels by their time; that has not been tried.

    Raises ValueError where torch.compile does not work, for lack of a C++ compiler say.
    """
    torch.compiler.reset()  # else the graphs of this process's earlier runs would count towards the limit
    try:
        torch.compile(torch.neg)(torch.zeros(1, device=next(model.parameters()).device))
    except Exception as error:  # a missing compiler, headers or Triton: torch has a class for each
        cause = str(error).strip().partition("\n")[0]
        raise ValueError(f"trainer.compile=true: torch.compile does not work here: {cause}") from error
    model.compile(dynamic=True, fullgraph=True)


WORTHWHILE = 1 << 14  # weights of a layer, from where on a product takes longer than handing it over


def library(trainer: Trainer) -> str:
    """`torch` or `onednn`: what `trainer.linear` comes to on this machine.

    Raises ValueError where oneDNN is asked for and can't be had, or is what torch takes anyway.
    """
    obstacle = obstacle_to_onednn(trainer)
    if trainer.linear == "onednn" and obstacle:
        raise refusal("trainer.linear", "onednn", f"auto or torch with {obstacle}")
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
