"""Small data files for tests, and sources that read them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ablate.data.sources import Data, Files, load_splits
from ablate.data.texts import Texts

SIZES = {"max_length": 16, "train_examples": None, "test_examples": None}


def save(path: Path, table: Mapping[str, Sequence[Any]]) -> Path:
    """Write columns as a file in the format of its ending. In CSV and TSV a list becomes items separated by spaces."""
    frame = pd.DataFrame(dict(table))
    if path.suffix in (".csv", ".tsv"):
        frame = frame.map(lambda value: " ".join(map(str, value)) if isinstance(value, list) else value)
        frame.to_csv(path, index=False, sep="," if path.suffix == ".csv" else "\t")
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(lines if path.suffix == ".jsonl" else json.dumps(rows), encoding="utf-8")
    return path


def own(train: Path | Sequence[Path], test: Path | None = None, **settings: Any) -> Files:
    """The data set of a training file, or several, and a test file."""
    first = str(train) if isinstance(train, Path) else [str(path) for path in train]
    paths = {"train": first, "validation": None, "test": test and str(test)}
    return Files(**{**SIZES, "text": "text", "label": "label", "files": paths, **settings})


def refusal_of(source: Data, kind: str = "classification") -> str:
    """The message with which a data set is refused."""
    with pytest.raises(ValueError) as error:
        load_splits(source, kind)
    assert len(str(error.value)) < 1000
    return str(error.value)


def pairs_of(texts: Texts) -> list[tuple[Any, Any]]:
    return list(zip(texts.text, texts.label, strict=True))
