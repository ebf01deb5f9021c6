"""A data set in a model's tokens: tokenised once per machine (`ablate.data.token_cache`), read once per process."""

import itertools
import logging
from dataclasses import dataclass

import numpy as np

from ablate.config.checks import require
from ablate.data import sources, token_cache
from ablate.data.batches import Examples, tokenise
from ablate.data.sources import SPLITS, Data
from ablate.data.texts import overlap
from ablate.model.loading import Model, Vocabulary

log = logging.getLogger("ablate")


@dataclass(frozen=True)
class Corpus:
    """Tokenised splits, and what is to be said of them. The tokenizer itself is no longer needed."""

    train: Examples
    validation: Examples
    test: Examples
    tokenizer: Vocabulary
    overlap: int  # test texts that stand in train, too

    @property
    def classes(self) -> int:
        return max(self.train.label) + 1


def corpus(model: Model, source: Data, known: dict[str, Corpus] | None = None) -> Corpus:
    """Return the corpus of a model and a data set: a known one, else from the machine's cache, else made.

    `known` holds the corpora that the process has read, by key, and gets this one.
    """
    known = {} if known is None else known
    key = token_cache.key(model, source)
    if key not in known:
        found = token_cache.load(key) if source.pinned() else None
        if found is None:
            found = pack(make(model, source))
            if source.pinned():
                token_cache.keep(key, found)
        known[key] = unpack(found)
        warn(known[key], source)
    return known[key]


def make(model: Model, source: Data) -> Corpus:
    splits = sources.load(source)
    tokenizer = model.tokenizer(splits["train"].text)
    require(
        "data.max_length", source.max_length, source.max_length <= tokenizer.model_max_length,
        f"at most the {tokenizer.model_max_length} tokens that the model takes",
    )  # fmt: skip
    examples = {name: tokenise(texts, tokenizer, source.max_length) for name, texts in splits.items()}
    common = overlap(splits["train"].text, splits["test"].text)
    return Corpus(**examples, tokenizer=Vocabulary(len(tokenizer), tokenizer.pad_token_id), overlap=common)


def warn(texts: Corpus, source: Data) -> None:
    if texts.overlap:
        count = len(texts.test.label)
        log.warning("data: %d of %d test texts are in the training split, too", texts.overlap, count)
    for name in SPLITS:
        split = getattr(texts, name)
        if split.truncated:
            log.warning(
                "data: %d of %d %s texts are longer than data.max_length=%d tokens and were cut",
                split.truncated, len(split.label), name, source.max_length,
            )  # fmt: skip


def pack(texts: Corpus) -> dict[str, np.ndarray]:
    """A corpus as arrays of integers: of each split its N texts' ids one behind the other, lengths [N], labels [N]."""
    arrays = {"tokenizer": np.array([texts.tokenizer.size, texts.tokenizer.pad_token_id])}
    arrays["overlap"] = np.array(texts.overlap)
    for name in SPLITS:
        split: Examples = getattr(texts, name)
        ids = np.fromiter(itertools.chain.from_iterable(split.input_ids), dtype=np.int64)
        arrays[f"{name}.ids"] = ids.astype(np.min_scalar_type(ids.max()))  # two bytes each, mostly
        arrays[f"{name}.lengths"] = np.array([len(row) for row in split.input_ids])
        arrays[f"{name}.labels"] = np.array(split.label)
        arrays[f"{name}.truncated"] = np.array(split.truncated)
    return arrays


def unpack(arrays: dict[str, np.ndarray]) -> Corpus:
    """What `pack` packed. A text's ids are an int64 array: a list takes four times the memory."""
    examples = {}
    for name in SPLITS:
        ends = np.cumsum(arrays[f"{name}.lengths"])
        rows = np.split(arrays[f"{name}.ids"].astype(np.int64), ends[:-1])
        examples[name] = Examples(rows, arrays[f"{name}.labels"].tolist(), int(arrays[f"{name}.truncated"]))
    return Corpus(**examples, tokenizer=Vocabulary(*arrays["tokenizer"].tolist()), overlap=int(arrays["overlap"]))
