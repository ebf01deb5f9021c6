"""What beside the config decides a run's bits: hardware, threads, versions."""

import functools
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch


def environment(
    device: torch.device, world_size: int = 1, distributed: str = "none", linear: str = "torch"
) -> dict[str, Any]:
    """run.json's `environment`: what is compared, hashed as `key`; the git state, recorded but not compared.

    `distributed` says how several processes share the model; one process has no such entry. Nor has a run whose linear
    layers are multiplied by what torch takes (`ablate.training.device`).
    """
    compared = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": cpu(),
        "threads": torch.get_num_threads(),
        "world_size": world_size,
        **({"distributed": distributed} if world_size > 1 else {}),
        **({"linear": linear} if linear != "torch" else {}),
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers", "numpy")},
    }
    key = hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()[:16]
    return {"key": key, **compared, "python": platform.python_version(), "git": git_state(), "earlier": []}


def succeeding(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """`now`, with those other environments that the steps of a resumed run were made in as `earlier`."""
    past = [*before["earlier"], {key: value for key, value in before.items() if key != "earlier"}]
    return now | {"earlier": [environment for environment in past if environment["key"] != now["key"]]}


@functools.cache
def cpu() -> dict[str, str]:
    """Model name and a hash of the instruction sets: both choose kernels, and so rounding."""
    fields = cpuinfo()
    flags = fields.get("flags") or fields.get("Features") or torch.backends.cpu.get_cpu_capability()
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "flags": hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:16],
    }


def vendor() -> str:
    """Who made the processor; among other words on systems other than Linux."""
    return cpuinfo().get("vendor_id") or platform.processor()


@functools.cache
def cpuinfo() -> dict[str, str]:
    """What Linux says of the last of its processors; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


@functools.cache
def git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout this code runs from; None outside of one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        commit, status = (
            subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True).stdout
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.strip(), "dirty": bool(status.strip())}
