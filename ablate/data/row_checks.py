"""Checks of the rows of a data file: the rules for a text and for a label."""

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from ablate.config.wording import excerpt, printable
from ablate.data.columns import Columns
from ablate.data.texts import Texts

MAX_CHARACTERS = 1_000_000  # a longer text means a broken file, e.g. an unclosed quote
MAX_NAME = 200  # characters of a class name; a longer one is no name
MAX_TARGET = 1e30  # its square still is a number in float32

DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


class FileError(ValueError):
    """A data file cannot be used. The message gives the file and, if there is one, the row."""


class BrokenRule(ValueError):
    """A value of a row breaks a rule: "the text must not be empty (got '')"."""


def checked_rows(
    rows: Iterable[Sequence[Any]], file: Path, columns: Columns, classes: "Classes | None" = None
) -> Texts:
    """The rows, each with the values of `columns`, as a split.

    `classes` checks the class labels, also those of the files before this one. FileError for the first row that cannot
    be used (from 1, without the header).
    """
    classes = Classes() if classes is None else classes
    texts, labels, clusters = [], [], []
    for row, values in enumerate(rows, 1):
        parts, label, cluster = columns.parts(values)
        try:
            texts.append(checked_text(parts, columns.kind))
            if columns.label is not None:
                labels.append(checked_label(label, texts[-1], columns.kind, classes))
            if columns.cluster is not None:
                clusters.append(checked_cluster(cluster))
        except BrokenRule as error:
            raise FileError(f"{file}, row {row}: {error}") from None
        if classes.late and not classes.late_row:
            classes.late_row = row
    if classes.late:
        raise FileError(f"{file}, row {classes.late_row}: {classes.late}")
    return Texts(texts, labels, str(file), clusters, files=[(str(file), len(texts))])


# --- Texts ---


def checked_text(parts: Sequence[Any], kind: str) -> Any:
    """A text, a pair of texts, or a list of words. Raises BrokenRule."""
    if kind == "token_classification":
        return checked_words(parts[0])
    for number, part in enumerate(parts):
        if rule := broken_rule(part):
            which = "text" if len(parts) == 1 else f"{('first', 'second')[number]} text"
            raise BrokenRule(f"the {which} must {rule} (got {excerpt(part)})")
    return parts[0] if len(parts) == 1 else tuple(parts)


def checked_words(value: Any) -> list[str]:
    words = items_of(value, "words")
    for number, word in enumerate(words, 1):
        if rule := broken_rule(word):
            raise BrokenRule(f"word {number} must {rule} (got {excerpt(word)})")
    return words


def items_of(value: Any, what: str) -> list[Any]:
    """A list from a column of lists, or from a text with spaces between its items, as in CSV. Raises BrokenRule."""
    found = value.split() if isinstance(value, str) else value
    if not isinstance(found, list):
        raise BrokenRule(f"the {what} must be a list, or a text with spaces between them (got {excerpt(value)})")
    if not found:
        raise BrokenRule(f"the {what} must not be an empty list (got {excerpt(value)})")
    return found


def broken_rule(value: Any) -> str | None:
    """The rule for texts that a value breaks, or None."""
    if not isinstance(value, str):
        return "be a string"
    if not value.strip():
        return "not be empty"
    if "\0" in value:
        return "not contain a NUL character"
    if re.search("[\ud800-\udfff]", value):
        return "not contain half a surrogate pair, which is no character"
    if len(value) > MAX_CHARACTERS:
        return f"have at most {MAX_CHARACTERS:,} characters, not {len(value):,}; is a quote not closed?"
    return None


def checked_cluster(value: Any) -> str:
    if not (isinstance(value, str) and value.strip()) and type(value) is not int:
        what = "the cluster must be a text that is not empty, or a whole number"
        raise BrokenRule(f"{what} (got {excerpt(value)})")
    return str(value)


# --- Labels ---


def checked_label(value: Any, text: Any, kind: str, classes: "Classes") -> Any:
    """The label of a text: a class, a target number, or a list of classes, one per word. Raises BrokenRule."""
    if kind == "regression":
        return target(value)
    if kind != "token_classification":
        return classes(value)
    labels = items_of(value, "labels")
    if len(labels) != len(text):
        raise BrokenRule(f"there must be one label per word (got {len(text)} words and {len(labels)} labels)")
    return [classes(label) for label in labels]


class Classes:
    """Checks class labels one after the other: whole numbers 0..k-1, or words. Booleans are the words True and False.

    Spaces around a word are removed, and several within it are one. In Parquet one label of 0.5 turns the whole column
    into floats: so a whole float is an error (`late`) only if no other label is worse.
    """

    def __init__(self) -> None:
        self.words: bool | None = None  # the kind of the first label
        self.late = ""
        self.late_row = 0

    def __call__(self, value: Any) -> int | str:
        number = integer_label(value)
        word = class_name(value) if number is None else None
        if word is not None and self.words is not False:
            self.words = True
            return word
        if number is not None and number >= 0 and not self.words:
            self.words = False
            return number
        if isinstance(value, float) and value.is_integer() and not self.words:
            self.late = self.late or self.message(value, number, word)
            return 0
        raise BrokenRule(self.message(value, number, word))

    def message(self, value: Any, number: int | None, word: str | None) -> str:
        if self.words:
            what = "a word like those before it: labels are all words, or all whole numbers 0..k-1"
            return f"the label must be {what} (got {excerpt(value)})"
        found = as_number(value)
        hint = "; labels may also be words" if self.words is None else ""
        if number is not None:
            hint = "; -1 usually marks labels that are kept secret"
        elif word is not None:
            hint = "; labels are all words, or all whole numbers"
        elif found is not None and math.isfinite(found):
            hint = "; numbers that are no classes need task=regression"
        elif isinstance(value, str) and len(value) > MAX_NAME:
            hint = f", or a word of at most {MAX_NAME} characters; is data.label the column of the texts?"
        return f"the label must be a whole number 0..k-1 (got {excerpt(value)}){hint}"


def class_name(value: Any) -> str | None:
    """A label as a class name, without surplus spaces; None if it is empty, a number, unprintable or a text."""
    if isinstance(value, bool):
        return str(value)
    if broken_rule(value) or len(value) > MAX_NAME or as_number(value) is not None:
        return None
    name = " ".join(value.split())
    return name if name == printable(name) else None


def integer_label(value: Any) -> int | None:
    """A label as an integer, from an integer or its digits (as in CSV). None for floats, booleans and the rest.

    More than 18 digits are no class; Python refuses some thousands without a word on the row.
    """
    if type(value) is int:
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,18}\s*", value) else None


def as_number(value: Any) -> float | None:
    """A number, or a text that Python reads as one, among them "nan" and "inf"; None for the rest."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def target(value: Any) -> float:
    """The target number of a text, from a number or its digits. Raises BrokenRule."""
    found = as_number(value)
    digits = not isinstance(value, str) or DECIMAL.fullmatch(value.strip())
    if found is None or not digits or not math.isfinite(found) or abs(found) > MAX_TARGET:
        comma = isinstance(value, str) and DECIMAL.fullmatch(value.strip().replace(",", ".", 1))
        hint = "; decimals follow a point" if comma and "," in str(value) else ""
        raise BrokenRule(f"the target must be a finite number of at most {MAX_TARGET:g} (got {excerpt(value)}){hint}")
    return found


def column_index(names: Sequence[str], name: str, file: Path) -> int:
    if name not in names:
        found = ", ".join(names) or "none"
        raise FileError(
            f"{file} must have the column {name!r} (got {found}); data.text, data.label and data.cluster name columns"
        )
    if list(names).count(name) > 1:
        raise FileError(f"{file} must have the column {name!r} once (got {', '.join(names)})")
    return list(names).index(name)
