"""One run on several ranks (torchrun, accelerate launch): rank 0 decides, locks and writes, and all ranks compute.

A process finds its rank in the environment, as torchrun sets it. Rank 0 broadcasts its decisions (a run is skipped,
resumed or started); ranks add up their partial results with `sum`. Plain values travel over gloo, also where the
model is on GPUs, so that no decision waits for a device.
"""

import atexit
import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ablate.config.checks import require

if TYPE_CHECKING:
    import torch

_T = TypeVar("_T")
# Other ranks wait while rank 0 fetches data or writes a report; a dead process is detected when its connection closes.
COLLECTIVE_TIMEOUT = timedelta(hours=6)
# A rank may still write records when another has ended the run.
BARRIER_TIMEOUT = timedelta(minutes=3)


class RanksOutOfSync(BaseException):
    """Ranks are out of sync and cannot recover. Subclasses BaseException so that nothing catches it."""


@dataclass(frozen=True)
class Ranks:
    """The ranks that share each run: the index of this one, from 0, and their number."""

    index: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        return self.index == 0

    def broadcast(self, value: _T | None = None) -> _T:
        """Return rank 0's value on every rank. For plain values; `broadcast_tensors` is for tensors."""
        if self.count == 1:
            return value  # type: ignore[return-value]
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[return-value]

    def broadcast_tensors(self, tree: Any = None) -> Any:
        """Return rank 0's tree of dicts, lists, plain values and CPU tensors on every rank; one tensor at a time."""
        if self.count == 1:
            return tree
        import torch
        import torch.distributed as dist
        from torch.utils._pytree import tree_leaves, tree_map_only

        shape = self.broadcast(tree_map_only(torch.Tensor, lambda t: t.to("meta"), tree))
        own = iter([leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)])

        def receive(like: torch.Tensor) -> torch.Tensor:
            tensor = next(own).contiguous() if self.leads else torch.empty_like(like, device="cpu")
            dist.broadcast(tensor, src=0)
            return tensor

        return tree_map_only(torch.Tensor, receive, shape)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add up each value over all ranks, in float64."""
        import torch

        return list(values) if self.count == 1 else self.sum_tensor(torch.tensor(values, dtype=torch.float64)).tolist()

    def sum_tensor(self, values: "torch.Tensor") -> "torch.Tensor":
        """Add up a float64 tensor over all ranks; the result is on the CPU."""
        import torch.distributed as dist

        total = values.cpu()
        if self.count > 1:
            dist.all_reduce(total)
        return total

    def max(self, value: int) -> int:
        """Return the largest value of all ranks."""
        if self.count == 1:
            return value
        import torch
        import torch.distributed as dist

        found = torch.tensor(value)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return int(found)

    def gather(self, value: _T) -> list[_T]:
        """Return the values of all ranks, in the order of ranks, on every rank."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value)
        return found

    def barrier(self) -> None:
        """Wait for all ranks at the end of a run.

        Raises RanksOutOfSync if one does not arrive: that rank failed alone, or all others did.
        """
        if self.count == 1:
            return
        import torch.distributed as dist

        try:
            dist.barrier(barrier_group())
        except RuntimeError as error:
            raise RanksOutOfSync(
                f"rank {self.index} of {self.count}: a run ended here and not on all ranks; "
                "run the same command again to continue"
            ) from error


STARTER = "torchrun or accelerate launch"
RENDEZVOUS = ("RANK", "MASTER_ADDR", "MASTER_PORT")  # what torch needs where there are several ranks

ALONE = Ranks()
"""A run on one process."""


def current_ranks() -> Ranks:
    """The ranks of this command and the index of this process, from the variables that torchrun sets.

    An empty variable counts as unset. Raises ValueError for values that torchrun does not set.
    """
    rank, size = os.environ.get("RANK") or "0", os.environ.get("WORLD_SIZE") or "1"
    require("WORLD_SIZE", size, is_whole(size) and int(size) >= 1, f"the number of ranks, as {STARTER} sets it")
    allowed = is_whole(rank) and int(rank) < int(size)
    require("RANK", rank, allowed, f"unset, or below WORLD_SIZE={size} as {STARTER} sets it")
    connects = int(size) == 1 or all(map(os.environ.get, RENDEZVOUS))
    require("WORLD_SIZE", size, connects, f"1 unless {', '.join(RENDEZVOUS)} are set, too, as {STARTER} sets them")
    return Ranks(int(rank), int(size))


def is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def connect_ranks() -> Ranks:
    """Connect this process with the other ranks, if there are any; once per process."""
    ranks = current_ranks()
    if ranks.count > 1:
        import torch
        import torch.distributed as dist

        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
            barrier_group()
    return ranks


def exit_rank(code: int) -> NoReturn:
    """End this process, one of several ranks, without Python's orderly shutdown.

    A gloo thread frees the broadcast's tensors only some time after it returns, and needs Python for that. If Python
    is shutting down by then, it ends the thread inside C++ code that cannot be ended so. The process would be aborted
    ("terminate called without an active exception"), and torchrun would report a finished sweep as failed.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@functools.cache
def barrier_group() -> Any:
    """A process group for `barrier` alone: no pending call in the run's group can be mistaken for an arrival."""
    import torch.distributed as dist

    return dist.new_group(backend="gloo", timeout=BARRIER_TIMEOUT)
