"""Texts with their classes, and what is cut or sampled from them.

Every choice is made by a hash of the text itself, class by class: it depends neither on a library's version nor on
a file's order, and a file sorted by class does no harm.
"""

import hashlib
import string
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ablate.config.checks import require


@dataclass(frozen=True)
class Texts:
    """A split: texts and their classes, 0..k-1. `source` says where they are from, for messages."""

    text: list[str]
    label: list[int]
    source: str


def stratified_order(texts: Texts, salt: str) -> list[int]:
    """All rows, ordered so that the first n, for any n, are a stratified sample (each class to within one).

    Within a class by the sha256 of salt and text; the j-th of a class of m comes at (j + 1/2) / m of the way.
    """
    members = defaultdict(list)
    for row, (text, label) in enumerate(zip(texts.text, texts.label, strict=True)):
        members[label].append((hashlib.sha256(f"{salt}\n{text}".encode()).digest(), row))
    ranked = [
        ((place + 0.5) / len(rows), label, row)
        for label, rows in members.items()
        for place, (_, row) in enumerate(sorted(rows))
    ]
    return [row for _, _, row in sorted(ranked)]


def sample(texts: Texts, key: str, count: int) -> Texts:
    """`count` of the texts, stratified; `key` is the setting that asks for it, and the hash's salt."""
    require(f"data.{key}", count, count <= len(texts.text), f"at most the {len(texts.text)} there are")
    return select(texts, stratified_order(texts, key)[:count], f"{key}={count}")


def overlap(train: Sequence[str], test: Sequence[str]) -> int:
    """How many of the test texts are in train, case, spaces and punctuation aside.

    >>> overlap(["A dull film."], ["a dull film .", "A fine film."])
    1
    """
    drop = str.maketrans("", "", string.whitespace + string.punctuation)
    known = {text.casefold().translate(drop) for text in train}
    return sum(text.casefold().translate(drop) in known for text in test)


def check_classes(splits: dict[str, Texts]) -> None:
    """Train has the classes 0..k-1, the others no further ones, and each split two at least."""
    known = set(splits["train"].label)
    for texts in splits.values():
        if not texts.text:
            raise ValueError(f"{texts.source}: no rows")
        if len(set(texts.label)) == 1:
            raise ValueError(f"{texts.source}: all {len(texts.label)} labels are {texts.label[0]}; need two classes")
    absent = next(label for label in range(len(known) + 1) if label not in known)
    if absent < max(known):
        row, label = next((row, label) for row, label in enumerate(splits["train"].label, 1) if label > absent)
        raise ValueError(
            f"{splits['train'].source}, row {row}: label {label}, but no row has {absent}; allowed are 0..k-1"
        )
    for texts in splits.values():
        for row, label in enumerate(texts.label, 1):
            if label not in known:
                raise ValueError(f"{texts.source}, row {row}: label {label}, which no row of the training split has")


def select(texts: Texts, index: Sequence[int], how: str) -> Texts:
    return Texts([texts.text[i] for i in index], [texts.label[i] for i in index], f"{texts.source}, {how}")
