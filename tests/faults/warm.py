"""Imported by the fork server: modules that every command imports sooner or later."""

import gc
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
import analysis.claims.comparison  # noqa: E402
import analysis.claims.reading  # noqa: E402, F401
from tests.tools import compose_config  # noqa: E402

compose_config()  # fills the caches of Hydra's parser
torch.set_num_threads(1)
gc.collect()
gc.freeze()  # collections in the children pass over all this
