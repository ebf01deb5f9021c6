"""A data set as a model reads it: tokenised once a process, for all runs that share it."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablate import data
from ablate.batches import Examples, tokenise
from ablate.checks import require
from ablate.data import Data
from ablate.model import Model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("ablate")


@dataclass(frozen=True)
class Corpus:
    """Tokenised splits and the tokenizer that made them."""

    train: Examples
    validation: Examples
    test: Examples
    tokenizer: "PreTrainedTokenizerBase"

    @property
    def classes(self) -> int:
        return max(self.train.label) + 1


_corpora: dict[str, Corpus] = {}


def corpus(model: Model, source: Data) -> Corpus:
    """The corpus of a model and a data set, from this process's memory where it has been read before."""
    key = repr((model, model.identity(), source, source.identity()))
    if key not in _corpora:
        _corpora[key] = read(model, source)
    return _corpora[key]


def read(model: Model, source: Data) -> Corpus:
    splits = data.load(source)
    tokenizer = model.tokenizer(splits["train"].text)
    require(
        "data.max_length", source.max_length, source.max_length <= tokenizer.model_max_length,
        f"at most the {tokenizer.model_max_length} tokens that the model takes",
    )  # fmt: skip
    examples = {name: tokenise(texts, tokenizer, source.max_length) for name, texts in splits.items()}
    for name, split in examples.items():
        if split.truncated:
            log.warning(
                "data: %d of %d %s texts are longer than data.max_length=%d tokens and were cut",
                split.truncated, len(split.label), name, source.max_length,
            )  # fmt: skip
    return Corpus(**examples, tokenizer=tokenizer)
