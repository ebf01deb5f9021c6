"""Sentences of CoNLL files: one word and its label per line, a blank line after each sentence."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ablate.config.wording import excerpt
from ablate.data.row_checks import FileError

ENDINGS = (".conll", ".iob", ".bio")
DOCUMENT = "-DOCSTART-"
"""The word of a line that begins a document."""


def conll_rows(file: Path, lines: Iterable[str]) -> Iterator[tuple[list[str], list[str], int]]:
    """Words, labels and document of each sentence.

    Columns are separated by spaces or tabs; the word is the first one and the label the last one, so the columns
    between them, such as parts of speech, are not read. Documents are counted from 1; 0 = before the first line that
    begins one.
    """
    words: list[str] = []
    labels: list[str] = []
    document, width = 0, 0
    for number, line in enumerate(lines, 1):
        fields = re.split(r"[ \t]+", line.strip(" \t\r\n"))
        begins = fields[0] == DOCUMENT
        if (begins or fields == [""]) and words:
            yield words, labels, document
            words, labels = [], []
        document += begins
        if begins or fields == [""]:
            continue
        width = width or len(fields)
        if len(fields) != width or width < 2:
            what = f"{width} columns like the lines before it" if width > 1 else "a word and its label"
            raise FileError(f"{file}, line {number} must have {what} (got {excerpt(line.rstrip())})")
        words.append(fields[0])
        labels.append(fields[-1])
    if words:
        yield words, labels, document
