"""What a model holds, counted: parameters by block, bytes of weights, gradients and optimizer states."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ablate.distributed.parallel import local_shard
from ablate.model.parameter_roles import role
from ablate.schema import BLOCKS
from ablate.training.step import Learner


def count_parameters(model: nn.Module) -> dict[str, Any]:
    """run.json's `parameters`: R = |θ_trained| / |θ_total| (§3.1), in all and by block."""
    blocks = {block: {"total": 0, "trained": 0} for block in BLOCKS}
    for name, p in model.named_parameters():
        count = blocks[role(name).block]
        count["total"] += p.numel()
        count["trained"] += p.numel() * p.requires_grad
    total, trained = (sum(count[key] for count in blocks.values()) for key in ("total", "trained"))
    by_block = {block: count for block, count in blocks.items() if count["total"]}
    return {"total": total, "trained": trained, "ratio": trained / total, "by_block": by_block}


def parameter_table(parameters: Mapping[str, Any]) -> str:
    """What is trained and what is frozen, block by block, for the log."""
    rows = {**parameters["by_block"], "all": {"total": parameters["total"], "trained": parameters["trained"]}}
    lines = [f"{'block':<10} {'trained':>13} {'frozen':>13} {'share trained':>14}"]
    for block, count in rows.items():
        frozen, share = count["total"] - count["trained"], count["trained"] / count["total"]
        lines.append(f"{block:<10} {count['trained']:>13,} {frozen:>13,} {share:>14.2%}")
    return "\n".join(lines)


def memory_bytes(learner: Learner) -> dict[str, int | None]:
    """Bytes of this process by count: weights, gradients and the optimizer's states; CUDA's peak (null on CPU)."""
    states = [v for state in learner.optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    weights, trained = list(learner.model.parameters()), list(learner.trained.values())
    cuda = learner.accelerator.device.type == "cuda"
    return {
        "weights": size(weights),
        "gradients": size(trained),
        "optimizer": size(states),
        "peak": torch.cuda.max_memory_allocated() if cuda else None,
    }


def memory_line(memory: Mapping[str, int | None]) -> str:
    """What a run takes by count, beside what was taken at most: activations and the like are the difference."""
    parts = {key: memory[key] or 0 for key in ("weights", "gradients", "optimizer")}
    counted = " + ".join(f"{key} {count / 1e9:.3g}" for key, count in parts.items())
    where, peak = ("the device", memory["peak"]) if memory["peak"] else ("this process so far", process_peak())
    most = f"; at most {peak / 1e9:.3g} GB on {where}" if peak else ""
    return f"memory by count: {counted} = {sum(parts.values()) / 1e9:.3g} GB{most}"


def process_peak() -> int | None:
    """The most memory [bytes] that this process has held; None on Windows, which has no such count."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def size(tensors: Iterable[Tensor]) -> int:
    return sum(local_shard(t).numel() * t.element_size() for t in tensors)
