"""Imported by the fork server: what a command imports anyway, much of it late."""

import accelerate  # noqa: F401
import datasets  # noqa: F401
import torch
import torch._inductor
import transformers.models.bert.modeling_bert  # noqa: F401
from hydra.core.plugins import Plugins

Plugins.instance()  # Hydra's scan makes its plugins' classes anew: before anything of ours imports one

import ablate.__main__  # noqa: E402
import ablate.sweep.callback  # noqa: E402, F401

torch.set_num_threads(1)
