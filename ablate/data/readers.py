"""Data files, checked row by row: an error names the file, the row and the value that can't be used.

CSV and JSON lines are read by Python's own readers, which guess nothing: pandas reads "NA" as missing and makes an
index of a surplus field, Arrow makes dates of texts and floats of labels. All else is read by `datasets`.
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
MAX_CHARACTERS = 1_000_000  # more in one text is a broken file (an unclosed quote, say)


def local(path: str) -> Path | None:
    """`path` as a local file or folder, or None where it can only be the hub's ("owner/name")."""
    local = Path(path).expanduser()
    if local.exists():
        return local
    hub = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", path) is not None
    require("data.path", path, hub, "a file or folder that exists, or a data set of the hub (owner/name)")
    return None


def split_files(path: Path, name: str | None) -> dict[str, list[Path]]:
    """The files of each split, as `datasets` tells them by the folder's README and the files' names."""
    if path.is_file():
        return {"train": [path]}
    import datasets

    try:
        found = datasets.load_dataset_builder(str(path.resolve()), name).config.data_files
    except (OSError, ValueError) as error:
        raise ValueError(f"data.path={path}: {error}") from error
    return {str(split): [Path(file) for file in files] for split, files in (found or {}).items()}


class FileError(ValueError):
    """A data file that can't be used; the message names the file, and the row where there is one."""


def read_files(files: Sequence[Path], text: str, label: str) -> Texts:
    """The rows of some files, each checked by itself, so that an error names the file and its row."""
    parts = [_checked(list(_rows(file, text, label)), file) for file in files]
    source = ", ".join(str(file) for file in files)
    return Texts([t for part in parts for t in part.text], [y for part in parts for y in part.label], source)


def _rows(file: Path, text: str, label: str) -> Iterator[tuple[Any, Any]]:
    """Text and label of each row, as the file has them."""
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
    """By Python's reader, which leaves fields as they are: to pandas a review "NA" or "None" is missing."""
    csv.field_size_limit(MAX_CHARACTERS)
    reader = csv.reader(_lines(file), delimiter=separator, strict=True)
    try:
        header = next(reader, [])
        at = [_column(header, name, file) for name in (text, label)]
        for fields in reader:
            if fields and len(fields) != len(header):
                raise FileError(
                    f"{file}, line {reader.line_num}: {len(fields)} fields, the header has {len(header)}; "
                    "a text with the separator in it needs quotes"
                )
            if fields:
                yield fields[at[0]], fields[at[1]]
    except csv.Error as error:
        raise FileError(f"{file}, line {reader.line_num}: {error}; is a quote left open?") from error


def _json_rows(file: Path, text: str, label: str) -> Iterator[tuple[Any, Any]]:
    """By Python's parser: Arrow's makes floats of all labels if one is, and dates of some texts."""
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise FileError(f"{file}, line {number}: not JSON: {error}") from error
        if not isinstance(row, dict) or not {text, label} <= row.keys():
            raise FileError(f"{file}, line {number}: {_short(line)}: needs {text!r} and {label!r}")
        yield row[text], row[label]


def _lines(file: Path) -> Iterator[str]:
    """The lines of a text file, UTF-8 without NUL (a byte order mark in front is no part of the text)."""
    from fsspec.implementations.local import LocalFileSystem

    with LocalFileSystem().open(str(file), "rb", compression="infer") as lines:
        for number, line in enumerate(lines, 1):
            try:
                decoded = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                wrong = f"byte {error.start + 1} is 0x{error.object[error.start]:02x}"
                raise FileError(f"{file}, line {number}: {wrong}: not UTF-8; save it as UTF-8") from error
            if "\0" in decoded:
                raise FileError(f"{file}, line {number}: {_short(decoded)}: a NUL in a text file")
            yield decoded


def _datasets_rows(file: Path, text: str, label: str) -> Iterator[tuple[Any, Any]]:
    """By `datasets`, which tells the format by the name; streamed, as its cache may be out of date."""
    import datasets

    try:
        pattern = glob.escape(str(file.absolute()))  # as datasets takes a name for one
        rows = datasets.load_dataset(str(file.parent), data_files=pattern, split="train", streaming=True)
        row = 1
        for table in rows.with_format("arrow").iter(batch_size=1000):
            columns = [table[_column(table.column_names, name, file)] for name in (text, label)]
            yield from zip(*(_values(column, file, row) for column in columns), strict=True)
            row += len(table)
    except FileError:
        raise
    except Exception as error:  # whatever a library makes of a broken file
        raise FileError(f"{file}: can't be read: {str(error) or type(error).__name__}") from error


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
        has = ", ".join(names) or "none"
        raise FileError(f"{file}: no column {name!r}, it has {has}; see data.text and data.label")
    return list(names).index(name)


def _checked(rows: list[tuple[Any, Any]], file: Path) -> Texts:
    """The rows as a split, or an error for the first that is no use (counted from 1, less a header)."""
    text, label = [value for value, _ in rows], [value for _, value in rows]
    for row, value in enumerate(text, 1):
        if problem := _text_problem(value):
            raise FileError(f"{file}, row {row}: text {_short(value)}: {problem}")
    numbers = [_whole(value) for value in label]
    wrong = [row for row, number in enumerate(numbers) if number is None or number < 0]
    if wrong:
        # In Parquet one label of 0.5 makes floats of the whole column: name that one.
        row = next((row for row in wrong if not _is_whole_float(label[row])), wrong[0])
        raise FileError(
            f"{file}, row {row + 1}: label {_short(label[row])}: allowed are whole numbers 0..k-1 "
            "(-1 marks labels that are kept secret)"
        )
    return Texts(text, numbers, str(file))


def _text_problem(value: Any) -> str | None:
    if not isinstance(value, str):
        return "not a string"
    if not value.strip():
        return "empty"
    if "\0" in value:
        return "holds a NUL character"
    if re.search("[\ud800-\udfff]", value):
        return "holds half a surrogate pair, which is no character"
    if len(value) > MAX_CHARACTERS:
        return f"{len(value):,} characters, allowed are {MAX_CHARACTERS:,}; is a quote left open?"
    return None


def _whole(value: Any) -> int | None:
    """A label as an integer: an integer, or (as CSV has it) its digits. No floats, no booleans."""
    if type(value) is int:
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]+\s*", value) else None


def _is_whole_float(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _short(value: Any) -> str:
    """
    >>> _short("x" * 100)[-12:]
    "xxxxxxxx'..."
    """
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:56]}{repr(value)[0]}..."
