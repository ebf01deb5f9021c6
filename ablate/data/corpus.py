"""A data set, tokenised for a model: once per machine (`ablate.data.token_cache`) and loaded once per process."""

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
    """The tokenised splits of a data set, with the numbers that we warn about. The tokenizer is no longer needed."""

    train: Examples
    validation: Examples
    test: Examples
    tokenizer: Vocabulary
    overlap: int  # number of test texts that are also in train

    @property
    def classes(self) -> int:
        return max(self.train.label) + 1


def corpus(model: Model, source: Data, known: dict[str, Corpus] | None = None) -> Corpus:
    """Return the corpus of a model and a data set: a known one, else from the machine's cache, else made.

    `known` holds the corpora that the process has read, by key, and gets this one.
    """
    known = {} if known is None else known
    key = token_cache.entry_key(model, source)
    if key not in known:
        found = token_cache.load_entry(key) if source.pinned() else None
        if found is None:
            found = pack(build_corpus(model, source))
            if source.pinned():
                token_cache.store_entry(key, found)
        known[key] = unpack(found)
        warn_about_texts(known[key], source)
    return known[key]


def build_corpus(model: Model, source: Data) -> Corpus:
    """Read and tokenise a data set, without any cache."""
    splits = sources.load_splits(source)
    tokenizer = model.tokenizer(splits["train"].text)
    require(
        "data.max_length", source.max_length, source.max_length <= tokenizer.model_max_length,
        f"at most {tokenizer.model_max_length}, the tokens that the model can process",
    )  # fmt: skip
    examples = {name: tokenise(texts, tokenizer, source.max_length) for name, texts in splits.items()}
    common = overlap(splits["train"].text, splits["test"].text)
    return Corpus(**examples, tokenizer=Vocabulary(len(tokenizer), tokenizer.pad_token_id), overlap=common)


def warn_about_texts(texts: Corpus, source: Data) -> None:
    """Warn about test texts that are also in train, classes without an example, and texts that were cut."""
    if texts.overlap:
        count = len(texts.test.label)
        log.warning("data: %d of %d test texts are also in the training split", texts.overlap, count)
    for name in SPLITS:
        split = getattr(texts, name)
        if lacking := sorted(set(texts.train.label) - set(split.label)):
            log.warning("data: the %s split has no example of class %s", name, ", ".join(map(str, lacking[:10])))
        if split.truncated:
            log.warning(
                "data: %d of %d %s texts are longer than data.max_length=%d tokens and were cut",
                split.truncated, len(split.label), name, source.max_length,
            )  # fmt: skip


def pack(texts: Corpus) -> dict[str, np.ndarray]:
    """A corpus as integer arrays: per split the concatenated token ids of its N texts, lengths [N] and labels [N].

    And its clusters, [N] or, if they are not known, [0].
    """
    arrays = {"tokenizer": np.array([texts.tokenizer.size, texts.tokenizer.pad_token_id])}
    arrays["overlap"] = np.array(texts.overlap)
    for name in SPLITS:
        split: Examples = getattr(texts, name)
        ids = np.concatenate(split.input_ids)
        arrays[f"{name}.ids"] = ids.astype(np.min_scalar_type(ids.max()))  # mostly two bytes per id
        arrays[f"{name}.lengths"] = np.array([len(row) for row in split.input_ids])
        arrays[f"{name}.labels"] = np.array(split.label)
        arrays[f"{name}.clusters"] = np.array(split.cluster, dtype=np.int64)
        arrays[f"{name}.truncated"] = np.array(split.truncated)
    return arrays


def unpack(arrays: dict[str, np.ndarray]) -> Corpus:
    """The corpus that `pack` packed. Token ids are int64 arrays: lists need four times the memory."""
    examples = {}
    for name in SPLITS:
        ends = np.cumsum(arrays[f"{name}.lengths"])
        rows = np.split(arrays[f"{name}.ids"].astype(np.int64), ends[:-1])
        labels, clusters = (arrays[f"{name}.{column}"].tolist() for column in ("labels", "clusters"))
        examples[name] = Examples(rows, labels, int(arrays[f"{name}.truncated"]), clusters)
    return Corpus(**examples, tokenizer=Vocabulary(*arrays["tokenizer"].tolist()), overlap=int(arrays["overlap"]))
