"""One run on several processes (torchrun, accelerate launch): rank 0 decides, locks and writes, all of them compute.

A process finds its number in the environment, as torchrun sets it. What rank 0 decides (a run is skipped, taken up, or
begun), the others hear by `agree`; what each has a part of, they add up by `sum`. Plain values travel over gloo, also
where the model is on GPUs, so that no decision waits for a device.
"""

import atexit
import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
PATIENCE = timedelta(
    hours=6
)  # while rank 0 fetches data or writes a report; who dies is found by his closed connection
MEETING = timedelta(minutes=3)  # from one process's end of a run to another's, who may have records to write


class Apart(BaseException):
    """The processes of a run are no longer at the same place, and can't come back to it. No Exception: it ends all."""


@dataclass(frozen=True)
class Ranks:
    """The processes that share each run: this one's number, from 0, and how many there are."""

    index: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        return self.index == 0

    def agree(self, value: T | None = None) -> T:
        """Rank 0's value, on every rank. Any plain value; tensors go by `from_first`."""
        if self.count == 1:
            return value  # type: ignore[return-value]
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[return-value]

    def from_first(self, tree: Any = None) -> Any:
        """Rank 0's tree of dicts, lists, plain values and CPU tensors, on every rank; one tensor at a time."""
        if self.count == 1:
            return tree
        import torch
        import torch.distributed as dist
        from torch.utils._pytree import tree_leaves, tree_map_only

        shape = self.agree(tree_map_only(torch.Tensor, lambda t: t.to("meta"), tree))
        own = iter([leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)])

        def receive(like: torch.Tensor) -> torch.Tensor:
            tensor = next(own).contiguous() if self.leads else torch.empty_like(like, device="cpu")
            dist.broadcast(tensor, src=0)
            return tensor

        return tree_map_only(torch.Tensor, receive, shape)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Of each value, over all ranks, in float64."""
        import torch

        return list(values) if self.count == 1 else self.sum_tensor(torch.tensor(values, dtype=torch.float64)).tolist()

    def sum_tensor(self, values: "torch.Tensor") -> "torch.Tensor":
        """The same of a float64 tensor, on the CPU."""
        import torch.distributed as dist

        total = values.cpu()
        if self.count > 1:
            dist.all_reduce(total)
        return total

    def most(self, value: int) -> int:
        """The largest of all ranks' values."""
        if self.count == 1:
            return value
        import torch
        import torch.distributed as dist

        found = torch.tensor(value)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return int(found)

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of ranks, on every rank."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value)
        return found

    def meet(self) -> None:
        """Wait for all ranks at the end of a run. Raises Apart if one does not come: it failed alone, or they did."""
        if self.count == 1:
            return
        import torch.distributed as dist

        try:
            dist.barrier(meeting_point())
        except RuntimeError as error:
            raise Apart(
                f"rank {self.index} of {self.count}: a run ended here and not on all ranks; the same command goes on"
            ) from error


def here() -> Ranks:
    """This process's place, by the variables that torchrun sets."""
    return Ranks(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def join() -> Ranks:
    """Connect this process with the others, if there are any; once a process."""
    ranks = here()
    if ranks.count > 1:
        import torch
        import torch.distributed as dist

        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
            meeting_point()
    return ranks


def leave(code: int) -> NoReturn:
    """End this process, one of several, without taking Python down in order.

    A thread of gloo's lets go of a broadcast's tensors some time after the broadcast is done; it needs Python for that.
    If Python is about to end then, it ends the thread, in C++ code that can't be ended so: the process would be aborted
    ("terminate called without an active exception"), and torchrun would call a finished sweep failed.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@functools.cache
def meeting_point() -> Any:
    """A group of its own: what a rank still has under way in the run's group can't be mistaken for its arrival."""
    import torch.distributed as dist

    return dist.new_group(backend="gloo", timeout=MEETING)
