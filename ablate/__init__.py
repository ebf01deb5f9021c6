"""Ablation studies of fine-tuning techniques: one trainer, paired seeds, verdicts that state their uncertainty."""

__version__ = "0.1.0"
__path__ = [*__path__, f"{__path__[0]}/version1"]
