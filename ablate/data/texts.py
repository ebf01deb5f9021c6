"""Labelled texts, and stratified samples of them.

Texts are chosen by a hash of their content, class by class where they have one class each. So a choice depends neither
on a library's version nor on the order of a file, and a file that is sorted by class does no harm.
"""

import hashlib
import string
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ablate.config.checks import require

DROPPED = str.maketrans("", "", string.whitespace + string.punctuation)

Content = str | Sequence[str]
"""What one example has to read: a text, a pair of texts, or a list of words."""


@dataclass(frozen=True)
class Texts:
    """A split of N examples.

    text     strings; pairs of strings; or lists of words, for token classification
    label    a class 0..k-1 each; a finite number each, for regression; a list of classes each, one per word, for token
             classification; empty for language modelling. A source may return words in place of class numbers
    source   where the split comes from, for messages
    cluster  the name of each example's group; empty if the groups are not known
    labels   names of the classes in the order of their numbers; empty if they are not known
    files    the files of the split with their numbers of rows, for messages
    """

    text: Sequence[Any]
    label: Sequence[Any]
    source: str
    cluster: Sequence[str] = ()
    labels: Sequence[str] = ()
    files: Sequence[tuple[str, int]] = ()

    def place(self, row: int) -> str:
        """The file and row of an example, for messages; `row` counts from 0.

        >>> Texts(list("abc"), [0, 1, 0], "one.csv, two.csv", files=[("one.csv", 2), ("two.csv", 1)]).place(2)
        'two.csv, row 1'
        """
        for file, rows in self.files:
            if row < rows:
                return f"{file}, row {row + 1}"
            row -= rows
        return f"{self.source}, row {row + 1}"

    @property
    def strata(self) -> Sequence[int]:
        """The class of each example where it has exactly one; else 0 for all."""
        return self.label if len(self.label) and type(self.label[0]) is int else [0] * len(self.text)


def strings(texts: Texts) -> list[str]:
    """All strings of a split, for a vocabulary: the texts, both texts of each pair, or the words of each joined.

    >>> strings(Texts([("a", "b"), ["c", "d"]], [], ""))
    ['a', 'b', 'c d']
    """
    found = [[t] if isinstance(t, str) else t if isinstance(t, tuple) else [" ".join(t)] for t in texts.text]
    return [each for part in found for each in part]


def joined(content: Content) -> str:
    """A text as it is; the parts of a pair or list separated by NUL, which no text contains."""
    return content if isinstance(content, str) else "\0".join(content)


def stratified_order(texts: Texts, salt: str) -> list[int]:
    """All rows, ordered so that the first n, for any n, are a stratified sample (each class to within one text).

    Examples without a class of their own form one class. Within a class the sha256 of salt and text gives the order.
    The j-th text (from 0) of a class of m has the relative position (j + 1/2) / m.
    """
    members = defaultdict(list)
    for row, (content, label) in enumerate(zip(texts.text, texts.strata, strict=True)):
        members[label].append((hashlib.sha256(f"{salt}\n{joined(content)}".encode()).digest(), row))
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
    strata = texts.strata
    sizes = Counter(strata)
    chosen = Counter(strata[row] for row in order[:count])
    if count < len(sizes) or all(chosen[label] and sizes[label] - chosen[label] >= keep for label in sizes):
        return list(order)
    first: dict[int, int] = {}
    for row in order:
        if sizes[strata[row]] > keep:
            first.setdefault(strata[row], row)
    firsts = set(first.values())
    rest = [row for row in order if row not in firsts]
    return [*first.values(), *sorted(rest, key=lambda row: sizes[strata[row]] <= keep)]


def whole_groups(texts: Texts, salt: str, size: int) -> set[int]:
    """Rows of whole groups, as many as fit into `size`, so that the other rows keep each class.

    First come groups with the classes that are still missing, the rarest class first. Among groups the sha256 of salt
    and name gives the order.
    """
    strata, groups = texts.strata, defaultdict(list)
    for row, name in enumerate(texts.cluster):
        groups[name].append(row)
    queue = sorted(groups, key=lambda name: hashlib.sha256(f"{salt}\n{name}".encode()).digest())
    left, chosen = Counter(strata), set()

    def take(name: Any) -> bool:
        classes = Counter(strata[row] for row in groups[name])
        fits = len(chosen) + len(groups[name]) <= size and all(left[each] > count for each, count in classes.items())
        if fits:
            left.subtract(classes)
            chosen.update(groups.pop(name))
        return fits

    for label in sorted(left, key=lambda each: (left[each], each)):
        if all(strata[row] != label for row in chosen):
            any(take(name) for name in queue if any(strata[row] == label for row in groups.get(name, ())))
    for name in queue:
        if name in groups:
            take(name)
    return chosen


def sample(texts: Texts, key: str, count: int, in_order: bool = False) -> Texts:
    """A stratified sample of `count` texts, with each class if `count` is large enough; `in_order`: as in the split.

    `key` is the setting that asks for it; it is also the salt of the hash.
    """
    require(f"data.{key}", count, count <= len(texts.text), f"at most {len(texts.text)}, the number of texts")
    order = with_all_classes(texts, stratified_order(texts, key), count, keep=0)
    return select(texts, sorted(order[:count]) if in_order else order[:count], f"{key}={count}")


def overlap(train: Sequence[Content], test: Sequence[Content]) -> int:
    """The number of test texts that are also in train, ignoring case, spaces and punctuation.

    >>> overlap(["A dull film."], ["a dull film .", "A fine film."]), overlap([("a", "b")], [("A", "b."), ("ab", "c")])
    (1, 1)
    """
    known = {letters_of(joined(content)) for content in train}
    return sum(letters_of(joined(content)) in known for content in test)


def letters_of(text: str) -> str:
    """A text in lower case without spaces and punctuation.

    >>> letters_of("A dull film.")
    'adullfilm'
    """
    return text.casefold().translate(DROPPED)


def select(texts: Texts, index: Sequence[int], how: str) -> Texts:
    """The rows `index` of a split; `how` describes the selection, for messages."""
    text, label, cluster = (
        [column[i] for i in index] if len(column) else column for column in (texts.text, texts.label, texts.cluster)
    )
    return Texts(text, label, f"{texts.source}, {how}", cluster, texts.labels)
