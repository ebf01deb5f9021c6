"""Ablation studies of fine-tuning techniques: one trainer, paired seeds, verdicts that state their uncertainty."""

__version__ = "0.1.0"
