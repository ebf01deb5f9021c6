"""Ablation studies of fine-tuning techniques: one trainer, paired seeds, verdicts that state their uncertainty."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablate.recorder import Recorder

__version__ = "0.1.0"
__path__ = [*__path__, f"{__path__[0]}/version1"]
__all__ = ["Recorder", "__version__"]

LAZY = {"Recorder": "ablate.recorder"}
"""Public name -> its module, which is imported on first use: `import ablate` alone loads nothing heavy."""


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(import_module(LAZY[name]), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
