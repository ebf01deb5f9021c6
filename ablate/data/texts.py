"""Labelled texts, and stratified samples of them.

Texts are chosen by a hash of their content, class by class. So a choice depends neither on a library's version nor on
the order of a file, and a file that is sorted by class does no harm.
"""

import hashlib
import string
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ablate.config.checks import require


@dataclass(frozen=True)
class Texts:
    """A split: texts and their classes, 0..k-1. `source` describes its origin, for messages.

    `cluster` names the group of each text; it is empty if the groups are not known.
    """

    text: list[str]
    label: list[int]
    source: str
    cluster: Sequence[str] = ()


def stratified_order(texts: Texts, salt: str) -> list[int]:
    """All rows, ordered so that the first n, for any n, are a stratified sample (each class to within one text).

    Within a class the sha256 of salt and text gives the order. The j-th text (from 0) of a class of m has the relative
    position (j + 1/2) / m.
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


def with_all_classes(texts: Texts, order: Sequence[int], count: int, keep: int) -> list[int]:
    """`order`, rearranged if its first `count` rows lack a class, or leave fewer than `keep` rows of one to the others.

    Then the first row of each class comes first, so that a rare class is not left out; classes of at most `keep` texts
    come last.
    """
    sizes = Counter(texts.label)
    chosen = Counter(texts.label[row] for row in order[:count])
    if count < len(sizes) or all(chosen[label] and sizes[label] - chosen[label] >= keep for label in sizes):
        return list(order)
    first: dict[int, int] = {}
    for row in order:
        if sizes[texts.label[row]] > keep:
            first.setdefault(texts.label[row], row)
    firsts = set(first.values())
    rest = [row for row in order if row not in firsts]
    return [*first.values(), *sorted(rest, key=lambda row: sizes[texts.label[row]] <= keep)]


def sample(texts: Texts, key: str, count: int) -> Texts:
    """A stratified sample of `count` texts, with each class if `count` is large enough.

    `key` is the setting that asks for it; it is also the salt of the hash.
    """
    require(f"data.{key}", count, count <= len(texts.text), f"at most {len(texts.text)}, the number of texts")
    order = with_all_classes(texts, stratified_order(texts, key), count, keep=0)
    return select(texts, order[:count], f"{key}={count}")


def overlap(train: Sequence[str], test: Sequence[str]) -> int:
    """The number of test texts that are also in train, ignoring case, spaces and punctuation.

    >>> overlap(["A dull film."], ["a dull film .", "A fine film."])
    1
    """
    drop = str.maketrans("", "", string.whitespace + string.punctuation)
    known = {text.casefold().translate(drop) for text in train}
    return sum(text.casefold().translate(drop) in known for text in test)


def check_classes(splits: dict[str, Texts]) -> None:
    """Raise ValueError unless train has the classes 0..k-1, the other splits no other ones, and each at least two."""
    known = set(splits["train"].label)
    for texts in splits.values():
        if not texts.text:
            raise ValueError(f"{texts.source}: the split must not be empty (it has no rows)")
        if len(set(texts.label)) == 1:
            raise ValueError(
                f"{texts.source}: the split must have at least two classes (all {len(texts.label)} labels are "
                f"{texts.label[0]})"
            )
    absent = next(label for label in range(len(known) + 1) if label not in known)
    if absent < max(known):
        row, label = next((row, label) for row, label in enumerate(splits["train"].label, 1) if label > absent)
        raise ValueError(
            f"{splits['train'].source}, row {row}: labels must be 0..k-1 without gaps (got {label}, but no row has "
            f"{absent})"
        )
    for texts in splits.values():
        for row, label in enumerate(texts.label, 1):
            if label not in known:
                raise ValueError(f"{texts.source}, row {row}: the label must occur in the training split (got {label})")


def select(texts: Texts, index: Sequence[int], how: str) -> Texts:
    """The rows `index` of a split; `how` describes the selection, for messages."""
    cluster = [texts.cluster[i] for i in index] if texts.cluster else ()
    return Texts([texts.text[i] for i in index], [texts.label[i] for i in index], f"{texts.source}, {how}", cluster)
