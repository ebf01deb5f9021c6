"""Folders that `datasets.Dataset.save_to_disk` and `DatasetDict.save_to_disk` wrote: which Arrow files they consist of.

The Arrow files are read like others (`ablate.data.readers`), so that an error gives the file and its row.
"""

import json
from pathlib import Path
from typing import Any

from ablate.data.row_checks import FileError
from ablate.files.reading import unique_keys

STATE, SPLITS_FILE = "state.json", "dataset_dict.json"


def saved_splits(folder: Path) -> dict[str, list[Path]]:
    """The files of each split of a saved DatasetDict, those of a saved Dataset as "train"; {} for another folder."""
    if (folder / SPLITS_FILE).is_file():
        names = content_of(folder / SPLITS_FILE).get("splits")
        return {
            name: saved_files(folder / plain_name(folder / SPLITS_FILE, name)) for name in listed_names(folder, names)
        }
    return {"train": saved_files(folder)} if (folder / STATE).is_file() else {}


def saved_files(folder: Path) -> list[Path]:
    """The Arrow files of a saved Dataset, in the order of its rows. FileError if there are none."""
    state = folder / STATE
    if not state.is_file():
        raise FileError(f"{folder} must be a folder that Dataset.save_to_disk wrote (it has no {STATE})")
    entries = content_of(state).get("_data_files")
    names = [entry.get("filename") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    files = [folder / plain_name(state, name) for name in names]
    for file in files:
        if not file.is_file():
            raise FileError(f"{state}: each file that it names must exist (got {file.name})")
    if not files:
        raise FileError(f"{state} must name the data's files (got {entries})")
    return files


def listed_names(folder: Path, names: Any) -> list[Any]:
    if not isinstance(names, list) or not names:
        raise FileError(f"{folder / SPLITS_FILE} must list the splits (got {names})")
    return names


def plain_name(where: Path, name: Any) -> str:
    """A name inside a folder. FileError for one that leads elsewhere: the data's hash would not cover it."""
    if not isinstance(name, str) or not name or name.startswith(".") or Path(name).name != name:
        raise FileError(f"{where} must name files and folders inside its own folder (got {name!r})")
    return name


def content_of(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=unique_keys)
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{file} must be JSON: {error}") from error
    if not isinstance(found, dict):
        raise FileError(f"{file} must be a JSON object (got {type(found).__name__})")
    return found
