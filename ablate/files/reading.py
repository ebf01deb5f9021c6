"""Files that may be damaged, foreign or hostile: regular files of limited size, JSON of limited depth, and its hash."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

LARGEST_TEXT = 16 * 2**20
"""Bytes of a text file that is read whole."""

LARGEST_TABLE = 2 * 2**30
"""Bytes of a table that is read whole: some ten million steps."""

DEEPEST = 64
"""Levels of nesting in JSON: a record has five."""

HASH = "sha256"
"""The key at the end of a JSON object that holds the hash of the rest."""


class Damaged(ValueError):
    """A file must not be believed. The message says why, without the name of the file."""


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file to read it; never wait for one, as a FIFO makes its reader do.

    Raises Damaged for a FIFO, socket or device, OSError for a folder and for what the system refuses.
    """
    file = open(path, "rb", opener=without_waiting)  # noqa: SIM115 (the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Damaged("not a regular file")
    return file


def without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def read_regular(path: Path, limit: int = LARGEST_TEXT) -> bytes:
    """The content of a regular file. Raises Damaged where it has more than `limit` bytes, and as `open_regular`."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise Damaged(f"larger than {limit} bytes")
        return file.read(size)


def parse_json(content: bytes | str) -> Any:
    """The value of JSON in UTF-8: at most DEEPEST levels, no key twice, integers of 64 bits. Raises Damaged."""
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        value = json.loads(text, object_pairs_hook=unique_keys)
        check_values(value)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"not valid JSON ({error})") from error
    return value


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, for `object_pairs_hook`. ValueError for a key that stands twice: its last value would win."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} must occur once per object")
    return found


def check_values(value: Any) -> None:
    """Raise ValueError for a value that is nested too deeply, or that no frame could hold."""
    level = [value]
    for _ in range(DEEPEST):
        for item in level:
            if isinstance(item, str):
                item.encode()  # half a surrogate pair passes the parser
            elif isinstance(item, int) and not -(2**63) <= item < 2**63:
                raise ValueError("an integer has more than 64 bits")
        level = [
            *(child for item in level if isinstance(item, (list, dict)) for child in item),
            *(child for item in level if isinstance(item, dict) for child in item.values()),
        ]
        if not level:
            return
    raise ValueError(f"nested deeper than {DEEPEST} levels")


def content_sha256(content: Mapping[str, Any]) -> str:
    """The hash of a JSON object's values: neither the order of its keys nor its spaces count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hashed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its hash as the last key.

    >>> list(hashed({"seed": 0}))
    ['seed', 'sha256']
    """
    plain = json.loads(json.dumps(content))  # the values that a reader finds
    return plain | {HASH: content_sha256(plain)}


def unhashed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object without its hash; Damaged unless the hash matches. Older files have none and pass.

    >>> unhashed(hashed({"seed": 0})), unhashed({"seed": 0})
    ({'seed': 0}, {'seed': 0})
    """
    rest = {key: value for key, value in content.items() if key != HASH}
    if HASH in content and content[HASH] != content_sha256(rest):
        raise Damaged("not what was written: its sha256 differs")
    return rest
