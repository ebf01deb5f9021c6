"""Checkpoints: one file that holds all of an unfinished run, whole or not at all.

The file is torch's, with the sha256 of its content behind it: a truncated or flipped byte is found before
anything is read. It is loaded with `weights_only=True` and nothing else, so that no code in it can run.
"""

import logging
import pickle
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ablate.files.atomic import replacing
from ablate.files.sealed import Sealing, is_sealed
from ablate.run.records import Rows

log = logging.getLogger("ablate")
NAME = "checkpoint.pt"
FORMAT = 2  # raised when the fields below change: another version's checkpoint is not used


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
        hashed = Sealing(file)
        torch.save(content, hashed)  # type: ignore[arg-type]
        hashed.seal()


def load(folder: Path) -> Checkpoint | None:
    """The folder's checkpoint; None if there is none, and with a warning if it can't be used."""
    path = folder / NAME
    try:
        if not is_sealed(path):
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


def remove(folder: Path) -> None:
    (folder / NAME).unlink(missing_ok=True)
