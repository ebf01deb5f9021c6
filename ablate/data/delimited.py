"""Rows of CSV and TSV files, as written: no type is guessed, and no quote merges rows.

Python's reader keeps fields as they are; pandas reads a review "NA" or "None" as missing.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ablate.config.wording import excerpt
from ablate.data.columns import Columns
from ablate.data.row_checks import DECIMAL, MAX_CHARACTERS, FileError, class_name, column_index, integer_label

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True)
class Line:
    """The form of a line that is a row by itself, if quotes are plain characters: its fields, and a label among them.

    fields  number of fields
    label   place of the label's field; None if there is no label
    kind    what the label is: "a whole number", "a number" or "a word"
    """

    separator: str
    fields: int
    label: int | None
    kind: str

    def label_of(self, line: str) -> str | None:
        """The label of a line that is a row by itself, "" where rows have none; None for another line."""
        found = line.rstrip("\r\n").split(self.separator)
        if len(found) != self.fields:
            return None
        if self.label is None:
            return ""
        label = found[self.label].strip('"').strip()
        fits = {
            "a whole number": lambda: integer_label(label) is not None,
            "a number": lambda: DECIMAL.fullmatch(label) is not None,
            "a word": lambda: bool(label),
        }
        return label if fits[self.kind]() else None


def label_kind(columns: Columns, first: str) -> str:
    """What the label of each row is, in a file whose first label is `first`."""
    if columns.kind == "regression":
        return "a number"
    words = columns.kind != "classification" or class_name(first.strip('"')) is not None
    return "a word" if words else "a whole number"


def delimited_rows(
    file: Path, lines: Callable[[], Iterator[str]], separator: str, columns: Columns
) -> Iterator[tuple[str, ...]]:
    """Read with Python's reader, which keeps fields as they are: pandas reads a review "NA" or "None" as missing."""
    csv.field_size_limit(MAX_CHARACTERS)
    quoted, why = tsv_quotes(file, lines(), columns) if separator == "\t" else (True, "")
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    record: list[str] = []  # the lines of the row that is being read
    reader = csv.reader(remembered(lines(), record), delimiter=separator, strict=True, quoting=quoting)
    merged: MergedRows | None = None
    try:
        header = next(reader, [])
        at = [column_index(header, name, file) for name in columns.names]
        place = None if columns.label is None else at[len(columns.text)]
        record.clear()
        for fields in reader:
            if fields and len(fields) != len(header):
                raise FileError(
                    f"{file}, line {reader.line_num} must have {len(header)} fields like the header "
                    f"(got {len(fields)}); put a text that contains the separator into quotes"
                )
            if fields:
                if merged is None and place is not None:
                    merged = MergedRows(Line(separator, len(header), place, label_kind(columns, fields[place])))
                if merged and (number := merged.first_line(record, reader.line_num)):
                    raise merged_rows(file, number, reader.line_num)
                yield tuple(fields[i] for i in at)
            record.clear()
        if merged and (suspect := merged.suspect()):
            raise merged_rows(file, *suspect)
    except csv.Error as error:
        cr = "new-line" in str(error)
        hint = "Does a line end with CR alone? Save the file with the line ends LF" if cr else "Is a quote not closed?"
        raise FileError(f"{file}, line {reader.line_num}: {error}. {hint}{why}") from error


def remembered(lines: Iterable[str], record: list[str]) -> Iterator[str]:
    for line in lines:
        record.append(line)
        yield line


class MergedRows:
    """Finds rows that a stray quote has merged: several of the row's lines are rows by themselves.

    If labels are words, such a line is only suspect until its label turns out to be one of another row.
    """

    def __init__(self, line: Line) -> None:
        self.line = line
        self.labels: set[str] = set()  # of rows of one line, if labels are words
        self.suspects: list[tuple[int, int, list[str]]] = []  # first and last line, labels of the lines

    def first_line(self, record: list[str], last: int) -> int:
        """The number of the row's first line if it is certainly merged, else 0."""
        words = self.line.kind == "a word"
        if len(record) == 1 and words and len(self.labels) < 10_000 and (label := self.line.label_of(record[0])):
            self.labels.add(label)
        if len(record) < 2:
            return 0
        found = [label for label in map(self.line.label_of, record) if label is not None]
        first = last - len(record) + 1
        if len(found) > 1 and words:
            self.suspects.append((first, last, found))
        return first if len(found) > 1 and not words else 0

    def suspect(self) -> tuple[int, int] | None:
        """First and last line of the first suspect of which two lines have the label of another row."""
        for first, last, labels in self.suspects:
            if sum(label in self.labels for label in labels) > 1:
                return first, last
        return None


def merged_rows(file: Path, first: int, last: int) -> FileError:
    return FileError(
        f"{file}, line {first}: a quote must not merge rows (this one opens a text that ends in line {last} and "
        "contains lines that are rows themselves). Double each quote that belongs to a text and put the text into "
        "quotes, or save the file as JSON lines"
    )


def tsv_quotes(file: Path, lines: Iterable[str], columns: Columns) -> tuple[bool, str]:
    """Whether a TSV file puts fields into quotes as CSV does, and if so, why quotes cannot be plain characters.

    Some writers (pandas, Excel) quote fields; in other files (GLUE) quotes are characters of a text, and reading them
    as CSV merges rows or drops quotes. Quotes are plain characters if each line is a row and some field only opens a
    quote. If each line is a row and all quotes are closed, the fields decide: a quoted header or doubled quotes show a
    writer that quotes; a quote inside an unquoted field shows one that does not.

    Raises FileError if nothing decides.
    """
    header: list[str] = []
    row: Line | None = None
    first, opens, quotes, plain = "", False, False, False
    for number, line in enumerate(lines, 1):
        fields = line.rstrip("\r\n").split("\t")
        if not header:
            header = [field.strip('"') for field in fields]
            quotes = any(QUOTED.fullmatch(field) for field in fields)
            if not {*columns.names} <= {*header}:
                return True, ""
        elif fields != [""]:
            row = row or line_form(header, fields, columns)
            if row.label_of(line) is None:
                label = "" if columns.label is None else f" and {row.kind} as {columns.label!r}"
                return True, (
                    f" If quotes are plain characters in this file, line {number} must have {len(header)} fields"
                    f"{label} (got {excerpt(line)})"
                )
        if '"' not in line:
            continue
        opening = [field for field in fields if field.startswith('"')]
        opens |= not all(map(QUOTED.fullmatch, opening))
        quotes |= any('""' in field[1:-1] for field in opening)
        plain |= any('"' in field and not field.startswith('"') for field in fields)
        if opening and not first:
            first = f"line {number}: {excerpt(opening[0])}"
    if first and (quotes == plain if not opens else len(header) == 1):
        raise FileError(
            f"{file}, {first} must be either a quoted text or a text with quotes (the file shows "
            f"{'signs of both' if quotes else 'no sign of either'}); save the file as CSV or JSON lines"
        )
    return bool(first) and not opens and quotes, ""


def line_form(header: list[str], fields: list[str], columns: Columns) -> Line:
    """The form of the rows of a TSV file, from its header and first line."""
    at = None if columns.label is None else header.index(columns.label)
    first = fields[at] if at is not None and at < len(fields) else ""
    return Line("\t", len(header), at, label_kind(columns, first))
