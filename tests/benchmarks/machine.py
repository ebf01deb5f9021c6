"""The machine that a benchmark ran on. Every result is printed with it."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from ablate.training.environment import cpu

BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # instruction sets with bf16 products: two of x86, one of Arm
VERSIONS = ("torch", "transformers", "accelerate")
EMULATED = "no bf16 instructions on this CPU"


def machine() -> dict[str, Any]:
    """CPU model, number of cores that this process may use, whether the CPU has bf16 products, and versions."""
    return {
        "cpu": cpu()["model"],
        "cores": len(os.sched_getaffinity(0)),
        "bf16": multiplies_bf16(Path("/proc/cpuinfo").read_text()),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in VERSIONS},
    }


def in_words(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {found[name]}" for name in ("python", *VERSIONS))
    bf16 = "bf16 instructions" if found["bf16"] else EMULATED
    return f"{found['cpu']}, {found['cores']} cores, {bf16}; {versions}"


def with_reservation(words: str, precision: str) -> str:
    """The text of a result, with a note if this CPU has no instructions for the precision."""
    emulated = precision == "bf16" and not machine()["bf16"]
    return f"{words} ({EMULATED})" if emulated else words


def multiplies_bf16(cpuinfo: str) -> bool:
    """Return True if /proc/cpuinfo lists an instruction set with bf16 products. Without one, bf16 is emulated and slow.

    >>> multiplies_bf16("flags : fpu avx2"), multiplies_bf16("flags : fpu avx512_bf16 amx_bf16")
    (False, True)
    """
    return not BF16_FLAGS.isdisjoint(cpuinfo.split())
