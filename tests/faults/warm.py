"""Imported by the fork server: modules that every command imports sooner or later."""

import os

os.environ["COLUMNS"] = "120"  # the width of the console, which rich reads when it is imported

import accelerate  # noqa: F401
import datasets  # noqa: F401
import torch
import torch._inductor
import transformers.models.bert.modeling_bert  # noqa: F401
from hydra.core.plugins import Plugins

Plugins.instance()  # before other imports, as Hydra's scan defines the classes of its plugins again

import ablate.__main__  # noqa: E402
import ablate.sweep.callback  # noqa: E402, F401

torch.set_num_threads(1)
