"""What the integrations share: the mini-batches of a step, and the settings that another library's run has."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ablate.experiment import flatten


class StepSoFar:
    """What the mini-batches of a step add up to: loss, examples, tokens that are no padding, and a hash of each."""

    def __init__(self) -> None:
        self.loss: Tensor | float = 0.0
        self.batches = self.examples = self.tokens = 0
        self.hashes: list[int] = []

    def count(self, inputs: Any, identifying: Sequence[Tensor], examples: int) -> None:
        """Count a mini-batch. `identifying`: tensors that show which examples it has."""
        if identifying:
            content = b"".join(t.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes() for t in identifying)
            self.hashes.append(int.from_bytes(hashlib.sha256(content).digest()[:8], signed=True))
        self.batches += 1
        self.examples += examples
        if isinstance(inputs, Mapping) and isinstance(mask := inputs.get("attention_mask"), Tensor):
            self.tokens += int(mask.sum())


def library_settings(
    library: str, model: nn.Module, optimizer: torch.optim.Optimizer, clip: object, factors: set[str]
) -> dict[str, Any]:
    """What decides a run's numbers in every library: optimizer, model, and a rule of ours that clips.

    Settings of a factor that is studied are settings of it; its option is the study's own.
    """
    groups = optimizer.param_groups
    options = {"optimizer": type(optimizer).__name__.lower(), "model": model_name(model), "trainer": library}
    found = {key: option for key, option in options.items() if option and key not in factors} | {
        "optimizer.lr": max(float(group.get("initial_lr", group["lr"])) for group in groups),
        "optimizer.weight_decay": max(float(group.get("weight_decay", 0)) for group in groups),
    }
    fields = flatten(asdict(clip)) if is_dataclass(clip) else {}
    return found | {placed("clip", key, factors): value for key, value in fields.items()}


def model_name(model: nn.Module) -> str:
    """The name of a model of transformers, by its folder or its family; "" for another model."""
    config = getattr(model, "config", None)
    return Path(getattr(config, "_name_or_path", "") or getattr(config, "model_type", "")).name


def placed(factor: str, setting: str, factors: set[str]) -> str:
    """
    >>> placed("clip", "threshold", {"clip"}), placed("clip", "threshold", {"freeze"})
    ('clip.threshold', 'trainer.clip.threshold')
    """
    return f"{factor}.{setting}" if factor in factors else f"trainer.{factor}.{setting}"
