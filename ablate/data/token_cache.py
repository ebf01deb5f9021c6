"""The machine's cache of tokenised data sets: each is tokenised once, and later runs and processes read the tokens.

An entry is a file in the user's cache directory (`ABLATE_CACHE` chooses another, see `ablate.files.assets`). Its name,
`entry_key`, is a hash of everything that its content depends on, so an entry is never out of date. When the folder
grows beyond `LIMIT`, the least recently used entries are removed. Users may remove entries, or the whole folder
(`rm -r ~/.cache/ablate/tokens`), at any time. Token ids can be turned back into text: the folder is as private as the
data.

An entry is a numpy .npz file without pickles, followed by the sha256 of its content: a damaged entry is not used.
"""

import contextlib
import hashlib
import inspect
import io
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ablate.data.sources import Data
from ablate.files.assets import cache_folder
from ablate.files.atomic import write
from ablate.files.hashing import file_sha256
from ablate.files.links import refuse_links
from ablate.files.reading import Damaged, read_regular
from ablate.files.sealed import sealed, unsealed
from ablate.model.loading import Model

log = logging.getLogger("ablate")

ENTRY = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\.\d+\.tmp")  # its name, and that of an incomplete one
LIMIT = 2 * 1024**3  # bytes in the folder; IMDB needs 22 MB
PLACES = {"path", "files"}  # settings that locate texts; the key contains the texts' content instead
IGNORED_SETTINGS = {"revision", "group_by_length"}  # already in the identity; only changes the order of batches
MAKERS = (
    "data/batches", "data/columns", "data/conll", "data/corpus", "data/delimited", "data/file_bytes", "data/json_rows",
    "data/labels", "data/readers", "data/row_checks", "data/saved", "data/snippets", "data/sources", "data/synthetic",
    "data/texts", "data/token_cache", "data/tokens", "model/loading", "model/word_tokenizer",
)  # fmt: skip
"""Modules whose code determines the tokens."""


def folder() -> Path:
    return cache_folder() / "ablate" / "tokens"


def entry_key(model: Model, source: Data, kind: str = "classification") -> str:
    """The name of the entry with this data set's tokens for this model and kind of task: 64 hex digits.

    The hash covers the content of the text files and of the tokenizer's files, the settings that select and cut texts,
    the libraries' versions, and the code that makes the tokens (somebody would have to remember to raise a version
    number). It leaves out everything else, e.g. the files' locations, the weights and the learning rate.
    """
    settings = {f.name: getattr(source, f.name) for f in fields(source) if f.name not in IGNORED_SETTINGS}
    code = [Path(__file__).parents[1] / f"{name}.py" for name in MAKERS]
    classes = [type(model), type(source)]  # they may be a user's own
    what = {
        "kind": kind,
        "data": source.identity(),
        "settings": {name: endings(value) if name in PLACES else value for name, value in settings.items()},
        "tokenizer": model.tokenizer_identity(),
        "classes": [f"{c.__module__}.{c.__qualname__}" for c in classes],
        "code": [file_sha256(file) for file in (*code, *(Path(inspect.getfile(c)) for c in classes))],
        "versions": {name: version(name) for name in ("tokenizers", "transformers")},
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=repr).encode()).hexdigest()


def endings(places: Any) -> Any:
    """The suffixes of files' names, which define their formats.

    >>> endings({"train": "my/reviews.csv.gz", "validation": ["a.csv", "b.tsv"], "test": None})
    {'train': ['.csv', '.gz'], 'validation': [['.csv'], ['.tsv']], 'test': None}
    """
    if isinstance(places, Mapping):
        return {split: endings(place) for split, place in places.items()}
    if isinstance(places, (list, tuple)):
        return [endings(place) for place in places]
    return None if places is None else PurePath(places).suffixes


def load_entry(key: str) -> dict[str, np.ndarray] | None:
    """The arrays of an entry. None if there is none; None with a warning if it is damaged."""
    try:
        path = folder() / key
        content = read_regular(path, LIMIT)
    except (OSError, RuntimeError, Damaged):  # `store_entry` warns with the reason, or writes it again
        return None
    body = unsealed(content)
    if body is None:
        log.warning("%s is damaged (its hash does not match); we tokenise the data again", path)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # marks it as used, so that others are removed first
    with np.load(io.BytesIO(body)) as arrays:
        return dict(arrays)


def store_entry(key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an entry atomically. If two processes write it at the same time, either result is fine.

    If the cache cannot be written, it warns and goes on: the cache only saves time.
    """
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    try:
        place = folder()
        refuse_links(place)
        place.mkdir(parents=True, exist_ok=True)
        write(place / key, lambda file: file.write(sealed(packed.getvalue())))
        trim(place)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a user without a home; ValueError: a link
        log.warning(
            "the tokens cannot be cached, so other processes tokenise the data again (%s); "
            "ABLATE_CACHE=<folder> chooses another cache", error,
        )  # fmt: skip


def trim(place: Path) -> None:
    """Remove the least recently used entries, incomplete ones of killed writers among them, until `LIMIT` holds.

    Files of other names are not ours: they neither count nor go.
    """
    with contextlib.suppress(OSError):  # another process may be removing the same files
        ours = [entry for entry in os.scandir(place) if ENTRY.fullmatch(entry.name)]
        found = [(entry.stat(follow_symlinks=False), entry.path) for entry in ours]
        size = sum(status.st_size for status, _ in found)
        for status, path in sorted(found, key=lambda entry: entry[0].st_mtime):
            if size <= LIMIT:
                break
            os.unlink(path)
            size -= status.st_size
