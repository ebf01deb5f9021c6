"""A run's environment: the hardware, threads and versions that decide its bits together with the config."""

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
    """run.json's `environment`.

    `key` is a hash of the fields in which runs are compared. The Python version and the git state are recorded but not
    compared. `distributed` is recorded if there are several ranks, and `linear` if the matmul
    backend is not torch's default (`ablate.training.device`).
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


def with_earlier(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The environment `now` of a resumed run, with the other environments of its earlier steps as `earlier`."""
    past = [*before["earlier"], {key: value for key, value in before.items() if key != "earlier"}]
    return now | {"earlier": [environment for environment in past if environment["key"] != now["key"]]}


@functools.cache
def cpu() -> dict[str, str]:
    """Model name and hash of the instruction sets: both decide which kernels run, and so how results are rounded."""
    fields = cpuinfo()
    flags = fields.get("flags") or fields.get("Features") or torch.backends.cpu.get_cpu_capability()
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "flags": hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:16],
    }


def vendor() -> str:
    """The processor's vendor; on systems other than Linux, a longer description that includes it."""
    return cpuinfo().get("vendor_id") or platform.processor()


@functools.cache
def cpuinfo() -> dict[str, str]:
    """The last processor's entries in /proc/cpuinfo; empty on systems other than Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


@functools.cache
def git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the git checkout that this code runs from; None if it does not run from one."""
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
