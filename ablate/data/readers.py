"""Reads data files and checks each row: an error gives the file, the row and the value that cannot be used.

Python's own readers read CSV, TSV and JSON because they do not guess types: pandas reads "NA" as missing and turns a
surplus field into an index; Arrow turns some texts into dates, labels into floats, and all texts of a column into JSON
source if one of them is no string. `datasets` reads other formats. Files are read in pieces of bounded size, so a
broken or malicious file is refused before it fills the memory.
"""

import codecs
import csv
import glob
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ablate.config.checks import require
from ablate.data.texts import Texts

if TYPE_CHECKING:
    import pyarrow

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
UNPACKERS = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma", ".zst": "zstd", ".lz4": "lz4"}
"""Compression of a CSV, TSV or JSON file -> Python's module for it, or the name of Arrow's codec (zstd, lz4)."""
BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".hdf5": "hdf5", ".h5": "hdf5"}
"""Endings of other files -> the builder of `datasets`, which does not recognise an ending in capitals."""
MAX_CHARACTERS = 1_000_000  # a longer text means a broken file, e.g. an unclosed quote
MAX_BYTES = 16 * 2**20  # of a line, or of an object in a JSON array; a text of MAX_CHARACTERS needs at most 12 MB
CHUNK = 2**20
QUOTED = re.compile(r'"(?:[^"]|"")*"')


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
    parts = [_checked(_rows(file, text, label), file) for file in files]
    source = ", ".join(str(file) for file in files)
    return Texts([t for part in parts for t in part.text], [y for part in parts for y in part.label], source)


def _rows(file: Path, text: str, label: str) -> Iterator[tuple[Any, Any]]:
    """Text and label of each row, as written in the file."""
    suffix, packed = file.suffix.lower(), ""
    if suffix in UNPACKERS:
        suffix, packed = Path(file.stem).suffix.lower(), suffix
    lines = partial(_lines, file, packed)
    if separator := SEPARATORS.get(suffix):
        return _csv_rows(file, lines, separator, text, label)
    if suffix in (".jsonl", ".ndjson"):
        return _json_line_rows(file, lines(), text, label)
    if suffix == ".json":
        return _json_rows(file, _chunks(file, packed), text, label)
    if packed:
        raise FileError(f"{file} must be unpacked: only CSV, TSV and JSON files are read from {packed}")
    return _datasets_rows(file, BUILDERS.get(suffix), text, label)


# --- CSV and TSV ---


def _csv_rows(
    file: Path, lines: Callable[[], Iterator[str]], separator: str, text: str, label: str
) -> Iterator[tuple[str, str]]:
    """Read with Python's reader, which keeps fields as they are: pandas reads a review "NA" or "None" as missing."""
    csv.field_size_limit(MAX_CHARACTERS)
    quoted, why = _tsv_quotes(file, lines(), label) if separator == "\t" else (True, "")
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    record: list[str] = []  # the lines of the row that is being read
    reader = csv.reader(_remembered(lines(), record), delimiter=separator, strict=True, quoting=quoting)
    try:
        header = next(reader, [])
        at = [_column(header, name, file) for name in (text, label)]
        record.clear()
        for fields in reader:
            if fields and len(fields) != len(header):
                raise FileError(
                    f"{file}, line {reader.line_num} must have {len(header)} fields like the header "
                    f"(got {len(fields)}); put a text that contains the separator into quotes"
                )
            if len(record) > 1 and sum(_is_row(line, separator, len(header), at[1]) for line in record) > 1:
                raise FileError(
                    f"{file}, line {reader.line_num - len(record) + 1}: a quote must not merge rows (this one opens a "
                    f"text that ends in line {reader.line_num} and contains lines that are rows themselves). Double "
                    "each quote that belongs to a text and put the text into quotes, or save the file as JSON lines"
                )
            if fields:
                yield fields[at[0]], fields[at[1]]
            record.clear()
    except csv.Error as error:
        cr = "new-line" in str(error)
        hint = "Does a line end with CR alone? Save the file with the line ends LF" if cr else "Is a quote not closed?"
        raise FileError(f"{file}, line {reader.line_num}: {error}. {hint}{why}") from error


def _remembered(lines: Iterable[str], record: list[str]) -> Iterator[str]:
    for line in lines:
        record.append(line)
        yield line


def _is_row(line: str, separator: str, fields: int, label: int) -> bool:
    """Whether a line is a row by itself if quotes are plain characters: all its fields, and a whole number as label."""
    found = line.rstrip("\r\n").split(separator)
    return len(found) == fields and _whole(found[label].strip('"')) is not None


def _tsv_quotes(file: Path, lines: Iterable[str], label: str) -> tuple[bool, str]:
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
        elif fields != [""] and not _is_row(line, "\t", len(header), header.index(label)):
            return True, (
                f" If quotes are plain characters in this file, line {number} must have {len(header)} fields and a "
                f"whole number as {label!r} (got {_short(line)})"
            )
        if '"' not in line:
            continue
        opening = [field for field in fields if field.startswith('"')]
        opens |= not all(map(QUOTED.fullmatch, opening))
        quotes |= any('""' in field[1:-1] for field in opening)
        plain |= any('"' in field and not field.startswith('"') for field in fields)
        if opening and not first:
            first = f"line {number}: {_short(opening[0])}"
    if first and not opens and quotes == plain:
        raise FileError(
            f"{file}, {first} must be either a quoted text or a text with quotes (the file shows "
            f"{'signs of both' if quotes else 'no sign of either'}); save the file as CSV or JSON lines"
        )
    return bool(first) and not opens and quotes, ""


# --- JSON ---


def _json_line_rows(file: Path, lines: Iterable[str], text: str, label: str) -> Iterator[tuple[Any, Any]]:
    """The rows of a file with one object per line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_with_unique_keys)
        except (ValueError, RecursionError) as error:
            raise FileError(f"{file}, line {number} must be JSON: {error}") from error
        yield _json_fields(f"{file}, line {number}", row, text, label)


def _json_rows(file: Path, chunks: Iterable[str], text: str, label: str) -> Iterator[tuple[Any, Any]]:
    """The rows of a file with an array of objects, or with objects one after the other."""
    decoder = json.JSONDecoder(object_pairs_hook=_with_unique_keys)
    space = re.compile(r"[ \t\r\n]*")
    buffer, row, allowed = "", 0, "[{"  # allowed: the characters that may come next
    array = False
    for chunk in itertools.chain(chunks, [""]):
        at = 0
        buffer += chunk
        while (at := space.match(buffer, at).end()) < len(buffer):  # type: ignore[union-attr]
            place, mark = f"{file}, row {row + 1}", buffer[at]
            if mark not in allowed:
                raise FileError(
                    f"{place} must start with one of {' '.join(allowed)} (got {_short(buffer[at : at + 60])})"
                )
            if mark == "{":
                try:
                    value, at = decoder.raw_decode(buffer, at)
                except (ValueError, RecursionError) as error:
                    if chunk and len(buffer) - at <= MAX_BYTES:
                        break  # the object may go on in the next chunk
                    raise FileError(f"{place} must be JSON of at most {MAX_BYTES:,} bytes: {error}") from error
                yield _json_fields(place, value, text, label)
                row, allowed = row + 1, ",]" if array else "{"
            else:
                at, array = at + 1, True
                allowed = {"[": "{]", ",": "{", "]": ""}[mark]
        buffer = buffer[at:]
    if array and allowed:
        raise FileError(f"{file}, row {row + 1} must start with one of {' '.join(allowed)} (the file ends there)")


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} must occur once per object")
    return found


def _json_fields(place: str, row: Any, text: str, label: str) -> tuple[Any, Any]:
    if not isinstance(row, dict) or not {text, label} <= row.keys():
        raise FileError(f"{place} must have the keys {text!r} and {label!r} (got {_short(row)})")
    return row[text], row[label]


# --- Bytes ---


def _lines(file: Path, packed: str) -> Iterator[str]:
    """The lines of a UTF-8 text file without NUL characters. A byte order mark is removed."""
    for number, line in enumerate(_pieces(file, packed, lambda stream: stream.readline(MAX_BYTES + 1)), 1):
        if len(line) > MAX_BYTES:
            raise FileError(f"{file}, line {number} must have at most {MAX_BYTES:,} bytes; do lines end with LF?")
        try:
            decoded = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            wrong = f"byte {error.start + 1} is 0x{error.object[error.start]:02x}"
            raise FileError(f"{file}, line {number} must be UTF-8 ({wrong}); save the file as UTF-8") from error
        if "\0" in decoded:
            raise FileError(f"{file}, line {number} must not contain a NUL character (got {_short(decoded)})")
        if number == 1 and "\r" in decoded.rstrip("\r\n"):
            raise FileError(
                f"{file}: lines must end with LF or CRLF, but line ends are CR, as on old Macs; save with LF"
            )
        yield decoded


def _chunks(file: Path, packed: str) -> Iterator[str]:
    """The text of a UTF-8 file in pieces. A byte order mark is removed."""
    decoder, done = codecs.getincrementaldecoder("utf-8-sig")(), 0
    for chunk in itertools.chain(_pieces(file, packed, lambda stream: stream.read(CHUNK)), [b""]):
        try:
            decoded = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise FileError(f"{file} must be UTF-8 ({error.reason} after {done:,} bytes); save it as UTF-8") from error
        done += len(chunk)
        if decoded:
            yield decoded


def _pieces(file: Path, packed: str, read: Callable[[BinaryIO], bytes]) -> Iterator[bytes]:
    """What `read` returns of the unpacked bytes, until the file ends."""
    try:
        with _opened(file, packed) as stream:
            while piece := read(stream):
                yield piece
    except Exception as error:  # on a broken file the libraries raise anything
        what = f"{packed} cannot be unpacked" if packed else "cannot be read"
        raise FileError(f"{file}: {what}: {str(error) or type(error).__name__}") from error


def _opened(file: Path, packed: str) -> BinaryIO:
    if not packed:
        return file.open("rb")
    if packed in (".zst", ".lz4"):  # Python has no module for them, Arrow does
        import pyarrow

        return cast(BinaryIO, io.BufferedReader(pyarrow.input_stream(str(file), compression=UNPACKERS[packed])))
    return import_module(UNPACKERS[packed]).open(file, "rb")


# --- Other formats ---


def _datasets_rows(file: Path, builder: str | None, text: str, label: str) -> Iterator[tuple[Any, Any]]:
    """Read with `datasets`, which infers the format from the name unless `builder` is given.

    Streamed, because its cache may be out of date.
    """
    import datasets

    try:
        path = file.absolute()  # datasets reads a folder "." as a missing name
        pattern = glob.escape(str(path))  # because datasets treats a name as a pattern
        rows = datasets.load_dataset(builder or str(path.parent), data_files=pattern, split="train", streaming=True)
        row = 1
        for table in rows.with_format("arrow").iter(batch_size=1000):
            columns = [table[_column(table.column_names, name, file)] for name in (text, label)]
            yield from zip(*(_values(column, file, row) for column in columns), strict=True)
            row += len(table)
    except FileError:
        raise
    except Exception as error:  # on a broken file the libraries raise anything
        reason = (str(error) or type(error).__name__)[:300]
        known = ", ".join([*SEPARATORS, ".json", ".jsonl", ".ndjson", *BUILDERS])
        hint = "" if builder else f". Its name must end with {known}, or another ending that datasets knows"
        raise FileError(f"{file} cannot be read: {reason}{hint}") from error


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
    if list(names).count(name) > 1:
        raise FileError(f"{file} must have the column {name!r} once (got {', '.join(names)})")
    return list(names).index(name)


def _checked(rows: Iterable[tuple[Any, Any]], file: Path) -> Texts:
    """The rows as a split. FileError for the first row that cannot be used (from 1, without the header)."""
    texts, labels, wrong = [], [], None
    for row, (text, label) in enumerate(rows, 1):
        if rule := _broken_rule(text):
            raise FileError(f"{file}, row {row}: the text must {rule} (got {_short(text)})")
        number = _whole(label)
        if number is None or number < 0:
            # In Parquet one label of 0.5 turns the whole column into floats: report that label.
            if not _is_whole_float(label):
                raise _wrong_label(file, row, label)
            wrong = wrong or (row, label)
        texts.append(text)
        labels.append(number)
    if wrong:
        raise _wrong_label(file, *wrong)
    return Texts(texts, labels, str(file))


def _wrong_label(file: Path, row: int, label: Any) -> FileError:
    return FileError(
        f"{file}, row {row}: the label must be a whole number 0..k-1 (got {_short(label)}); "
        "-1 usually marks labels that are kept secret"
    )


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
