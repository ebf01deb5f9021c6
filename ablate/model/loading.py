"""The options of the group `model`. Only this module knows how transformers loads models."""

import contextlib
import functools
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ablate.config.checks import refusal, require
from ablate.files.assets import ASSETS, Asset, fetch
from ablate.files.hashing import matching_sha256
from ablate.files.hub import snapshot
from ablate.model.head import HeadInit, initialise_head, reset_head
from ablate.model.parameter_roles import own_roles, role
from ablate.model.weights import SMALL_FILES, WEIGHTS, check_files, check_loaded, model_type_of
from ablate.model.word_tokenizer import SPECIAL, word_tokenizer
from ablate.schema import TASKS
from ablate.seeds import stream

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

LOADABLE = "a model and tokenizer that transformers can load"


@dataclass(frozen=True)
class Vocabulary:
    """The two facts about a tokenizer that a model needs. `len()` gives its size."""

    size: int
    pad_token_id: int

    def __len__(self) -> int:
        return self.size


@runtime_checkable
class Model(Protocol):
    """The protocol of a model option."""

    def identity(self) -> dict[str, Any]:
        """The values that identify these weights and the user's own files of roles. Cheap: loads nothing."""
        ...

    def tokenizer_identity(self) -> dict[str, Any]:
        """The values that identify the tokenizer, given its texts. Plain values; cheap."""
        ...

    def tokenizer(self, texts: Iterable[str]) -> "PreTrainedTokenizerBase":
        """The tokenizer. Models without one of their own build it from `texts`, the training split."""
        ...

    def build(self, labels: int, seed: int, tokenizer: Vocabulary, kind: str = TASKS[0]) -> "nn.Module":
        """A float32 model with `labels` outputs; its head is initialised from the seed's own random stream.

        `kind` is given for other tasks than classification. A causal language model keeps its own output layer.
        """
        ...


@dataclass(frozen=True)
class Pretrained:
    """A transformers checkpoint with a fresh classification head.

    path: `asset:<name>` (pinned, downloaded through pip), a local folder, or a hub id at `revision`.
    dropout: the rate of all its dropout, attention's included; None: the checkpoint's own rates.

    Only safetensors are read, and no code from the model's folder runs. The weights are memory-mapped: the models of
    all runs share one copy of the file in memory, and a run gets its own copy of a page when it writes to that page.
    So building a model costs less than copying one that is in memory, and no run can alter the weights of the next.
    """

    path: str
    revision: str | None
    lr: float
    head_init: HeadInit = "xavier"
    dropout: float | None = None

    def __post_init__(self) -> None:
        require("dropout", self.dropout, self.dropout is None or 0 <= self.dropout < 1, "null or a number in [0, 1)")

    def identity(self) -> dict[str, Any]:
        if self.path.startswith("asset:"):
            return {"sha256": self.asset.sha256}
        folder = Path(self.path).expanduser()
        if folder.is_dir():
            return {"sha256": matching_sha256(folder, (*SMALL_FILES, WEIGHTS))} | own_roles(model_type_of(folder))
        return {"path": self.path, "revision": self.revision} | own_roles(None)

    @property
    def asset(self) -> Asset:
        name = self.path.removeprefix("asset:")
        require("path", self.path, name in ASSETS, f"asset:<one of {', '.join(ASSETS)}>")
        return ASSETS[name]

    def locate(self) -> Path:
        """The folder with the model's files, downloaded first if needed. ValueError if it is not available."""
        if self.path.startswith("asset:"):
            return fetch(self.asset)
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            hub = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", self.path) is not None
            require("model.path", self.path, hub, "asset:<name>, an existing folder, or a hub id (owner/name)")
            folder = hub_folder(self.path, self.revision)
        check_files(folder, self.path)
        return folder

    def tokenizer_identity(self) -> dict[str, Any]:
        return {"sha256": matching_sha256(self.locate(), SMALL_FILES)}

    def tokenizer(self, texts: Iterable[str]) -> "PreTrainedTokenizerBase":
        return load_tokenizer(self.locate())

    def build(self, labels: int, seed: int, tokenizer: Vocabulary, kind: str = TASKS[0]) -> "nn.Module":
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(stream("head", seed))  # for modules that the checkpoint lacks, e.g. a pooler
            model, found = self.load(labels, kind)
            if has_new_head(kind) and any(role(name).block == "head" for name in found):
                torch.manual_seed(stream("head", seed))
                reset_head(model)
        model.config.pad_token_id = tokenizer.pad_token_id
        if has_new_head(kind):
            initialise_head(model, self.head_init, seed)
        return without_cache(model)

    def skeleton(self, labels: int, kind: str = TASKS[0]) -> "nn.Module":
        """The model without weights, on torch's meta device, after all checks of its files, names and shapes."""
        import torch

        with torch.random.fork_rng():
            return self.load(labels, kind, device_map="meta")[0]

    def load(self, labels: int, kind: str = TASKS[0], **how: Any) -> "tuple[nn.Module, set[str]]":
        """The model and the names of its parameters that the checkpoint has.

        Raises ValueError if transformers cannot load the checkpoint, or if its tensors are not those of the model.
        """
        import torch

        folder = self.locate()
        with quiet_transformers():
            try:
                model, info = auto_class(kind).from_pretrained(
                    folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True,
                    output_loading_info=True, ignore_mismatched_sizes=True, **output_size(kind, labels),
                    **dropout_rates(folder, self.dropout), **how,
                )  # fmt: skip
            except Exception as error:  # transformers has many kinds for a folder that it cannot load
                raise ValueError(f"{refusal('model.path', self.path, LOADABLE)}: {first_line(error)}") from error
        check_loaded(model, info, self.path, has_new_head(kind))
        check_dropout(model, self.dropout)
        fresh = info["missing_keys"] | {name for name, *_ in info["mismatched_keys"]}
        return model, {name for name, _ in model.named_parameters()} - fresh


@dataclass(frozen=True)
class Tiny:
    """A random BERT of a few thousand parameters, for tests and first tries; a GPT-2 of that size for causal_lm.

    Its vocabulary is the most frequent words of the training texts. As with a pretrained model, all seeds
    start from the same weights (drawn from `weights_seed`), except the head.
    """

    lr: float
    head_init: HeadInit = "xavier"
    layers: int = 2
    hidden: int = 32
    heads: int = 2
    vocabulary: int = 2000
    max_positions: int = 128
    dropout: float = 0.1
    weights_seed: int = 0

    def __post_init__(self) -> None:
        for key in ("layers", "hidden", "heads", "vocabulary", "max_positions"):
            require(key, getattr(self, key), getattr(self, key) >= 1, "a whole number, at least 1")
        require("heads", self.heads, self.hidden % self.heads == 0, f"a divisor of hidden={self.hidden}")
        require("dropout", self.dropout, 0 <= self.dropout < 1, "a number in [0, 1)")

    def identity(self) -> dict[str, Any]:
        return {}

    def tokenizer_identity(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary, "max_positions": self.max_positions}

    def tokenizer(self, texts: Iterable[str]) -> "PreTrainedTokenizerBase":
        return word_tokenizer(texts, self.vocabulary, self.max_positions, segments=True)

    def build(self, labels: int, seed: int, tokenizer: Vocabulary, kind: str = TASKS[0]) -> "nn.Module":
        import torch

        config = self.decoder(tokenizer) if kind == "causal_lm" else self.encoder(labels, tokenizer)
        with torch.random.fork_rng():
            torch.manual_seed(stream("weights", self.weights_seed))
            model = auto_class(kind).from_config(config, dtype=torch.float32)
            if has_new_head(kind):
                torch.manual_seed(stream("head", seed))
                model._init_weights(model.classifier)
        if has_new_head(kind):
            initialise_head(model, self.head_init, seed)
        return without_cache(model)

    def encoder(self, labels: int, tokenizer: Vocabulary) -> "PretrainedConfig":
        from transformers import BertConfig

        return BertConfig(
            vocab_size=len(tokenizer), hidden_size=self.hidden, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, intermediate_size=2 * self.hidden, num_labels=labels,
            max_position_embeddings=self.max_positions, hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip

    def decoder(self, tokenizer: Vocabulary) -> "PretrainedConfig":
        from transformers import GPT2Config

        return GPT2Config(
            vocab_size=len(tokenizer), n_embd=self.hidden, n_layer=self.layers, n_head=self.heads,
            n_inner=2 * self.hidden, n_positions=self.max_positions, resid_pdrop=self.dropout, embd_pdrop=self.dropout,
            attn_pdrop=self.dropout, pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=None,
        )  # fmt: skip


@dataclass(frozen=True)
class Random:
    """Any architecture in transformers with random weights: shows the cost of a size, not its accuracy.

    architecture: its `model_type` in transformers ("llama").
    config: settings of its configuration, `vocab_size` among them; the others keep the architecture's defaults.

    Its vocabulary is the most frequent words of the training texts, as many as its embeddings have rows for. All seeds
    start from the same weights (drawn from `weights_seed`), except the head.
    """

    architecture: str
    config: dict[str, Any]
    lr: float
    head_init: HeadInit = "xavier"
    weights_seed: int = 0

    def __post_init__(self) -> None:
        from transformers import AutoConfig

        words = self.config.get("vocab_size")
        require(
            "config.vocab_size", words, type(words) is int and words > len(SPECIAL), "a number of tokens, at least 5"
        )
        try:
            known = AutoConfig.for_model(self.architecture)
        except ValueError as error:
            raise refusal("architecture", self.architecture, "a model_type of transformers") from error
        for key, value in self.config.items():
            require(f"config.{key}", value, hasattr(known, key), f"a setting of {type(known).__name__} in transformers")

    def configuration(self, labels: int) -> "PretrainedConfig":
        from transformers import AutoConfig

        return AutoConfig.for_model(self.architecture, num_labels=labels, pad_token_id=0, **self.config)

    def identity(self) -> dict[str, Any]:
        return own_roles(self.architecture)

    def tokenizer_identity(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary, "max_positions": self.max_positions}

    @property
    def vocabulary(self) -> int:
        return self.config["vocab_size"] - len(SPECIAL)

    @property
    def max_positions(self) -> int:
        return getattr(self.configuration(2), "max_position_embeddings", None) or 512

    def tokenizer(self, texts: Iterable[str]) -> "PreTrainedTokenizerBase":
        segments = getattr(self.configuration(2), "type_vocab_size", 0) > 1
        return word_tokenizer(texts, self.vocabulary, self.max_positions, segments)

    def build(self, labels: int, seed: int, tokenizer: Vocabulary, kind: str = TASKS[0]) -> "nn.Module":
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(stream("weights", self.weights_seed))
            model = auto_class(kind).from_config(self.configuration(max(1, labels)), dtype=torch.float32)
            if has_new_head(kind):
                torch.manual_seed(stream("head", seed))
                reset_head(model)
        model.config.pad_token_id = tokenizer.pad_token_id
        if has_new_head(kind):
            initialise_head(model, self.head_init, seed)
        return without_cache(model)


# --- Kinds of task ---


AUTO_CLASSES = {
    "classification": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "causal_lm": "AutoModelForCausalLM",
}


def auto_class(kind: str) -> Any:
    """The class of transformers that loads models for a kind of task."""
    import transformers

    return getattr(transformers, AUTO_CLASSES[kind])


def has_new_head(kind: str) -> bool:
    """Whether a run starts with a new head; a language model keeps the one that it has."""
    return kind != "causal_lm"


def output_size(kind: str, labels: int) -> dict[str, int]:
    return {"num_labels": labels} if has_new_head(kind) else {}


DROPOUT_RATES = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "pooler_dropout"),
    *("dropout", "attention_dropout", "activation_dropout", "hidden_dropout", "seq_classif_dropout"),
    *("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout"),
)
"""The keys of transformers' configs that hold dropout rates; each family has some of them."""


def dropout_rates(folder: Path, rate: float | None) -> dict[str, float]:
    """The settings of a checkpoint's config that give all its dropout one rate; none if `rate` is None."""
    if rate is None:
        return {}
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return {key: rate for key in DROPOUT_RATES if hasattr(config, key)}


def check_dropout(model: "nn.Module", rate: float | None) -> None:
    """Raise ValueError if some dropout of the model has another rate: a family whose config has other keys for it."""
    from torch import nn

    for name, module in model.named_modules():
        if rate is not None and isinstance(module, nn.Dropout) and module.p != rate:
            what = f"null for this family: {name} has the rate {module.p}, which no setting in DROPOUT_RATES changes"
            raise refusal("model.dropout", rate, what)


def build_model(model: Model, kind: str, labels: int, seed: int, tokenizer: Vocabulary) -> "nn.Module":
    """The model of a run. A user's own model may know classification alone: ValueError for another kind of task."""
    if kind == TASKS[0]:
        return model.build(labels, seed, tokenizer)
    if "kind" not in inspect.signature(model.build).parameters:
        name = type(model).__name__
        raise ValueError(f"model: {name}.build must take the argument kind for task={kind}; it knows {TASKS[0]} alone")
    return model.build(labels, seed, tokenizer, kind=kind)


def first_line(error: Exception) -> str:
    """The first line of a message of transformers, which may go on with a list of all its models."""
    return str(error).strip().partition("\n")[0]


def without_cache(model: "nn.Module") -> "nn.Module":
    """Switch off the cache of keys and values, which decoders need only to generate text but fill in training too."""
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    return model


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide transformers' progress bar and its warning that the head is new, which is intended."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@functools.cache
def hub_folder(path: str, revision: str | None) -> Path:
    """The folder of a hub model, looked up once per process, so that all runs of a sweep start from the same files."""
    return snapshot("model.path", path, revision, "model", (*SMALL_FILES, WEIGHTS))


@functools.lru_cache(maxsize=4)
def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{refusal('model.path', folder, LOADABLE)}: {error}") from error
    if tokenizer.pad_token_id is None:  # decoders often have none
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        what = "a model whose tokenizer has a padding token or an end-of-text token"
        raise refusal("model.path", folder, what)
    return tokenizer
