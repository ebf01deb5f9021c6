"""Checkpoints: one file that holds all of an unfinished run, whole or not at all.

The file is torch's, with the sha256 of its content behind it: a truncated or flipped byte is found before
anything is read. It is loaded with `weights_only=True` and nothing else, so that no code in it can run.
"""

import hashlib
import logging
import pickle
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

import torch

from ablate.records import Rows, replacing

log = logging.getLogger("ablate")
NAME = "checkpoint.pt"
FORMAT = 2  # raised when the fields below change: another version's checkpoint is not used
DIGEST = 64  # hex digits of a sha256


@dataclass(frozen=True)
class Checkpoint:
    """Everything the rest of a run depends on. Order of examples and dropout follow from the step."""

    id: str
    environment: dict[str, Any]  # as in run.json
    step: int
    trained: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    clip_state: Any
    rows: Rows
    seconds: float  # of work so far
    forked_from: dict[str, Any] | None  # run and step of the snapshot that it began with


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Put the checkpoint in the place of the one before, which stays until the new one is safe on disk."""
    content = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    content |= {"rows": asdict(checkpoint.rows), "format": FORMAT}
    with replacing(folder / NAME) as file:
        hashed = Hashed(file)
        torch.save(content, hashed)  # type: ignore[arg-type]
        file.write(hashed.sha256.hexdigest().encode())


def load(folder: Path) -> Checkpoint | None:
    """The folder's checkpoint; None if there is none, and with a warning if it can't be used."""
    path = folder / NAME
    try:
        if not intact(path):
            log.warning("%s is damaged (its hash does not match) and is not used", path)
            return None
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("format", None) != FORMAT:
            log.warning("%s was written by another version and is not used", path)
            return None
        return Checkpoint(**content | {"rows": Rows(**content["rows"])})
    except FileNotFoundError:  # also a snapshot that another process has just swept
        return None
    except (pickle.UnpicklingError, RuntimeError, AttributeError, TypeError, KeyError) as error:
        log.warning("%s is no checkpoint of ours (%s) and is not used", path, str(error).partition("\n")[0])
        return None


def intact(path: Path) -> bool:
    """True if the file ends in the sha256 of what stands before."""
    size = path.stat().st_size - DIGEST
    with path.open("rb") as file:
        sha256, left = hashlib.sha256(), max(size, 0)
        while left and (block := file.read(min(left, 1 << 20))):
            sha256.update(block)
            left -= len(block)
        return size > 0 and file.read() == sha256.hexdigest().encode()


def remove(folder: Path) -> None:
    (folder / NAME).unlink(missing_ok=True)


@dataclass
class Hashed:
    """A file that is hashed as it is written: a large checkpoint needs no second copy in memory."""

    file: IO[bytes]

    def __post_init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()
