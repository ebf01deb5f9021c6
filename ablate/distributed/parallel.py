"""How the processes of one run share a model: each has it whole (DDP), or a shard of every tensor (FSDP2).

Li et al. 2020, PyTorch Distributed, 2006.15704; Zhao et al. 2023, PyTorch FSDP, 2304.11277. Either way a process runs
its part of each batch, gradients are averaged over the processes with the last piece of a step, and every process makes
the same update. What differs is where a tensor is: `whole` brings it together, `part` takes this process's part of it.
"""

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map_only

from ablate.distributed.ranks import Ranks
from ablate.trainer import Trainer


class Parallel(Protocol):
    """A way to share a model."""

    name: str

    def wrap(self, model: nn.Module) -> nn.Module:
        """What to call in training in place of `model`, whose parameters keep their names, and may be others now."""
        ...

    def averaging(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a piece: gradients are averaged over the processes with the `last` only."""
        ...

    def squares(self, squares: Tensor) -> Tensor:
        """Σ g² of whole gradients [P], from those of the parts that this process has."""
        ...


@dataclass(frozen=True)
class Alone:
    """One process."""

    name = "none"

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def averaging(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def squares(self, squares: Tensor) -> Tensor:
        return squares


@dataclass(frozen=True)
class Replicated(Alone):
    """DDP: every process has the whole model."""

    name = "ddp"

    def wrap(self, model: nn.Module) -> nn.Module:
        """With `find_unused_parameters`, under which torch never rearranges its buckets.

        Otherwise it does so once, after a process's first step. Sums over three and more processes are rounded by a
        number's place in its bucket, so a resumed run's next step would have other bits.
        """
        return DistributedDataParallel(model, find_unused_parameters=True)

    def averaging(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if last else wrapped.no_sync()


@dataclass(frozen=True)
class Sharded(Alone):
    """FSDP2: every process has a shard of each parameter, gradient and optimizer state; a layer is whole as it runs."""

    ranks: Ranks
    device: torch.device

    name = "fsdp"

    def wrap(self, model: nn.Module) -> nn.Module:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.type, (self.ranks.count,))
        layers = set(model._no_split_modules or ())
        for module in list(model.modules()):
            if type(module).__name__ in layers:
                fully_shard(module, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    @contextlib.contextmanager
    def averaging(self, wrapped: nn.Module, last: bool) -> Any:
        wrapped.set_requires_gradient_sync(last)
        yield

    def squares(self, squares: Tensor) -> Tensor:
        return self.ranks.sum_tensor(squares)


def parallel(trainer: Trainer, ranks: Ranks, device: torch.device) -> Parallel:
    if ranks.count == 1:
        return Alone()
    return Replicated() if trainer.distributed == "ddp" else Sharded(ranks, device)


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds: all of it, unless it is sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tree: Any) -> Any:
    """A tree of tensors, each sharded one brought together in this process's memory; all processes have to ask."""
    return tree_map_only(DTensor, lambda tensor: tensor.full_tensor().cpu(), tree)


def part(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor that all processes hold, sharded as `like` is."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
