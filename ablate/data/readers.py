"""Reads data files of any format: picks the reader by the file's ending, and checks each row.

Python's own readers read CSV, TSV and JSON because they do not guess types: pandas reads "NA" as missing and turns a
surplus field into an index; Arrow turns some texts into dates, labels into floats, and all texts of a column into JSON
source if one of them is no string. `datasets` reads other formats. Files are read in pieces of bounded size, so a
broken or malicious file is refused before it fills the memory.
"""

import glob
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.config.checks import require
from ablate.config.wording import excerpt
from ablate.data.delimited import SEPARATORS, delimited_rows
from ablate.data.file_bytes import UNPACKERS, chunks_of, lines_of
from ablate.data.json_rows import json_line_rows, json_rows
from ablate.data.row_checks import FileError, checked_rows, column_index
from ablate.data.texts import Texts
from ablate.files.hashing import tree_names

if TYPE_CHECKING:
    import pyarrow

BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".hdf5": "hdf5", ".h5": "hdf5"}
"""Endings of other files -> the builder of `datasets`, which does not recognise an ending in capitals."""


def local_path(path: str) -> Path | None:
    """`path` as a local file or folder; None if it can only be a hub id ("owner/name")."""
    found = Path(path).expanduser()
    if found.is_file() or found.is_dir():
        return found
    hub = not found.exists() and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", path) is not None
    require("data.path", path, hub, "an existing file or folder, or a hub id (owner/name)")
    return None


def split_files(path: Path, name: str | None) -> dict[str, list[Path]]:
    """The files of each split, as `datasets` infers them from the folder's README and the files' names.

    Raises ValueError for a file that the folder's hash leaves out: it could change, and the run's id would not.
    """
    if path.is_file():
        return {"train": [path]}
    import datasets

    folder = path.resolve()
    try:
        found = datasets.load_dataset_builder(str(folder), name).config.data_files or {}
    except Exception as error:  # a README may also name an address, and its library raises anything
        raise ValueError(f"data.path={path}: {error}") from error
    hashed = {folder / inside for inside in tree_names(folder)}
    for split, files in found.items():
        for file in map(Path, files):
            what = (
                "a folder whose README and names lead to files inside it alone, without '..', hidden or linked folders"
            )
            require("data.path", f"{path}, whose split {split} has {file}", file in hashed, what)
    return {str(split): [Path(file) for file in files] for split, files in found.items()}


def read_files(files: Sequence[Path], text: str, label: str, cluster: str | None = None) -> Texts:
    """The rows of several files, from the columns with these names.

    Each file is checked separately, so that an error gives the file and its row.
    """
    columns = (text, label) if cluster is None else (text, label, cluster)
    parts = [checked_rows(rows_of(file, *columns), file) for file in files]
    source = ", ".join(str(file) for file in files)
    found = {name: [value for part in parts for value in getattr(part, name)] for name in ("text", "label", "cluster")}
    return Texts(**found, source=source)


def rows_of(file: Path, *columns: str) -> Iterator[tuple[Any, ...]]:
    """Text, label and further columns of each row, as written in the file."""
    suffix, packed = file.suffix.lower(), ""
    if suffix in UNPACKERS:
        suffix, packed = Path(file.stem).suffix.lower(), suffix
    lines = partial(lines_of, file, packed)
    if separator := SEPARATORS.get(suffix):
        return delimited_rows(file, lines, separator, *columns)
    if suffix in (".jsonl", ".ndjson"):
        return json_line_rows(file, lines(), *columns)
    if suffix == ".json":
        return json_rows(file, chunks_of(file, packed), *columns)
    if packed:
        raise FileError(f"{file} must be unpacked: only CSV, TSV and JSON files are read from {packed}")
    return datasets_rows(file, BUILDERS.get(suffix), *columns)


# --- Other formats ---


def datasets_rows(file: Path, builder: str | None, *names: str) -> Iterator[tuple[Any, ...]]:
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
            columns = [table[column_index(table.column_names, name, file)] for name in names]
            yield from zip(*(column_values(column, file, row) for column in columns), strict=True)
            row += len(table)
    except FileError:
        raise
    except Exception as error:  # on a broken file the libraries raise anything
        reason = (str(error) or type(error).__name__)[:300]
        known = ", ".join([*SEPARATORS, ".json", ".jsonl", ".ndjson", *BUILDERS])
        hint = "" if builder else f". Its name must end with {known}, or another ending that datasets knows"
        raise FileError(f"{file} cannot be read: {reason}{hint}") from error


def column_values(column: "pyarrow.ChunkedArray", file: Path, first: int) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        for row, value in enumerate(column, first):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                raise FileError(f"{file}, row {row}: {excerpt(error.object)}: {error}") from error
        raise
