"""Reads data files of any format: picks the reader by the file's ending, and checks each row.

Python's own readers read CSV, TSV and JSON because they do not guess types: pandas reads "NA" as missing and turns a
surplus field into an index; Arrow turns some texts into dates, labels into floats, and all texts of a column into JSON
source if one of them is no string. `datasets` reads other formats. Files are read in pieces of bounded size, so a
broken or malicious file is refused before it fills the memory.
"""

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.config.checks import require
from ablate.config.wording import excerpt
from ablate.data import conll
from ablate.data.columns import Columns, task_columns
from ablate.data.delimited import SEPARATORS, delimited_rows
from ablate.data.file_bytes import UNPACKERS, chunks_of, lines_of
from ablate.data.json_rows import json_line_rows, json_rows
from ablate.data.labels import each_label
from ablate.data.row_checks import Classes, FileError, checked_rows, column_index
from ablate.data.saved import saved_splits
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
    if saved := saved_splits(path):
        return saved
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


def read_files(
    files: Sequence[Path],
    text: str | Sequence[str],
    label: str | None,
    cluster: str | None = None,
    kind: str = "classification",
) -> Texts:
    """The rows of several files, from the columns with these names, for a task of this kind.

    Each file is checked separately, so that an error gives the file and its row.
    """
    columns, classes = task_columns(text, label, cluster, kind), Classes()
    parts = [read_file(file, columns, classes) for file in files]
    names = {part.labels for part in parts if part.labels}
    if len(names) > 1:
        each = "; ".join(f"{part.source}: {', '.join(part.labels)}" for part in parts)
        raise FileError(f"all files of a split must have the same classes (got {each})")
    without = [part.source for part in parts if not part.cluster]
    if 0 < len(without) < len(parts):
        raise FileError(f"{without[0]} must have {conll.DOCUMENT} lines, as {parts[0].source} or another file has them")
    found = {key: [v for part in parts for v in getattr(part, key)] for key in ("text", "label", "cluster", "files")}
    return Texts(**found, source=", ".join(map(str, files)), labels=names.pop() if names else ())


def read_file(file: Path, columns: Columns, classes: Classes) -> Texts:
    """The checked rows of one file."""
    if unpacked_suffix(file)[0] not in conll.ENDINGS:
        texts = checked_rows(rows_of(file, columns), file, columns, classes)
        return replace(texts, labels=class_names(file, columns, texts))
    if columns.kind != "token_classification":
        raise FileError(f"{file} has one word per line, for task=token_classification (got task={columns.kind})")
    if columns.cluster is not None:
        raise FileError(
            f"data.cluster must be null for {file}, whose {conll.DOCUMENT} lines separate its groups "
            f"(got {columns.cluster})"
        )
    lines = lines_of(file, unpacked_suffix(file)[1])
    with_documents = replace(columns, text=("word",), cluster="document")
    texts = checked_rows(conll.conll_rows(file, lines), file, with_documents, classes)
    documents = {*texts.cluster} - {"0"}
    return replace(texts, cluster=[f"{file}, {number}" for number in texts.cluster] if documents else ())


def unpacked_suffix(file: Path) -> tuple[str, str]:
    """The ending that names a file's format, and that of its compression or "".

    >>> unpacked_suffix(Path("a.CSV.gz")), unpacked_suffix(Path("a.parquet"))
    (('.csv', '.gz'), ('.parquet', ''))
    """
    suffix = file.suffix.lower()
    return (Path(file.stem).suffix.lower(), suffix) if suffix in UNPACKERS else (suffix, "")


def rows_of(file: Path, columns: Columns) -> Iterator[tuple[Any, ...]]:
    """The values of the columns in each row, as written in the file."""
    suffix, packed = unpacked_suffix(file)
    lines = partial(lines_of, file, packed)
    if separator := SEPARATORS.get(suffix):
        return delimited_rows(file, lines, separator, columns)
    if suffix in (".jsonl", ".ndjson"):
        return json_line_rows(file, lines(), *columns.names)
    if suffix == ".json":
        return json_rows(file, chunks_of(file, packed), *columns.names)
    if suffix == ".txt" and columns.kind == "causal_lm":
        return ((line.rstrip("\r\n"),) for line in lines() if line.strip())
    if suffix == ".txt" and columns.kind == "token_classification":
        raise FileError(f"{file} must end with {' or '.join(conll.ENDINGS)} if it has one word per line; rename it")
    if packed:
        raise FileError(f"{file} must be unpacked: only CSV, TSV, JSON and CoNLL files are read from {packed}")
    return datasets_rows(file, BUILDERS.get(suffix), *columns.names)


def class_names(file: Path, columns: Columns, texts: Texts) -> tuple[str, ...]:
    """The names of the classes of a file in which `datasets` recorded them (its ClassLabel); () where it has none.

    The labels of such a file are numbers, which stay as they are.
    """
    suffix = unpacked_suffix(file)[0]
    if suffix not in (".parquet", ".arrow") or columns.kind not in ("classification", "token_classification"):
        return ()
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    if suffix == ".parquet":
        schema = pq.read_schema(file)
    else:
        with pa.memory_map(str(file)) as source:
            schema = (pa.ipc.open_stream if is_stream(file) else pa.ipc.open_file)(source).schema
    feature = datasets.Features.from_arrow_schema(schema).get(columns.label)
    feature = getattr(feature, "feature", feature)
    names = tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else ()
    for row, label in each_label(texts):
        if names and (isinstance(label, str) or label >= len(names)):
            raise FileError(f"{file}, row {row + 1}: the label must be the number of a class, {names} (got {label})")
    return names


def is_stream(file: Path) -> bool:
    """Whether an Arrow file has the format for streams, without Arrow's signature at its start."""
    with file.open("rb") as opened:
        return opened.read(6) != b"ARROW1"


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
        known = ", ".join([*SEPARATORS, ".json", ".jsonl", ".ndjson", *BUILDERS, *conll.ENDINGS])
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
