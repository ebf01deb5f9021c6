"""Checks of a model before the first run: its structure, without weights, against the data and an arm's settings."""

from typing import TYPE_CHECKING

from ablate.config.checks import refusal, require
from ablate.data.corpus import Corpus
from ablate.data.sources import SPLITS
from ablate.experiment import Options
from ablate.metrics import check_entities
from ablate.model.loading import Model, Pretrained, Random, build_model
from ablate.sweep import sizes
from ablate.sweep.technique_check import check_techniques, warn_once
from ablate.task import Task
from ablate.training.device import checkpoint_activations
from ablate.training.learner import check_roles, tracked_parameters

if TYPE_CHECKING:
    from torch import nn


def structure(model: Model, texts: Corpus, task: Task) -> "nn.Module":
    """The model as a run builds it: on torch's meta device, if its size may be large, and else with weights.

    Raises ValueError if the model's files are damaged or do not fit together.
    """
    outputs = task.outputs(texts.classes)
    if isinstance(model, Pretrained):
        return model.skeleton(outputs, task.kind)
    if isinstance(model, Random):
        return sizes.skeleton(model, task.kind)
    return build_model(model, task.kind, outputs, 0, texts.tokenizer)


def check_arm(options: Options, texts: Corpus, model: "nn.Module") -> None:
    """Raise ValueError if an arm's model has no place for the data, or lacks a parameter that a setting names.

    Likewise if its primary metric has no value for the data's labels.
    """
    check_entities("task.primary", options.task.primary, texts.names)
    limit = position_limit(model)
    if limit is not None and options.data.max_length > limit:
        what = f"at most {limit}, the tokens that the model has positions for"
        raise refusal("data.max_length", options.data.max_length, what)
    check_vocabulary(model, texts)
    tracked = tracked_parameters(options.trainer.track, [name for name, _ in model.named_parameters()])
    for key, what, name in zip(("mlp", "classifier"), ("G_MLP", "G_CLS"), tracked, strict=True):
        if name is None:
            warn_once(f"{what} is null in the records, as the model's family has no known weight for it; "
                      f"trainer.track.{key}=<parameter name> names one")  # fmt: skip
    check_roles(options, model)
    check_techniques(options, model, outputs_of(options.task, texts))
    if options.trainer.gradient_checkpointing:
        checkpoint_activations(model)


def outputs_of(task: Task, texts: Corpus) -> int:
    """The number of logits per example or token."""
    return task.outputs(texts.classes) or texts.tokenizer.size


def position_limit(model: "nn.Module") -> int | None:
    """The number of tokens for which a model of transformers has positions; None if nothing limits it.

    A table of position embeddings with a padding index is read from the row after it on, as in RoBERTa: 512 of 514.
    Rotary positions are limited by the configuration: beyond it they have no meaning that the model learned.
    """
    from torch import nn

    modules = dict(model.named_modules())
    for path, module in modules.items():
        if isinstance(module, nn.Embedding) and path.rpartition(".")[2] in ("position_embeddings", "wpe"):
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - first
    if any(path.endswith(("rotary_emb", "embed_positions")) for path in modules):  # the latter as in OPT
        return getattr(model.config, "max_position_embeddings", None)
    return None


def check_vocabulary(model: "nn.Module", texts: Corpus) -> None:
    """Raise ValueError if a token of the data has no row in the model's embeddings."""
    if not hasattr(model, "get_input_embeddings"):  # a model that is not of transformers
        return
    rows = model.get_input_embeddings().weight.shape[0]
    largest = max(int(max(ids)) for name in SPLITS for ids in getattr(texts, name).input_ids)
    largest = max(largest, texts.tokenizer.pad_token_id)
    found = f"{rows} rows, and token {largest} of {len(texts.tokenizer)} in the data"
    require("model", found, largest < rows, "a model whose embeddings have a row for each token of its tokenizer")
