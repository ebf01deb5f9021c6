"""Tokens kept for the machine: a data set is tokenised once, and read from then on, whatever run or process asks.

An entry is a file in the user's cache directory (`ABLATE_CACHE` chooses another, see `ablate.files.assets`), named by
`key`: a hash over all that its content depends on. So an entry is never out of date; what is no longer asked for
goes when the folder passes `LIMIT`. Removing it, or all of it (`rm -r ~/.cache/ablate/tokens`), does no harm at any
time. Token ids can be turned back into text: the folder is as private as the data.

An entry is numpy's .npz without pickles, with the sha256 of its content behind it: what is damaged is not used.
"""

import contextlib
import hashlib
import inspect
import io
import json
import logging
import os
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
from ablate.files.sealed import sealed, unsealed
from ablate.model.loading import Model

log = logging.getLogger("ablate")

LIMIT = 2 * 1024**3  # bytes in the folder; IMDB comes to 22 MB
PLACES = {"path", "files"}  # settings that say where texts lie: what is found there counts in their place
UNCOUNTED = {"revision", "group_by_length"}  # a part of the identity, where it counts; the order of batches
MAKERS = (
    *(
        "data/batches",
        "data/corpus",
        "data/readers",
        "data/sources",
        "data/synthetic",
        "data/texts",
        "data/token_cache",
    ),
    *("model/loading", "model/word_tokenizer"),
)
"""Modules whose code decides which tokens come out."""


def folder() -> Path:
    return cache_folder() / "ablate" / "tokens"


def key(model: Model, source: Data) -> str:
    """The name of the entry that holds this data set in this model's tokens: 64 hex digits.

    Counted are the content of the texts' files and of the tokenizer's, the settings that choose texts and cut them,
    the libraries' versions, and the code that makes tokens of it all: a version number would have to be remembered.
    Left out is what the tokens do not depend on: where the files lie, the weights, the learning rate.
    """
    settings = {f.name: getattr(source, f.name) for f in fields(source) if f.name not in UNCOUNTED}
    code = [Path(__file__).parents[1] / f"{name}.py" for name in MAKERS]
    classes = [type(model), type(source)]  # perhaps a user's own
    what = {
        "data": source.identity(),
        "settings": {name: endings(value) if name in PLACES else value for name, value in settings.items()},
        "tokenizer": model.tokenizer_identity(),
        "classes": [f"{c.__module__}.{c.__qualname__}" for c in classes],
        "code": [file_sha256(file) for file in (*code, *(Path(inspect.getfile(c)) for c in classes))],
        "versions": {name: version(name) for name in ("tokenizers", "transformers")},
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=repr).encode()).hexdigest()


def endings(places: Any) -> Any:
    """The ends of files' names, which tell their formats.

    >>> endings({"train": "my/reviews.csv.gz", "test": None})
    {'train': ['.csv', '.gz'], 'test': None}
    """
    if isinstance(places, Mapping):
        return {split: endings(place) for split, place in places.items()}
    return None if places is None else PurePath(places).suffixes


def load(key: str) -> dict[str, np.ndarray] | None:
    """An entry's arrays; None where there is none, and, with a warning, where it is damaged."""
    try:
        path = folder() / key
        content = path.read_bytes()
    except (OSError, RuntimeError):  # `keep` says why
        return None
    body = unsealed(content)
    if body is None:
        log.warning("%s is damaged (its hash does not match): the tokens are made again", path)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # it was of use: others go first
    with np.load(io.BytesIO(body)) as arrays:
        return dict(arrays)


def keep(key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an entry, whole or not at all; of two processes that do so at once either will do.

    Where nothing can be written it warns and goes on: a cache is a convenience.
    """
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    try:
        place = folder()
        place.mkdir(parents=True, exist_ok=True)
        write(place / key, lambda file: file.write(sealed(packed.getvalue())))
        trim(place)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        log.warning(
            "the tokens can't be kept for other processes, which make them anew (%s); "
            "ABLATE_CACHE=<folder> chooses another cache", error,
        )  # fmt: skip


def trim(place: Path) -> None:
    """Remove the entries used longest ago, until `LIMIT` holds (and what killed writers left half done)."""
    with contextlib.suppress(OSError):  # another process may be at it
        found = [(entry.stat(), entry.path) for entry in os.scandir(place)]
        size = sum(status.st_size for status, _ in found)
        for status, path in sorted(found, key=lambda entry: entry[0].st_mtime):
            if size <= LIMIT:
                break
            os.unlink(path)
            size -= status.st_size
