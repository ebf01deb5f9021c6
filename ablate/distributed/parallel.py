"""How the ranks of one run share a model: each has the whole model (DDP), or a shard of every tensor (FSDP2).

Either way each rank runs its part of each batch, gradients are averaged over the ranks with the last piece of a step,
and every rank makes the same update. The two differ in where a tensor is: `whole` gathers its shards, and `shard_like`
keeps the shard of this rank.

Li et al. 2020, PyTorch Distributed, 2006.15704; Zhao et al. 2023, PyTorch FSDP, 2304.11277.
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
        """Return the module to train in place of `model`; it may replace parameters, and keeps their names."""
        ...

    def averaging(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a piece: gradients are averaged over the ranks with the `last` piece only."""
        ...

    def squares(self, squares: Tensor) -> Tensor:
        """Return Σ g² of whole gradients [P], given Σ g² of this rank's shards [P]."""
        ...


@dataclass(frozen=True)
class SingleProcess:
    """One process has the whole model."""

    name = "none"

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def averaging(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def squares(self, squares: Tensor) -> Tensor:
        return squares


@dataclass(frozen=True)
class Replicated(SingleProcess):
    """DDP: every rank has the whole model."""

    name = "ddp"

    def wrap(self, model: nn.Module) -> nn.Module:
        """Wrap the model with `find_unused_parameters`, under which torch never rearranges its buckets.

        Otherwise torch does so once, after the first step of a process. The rounding of sums over three or more ranks
        depends on the position of a number in its bucket, so the next step of a resumed run would have other bits.
        """
        return DistributedDataParallel(model, find_unused_parameters=True)

    def averaging(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if last else wrapped.no_sync()


@dataclass(frozen=True)
class Sharded(SingleProcess):
    """FSDP2: every rank has a shard of each parameter, gradient and optimizer state; a layer is gathered to run."""

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
    """Return the way in which `ranks` share a model, as trainer.distributed says."""
    if ranks.count == 1:
        return SingleProcess()
    return Replicated() if trainer.distributed == "ddp" else Sharded(ranks, device)


def local_shard(tensor: Tensor) -> Tensor:
    """Return the shard of a tensor that this rank holds: the whole tensor, unless it is sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tree: Any) -> Any:
    """Gather every sharded tensor of a tree into CPU memory; all ranks have to call this."""
    return tree_map_only(DTensor, lambda tensor: tensor.full_tensor().cpu(), tree)


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Shard a whole tensor, which all ranks hold, as `like` is sharded."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
