"""Checkpoints: one file with the whole state of an unfinished run, written atomically.

It is a torch file followed by the sha256 of its content: truncation and flipped bits are found before anything is
read. It is only ever loaded with `weights_only=True`, so that no code in it can run.
"""

import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ablate.files.atomic import replacing
from ablate.files.reading import Damaged
from ablate.files.sealed import Sealing, is_sealed
from ablate.run.records import Rows

log = logging.getLogger("ablate")
NAME = "checkpoint.pt"
CHECKPOINT_FORMAT = 5  # raised when the fields below change: checkpoints of other formats are not used


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the rest of a run depends on; the step determines the order of examples and the dropout."""

    id: str
    environment: dict[str, Any]  # as in run.json
    step: int
    trained: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    states: dict[str, Any]  # of clip rules and averages, by group
    kept: dict[str, Any]  # `TechniqueSet.state_dict`: states that techniques keep themselves
    rows: Rows
    seconds: float  # spent on the run so far
    forked_from: dict[str, Any] | None  # run and step of the snapshot that the run started from


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Replace the folder's checkpoint, which stays until the new one is safe on disk."""
    content = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    content |= {"rows": as_tensors(checkpoint.rows.pack()), "format": CHECKPOINT_FORMAT}
    with replacing(folder / NAME) as file:
        hashed = Sealing(file)
        torch.save(content, hashed)  # type: ignore[arg-type]
        hashed.seal()


def as_tensors(texts: Mapping[str, bytes]) -> dict[str, torch.Tensor]:
    """Texts as tensors of bytes, which torch writes as they are."""
    return {name: torch.from_numpy(np.frombuffer(text, np.uint8).copy()) for name, text in texts.items()}


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the folder's checkpoint; None if there is none, or, with a warning, if it cannot be used."""
    path = folder / NAME
    try:
        if not is_sealed(path):
            log.warning("%s is damaged (its hash does not match): the checkpoint is not used", path)
            return None
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("format", None) != CHECKPOINT_FORMAT:
            log.warning("%s was written by another version of ablate: the checkpoint is not used", path)
            return None
        rows = {table: tensor.numpy().tobytes() for table, tensor in content["rows"].items()}
        found = Checkpoint(**content | {"rows": Rows.unpack(rows)})
        if [row["step"] for row in found.rows.steps] != list(range(1, found.step + 1)):
            log.warning("%s does not hold the rows of its %s steps: the checkpoint is not used", path, found.step)
            return None
        return found
    except Damaged as error:
        log.warning("%s cannot be read (%s): the checkpoint is not used", path, error)
        return None
    except FileNotFoundError:  # also a snapshot that another process has just removed
        return None
    except (pickle.UnpicklingError, RuntimeError, AttributeError, TypeError, KeyError, ValueError) as error:
        cause = str(error).partition("\n")[0]
        log.warning("%s is not a checkpoint of ablate (%s): the checkpoint is not used", path, cause)
        return None


def remove_checkpoint(folder: Path) -> None:
    (folder / NAME).unlink(missing_ok=True)
