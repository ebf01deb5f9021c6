"""The machine's cache of hidden states: what the frozen first layers of a model give for each example of a split.

A split has one file in the user's cache directory (`ABLATE_CACHE` chooses another, see `ablate.files.assets`), whose
name is a hash of everything that its content depends on. The file has one row per example: the sha256 of the row's
states, and the states in float32. It is sparse and memory-mapped; rows are written when they are first computed.

Processes share a file without a lock. A row is used only if its hash matches, so half-written, damaged and empty rows
count as absent, and two processes that write a row write the same bytes. The folder has a limit in bytes: the least
recently used files are removed, and rows beyond it are not kept. Users may remove files, or the whole folder
(`rm -r ~/.cache/ablate/hidden_states`), at any time. Hidden states may reveal the text: the folder is as private as the
data.
"""

import contextlib
import hashlib
import logging
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ablate.files.assets import cache_folder
from ablate.files.atomic import write
from ablate.files.links import refuse_links
from ablate.files.reading import without_waiting

log = logging.getLogger("ablate")

STATE_FILE = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\.\d+\.tmp")  # a file's name, and that of an incomplete one
SEAL = hashlib.sha256().digest_size  # bytes before the states of a row
ABSENT = bytes(SEAL)
RECOUNTS = 16  # a process measures the folder again after it wrote this part of the limit: others write, too


def states_folder() -> Path:
    return cache_folder() / "ablate" / "hidden_states"


def example_digest(ids: np.ndarray) -> bytes:
    """The name of an example: a hash of its token ids, int64 [L], without padding."""
    return hashlib.blake2b(ids.tobytes(), digest_size=16).digest()


def split_digest(examples: Sequence[bytes]) -> str:
    """The name of a split: a hash of its examples' digests in their order."""
    return hashlib.sha256(b"".join(examples)).hexdigest()


@dataclass(frozen=True)
class SplitRows:
    """The distinct examples of a split, in the order of the split, and how many tokens of each are kept.

    digest  `example_digest` of each
    tokens  [N]
    """

    digest: tuple[bytes, ...]
    tokens: np.ndarray


def split_rows(input_ids: Sequence[Sequence[int]], first_only: bool) -> SplitRows:
    """The rows for a split's texts. `first_only`: only the states of each example's first token are kept."""
    ids = [np.asarray(row, dtype=np.int64) for row in input_ids]
    tokens = {example_digest(row): 1 if first_only else len(row) for row in ids}
    return SplitRows(tuple(tokens), np.array(list(tokens.values()), dtype=np.int64))


class StatesFile:
    """The rows of one split in one file. Raises OSError or ValueError if the file cannot be opened or made.

    width: numbers per token
    """

    def __init__(self, path: Path, rows: SplitRows, width: int) -> None:
        self.tokens, self.width = rows.tokens, width
        ends = np.cumsum(SEAL + rows.tokens * width * 4)
        self.starts = [0, *ends[:-1].tolist()]
        self.size = int(ends[-1])
        self.file = open_states(path, self.size)
        self.bytes = np.memmap(self.file, dtype=np.uint8, mode="r", shape=(self.size,))

    def get(self, row: int) -> np.ndarray | None:
        """The states [tokens, width] of a row; None if it is absent or damaged. Verified each time, as a copy.

        On a network file system, another machine may damage a row that was whole before.
        """
        start = self.starts[row]
        seal = self.bytes[start : start + SEAL].tobytes()
        if seal == ABSENT:
            return None
        states = np.array(self.bytes[start + SEAL : start + self.row_size(row)])
        found = states.view(np.float32).reshape(-1, self.width)
        return found if hashlib.sha256(states).digest() == seal else None

    def put(self, row: int, states: np.ndarray) -> None:
        """Write the float32 states [tokens, width] of a row. Raises OSError, for example on a full disk."""
        content = states.tobytes()
        self.file.seek(self.starts[row])
        self.file.write(hashlib.sha256(content).digest() + content)

    def row_size(self, row: int) -> int:
        return SEAL + int(self.tokens[row]) * self.width * 4

    def removed(self) -> bool:
        """Whether the file has no name any more, so that no other process will find what we write."""
        return os.fstat(self.file.fileno()).st_nlink == 0


def open_states(path: Path, size: int) -> IO[bytes]:
    """Open a file of `size` bytes to read and write it, without a buffer; make one of empty rows if there is none."""
    refuse_links(path)
    with contextlib.suppress(FileNotFoundError):
        file = open(path, "r+b", buffering=0, opener=without_waiting)  # noqa: SIM115 (the caller keeps it open)
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_size == size:
            os.utime(path)  # marks it as used, so that others are removed first
            return file
        file.close()
        log.warning("%s is damaged (it must have %d bytes); we make it again", path, size)
    write(path, lambda new: new.truncate(size))
    return open(path, "r+b", buffering=0)


class StateCache:
    """Hidden states of the splits of a data set, by example. Where nothing can be kept, it warns and keeps nothing.

    key     hash of all that decides the states of an example
    splits  token ids of the examples, by split
    limit   bytes in the folder
    """

    def __init__(
        self, key: str, splits: Mapping[str, Sequence[Sequence[int]]], width: int, first_only: bool, limit: int
    ) -> None:
        self.limit, self.left, self.keeps = limit, 0, limit > 0
        self.files: list[StatesFile] = []
        self.place: dict[bytes, tuple[StatesFile, int]] = {}  # of each example: its file and row
        self.needs = 0  # bytes of all rows
        found = {split: split_rows(ids, first_only) for split, ids in splits.items()}
        names = {
            split: hashlib.sha256(f"{key} {split_digest(rows.digest)}".encode()).hexdigest()
            for split, rows in found.items()
        }
        if not self.keeps:
            return
        try:
            folder = states_folder()
            refuse_links(folder)
            folder.mkdir(parents=True, exist_ok=True)
            for split, rows in found.items():
                file = StatesFile(folder / names[split], rows, width)
                self.files.append(file)
                self.needs += file.size
                self.place |= {digest: (file, row) for row, digest in enumerate(rows.digest)}
            make_room(folder, set(names.values()), limit - min(self.needs, limit))
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a user without a home; ValueError: a link
            self.stop(str(error))
            self.place = {}
        if self.needs > limit:
            log.warning(
                "the hidden states of the frozen layers need %.3g GB, more than trainer.frozen_prefix_gb=%g: the rest "
                "is computed at each step", self.needs / 1e9, limit / 1e9,
            )  # fmt: skip

    def get(self, example: bytes) -> np.ndarray | None:
        """The states [tokens, width] of an example, by its digest; None if they are not kept."""
        if example not in self.place:
            return None
        file, row = self.place[example]
        return file.get(row)

    def put(self, example: bytes, states: np.ndarray) -> None:
        """Keep the states of an example if it belongs to a split and there is room."""
        if not self.keeps or example not in self.place:
            return
        file, row = self.place[example]
        try:
            if file.removed() or not self.has_room(file.row_size(row)):
                return
            file.put(row, states)
        except OSError as error:
            self.stop(str(error))

    def has_room(self, size: int) -> bool:
        """Whether `size` more bytes may be written; if so, they count as written."""
        if self.left < size:
            self.left = min(self.limit - bytes_used(states_folder()), max(size, self.limit // RECOUNTS))
        if self.left < size:
            self.keeps = False
            return False
        self.left -= size
        return True

    def stop(self, why: str) -> None:
        self.keeps = False
        log.warning(
            "the hidden states of the frozen layers cannot be cached, so they are computed again each time (%s); "
            "ABLATE_CACHE=<folder> chooses another cache", why,
        )  # fmt: skip


def state_files(folder: Path) -> list[tuple[os.stat_result, str]]:
    """Status and path of our files in the folder. Files of other names neither count nor go."""
    return [(e.stat(follow_symlinks=False), e.path) for e in os.scandir(folder) if STATE_FILE.fullmatch(e.name)]


def allocated(status: os.stat_result) -> int:
    """Bytes on the disk: a sparse file has fewer than its size."""
    return status.st_blocks * 512 if hasattr(status, "st_blocks") else status.st_size


def bytes_used(folder: Path) -> int:
    return sum(allocated(status) for status, _ in state_files(folder))


def make_room(folder: Path, kept: set[str], limit: int) -> None:
    """Remove the least recently used files, except those named `kept`, until the others have at most `limit` bytes."""
    with contextlib.suppress(FileNotFoundError):  # another process may be removing the same files
        others = [(status, path) for status, path in state_files(folder) if Path(path).name not in kept]
        size = sum(allocated(status) for status, _ in others)
        for status, path in sorted(others, key=lambda entry: entry[0].st_mtime):
            if size <= limit:
                break
            os.unlink(path)
            size -= allocated(status)
