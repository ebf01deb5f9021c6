"""Bytes that a run needs: measured in a finished run, or estimated from its configuration before any run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.experiment import Options
from ablate.freeze import FreezeRule, FreezeSchedule, Freezing
from ablate.model.loading import Model, Pretrained, Random, auto_class
from ablate.optimizer import OptimizerRule
from ablate.schema import TASKS

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

ROWS = (100, 20_000)  # compressed bytes of tables, per step and per run: 0.5 to 1.3 of the measured sizes


@dataclass(frozen=True)
class Size:
    """Bytes."""

    memory: int  # weights, gradients and optimizer states
    snapshot: int  # a checkpoint: trained parameters and optimizer states
    disk: int  # the folder of the finished run


def measured_size(folder: Path, record: Mapping[str, Any]) -> Size:
    """Return the size of a finished run; `record` is its run.json."""
    found = record["memory_bytes"]
    return Size(
        memory=found["weights"] + found["gradients"] + found["optimizer"],
        snapshot=found["gradients"] + found["optimizer"],
        disk=sum(path.stat().st_size for path in folder.iterdir()),
    )


def estimated_size(options: Options) -> Size | None:
    """Estimate the size of a run from the model's configuration, in float32, without loading weights.

    None if the configuration is not on this machine yet, if the size depends on the data (`tiny`), or if the
    configuration is invalid: other checks report that.
    """
    from ablate.training.learner import with_adapters
    from ablate.training.memory import total_bytes

    try:
        model = skeleton(options.model, options.task.kind)
        if model is None:
            return None
        rules = options.techniques.having(FreezeRule, FreezeSchedule)
        model, adapted = with_adapters(model, options.techniques, 0)
        trained = total_bytes(Freezing(model, list(rules.values()), adapted).trained.values())
    except (OSError, ValueError):  # from transformers, the hub's cache, or a rule
        return None
    states = round(trained * states_per_byte(options.optimizer))
    per_step, per_run = ROWS
    kept = trained + states if options.trainer.keep_checkpoint else 0
    return Size(
        memory=total_bytes(model.parameters()) + trained + states,
        snapshot=trained + states,
        disk=per_step * options.trainer.steps + per_run + kept,
    )


def skeleton(model: Model, kind: str = TASKS[0]) -> "nn.Module | None":
    """Return the model without weights (on torch's meta device), with a head of two outputs; None if unavailable."""
    config = configuration(model)
    if config is None:
        return None
    import torch

    with torch.device("meta"), torch.random.fork_rng():
        return auto_class(kind).from_config(config, dtype=torch.float32, trust_remote_code=False)


def configuration(model: Model) -> "PretrainedConfig | None":
    if isinstance(model, Random):
        return model.configuration(2)
    folder = local_folder(model)
    if folder is None:
        return None
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, num_labels=2, local_files_only=True, trust_remote_code=False)


def local_folder(model: Model) -> Path | None:
    """Return the local folder with the configuration of a pretrained model, or None; nothing is downloaded."""
    if not isinstance(model, Pretrained):
        return None
    folder = model.asset.folder if model.path.startswith("asset:") else Path(model.path).expanduser()
    if not folder.is_dir() and "/" in model.path:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(model.path, "config.json", revision=model.revision)
        folder = Path(found).parent if isinstance(found, str) else folder
    return folder if (folder / "config.json").is_file() else None


def states_per_byte(rule: OptimizerRule) -> float:
    """Bytes of optimizer states per byte of trained parameters: AdamW 2, SGD with momentum 1.

    >>> from ablate.optimizer import SGD, AdamW
    >>> [states_per_byte(rule) for rule in (AdamW(lr=0.1), SGD(lr=0.1), SGD(lr=0.1, momentum=0))]
    [2.0, 1.0, 0.0]
    """
    import torch

    from ablate.training.memory import total_bytes

    parameter = torch.nn.Parameter(torch.zeros(32, 32))
    parameter.grad = torch.zeros_like(parameter)
    optimizer = rule.build([("classifier.weight", parameter)])
    optimizer.step()
    states = [v for v in optimizer.state[parameter].values() if isinstance(v, torch.Tensor) and v.ndim]
    return total_bytes(states) / total_bytes([parameter])
