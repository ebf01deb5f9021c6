"""Rows of JSON files: one object per line, an array of objects, or objects one after the other."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ablate.config.wording import excerpt
from ablate.data.file_bytes import MAX_BYTES
from ablate.data.row_checks import FileError
from ablate.files.reading import unique_keys


def json_line_rows(file: Path, lines: Iterable[str], *columns: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a file with one object per line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=unique_keys)
        except (ValueError, RecursionError) as error:
            raise FileError(f"{file}, line {number} must be JSON: {error}") from error
        yield fields_of(f"{file}, line {number}", row, *columns)


def json_rows(file: Path, chunks: Iterable[str], *columns: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a file with an array of objects, or with objects one after the other."""
    decoder = json.JSONDecoder(object_pairs_hook=unique_keys)
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
                    f"{place} must start with one of {' '.join(allowed)} (got {excerpt(buffer[at : at + 60])})"
                )
            if mark == "{":
                try:
                    value, at = decoder.raw_decode(buffer, at)
                except (ValueError, RecursionError) as error:
                    if chunk and len(buffer) - at <= MAX_BYTES:
                        break  # the object may go on in the next chunk
                    raise FileError(f"{place} must be JSON of at most {MAX_BYTES:,} bytes: {error}") from error
                yield fields_of(place, value, *columns)
                row, allowed = row + 1, ",]" if array else "{"
            else:
                at, array = at + 1, True
                allowed = {"[": "{]", ",": "{", "]": ""}[mark]
        buffer = buffer[at:]
    if array and allowed:
        raise FileError(f"{file}, row {row + 1} must start with one of {' '.join(allowed)} (the file ends there)")


def fields_of(place: str, row: Any, *columns: str) -> tuple[Any, ...]:
    if not isinstance(row, dict) or not {*columns} <= row.keys():
        raise FileError(f"{place} must have the keys {' and '.join(map(repr, columns))} (got {excerpt(row)})")
    return tuple(row[column] for column in columns)
