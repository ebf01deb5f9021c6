"""Settings of the trainer that all arms of a study share: conf/trainer/*.yaml."""

import os
from dataclasses import dataclass
from typing import Literal

from ablate.config.checks import require


@dataclass(frozen=True)
class Track:
    """Norms recorded in addition to the global norm. A null name is found by role (`ablate.model.parameter_roles`).

    Where a family's roles do not name the weight, its norms are null in the records.
    """

    mlp: str | None = None
    classifier: str | None = None
    layers_every: int = 10
    updates_every: int = 20
    noise_every: int | None = None

    def __post_init__(self) -> None:
        for key in ("layers_every", "updates_every"):
            require(key, getattr(self, key), getattr(self, key) >= 1, "a number of steps, at least 1")
        every = self.noise_every
        require("noise_every", every, every is None or every >= 1, "null or a number of steps, at least 1")


@dataclass(frozen=True)
class Fork:
    """Settings of the prefixes that arms share (`ablate.run.fork`)."""

    enabled: bool = True
    max_gb: float = 2.0

    def __post_init__(self) -> None:
        require("max_gb", self.max_gb, self.max_gb >= 0, "a number of gigabytes, at least 0")


@dataclass(frozen=True)
class Trainer:
    """Settings of the training loop. One step uses `batch_size` × `grad_accumulation` examples."""

    steps: int = 300
    batch_size: int = 32
    grad_accumulation: int = 1
    length_splits: int = 4
    piece_multiple: int = 4
    skip_unread: bool = True
    frozen_dropout: bool = True
    frozen_prefix: bool = True
    frozen_prefix_gb: float = 8.0
    linear: Literal["auto", "torch", "onednn"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    compile: bool = False
    gradient_checkpointing: bool = False
    deterministic: bool = True
    distributed: Literal["ddp", "fsdp"] = "ddp"
    probe_every: int = 20
    probe_examples: int = 256
    eval_every: int | None = None
    eval_batch_size: int = 64
    checkpoint_every: int = 100
    keep_checkpoint: bool = False
    resume: Literal["exact", "any"] = "exact"
    track: Track = Track()
    fork: Fork = Fork()

    def __post_init__(self) -> None:
        for key in (
            "steps",
            "batch_size",
            "piece_multiple",
            "grad_accumulation",
            "probe_every",
            "probe_examples",
            "eval_batch_size",
            "checkpoint_every",
        ):
            require(key, getattr(self, key), getattr(self, key) >= 1, "a whole number, at least 1")
        for key in ("threads", "eval_every"):
            value = getattr(self, key)
            require(key, value, value is None or value >= 1, "null or a whole number, at least 1")
        require(
            "frozen_prefix_gb", self.frozen_prefix_gb, self.frozen_prefix_gb >= 0, "a number of gigabytes, at least 0"
        )
        require(
            "length_splits",
            self.length_splits,
            1 <= self.length_splits <= self.batch_size,
            f"from 1 to batch_size={self.batch_size}",
        )

        if every := self.track.noise_every:
            comparable = self.grad_accumulation > 1 and self.distributed == "ddp"
            what = "null unless grad_accumulation is above 1 and distributed is ddp: it compares mini-batch and step"
            require("track.noise_every", every, comparable, what)

    @property
    def examples_per_step(self) -> int:
        return self.batch_size * self.grad_accumulation

    def thread_count(self, workers: int = 1) -> int:
        """Threads of one run: `threads` if set, else this process's cores divided by the number of workers."""
        return self.threads or max(1, cores() // workers)


def cores() -> int:
    """CPU cores that this process may use. Processes that torchrun started on this machine divide the cores."""
    found = available_cores()
    local = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, found // max(1, int(local) if local.isdecimal() else 1))


def available_cores() -> int:
    """CPU cores that this process may use, however many processes share them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
