"""Checks of the rows of a data file: the rules for a text and for a label."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ablate.config.wording import excerpt
from ablate.data.texts import Texts

MAX_CHARACTERS = 1_000_000  # a longer text means a broken file, e.g. an unclosed quote


class FileError(ValueError):
    """A data file cannot be used. The message gives the file and, if there is one, the row."""


def checked_rows(rows: Iterable[tuple[Any, ...]], file: Path) -> Texts:
    """The rows (text, label and, if the file has it, cluster) as a split.

    FileError for the first row that cannot be used (from 1, without the header).
    """
    texts, labels, clusters, wrong = [], [], [], None
    for row, (text, label, *more) in enumerate(rows, 1):
        if rule := broken_rule(text):
            raise FileError(f"{file}, row {row}: the text must {rule} (got {excerpt(text)})")
        number = integer_label(label)
        if number is None or number < 0:
            # In Parquet one label of 0.5 turns the whole column into floats: report that label.
            if not is_whole_float(label):
                raise wrong_label(file, row, label)
            wrong = wrong or (row, label)
        for cluster in more:
            if not (isinstance(cluster, str) and cluster.strip()) and type(cluster) is not int:
                what = "the cluster must be a text that is not empty, or a whole number"
                raise FileError(f"{file}, row {row}: {what} (got {excerpt(cluster)})")
            clusters.append(str(cluster))
        texts.append(text)
        labels.append(number)
    if wrong:
        raise wrong_label(file, *wrong)
    return Texts(texts, labels, str(file), clusters)


def wrong_label(file: Path, row: int, label: Any) -> FileError:
    return FileError(
        f"{file}, row {row}: the label must be a whole number 0..k-1 (got {excerpt(label)}); "
        "-1 usually marks labels that are kept secret"
    )


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


def integer_label(value: Any) -> int | None:
    """A label as an integer, from an integer or its digits (as in CSV). None for floats, booleans and the rest.

    More than 18 digits are no class; Python refuses some thousands without a word on the row.
    """
    if type(value) is int:
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,18}\s*", value) else None


def is_whole_float(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def column_index(names: Sequence[str], name: str, file: Path) -> int:
    if name not in names:
        found = ", ".join(names) or "none"
        raise FileError(
            f"{file} must have the column {name!r} (got {found}); data.text, data.label and data.cluster name columns"
        )
    if list(names).count(name) > 1:
        raise FileError(f"{file} must have the column {name!r} once (got {', '.join(names)})")
    return list(names).index(name)
