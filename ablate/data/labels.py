"""The labels of a data set's splits: numbers for class names, and the rules that the splits keep together."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ablate.config.wording import excerpt
from ablate.data.texts import Texts


def numbered(splits: Mapping[str, Texts]) -> dict[str, Texts]:
    """The splits with class numbers in place of class names, which are sorted; the names are kept as `labels`.

    Numbers stay as they are. Raises ValueError with file, row and value for a name that train lacks.
    """
    known = {label for _, label in each_label(splits["train"])}
    words = any(isinstance(label, str) for label in known)
    for texts in splits.values():
        check_in_training(texts, known.__contains__ if words else lambda label: not isinstance(label, str))
    if not words:
        return dict(splits)
    check_repeated(splits["train"], known)
    names = sorted(known)
    number = {name: i for i, name in enumerate(names)}
    return {
        split: replace(texts, label=[class_numbers(label, number) for label in texts.label], labels=tuple(names))
        for split, texts in splits.items()
    }


def check_repeated(train: Texts, known: set[str]) -> None:
    """Raise ValueError if each row of more than ten has a class of its own: then they are no classes."""
    if len(known) == len(train.label) > 10:
        raise ValueError(
            f"{train.place(0)}: the labels must be classes, but all {len(known)} rows have different ones "
            f"(got {excerpt(train.label[0])}); does data.label name another column?"
        )


def class_numbers(label: Any, number: Mapping[str, int]) -> Any:
    """The number of a class name, or those of the names of an example's words."""
    return number[label] if isinstance(label, str) else [number[name] for name in label]


def each_label(texts: Texts) -> Iterator[tuple[int, Any]]:
    """Row (from 0) and class of each example, or of each of its words."""
    for row, label in enumerate(texts.label):
        for each in label if isinstance(label, (list, tuple)) else (label,):
            yield row, each


def check_in_training(texts: Texts, known: Callable[[Any], bool]) -> None:
    """Raise ValueError for a class that train lacks."""
    for row, label in each_label(texts):
        if not known(label):
            got = excerpt(name_in(texts, label))
            raise ValueError(f"{texts.place(row)}: the label must occur in the training split (got {got})")


def class_labels(train: Texts, kind: str) -> tuple[str, ...]:
    """The names of the classes 0..k-1 that train has: as recorded, else the numbers; () for a task without classes."""
    if kind not in ("classification", "token_classification"):
        return ()
    count = max(label for _, label in each_label(train)) + 1
    return tuple(train.labels)[:count] or tuple(map(str, range(count)))


def check_splits(splits: Mapping[str, Texts], kind: str, cut: bool = False) -> None:
    """Raise ValueError unless each split has what a task of this kind needs: rows, and labels that differ.

    cut: whether a split was cut from train, so that a rare word label may be in one of them only.
    """
    for texts in splits.values():
        if not len(texts.text):
            raise ValueError(f"{texts.source}: the split must not be empty (it has no rows)")
        if kind == "causal_lm":
            continue
        found = {label for _, label in each_label(texts)}
        if len(found) == 1 and (kind != "token_classification" or texts is splits["train"]):
            what = "different targets" if kind == "regression" else "classes"
            count = sum(1 for _ in each_label(texts))
            raise ValueError(
                f"{texts.source}: the split must have at least two {what} (all {count} labels are "
                f"{name_in(texts, found.pop())})"
            )
    if kind in ("classification", "token_classification"):
        check_same_names(splits)
        if not (cut and kind == "token_classification"):
            check_classes(splits)


def name_in(texts: Texts, label: Any) -> Any:
    """A class by its name, where it has one."""
    return texts.labels[label] if texts.labels and isinstance(label, int) else label


def check_same_names(splits: Mapping[str, Texts]) -> None:
    """Raise ValueError if two splits give the same numbers other names."""
    train = splits["train"]
    for texts in splits.values():
        if texts.labels and train.labels and tuple(texts.labels) != tuple(train.labels):
            raise ValueError(
                f"{texts.source}: the classes must be those of the training split, {', '.join(train.labels)} "
                f"(got {', '.join(texts.labels)})"
            )


def check_classes(splits: Mapping[str, Texts]) -> None:
    """Raise ValueError unless train has the classes 0..k-1 and the other splits no other ones."""
    train = splits["train"]
    known = {label for _, label in each_label(train)}
    absent = next(label for label in range(len(known) + 1) if label not in known)
    if absent < max(known):
        row, label = next((row, label) for row, label in each_label(train) if label > absent)
        raise ValueError(
            f"{train.place(row)}: labels must be 0..k-1 without gaps (got {label}, but no row has {absent})"
        )
    for texts in splits.values():
        check_in_training(texts, known.__contains__)
