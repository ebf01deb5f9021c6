"""Ablation studies of fine-tuning techniques: one shared trainer, paired seeds, honest verdicts."""

__version__ = "0.1.0"
