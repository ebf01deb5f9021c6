"""What a frozen prefix computes for an example is computed once per machine and kept.

The prefix of a model at step t is its embeddings and its first layers, up to the first that any step from 1 to t
trains. With `trainer.frozen_dropout=false` it has no dropout, so its output for an example, the hidden states h, never
changes: all steps, epochs, evaluations, seeds and arms that share the prefix share h. `FrozenPrefix` puts h in place of
the prefix's own computation, whoever calls the model.

h is always that of the example alone: the model runs on its L tokens in a batch of one, without padding. A batch would
round differently with each composition. So h has the same bits whether it is computed now, or was before by this or
another process (`ablate.data.hidden_states`), and runs do not depend on the state of the cache. They differ by rounding
from runs with `trainer.frozen_prefix=false`, which compute the prefix with each batch. The name of the cached file
covers what decides the bits: weights, configuration and code of the prefix, token ids, precision, threads, matmul
backend, hardware and versions. It does not cover the head, its seed, and what comes after the prefix.

Where the prefix has all layers, h is kept for the first token only, the one that the heads of these families read.

Egeria (Wang et al. 2023, arXiv 2201.06227) also keeps the output of frozen layers during training.
"""

import copy
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ablate.adapter import Adapter
from ablate.adapter import Nothing as NoAdapter
from ablate.average import Average
from ablate.average import Nothing as NoAverage
from ablate.data.corpus import Corpus
from ablate.data.hidden_states import StateCache, example_digest
from ablate.data.sources import SPLITS
from ablate.distributed.ranks import Ranks
from ablate.experiment import Options
from ablate.files.hashing import file_sha256
from ablate.freeze import Freezing
from ablate.model.first_token import first_token
from ablate.regularizer import WeightRule
from ablate.trainer import Trainer
from ablate.training.device import matmul_backend
from ablate.training.environment import environment

log = logging.getLogger("ablate")


@dataclass(frozen=True)
class Layout:
    """Where a model has its embeddings, one module after the other, and its list of layers, which follows them."""

    embeddings: tuple[str, ...]
    layers: str


LAYOUTS = {
    "BertForSequenceClassification": Layout(("bert.embeddings",), "bert.encoder.layer"),
    "RobertaForSequenceClassification": Layout(("roberta.embeddings",), "roberta.encoder.layer"),
    "ElectraForSequenceClassification": Layout(
        ("electra.embeddings", "electra.embeddings_project"), "electra.encoder.layer"
    ),
    "DistilBertForSequenceClassification": Layout(("distilbert.embeddings",), "distilbert.transformer.layer"),
}
"""The classes of transformers for which the tests show that it works. Their heads read the first token only."""

PREFIX_CODE = ("data/hidden_states", "model/first_token", "training/device", "training/frozen_prefix")
"""Modules whose code decides the hidden states."""

IGNORED_CONFIG = {"_name_or_path", "transformers_version"}  # the weights and the installed version count instead


def frozen_prefix(
    options: Options, model: nn.Module, freezing: Freezing, texts: Corpus, accelerator: Accelerator, ranks: Ranks
) -> "FrozenPrefix | None":
    """Let a model read its frozen prefix's output from the cache; None, with the reason in the log, where it cannot."""
    trainer = options.trainer
    freezes = any(freezing.frozen.values()) or not all(p.requires_grad for p in model.parameters())
    if trainer.frozen_dropout or not trainer.frozen_prefix or not freezes:
        return None
    if obstacle := obstacle_to_prefix(options, model, ranks):
        log.info("the frozen layers compute with each batch, without the cache of hidden states, with %s", obstacle)
        return None
    steady = all(isinstance(each, NoAverage) for each in options.techniques.having(Average).values())
    depths = frozen_depths(model, freezing, steady)
    if not any(depths.values()):
        log.info("there is no frozen prefix to cache: the embeddings and the first layer are not frozen throughout")
        return None
    return FrozenPrefix(model, depths, texts, trainer, accelerator)


def obstacle_to_prefix(options: Options, model: nn.Module, ranks: Ranks) -> str:
    """Why a run cannot keep what its frozen layers compute, or "" if it can."""
    trainer, techniques = options.trainer, options.techniques
    adapters = techniques.having(Adapter).values()
    name = type(model).__name__
    known = name in LAYOUTS and type(model).__module__.startswith("transformers.models.")
    obstacles: dict[str, bool] = {
        "trainer.compile=true": trainer.compile,
        "trainer.gradient_checkpointing=true": trainer.gradient_checkpointing,
        "trainer.distributed=fsdp": trainer.distributed == "fsdp" and ranks.count > 1,
        "an adapter": not all(isinstance(each, NoAdapter) for each in adapters),
        "a regularizer that changes the weights": bool(techniques.having(WeightRule)),
        f"{name}, for which it is not tested": not known or getattr(model.config, "is_decoder", False),
        "hooks on the layers": known and has_hooks(model),
    }
    return next((obstacle for obstacle, applies in obstacles.items() if applies), "")


def has_hooks(model: nn.Module) -> bool:
    """Whether a module of embeddings or layers has a hook other than our own."""
    hooks = [
        hook
        for stage in stages(model)
        for module in stage.modules()
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    ]
    return any(hook is not first_token for hook in hooks)


def stages(model: nn.Module) -> list[nn.Module]:
    """The modules of the embeddings, and then the layers."""
    layout, modules = LAYOUTS[type(model).__name__], dict(model.named_modules())
    return [*(modules[path] for path in layout.embeddings if path in modules), *model.get_submodule(layout.layers)]


def frozen_depths(model: nn.Module, freezing: Freezing, steady: bool = True) -> dict[int, int]:
    """The number of layers in the prefix from each step on at which the frozen set changes; 0 = no prefix.

    steady: False if weights that are frozen only at first may change nevertheless, as an average of them does. Then
    only what is frozen at all steps counts.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    found, layers = stages(model), len(model.get_submodule(LAYOUTS[type(model).__name__].layers))
    depths = {}
    for t in freezing.changes:
        frozen = frozenset.intersection(*(freezing.frozen[c] for c in freezing.changes if c <= t))
        still = [all(names[p] in frozen for p in stage.parameters()) for stage in found]
        first = still.index(False) if False in still else len(found)
        depths[t] = max(0, first - (len(found) - layers))
    return depths if steady else dict.fromkeys(depths, min(depths.values()))


class Opened:
    """The cache of one prefix, and the weights that its content depends on. DDP rewrites buffers: they do not count."""

    def __init__(self, cache: StateCache, weights: Sequence[Tensor]) -> None:
        self.cache, self.weights = cache, weights
        self.version = self.current_version()

    def changed(self) -> bool:
        """Whether a weight was written to since the cache was opened; torch counts that for each tensor."""
        return self.current_version() != self.version

    def current_version(self) -> int:
        with torch._C.DisableTorchFunction():  # otherwise `Masks` would be asked for each number
            return sum(weight._version for weight in self.weights)


class FrozenPrefix:
    """Replaces the computation of a model's frozen prefix by its kept output, in every call of the model.

    A call that gives anything but `input_ids` and `attention_mask`, or a mask that is not of padding on the right,
    computes everything itself.
    """

    def __init__(
        self, model: nn.Module, depths: Mapping[int, int], texts: Corpus, trainer: Trainer, accelerator: Accelerator
    ) -> None:
        self.model, self.depths, self.trainer, self.accelerator = model, depths, trainer, accelerator
        self.splits = {split: getattr(texts, split).input_ids for split in SPLITS}
        self.stages = stages(model)
        self.layers = len(model.get_submodule(LAYOUTS[type(model).__name__].layers))
        self.depth = min(depths.values())  # that of the last step, where a finished run resumes to evaluate
        self.opened: dict[int, Opened] = {}  # by depth
        self.injected: Tensor | None = None  # replaces the output of the prefix in this call
        self.captured: Tensor | None = None
        self.capturing = False  # in this call the prefix computes, and the later layers do nothing
        for place, stage in enumerate(self.stages):
            stage.forward = functools.partial(self.run_stage, place, stage.forward)
        model.register_forward_pre_hook(self.before, with_kwargs=True)
        model.register_forward_hook(self.after, always_call=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrozenPrefix":
        """A copy of the model computes everything itself: its weights may be changed."""
        other = memo[id(self)] = copy.copy(self)
        other.depth, other.depths, other.opened = 0, {}, {}
        return other

    def enter(self, t: int) -> None:
        """Use the prefix of step t, in this step and in evaluations after it."""
        self.depth = self.depths[max(change for change in self.depths if change <= t)]

    @property
    def prefix(self) -> list[nn.Module]:
        """The modules of the prefix."""
        return self.stages[: len(self.stages) - self.layers + self.depth]

    @property
    def first_only(self) -> bool:
        """Whether the head is next, which reads only the first token."""
        return self.depth == self.layers

    # --- Calls of the model ---

    def before(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Forward pre-hook: look up the hidden states of the batch."""
        if self.depth == 0 or args or kwargs.keys() != {"input_ids", "attention_mask"}:
            return None
        ids, mask = kwargs["input_ids"], kwargs["attention_mask"]
        rows = rows_without_padding(ids, mask)
        if rows is None:
            return None
        self.injected = self.hidden_states(rows, 1 if self.first_only else ids.shape[1]).to(ids.device)
        if self.first_only:
            return args, {"input_ids": ids[:, :1], "attention_mask": mask[:, :1]}
        return None

    def after(self, *_: object) -> None:
        """Forward hook, also called if the call fails."""
        self.injected = None

    def run_stage(self, place: int, forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """In place of a stage's forward."""
        last = len(self.prefix) - 1
        if self.injected is not None and place <= last:
            return self.injected
        if self.capturing and place > last:
            return args[0]
        output = forward(*args, **kwargs)
        if self.capturing and place == last:
            self.captured = output
        return output

    # --- Hidden states ---

    def hidden_states(self, rows: Sequence[np.ndarray], length: int) -> Tensor:
        """The prefix's output for examples (token ids [L] each): float32 [B, length, H], zero after an example's end.

        What padding would give instead is read by no token: attention masks it.
        """
        cache = self.cache()
        states = np.zeros((len(rows), length, self.model.config.hidden_size), dtype=np.float32)
        for row, ids in zip(states, rows, strict=True):
            example = example_digest(ids)
            found = cache.get(example)
            if found is None:
                found = self.compute(ids)
                cache.put(example, found)
            row[: len(found)] = found
        return torch.from_numpy(states)

    @torch.no_grad()
    def compute(self, ids: np.ndarray) -> np.ndarray:
        """The prefix's output for one example: float32 [L, H], or of its first token [1, H]."""
        for module in self.prefix:
            if module.training:
                module.eval()
        batch = torch.from_numpy(ids)[None].to(self.accelerator.device)
        self.capturing = True
        try:
            with self.accelerator.autocast():
                self.model.base_model(input_ids=batch, attention_mask=torch.ones_like(batch))
            found = self.captured
        finally:
            self.capturing, self.captured = False, None
        assert found is not None and found.dtype == torch.float32, "a layer gives float32 in these families"
        return found[0, : 1 if self.first_only else None].cpu().numpy()

    def cache(self) -> StateCache:
        """The cache for the present depth. Raises RuntimeError if the prefix's weights are not what they were."""
        if self.depth not in self.opened:
            weights = [tensor for tensor in self.tensors().values() if isinstance(tensor, nn.Parameter)]
            self.opened[self.depth] = Opened(self.open_cache(), weights)
        opened = self.opened[self.depth]
        if opened.changed():
            raise RuntimeError(
                "weights of the frozen prefix were changed, so its kept output does not hold; "
                "trainer.frozen_prefix=false computes it with each batch"
            )
        return opened.cache

    def open_cache(self) -> StateCache:
        log.info(
            "the output of the frozen embeddings and %d of %d layers is kept for each example", self.depth, self.layers
        )
        limit = int(self.trainer.frozen_prefix_gb * 1e9)
        return StateCache(self.key(), self.splits, self.model.config.hidden_size, self.first_only, limit)

    def tensors(self) -> dict[str, Tensor]:
        """Weights and buffers of the prefix, by stage and name."""
        return {
            f"{place}.{name}": tensor
            for place, stage in enumerate(self.prefix)
            for name, tensor in (*stage.named_parameters(), *stage.named_buffers())
        }

    def key(self) -> str:
        """A hash of everything that decides the hidden states of an example, except its token ids."""
        trainer, config = self.trainer, self.model.config
        device = self.accelerator.device
        what = {
            "weights": tensors_sha256(self.tensors()),
            "modules": [str(stage) for stage in self.prefix],
            "config": {k: v for k, v in config.to_dict().items() if k not in IGNORED_CONFIG},
            "attention": config._attn_implementation,
            "first_only": self.first_only,
            "skip_unread": trainer.skip_unread,
            "precision": trainer.precision,
            "deterministic": trainer.deterministic,
            "environment": environment(device, linear=matmul_backend(trainer))["key"],
            "code": [file_sha256(Path(__file__).parents[1] / f"{name}.py") for name in PREFIX_CODE],
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def rows_without_padding(ids: Tensor, mask: Tensor) -> list[np.ndarray] | None:
    """The token ids [L] of each row of a batch; None unless each row is at least one token and then padding."""
    batch, known = ids.cpu().numpy(), mask.cpu().numpy()
    lengths = known.sum(1)
    if batch.shape != known.shape or not (known == (np.arange(known.shape[1]) < lengths[:, None])).all():
        return None
    return None if (lengths == 0).any() else [row[:n] for row, n in zip(batch, lengths.tolist(), strict=True)]


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """One hash of names, types, shapes and values."""
    sha256 = hashlib.sha256()
    for name, tensor in tensors.items():
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha256.update(np.ascontiguousarray(tensor.detach().cpu().numpy()))
    return sha256.hexdigest()
