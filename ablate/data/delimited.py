"""Rows of CSV and TSV files, as written: no type is guessed, and no quote merges rows.

Python's reader keeps fields as they are; pandas reads a review "NA" or "None" as missing.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ablate.config.wording import excerpt
from ablate.data.row_checks import MAX_CHARACTERS, FileError, column_index, integer_label

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
QUOTED = re.compile(r'"(?:[^"]|"")*"')


def delimited_rows(
    file: Path, lines: Callable[[], Iterator[str]], separator: str, text: str, label: str, *more: str
) -> Iterator[tuple[str, ...]]:
    """Read with Python's reader, which keeps fields as they are: pandas reads a review "NA" or "None" as missing."""
    csv.field_size_limit(MAX_CHARACTERS)
    quoted, why = tsv_quotes(file, lines(), label) if separator == "\t" else (True, "")
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    record: list[str] = []  # the lines of the row that is being read
    reader = csv.reader(remembered(lines(), record), delimiter=separator, strict=True, quoting=quoting)
    try:
        header = next(reader, [])
        at = [column_index(header, name, file) for name in (text, label, *more)]
        record.clear()
        for fields in reader:
            if fields and len(fields) != len(header):
                raise FileError(
                    f"{file}, line {reader.line_num} must have {len(header)} fields like the header "
                    f"(got {len(fields)}); put a text that contains the separator into quotes"
                )
            if len(record) > 1 and sum(is_row(line, separator, len(header), at[1]) for line in record) > 1:
                raise FileError(
                    f"{file}, line {reader.line_num - len(record) + 1}: a quote must not merge rows (this one opens a "
                    f"text that ends in line {reader.line_num} and contains lines that are rows themselves). Double "
                    "each quote that belongs to a text and put the text into quotes, or save the file as JSON lines"
                )
            if fields:
                yield tuple(fields[place] for place in at)
            record.clear()
    except csv.Error as error:
        cr = "new-line" in str(error)
        hint = "Does a line end with CR alone? Save the file with the line ends LF" if cr else "Is a quote not closed?"
        raise FileError(f"{file}, line {reader.line_num}: {error}. {hint}{why}") from error


def remembered(lines: Iterable[str], record: list[str]) -> Iterator[str]:
    for line in lines:
        record.append(line)
        yield line


def is_row(line: str, separator: str, fields: int, label: int) -> bool:
    """Whether a line is a row by itself if quotes are plain characters: all its fields, and a whole number as label."""
    found = line.rstrip("\r\n").split(separator)
    return len(found) == fields and integer_label(found[label].strip('"')) is not None


def tsv_quotes(file: Path, lines: Iterable[str], label: str) -> tuple[bool, str]:
    """Whether a TSV file puts fields into quotes as CSV does, and if so, why quotes cannot be plain characters.

    Some writers (pandas, Excel) quote fields; in other files (GLUE) quotes are characters of a text, and reading them
    as CSV merges rows or drops quotes. Quotes are plain characters if each line is a row and some field only opens a
    quote. If each line is a row and all quotes are closed, the fields decide: a quoted header or doubled quotes show a
    writer that quotes; a quote inside an unquoted field shows one that does not.

    Raises FileError if nothing decides.
    """
    header: list[str] = []
    first, opens, quotes, plain = "", False, False, False
    for number, line in enumerate(lines, 1):
        fields = line.rstrip("\r\n").split("\t")
        if not header:
            header = [field.strip('"') for field in fields]
            quotes = any(QUOTED.fullmatch(field) for field in fields)
            if label not in header:
                return True, ""
        elif fields != [""] and not is_row(line, "\t", len(header), header.index(label)):
            return True, (
                f" If quotes are plain characters in this file, line {number} must have {len(header)} fields and a "
                f"whole number as {label!r} (got {excerpt(line)})"
            )
        if '"' not in line:
            continue
        opening = [field for field in fields if field.startswith('"')]
        opens |= not all(map(QUOTED.fullmatch, opening))
        quotes |= any('""' in field[1:-1] for field in opening)
        plain |= any('"' in field and not field.startswith('"') for field in fields)
        if opening and not first:
            first = f"line {number}: {excerpt(opening[0])}"
    if first and not opens and quotes == plain:
        raise FileError(
            f"{file}, {first} must be either a quoted text or a text with quotes (the file shows "
            f"{'signs of both' if quotes else 'no sign of either'}); save the file as CSV or JSON lines"
        )
    return bool(first) and not opens and quotes, ""
