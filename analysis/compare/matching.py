"""Match the arms of two studies by their settings."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from analysis.records.arms import Arm, canonical, varying

ArmTexts = Mapping[str, Mapping[str, str]]
"""Label of an arm -> key -> value, as text that is the same for equal values."""


@dataclass(frozen=True)
class Matching:
    """The matched arms of two studies, named by their labels in each study.

    pairs      arms that are equal, or equal except for keys that differ throughout
    ambiguous  groups of several arms that are equal except for such keys: labels in each study, and the keys
    only       arms of each study without a counterpart in the other
    """

    pairs: tuple[tuple[str, str], ...]
    ambiguous: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]


def match(ours: Mapping[str, Arm], theirs: Mapping[str, Arm]) -> Matching:
    """Pair equal arms, then those that differ only in keys that differ throughout; ours, theirs: label -> arm.

    A key differs throughout if the unpaired arms of the two studies share no value of it, as when a study is repeated
    at another learning rate. Several arms that differ from each other only in such keys are ambiguous. Where one of
    them has an equal arm in the other study, the keys were varied on purpose: the others then have a counterpart only
    if it differs from them in the same way as in all other pairs.

        >>> low, high, top = ({"clip": "none", "optimizer.lr": lr} for lr in (1e-4, 2e-4, 4e-4))
        >>> match({"a": low}, {"b": high}).pairs
        (('a', 'b'),)
        >>> match({"a": low, "b": high}, {"b": high, "c": top})
        Matching(pairs=(('b', 'b'),), ambiguous=(), only=(('a',), ('c',)))
    """
    first, second = texts(ours), texts(theirs)
    equal = [(a[0], b[0]) for a, b in groups(first, second, without=()) if a and b]
    left = [
        {label: arm for label, arm in arms.items() if label not in matched}
        for arms, matched in ((first, [a for a, _ in equal]), (second, [b for _, b in equal]))
    ]
    pairs, ambiguous, only = list(equal), [], ([], [])
    for a, b in groups(first, second, without=disjoint(left[0].values(), left[1].values())):
        unmatched = [label for label in a if label in left[0]], [label for label in b if label in left[1]]
        if not (a and b) or unmatched != (a, b):
            only[0].extend(unmatched[0])
            only[1].extend(unmatched[1])
        elif len(a) == len(b) == 1:
            pairs.append((a[0], b[0]))
        else:
            keys = varying([*(ours[label] for label in a), *(theirs[label] for label in b)])
            ambiguous.append((tuple(a), tuple(b), tuple(sorted(keys))))
    changes = {change(first[a], second[b]) for a, b in pairs} - {frozenset()}
    if len(changes) == 1:  # all pairs differ in the same way, so this change identifies the remaining counterparts
        pairs += [(a, b) for a in only[0] for b in only[1] if change(first[a], second[b]) in changes]
    order = list(ours)
    pairs.sort(key=lambda pair: order.index(pair[0]))
    matched = [set(labels) for labels in zip(*pairs, strict=True)] or [set(), set()]
    alone = [tuple(x for x in labels if x not in found) for labels, found in zip(only, matched, strict=True)]
    return Matching(tuple(pairs), tuple(ambiguous), (alone[0], alone[1]))


def change(first: Mapping[str, str], second: Mapping[str, str]) -> frozenset[tuple[str, str | None, str | None]]:
    """The keys in which two arms differ, with their values."""
    pairs = ((key, first.get(key), second.get(key)) for key in first.keys() | second.keys())
    return frozenset((key, a, b) for key, a, b in pairs if a != b)


def texts(arms: Mapping[str, Arm]) -> ArmTexts:
    """The arms with all values as canonical text."""
    return {label: {key: canonical(value) for key, value in arm.items()} for label, arm in arms.items()}


def groups(first: ArmTexts, second: ArmTexts, without: Collection[str]) -> Iterable[tuple[list[str], list[str]]]:
    """The labels in each study of every distinct arm, ignoring the keys in `without`."""
    found: dict[frozenset[tuple[str, str]], tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, arms in enumerate((first, second)):
        for label, arm in arms.items():
            found[frozenset((key, value) for key, value in arm.items() if key not in without)][side].append(label)
    return found.values()


def disjoint(first: Iterable[Mapping[str, str]], second: Iterable[Mapping[str, str]]) -> set[str]:
    """The keys of which two sets of arms share no value, including keys that only one set has."""
    values: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for side, arms in enumerate((first, second)):
        for arm in arms:
            for key, value in arm.items():
                values[key][side].add(value)
    return {key for key, (a, b) in values.items() if a.isdisjoint(b)}
