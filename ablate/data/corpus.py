"""A data set, tokenised for a model: once per machine (`ablate.data.token_cache`) and loaded once per process."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ablate.config.checks import require
from ablate.config.wording import printable
from ablate.data import sources, token_cache
from ablate.data.batches import Examples
from ablate.data.sources import SPLITS, Data
from ablate.data.texts import overlap, strings
from ablate.data.tokens import tokenise
from ablate.model.loading import Model, Vocabulary
from ablate.schema import UNLABELLED

log = logging.getLogger("ablate")

IMBALANCE = 1.5
"""The ratio of the largest to the smallest class of texts from which on we report their shares."""


@dataclass(frozen=True)
class Corpus:
    """The tokenised splits of a data set, with the numbers that we warn about. The tokenizer is no longer needed.

    overlap  number of test texts that are also in train
    labels   names of the classes, in the order of their numbers; empty for a task without classes
    kind     kind of the task
    shared   number of groups of test texts that have the name of a group in train
    """

    train: Examples
    validation: Examples
    test: Examples
    tokenizer: Vocabulary
    overlap: int
    labels: tuple[str, ...] = ()
    kind: str = "classification"
    shared: int = 0

    @property
    def classes(self) -> int:
        """The number of classes; 1 for a task without them."""
        return len(self.labels) or max(self.counts(self.train), default=0) + 1

    def counts(self, split: Examples) -> Counter[int]:
        """The number of targets of each class in a split; empty for a task without classes."""
        if self.kind == "classification":
            return Counter(split.label)
        if self.kind == "token_classification":
            found = np.concatenate(split.label)
            return Counter(found[found != UNLABELLED].tolist())
        return Counter()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers where they have none."""
        return self.labels or tuple(map(str, range(self.classes)))


def corpus(model: Model, source: Data, known: dict[str, Corpus] | None = None, kind: str = "classification") -> Corpus:
    """Return the corpus of a model and a data set: a known one, else from the machine's cache, else made.

    `known` holds the corpora that the process has read, by key, and gets this one. `kind` is that of the task.
    """
    known = {} if known is None else known
    key = token_cache.entry_key(model, source, kind)
    if key not in known:
        found = token_cache.load_entry(key) if source.pinned() else None
        if found is None:
            found = pack(build_corpus(model, source, kind))
            if source.pinned():
                token_cache.store_entry(key, found)
        known[key] = unpack(found)
        warn_about_texts(known[key], source)
    return known[key]


def build_corpus(model: Model, source: Data, kind: str = "classification") -> Corpus:
    """Read and tokenise a data set, without any cache."""
    splits = sources.load_splits(source, kind)
    tokenizer = model.tokenizer(strings(splits["train"]))
    require(
        "data.max_length", source.max_length, source.max_length <= tokenizer.model_max_length,
        f"at most {tokenizer.model_max_length}, the tokens that the model can process",
    )  # fmt: skip
    examples = {name: tokenise(texts, tokenizer, source.max_length, kind) for name, texts in splits.items()}
    common = overlap(splits["train"].text, splits["test"].text)
    return Corpus(
        **examples, tokenizer=Vocabulary(len(tokenizer), tokenizer.pad_token_id), overlap=common,
        labels=tuple(splits["train"].labels), kind=kind,
        shared=len({*splits["train"].cluster} & {*splits["test"].cluster}),
    )  # fmt: skip


# --- What we warn about ---


def warn_about_texts(texts: Corpus, source: Data) -> None:
    """Warn about test texts and groups that are also in train, rare and missing classes, and what did not fit."""
    if texts.overlap:
        of = "" if texts.kind == "causal_lm" else f"of {len(texts.test)} "  # blocks are no texts
        log.warning("data: %d %stest texts are also in the training split", texts.overlap, of)
    if texts.shared:
        log.warning(
            "data: %d of %d groups of test texts are also in the training split; a file per split keeps them apart",
            texts.shared, len({*texts.test.cluster}),
        )  # fmt: skip
    report_classes(texts)
    for name in SPLITS:
        split = getattr(texts, name)
        if split.truncated:
            log.warning("data: %s", left_out(texts.kind, name, split, source.max_length))


def left_out(kind: str, name: str, split: Examples, max_length: int) -> str:
    """What of a split did not fit, as a sentence."""
    if kind == "token_classification":
        words = split.truncated + sum(split.units)
        return (
            f"{split.truncated} of {words} {name} words are behind the first data.max_length={max_length} tokens of "
            "their text and were left out"
        )
    if kind == "causal_lm":
        tokens = split.truncated + len(split) * max_length
        return f"the last {split.truncated} of {tokens} {name} tokens are no whole block and were left out"
    count = len(split)
    return f"{split.truncated} of {count} {name} texts are longer than data.max_length={max_length} tokens and were cut"


def report_classes(texts: Corpus) -> None:
    """Warn about unequal classes, classes with one example or none, and names that look alike."""
    counts = texts.counts(texts.train)
    if not counts:
        return
    (largest, most), (smallest, fewest) = counts.most_common()[0], counts.most_common()[-1]
    if texts.kind == "classification" and most >= IMBALANCE * fewest:  # most words have no entity: no news
        total = counts.total() / 100
        log.warning(
            "data: the classes are unequal: %.1f %% of the training labels are %s and %.1f %% are %s",
            most / total, shown(texts, [largest]), fewest / total, shown(texts, [smallest]),
        )  # fmt: skip
    if single := sorted(label for label, count in counts.items() if count == 1):
        log.warning("data: the train split has only one example of class %s", shown(texts, single))
    for name in SPLITS:
        if lacking := sorted(set(range(texts.classes)) - set(texts.counts(getattr(texts, name)))):
            log.warning("data: the %s split has no example of class %s", name, shown(texts, lacking))
    for alike in look_alikes(texts.labels):
        log.warning("data: the classes %s differ only in case or spaces", " and ".join(map(repr, alike)))


def shown(texts: Corpus, labels: Sequence[int]) -> str:
    """The names of the first ten classes of a list."""
    return ", ".join(printable(texts.names[label]) for label in labels[:10])


def look_alikes(names: Sequence[str]) -> list[list[str]]:
    """Names that are equal but for case and spaces.

    >>> look_alikes(["No", "no", "yes"])
    [['No', 'no']]
    """
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault("".join(name.casefold().split()), []).append(name)
    return [alike for alike in found.values() if len(alike) > 1]


# --- As arrays ---


def pack(texts: Corpus) -> dict[str, np.ndarray]:
    """A corpus as arrays. Per split: the concatenated token ids of its N examples, lengths [N], labels, and so on.

    Labels are [N], or as long as the token ids for token classification. What is not known has the shape [0].
    """
    arrays = {"tokenizer": np.array([texts.tokenizer.size, texts.tokenizer.pad_token_id])}
    arrays |= {"overlap": np.array(texts.overlap), "kind": np.array(texts.kind)}
    arrays["shared"] = np.array(texts.shared)
    arrays["names"] = np.frombuffer("\0".join(texts.labels).encode(), dtype=np.uint8)
    for name in SPLITS:
        split: Examples = getattr(texts, name)
        arrays[f"{name}.ids"] = smallest_type(np.concatenate(split.input_ids))  # mostly two bytes per id
        arrays[f"{name}.lengths"] = np.array([len(row) for row in split.input_ids])
        arrays[f"{name}.labels"] = one_array(split.label)
        arrays[f"{name}.clusters"] = np.array(split.cluster, dtype=np.int64)
        arrays[f"{name}.segments"] = smallest_type(one_array(split.segments))
        arrays[f"{name}.units"] = np.array(split.units, dtype=np.int64)
        arrays[f"{name}.truncated"] = np.array(split.truncated)
    return arrays


def one_array(rows: Sequence[Any]) -> np.ndarray:
    """Numbers as an array [N], or the rows of numbers of N examples one after the other."""
    if not len(rows):
        return np.array([], dtype=np.int64)
    return np.array(rows) if isinstance(rows[0], (int, float)) else np.concatenate(rows)


def smallest_type(values: np.ndarray) -> np.ndarray:
    return values.astype(np.min_scalar_type(values.max(initial=0)))


def unpack(arrays: dict[str, np.ndarray]) -> Corpus:
    """The corpus that `pack` packed. Token ids are int64 arrays: lists need four times the memory."""
    kind, names = str(arrays["kind"]), arrays["names"].tobytes().decode()
    examples = {}
    for name in SPLITS:
        found = {column: arrays[f"{name}.{column}"] for column in ("labels", "clusters", "segments", "units")}
        ends = np.cumsum(arrays[f"{name}.lengths"])[:-1]
        rows = np.split(arrays[f"{name}.ids"].astype(np.int64), ends)
        labels = np.split(found["labels"], ends) if kind == "token_classification" else found["labels"].tolist()
        segments = np.split(found["segments"].astype(np.int64), ends) if len(found["segments"]) else []
        clusters, units = found["clusters"].tolist(), found["units"].tolist()
        examples[name] = Examples(rows, labels, int(arrays[f"{name}.truncated"]), clusters, segments, units)
    return Corpus(
        **examples, tokenizer=Vocabulary(*arrays["tokenizer"].tolist()), overlap=int(arrays["overlap"]),
        labels=tuple(names.split("\0")) if names else (), kind=kind, shared=int(arrays["shared"]),
    )  # fmt: skip
