"""Number of parameters by block, and bytes of weights, gradients and optimizer states."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ablate.distributed.parallel import local_shard
from ablate.model.parameter_roles import role
from ablate.schema import BLOCKS, OTHER
from ablate.training.step import Learner


def count_parameters(model: nn.Module) -> dict[str, Any]:
    """run.json's `parameters`: total, trained and their ratio R = |θ_trained| / |θ_total|, overall and by block."""
    blocks = {block: {"total": 0, "trained": 0} for block in (*BLOCKS, OTHER)}
    for name, p in model.named_parameters():
        count = blocks[role(name).block]
        count["total"] += p.numel()
        count["trained"] += p.numel() * p.requires_grad
    total, trained = (sum(count[key] for count in blocks.values()) for key in ("total", "trained"))
    by_block = {block: count for block, count in blocks.items() if count["total"]}
    return {"total": total, "trained": trained, "ratio": trained / total, "by_block": by_block}


def parameter_table(parameters: Mapping[str, Any]) -> str:
    """Table of trained and frozen parameters by block, for the log."""
    rows = {**parameters["by_block"], "all": {"total": parameters["total"], "trained": parameters["trained"]}}
    lines = [f"{'block':<10} {'trained':>13} {'frozen':>13} {'share trained':>14}"]
    for block, count in rows.items():
        frozen, share = count["total"] - count["trained"], count["trained"] / count["total"]
        lines.append(f"{block:<10} {count['trained']:>13,} {frozen:>13,} {share:>14.2%}")
    return "\n".join(lines)


def memory_bytes(learner: Learner) -> dict[str, int | None]:
    """Bytes of weights, gradients and optimizer states in this process, and CUDA's peak (None on CPU)."""
    states = [v for state in learner.optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    weights, trained = list(learner.model.parameters()), list(learner.trained.values())
    cuda = learner.accelerator.device.type == "cuda"
    return {
        "weights": total_bytes(weights),
        "gradients": total_bytes(trained),
        "optimizer": total_bytes(states),
        "peak": torch.cuda.max_memory_allocated() if cuda else None,
    }


def memory_line(memory: Mapping[str, int | None]) -> str:
    """Log line with the counted bytes and the measured peak; the difference is mainly activations."""
    parts = {key: memory[key] or 0 for key in ("weights", "gradients", "optimizer")}
    counted = " + ".join(f"{key} {count / 1e9:.3g}" for key, count in parts.items())
    where, peak = ("on the device", memory["peak"]) if memory["peak"] else ("in this process so far", process_peak())
    measured = f"; peak {peak / 1e9:.3g} GB {where}" if peak else ""
    return f"memory by count: {counted} = {sum(parts.values()) / 1e9:.3g} GB{measured}"


def process_peak() -> int | None:
    """Peak resident memory of this process in bytes; None on Windows, which does not report it."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def total_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the parts of `tensors` that this process holds."""
    return sum(local_shard(t).numel() * t.element_size() for t in tensors)
