"""Rows of a table of results that others wrote: CSV, TSV, JSON lines or Parquet; no type is guessed from a part.

A row keeps its place in the file, "line 3" or "row 2", for messages.
"""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ablate.config.wording import count, excerpt
from ablate.data.file_bytes import lines_of
from ablate.data.row_checks import DECIMAL, FileError
from ablate.files.reading import LARGEST_TABLE, Damaged, parse_json, read_regular

SEPARATED = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
TABLE_SUFFIXES = (*SEPARATED, *JSON_LINES, *PARQUET)

EXCEL = {b"PK\x03\x04": "an Excel file (.xlsx) or another zip file", b"\xd0\xcf\x11\xe0": "an old Excel file (.xls)"}
"""How a file begins -> what it is, whatever its name."""

MISSING = ("", "nan", "NaN", "NA", "N/A", "null", "None")
"""Texts that writers of CSV put where they have no value. In a column of arms only the empty text is no value."""


@dataclass(frozen=True, eq=False)
class ResultRows:
    """The rows of a table.

    path      of the file or store
    sha256    of its bytes
    columns   name -> one value per row: text in CSV and TSV, as typed elsewhere; None where there is none
    places    of each row: "line 3" of a text file, "row 2" of another, "run 4f1c" of a store
    ignored   column -> why it is not used, as far as the reader of a store knows
    """

    path: Path
    sha256: str
    columns: Mapping[str, Sequence[Any]]
    places: Sequence[str]
    ignored: Mapping[str, str]

    def at(self, row: int, column: str) -> str:
        """The place of a value, for messages."""
        return f"{self.path}, {self.places[row]}, column {column}"


def is_result_file(path: Path) -> bool:
    return path.suffix.lower() in TABLE_SUFFIXES


def read_result_file(path: Path) -> ResultRows:
    """The rows of a CSV, TSV, JSON lines or Parquet file. Raises ValueError with the line or row of a mistake."""
    try:
        content = read_regular(path, LARGEST_TABLE)
    except (OSError, Damaged) as error:
        raise FileError(f"{path} cannot be read: {error}") from error
    for start, what in EXCEL.items():
        if content.startswith(start):
            raise FileError(f"{path} must be a text table or a Parquet file, but it is {what}: save it as CSV")
    if not content.strip(b"\xef\xbb\xbf \t\r\n"):
        raise FileError(f"{path} must have a header and rows, but it is empty")
    suffix = path.suffix.lower()
    if suffix in PARQUET:
        columns, places = parquet_columns(path, content)
    elif suffix in JSON_LINES:
        columns, places = json_columns(path)
    else:
        columns, places = separated_columns(path, SEPARATED[suffix])
    if not places:
        raise FileError(f"{path} must have rows, but it has only the header {', '.join(columns)}")
    return ResultRows(path, hashlib.sha256(content).hexdigest(), columns, places, {})


def separated_columns(path: Path, separator: str) -> tuple[dict[str, list[Any]], list[str]]:
    """The columns of a CSV or TSV file, as text, and the places of its rows."""
    reader = csv.reader(lines_of(path, ""), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        check_column_names(path, header, separator)
        rows, places = [], []
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                raise FileError(
                    f"{path}, line {reader.line_num} must have {count(len(header), 'field')} like the header "
                    f"(got {len(fields)})"
                )
            rows.append([field.strip() or None for field in fields])
            places.append(f"line {reader.line_num}")
    except csv.Error as error:
        raise FileError(f"{path}, line {reader.line_num}: {error}. Is a quote not closed?") from error
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}, places


def check_column_names(path: Path, header: list[str], separator: str) -> None:
    """Raise FileError unless each column has a name of its own; the index that pandas writes first may have none."""
    if header and not header[0]:
        header[0] = "Unnamed: 0"
    other = ";" if separator == "," else ","
    if len(header) == 1 and other in header[0]:
        raise FileError(f"{path}, line 1 must separate its columns by {separator!r} (got {excerpt(header[0])})")
    if "" in header:
        raise FileError(f"{path}, line 1: column {header.index('') + 1} must have a name")
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise FileError(f"{path}, line 1: the column {twice} must occur once (it occurs {header.count(twice)} times)")
    if all(cell_number(name) is not None for name in header):
        raise FileError(f"{path}, line 1 must be a header with the names of the columns (got {excerpt(header)})")


def json_columns(path: Path) -> tuple[dict[str, list[Any]], list[str]]:
    """The columns of a file with one object per line; an object may lack some of them."""
    rows, places = [], []
    for number, line in enumerate(lines_of(path, ""), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except Damaged as error:
            raise FileError(f"{path}, line {number}: {error}") from error
        if not isinstance(row, dict):
            raise FileError(f"{path}, line {number} must be a JSON object (got {excerpt(row)})")
        check_scalars(f"{path}, line {number}", row)
        rows.append(row)
        places.append(f"line {number}")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}, places


def check_scalars(place: str, row: Mapping[str, Any]) -> None:
    """Raise FileError for a value that is neither text nor a number, true, false or null."""
    for name, value in row.items():
        if isinstance(value, (list, dict, bytes)):
            raise FileError(f"{place}, column {name} must be text or a number (got {excerpt(value)})")


def parquet_columns(path: Path, content: bytes) -> tuple[dict[str, list[Any]], list[str]]:
    """The columns of a Parquet file, as typed."""
    try:
        table = pq.read_table(pa.BufferReader(content))
        columns = {str(name): table[name].to_pylist() for name in table.column_names}
    except (pa.ArrowException, OSError, KeyError, OverflowError, ValueError) as error:
        raise FileError(f"{path} must be a Parquet file with columns of different names: {error}") from error
    for i in range(table.num_rows):
        check_scalars(f"{path}, row {i + 1}", {name: values[i] for name, values in columns.items()})
    return columns, [f"row {i}" for i in range(1, table.num_rows + 1)]


# --- Values ---


def cell_number(value: Any) -> float | None:
    """A value as a number; None for text that is none, for true and false, and for no value.

    >>> cell_number("1e-4"), cell_number(3), cell_number("abc"), cell_number(True), cell_number("1,5")
    (0.0001, 3.0, None, None, None)
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        return float(value) if DECIMAL.fullmatch(value) else None
    return float(value) if isinstance(value, (int, float, Decimal)) else None


def is_missing(value: Any) -> bool:
    """Whether a value is none: empty, or one of the texts that writers put in its place."""
    return value is None or value != value or (isinstance(value, str) and value in MISSING)
