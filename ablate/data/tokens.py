"""From texts to token ids: of single texts and pairs, of words with a label each, and of blocks of running text."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ablate.data.batches import Examples
from ablate.data.texts import Texts
from ablate.schema import UNLABELLED

TOGETHER = 10_000
"""Texts that are tokenised together: the tokenizer's own records would need some 2 kB per text."""


def tokenise(
    texts: Texts, tokenizer: PreTrainedTokenizerBase, max_length: int, kind: str = "classification"
) -> Examples:
    """The examples of a split for a task of this kind, each of at most `max_length` tokens."""
    if kind == "causal_lm":
        return blocks(texts, tokenizer, max_length)
    number = {name: i for i, name in enumerate(dict.fromkeys(texts.cluster))}
    cluster = [number[name] for name in texts.cluster]
    if kind == "token_classification":
        return tagged(texts, tokenizer, max_length, cluster)
    return whole_texts(texts, tokenizer, max_length, cluster)


def in_parts(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), TOGETHER):
        yield rows[start : start + TOGETHER]


# --- Texts and pairs ---


def whole_texts(texts: Texts, tokenizer: PreTrainedTokenizerBase, max_length: int, cluster: list[int]) -> Examples:
    """Token ids with special tokens. The longer text of a pair is cut first, token by token."""
    rows: list[np.ndarray] = []
    segments: list[np.ndarray] = []
    truncated = 0
    for part in in_parts(texts.text):
        pairs = isinstance(part[0], tuple)
        columns = list(map(list, zip(*part, strict=True))) if pairs else [part]
        encoded = tokenizer(*columns, truncation="longest_first", max_length=max_length)
        if tokenizer.is_fast:
            truncated += sum(bool(encoding.overflowing) for encoding in encoded.encodings)
        else:  # written in Python: it does not report what it cuts
            truncated += sum(len(ids) > max_length for ids in tokenizer(*columns, verbose=False)["input_ids"])
        rows += arrays(encoded["input_ids"])
        if pairs and "token_type_ids" in encoded:
            segments += arrays(encoded["token_type_ids"])
    return Examples(rows, texts.label, truncated, cluster, segments)


def arrays(rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Rows of whole numbers as arrays: a list of integers needs four times the memory."""
    return [np.array(row, dtype=np.int64) for row in rows]


# --- Words with labels ---


def tagged(texts: Texts, tokenizer: PreTrainedTokenizerBase, max_length: int, cluster: list[int]) -> Examples:
    """Token ids of words; the first token of a word has its label, and every other token -100.

    A word for which the tokenizer has no token, such as a zero-width space, becomes the unknown token, so that each
    word that is not cut off has exactly one label.
    """
    replaced = substitutes(texts, tokenizer)
    lead = leading_spaces(tokenizer)
    encode = partial(by_fast_tokenizer if tokenizer.is_fast else by_slow_tokenizer, tokenizer, max_length)
    rows, labels, units = [], [], []
    for part in in_parts(range(len(texts.text))):
        words = [lead([replaced.get(word, word) for word in texts.text[i]]) for i in part]
        for i, (ids, firsts) in zip(part, encode(words), strict=True):
            label = np.full(len(ids), UNLABELLED, dtype=np.int64)
            label[firsts] = texts.label[i][: len(firsts)]
            rows.append(ids)
            labels.append(label)
            units.append(len(firsts))
    cut = sum(map(len, texts.text)) - sum(units)
    return Examples(rows, labels, cut, cluster, units=units)


def substitutes(texts: Texts, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """Each word for which the tokenizer has no token -> the word to use in its place."""
    words = list(dict.fromkeys(word for sentence in texts.text for word in sentence))
    lost = []
    for part in in_parts(words):
        ids = tokenizer(list(part), add_special_tokens=False, verbose=False)["input_ids"]
        lost += [word for word, found in zip(part, ids, strict=True) if not len(found)]
    return dict.fromkeys(lost, tokenizer.unk_token or "?")


def leading_spaces(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[str]], list[str]]:
    """How words are written so that they get the tokens that they have in running text.

    Some tokenizers (GPT-2's) have a space in front as a part of a word, and they do not add it to words that are given
    one by one.
    """

    def as_they_are(words: list[str]) -> list[str]:
        return words

    def after_spaces(words: list[str]) -> list[str]:
        return [words[0], *(f" {word}" for word in words[1:])]

    probe = ["the", "house", "the"]
    wanted = tokenizer(" ".join(probe), add_special_tokens=False)["input_ids"]
    for ways in (as_they_are, after_spaces):
        if tokens_of_words(tokenizer, ways(probe)) == list(wanted):
            return ways
    return as_they_are


def tokens_of_words(tokenizer: PreTrainedTokenizerBase, words: list[str]) -> list[int]:
    if tokenizer.is_fast:
        return tokenizer(words, is_split_into_words=True, add_special_tokens=False)["input_ids"]
    return list(itertools.chain(*tokenizer(words, add_special_tokens=False)["input_ids"]))


def by_fast_tokenizer(
    tokenizer: PreTrainedTokenizerBase, max_length: int, sentences: list[list[str]]
) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Of each sentence the token ids and the position of the first token of each word that is not cut off."""
    encoded = tokenizer(sentences, is_split_into_words=True, truncation=True, max_length=max_length)
    for number, ids in enumerate(encoded["input_ids"]):
        firsts: dict[int, int] = {}
        for position, word in enumerate(encoded.word_ids(number)):
            if word is not None:
                firsts.setdefault(word, position)
        yield np.array(ids, dtype=np.int64), list(firsts.values())


def by_slow_tokenizer(
    tokenizer: PreTrainedTokenizerBase, max_length: int, sentences: list[list[str]]
) -> Iterator[tuple[np.ndarray, list[int]]]:
    """The same word by word, for tokenizers that are written in Python and do not report which word a token is of."""
    marked = tokenizer.build_inputs_with_special_tokens([UNLABELLED])
    before, room = marked.index(UNLABELLED), max_length - len(marked) + 1
    for words in sentences:
        parts = tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"]
        starts = [0, *itertools.accumulate(map(len, parts))][:-1]
        ids = tokenizer.build_inputs_with_special_tokens(list(itertools.chain(*parts))[:room])
        yield np.array(ids, dtype=np.int64), [before + start for start in starts if start < room]


# --- Running text ---


def blocks(texts: Texts, tokenizer: PreTrainedTokenizerBase, length: int) -> Examples:
    """The texts, each with the end-of-text token behind it, cut into blocks of `length` tokens; the rest is left out.

    Each token but a block's first is predicted. Raises ValueError if there are fewer tokens than one block has.
    """
    end = end_of_text(tokenizer)
    parts: list[np.ndarray] = []
    for part in in_parts(texts.text):
        for ids in tokenizer(list(part), add_special_tokens=False, verbose=False)["input_ids"]:
            parts.append(np.array([*ids, end], dtype=np.int64))
    tokens = np.concatenate(parts)
    count = len(tokens) // length
    if not count:
        raise ValueError(
            f"{texts.source}: the split must have the tokens of at least one block, data.max_length={length} "
            f"(got {len(tokens)})"
        )
    rows = np.split(tokens[: count * length], count)
    return Examples(rows, [], len(tokens) - count * length, units=[length - 1] * count)


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a text: a decoder's end-of-text token, else the separator (of BERT's kind)."""
    for token in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if token is not None:
            return token
    raise ValueError("model must be one whose tokenizer has an end-of-text token or a separator (got neither)")
