"""Reads data files and checks each row: an error gives the file, the row and the value that cannot be used.

Python's own readers read CSV and JSON lines because they do not guess types: pandas reads "NA" as missing and turns a
surplus field into an index; Arrow turns some texts into dates and labels into floats. `datasets` reads other formats.
"""

import csv
import glob
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.config.checks import require
from ablate.data.texts import Texts

if TYPE_CHECKING:
    import pyarrow

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
MAX_CHARACTERS = 1_000_000  # a longer text means a broken file, e.g. an unclosed quote


def local_path(path: str) -> Path | None:
    """`path` as a local file or folder; None if it can only be a hub id ("owner/name")."""
    found = Path(path).expanduser()
    if found.exists():
        return found
    hub = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", path) is not None
    require("data.path", path, hub, "an existing file or folder, or a hub id (owner/name)")
    return None


def split_files(path: Path, name: str | None) -> dict[str, list[Path]]:
    """The files of each split, as `datasets` infers them from the folder's README and the files' names."""
    if path.is_file():
        return {"train": [path]}
    import datasets

    try:
        found = datasets.load_dataset_builder(str(path.resolve()), name).config.data_files
    except (OSError, ValueError) as error:
        raise ValueError(f"data.path={path}: {error}") from error
    return {str(split): [Path(file) for file in files] for split, files in (found or {}).items()}


class FileError(ValueError):
    """A data file cannot be used. The message gives the file and, if there is one, the row."""


def read_files(files: Sequence[Path], text: str, label: str) -> Texts:
    """The rows of several files. Each file is checked separately, so that an error gives the file and its row."""
    parts = [_checked(list(_rows(file, text, label)), file) for file in files]
    source = ", ".join(str(file) for file in files)
    return Texts([t for part in parts for t in part.text], [y for part in parts for y in part.label], source)


def _rows(file: Path, text: str, label: str) -> Iterator[tuple[Any, Any]]:
    """Text and label of each row, as written in the file."""
    formats = [suffix for suffix in file.suffixes if suffix not in COMPRESSIONS][-1:]
    match formats:
        case [".csv"]:
            return _csv_rows(file, ",", text, label)
        case [".tsv"]:
            return _csv_rows(file, "\t", text, label)
        case [".jsonl"] | [".ndjson"]:
            return _json_rows(file, text, label)
        case _:
            return _datasets_rows(file, text, label)


def _csv_rows(file: Path, separator: str, text: str, label: str) -> Iterator[tuple[str, str]]:
    """Read with Python's reader, which keeps fields as they are: pandas reads a review "NA" or "None" as missing."""
    csv.field_size_limit(MAX_CHARACTERS)
    reader = csv.reader(_lines(file), delimiter=separator, strict=True)
    try:
        header = next(reader, [])
        at = [_column(header, name, file) for name in (text, label)]
        for fields in reader:
            if fields and len(fields) != len(header):
                raise FileError(
                    f"{file}, line {reader.line_num} must have {len(header)} fields like the header "
                    f"(got {len(fields)}); put a text that contains the separator into quotes"
                )
            if fields:
                yield fields[at[0]], fields[at[1]]
    except csv.Error as error:
        raise FileError(f"{file}, line {reader.line_num}: {error}. Is a quote not closed?") from error


def _json_rows(file: Path, text: str, label: str) -> Iterator[tuple[Any, Any]]:
    """Read with Python's parser: Arrow turns all labels into floats if one is a float, and some texts into dates."""
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise FileError(f"{file}, line {number} must be JSON: {error}") from error
        if not isinstance(row, dict) or not {text, label} <= row.keys():
            raise FileError(f"{file}, line {number} must have the keys {text!r} and {label!r} (got {_short(line)})")
        yield row[text], row[label]


def _lines(file: Path) -> Iterator[str]:
    """The lines of a UTF-8 text file without NUL characters. A byte order mark is removed."""
    from fsspec.implementations.local import LocalFileSystem

    with LocalFileSystem().open(str(file), "rb", compression="infer") as lines:
        for number, line in enumerate(lines, 1):
            try:
                decoded = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                wrong = f"byte {error.start + 1} is 0x{error.object[error.start]:02x}"
                raise FileError(f"{file}, line {number} must be UTF-8 ({wrong}); save the file as UTF-8") from error
            if "\0" in decoded:
                raise FileError(f"{file}, line {number} must not contain a NUL character (got {_short(decoded)})")
            yield decoded


def _datasets_rows(file: Path, text: str, label: str) -> Iterator[tuple[Any, Any]]:
    """Read with `datasets`, which infers the format from the name. Streamed, because its cache may be out of date."""
    import datasets

    try:
        pattern = glob.escape(str(file.absolute()))  # because datasets treats a name as a pattern
        rows = datasets.load_dataset(str(file.parent), data_files=pattern, split="train", streaming=True)
        row = 1
        for table in rows.with_format("arrow").iter(batch_size=1000):
            columns = [table[_column(table.column_names, name, file)] for name in (text, label)]
            yield from zip(*(_values(column, file, row) for column in columns), strict=True)
            row += len(table)
    except FileError:
        raise
    except Exception as error:  # on a broken file the libraries raise anything
        raise FileError(f"{file} cannot be read: {str(error) or type(error).__name__}") from error


def _values(column: "pyarrow.ChunkedArray", file: Path, first: int) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        for row, value in enumerate(column, first):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                raise FileError(f"{file}, row {row}: {_short(error.object)}: {error}") from error
        raise


def _column(names: Sequence[str], name: str, file: Path) -> int:
    if name not in names:
        found = ", ".join(names) or "none"
        raise FileError(
            f"{file} must have the column {name!r} (got {found}); data.text and data.label name the columns"
        )
    return list(names).index(name)


def _checked(rows: list[tuple[Any, Any]], file: Path) -> Texts:
    """The rows as a split. FileError for the first row that cannot be used (from 1, without the header)."""
    text, label = [value for value, _ in rows], [value for _, value in rows]
    for row, value in enumerate(text, 1):
        if rule := _broken_rule(value):
            raise FileError(f"{file}, row {row}: the text must {rule} (got {_short(value)})")
    numbers = [_whole(value) for value in label]
    wrong = [row for row, number in enumerate(numbers) if number is None or number < 0]
    if wrong:
        # In Parquet one label of 0.5 turns the whole column into floats: report that label.
        row = next((row for row in wrong if not _is_whole_float(label[row])), wrong[0])
        raise FileError(
            f"{file}, row {row + 1}: the label must be a whole number 0..k-1 (got {_short(label[row])}); "
            "-1 usually marks labels that are kept secret"
        )
    return Texts(text, numbers, str(file))


def _broken_rule(value: Any) -> str | None:
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


def _whole(value: Any) -> int | None:
    """A label as an integer, from an integer or its digits (as in CSV). None for floats, booleans and the rest."""
    if type(value) is int:
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]+\s*", value) else None


def _is_whole_float(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _short(value: Any) -> str:
    """A value as Python writes it, cut to 60 characters.

    >>> _short("x" * 100)[-12:]
    "xxxxxxxx'..."
    """
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:56]}{repr(value)[0]}..."
