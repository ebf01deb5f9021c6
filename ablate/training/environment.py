"""A run's environment: the hardware, threads and versions that decide its bits together with the config."""

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

CUBLAS_DETERMINISTIC = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required for deterministic CUDA

REFUSED = (
    "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM", "ACCELERATE_USE_SAGEMAKER",
    "ACCELERATE_USE_PARALLELISM_CONFIG",
)  # fmt: skip
"""Variables that make accelerate train in a way that our step does not know."""

COUNTED = (
    # the processor's kernels
    "ATEN_CPU_CAPABILITY", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES",
    "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DISABLE_FAST_MM", "MKL_NUM_STRIPES", "MKL_DYNAMIC",
    "MKL_DOMAIN_NUM_THREADS", "MKL_THREADING_LAYER", "OMP_DYNAMIC", "OMP_THREAD_LIMIT",
    "ONEDNN_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS", "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA", "DNNL_CPU_ISA_HINTS", "DNNL_DEFAULT_FPMATH_MODE",
    "TORCH_MKLDNN_MATMUL_MIN_DIM", "TORCH_MKLDNN_MATMUL_MIN_SIZE", "TORCH_LINEAR_FLATTEN_3D",
    # the GPU's kernels
    "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", CUBLAS_DETERMINISTIC[0], "CUBLASLT_WORKSPACE_SIZE",
    "TORCH_BLAS_PREFER_CUBLASLT", "TORCH_BLAS_PREFER_HIPBLASLT", "TORCH_LINALG_PREFER_CUSOLVER",
    "TORCH_LINALG_PREFER_HIPSOLVER", "TORCH_CUDNN_V8_API_DISABLED", "TORCH_CUDNN_USE_HEURISTIC_MODE_B",
    "DISABLE_ADDMM_CUDA_LT", "PYTORCH_TUNABLEOP_ENABLED", "PYTORCH_TUNABLEOP_FILENAME", "TORCH_ROCM_FA_PREFER_CK",
    "PYTORCH_MIOPEN_SUGGEST_NHWC", "PYTORCH_MIOPEN_SUGGEST_NHWC_BATCHNORM",
    "FLASH_ATTENTION_DETERMINISTIC", "TRANSFORMERS_SDPA_FORCE_GQA",
    # the order of sums over ranks
    "NCCL_ALGO", "NCCL_PROTO", "NCCL_NTHREADS", "NCCL_MIN_NCHANNELS", "NCCL_MAX_NCHANNELS", "NCCL_NVLS_ENABLE",
)  # fmt: skip
"""Variables that choose kernels, and so how results are rounded: those that are set are part of the key."""

COMPILED = re.compile(r"(TORCHINDUCTOR|TORCHDYNAMO|TORCH_DYNAMO|TORCH_COMPILE|TRITON|CUTEDSL|CUTLASS)_\w+(?<!_DIR)")
"""Variables of torch's compiler. They count where a run is compiled; folders do not."""


def variables(compiled: bool) -> dict[str, str]:
    """The environment variables that are set and can change a run's numbers."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if (name in COUNTED or (compiled and COMPILED.fullmatch(name))) and (name, value) != CUBLAS_DETERMINISTIC
    }


def check_variables(device: str) -> None:
    """Raise ValueError for environment variables that would make a run something else than its config says."""
    for name in REFUSED:
        if is_true(os.environ.get(name, "")):
            what = "accelerate launch must start plain ranks; trainer.distributed=fsdp shards the model"
            raise ValueError(f"{name} must not be {os.environ[name]}: {what}")
    if "ACCELERATE_TORCH_DEVICE" in os.environ:
        found = os.environ["ACCELERATE_TORCH_DEVICE"]
        raise ValueError(f"ACCELERATE_TORCH_DEVICE must not be set (got {found}), as trainer.device chooses the device")
    if device == "cuda" and is_true(os.environ.get("ACCELERATE_USE_CPU", "")):
        raise ValueError("ACCELERATE_USE_CPU must not be true where trainer.device=cuda")


def is_true(value: str) -> bool:
    """Whether accelerate reads a variable's value as true."""
    return value.lower() in ("1", "true", "yes", "y", "t", "on")


def environment(
    device: torch.device, world_size: int = 1, distributed: str = "none", linear: str = "torch", compiled: bool = False
) -> dict[str, Any]:
    """run.json's `environment`.

    `key` is a hash of the fields in which runs are compared. The Python version and the git state are recorded but not
    compared. `distributed` is recorded if there are several ranks, and `linear` if the matmul
    backend is not torch's default (`ablate.training.device`). `variables` are recorded if any is set (`COUNTED`).
    """
    compared = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": cpu(),
        "threads": torch.get_num_threads(),
        "world_size": world_size,
        **({"distributed": distributed} if world_size > 1 else {}),
        **({"linear": linear} if linear != "torch" else {}),
        **({"variables": found} if (found := variables(compiled)) else {}),
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
