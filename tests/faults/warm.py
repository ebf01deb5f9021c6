"""Imported by the fork server: what a command imports anyway."""

import accelerate
import datasets  # noqa: F401
import torch
import transformers  # noqa: F401

import ablate.__main__
import ablate.sweep

torch.set_num_threads(1)
__all__ = ["ablate", "accelerate"]
