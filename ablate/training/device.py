"""How torch executes a model: device, precision, threads, activation checkpointing, compilation, matmul backend.

None of these is a technique under study. `make_accelerator` sets what holds for the whole process; the other functions
change one model in place and keep the names of its parameters.
"""

import os

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import GradientAccumulationPlugin, TorchDynamoPlugin
from torch import Tensor, nn

from ablate.config.checks import refusal
from ablate.trainer import Trainer
from ablate.training.environment import CUBLAS_DETERMINISTIC, vendor

MIN_WEIGHTS = 1 << 14  # in smaller layers, converting tensors for oneDNN takes longer than the product


def make_accelerator(trainer: Trainer) -> Accelerator:
    """Accelerator with the run's device and precision. Also sets torch's global switches, anew for each run.

    Raises ValueError if trainer.device=cuda and there is no CUDA device.
    """
    AcceleratorState._reset_state(reset_partial_state=True)  # otherwise a second precision in one process raises
    GradientState._reset_state()
    os.environ.setdefault(*CUBLAS_DETERMINISTIC)
    torch.use_deterministic_algorithms(trainer.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False
    if trainer.device == "cuda" and not torch.cuda.is_available():
        raise refusal("trainer.device", "cuda", "auto or cpu on a machine without a CUDA device")
    precision = {"fp32": "no", "bf16": "bf16"}[trainer.precision]
    accelerator = Accelerator(  # its plugins are given, as it would read the absent ones from the environment
        mixed_precision=precision, cpu=trainer.device == "cpu",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dynamo_plugin=TorchDynamoPlugin(
            backend="no", mode="default", fullgraph=False, dynamic=False, use_regional_compilation=False
        ),
    )  # fmt: skip
    torch.set_num_threads(trainer.thread_count())  # after Accelerator(), which overrides it if there are several ranks
    return accelerator


def checkpoint_activations(model: nn.Module) -> None:
    """Keep only each layer's input and run the layer again in backward: less memory, a third more computation.

    Chen et al. 2016 (arXiv 1604.06174). Raises ValueError if transformers does not support this for the model.
    """
    if not model.supports_gradient_checkpointing:
        name = type(model).__name__
        raise refusal("trainer.gradient_checkpointing", "true", f"false with {name}, which does not support it")
    newer = hasattr(model, "activation_checkpointing_enable")  # transformers' name from 5.23 on; the only one in 6
    enable = model.activation_checkpointing_enable if newer else model.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # the reentrant version would stop gradients at frozen embeddings


def compile_forward(model: nn.Module) -> None:
    """Compile the model's forward pass in place, once for batches of all shapes.

    Evaluation gets a graph of its own. Dropout draws other numbers than without compilation, from the same stream.
    Nothing falls back to running uncompiled: a model that torch cannot compile whole is an error, and so is a shape
    beyond torch's limit on the number of graphs.

    A run that resumes from a checkpoint or a snapshot compiles again, starting with another batch. On CPU this gave the
    same bits for the tiny model and for MiniLM, with an empty compile cache. On CUDA the bits depend on
    `trainer.deterministic`, which stops inductor from choosing kernels by their measured time; we have not tested this.

    Raises ValueError if torch.compile does not work on this machine, for example because there is no C++ compiler.
    """
    torch.compiler.reset()  # otherwise the graphs of earlier runs in this process would count towards the limit
    try:
        torch.compile(torch.neg)(torch.zeros(1, device=next(model.parameters()).device))
    except Exception as error:  # torch has a class each for a missing compiler, missing headers and a missing Triton
        cause = str(error).strip().partition("\n")[0]
        raise ValueError(f"trainer.compile must be false where torch.compile fails (got true): {cause}") from error
    model.compile(dynamic=True, fullgraph=True)


def matmul_backend(trainer: Trainer) -> str:
    """Matmul backend of linear layers, `torch` or `onednn`, that `trainer.linear` selects on this machine.

    Raises ValueError if `trainer.linear` asks for oneDNN where it is unavailable or already torch's own choice.
    """
    obstacle = obstacle_to_onednn(trainer)
    if trainer.linear == "onednn" and obstacle:
        raise refusal("trainer.linear", "onednn", f"auto or torch with {obstacle}")
    wanted = trainer.linear == "onednn" or (trainer.linear == "auto" and onednn_is_faster())
    return "onednn" if wanted and not obstacle else "torch"


def obstacle_to_onednn(trainer: Trainer) -> str:
    """Return why linear layers cannot use oneDNN, or "" if they can."""
    obstacles = {
        "a GPU": trainer.device != "cpu" and torch.accelerator.is_available(),
        "trainer.precision=bf16, where torch uses oneDNN itself": trainer.precision == "bf16",
        "trainer.compile=true": trainer.compile,
        "trainer.distributed=fsdp": trainer.distributed == "fsdp",
        "a torch that was built without oneDNN": not torch.backends.mkldnn.is_available(),
    }
    return next((obstacle for obstacle, applies in obstacles.items() if applies), "")


def onednn_is_faster() -> bool:
    """Return True on AMD CPUs with AVX-512, where MKL, torch's default, uses AVX2 and so half of the processor."""
    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return "AuthenticAMD" in vendor() and has_avx512 and torch.backends.mkl.is_available()


class OneDNNLinear(nn.Linear):
    """nn.Linear that computes its three products (output, gradients of input and weight) with oneDNN."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input.to_mkldnn(), self.weight, self.bias).to_dense()


def use_onednn(model: nn.Module) -> None:
    """Make every large linear layer of the model compute with oneDNN."""
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.numel() >= MIN_WEIGHTS:
            module.__class__ = OneDNNLinear
