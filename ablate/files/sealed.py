"""Files that end in the sha256 of their content, so that truncation and flipped bits are found before use."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ablate.files.reading import open_regular

DIGEST = 64
"""Length of the seal in bytes: the hex digits of a sha256."""


@dataclass
class Sealing:
    """A file that is hashed while it is written, so that large contents need no second copy in memory."""

    file: IO[bytes]

    def __post_init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()

    def seal(self) -> None:
        """Append the hash of everything written so far."""
        self.file.write(self.sha256.hexdigest().encode())


def is_sealed(path: Path) -> bool:
    """Whether the file ends in the hash of the bytes before it. Raises Damaged for what is no regular file."""
    with open_regular(path) as file:
        digest = body_sha256(file)
        return digest is not None and file.read() == digest.encode()


def seal_end(file: IO[bytes]) -> None:
    """Write the hash of everything before them into the last DIGEST bytes of a file, which are kept for it."""
    digest = body_sha256(file)
    file.seek(-DIGEST, os.SEEK_END)
    file.write((digest or "").encode())


def body_sha256(file: IO[bytes]) -> str | None:
    """The hash of a file without its last DIGEST bytes, before which it is left; None where there is nothing else."""
    left = file.seek(0, os.SEEK_END) - DIGEST
    if left <= 0:
        return None
    sha256 = hashlib.sha256()
    file.seek(0)
    while left and (block := file.read(min(left, 1 << 20))):
        sha256.update(block)
        left -= len(block)
    return sha256.hexdigest()


def sealed(content: bytes) -> bytes:
    return content + hashlib.sha256(content).hexdigest().encode()


def unsealed(content: bytes) -> bytes | None:
    """The content of a sealed file, without the seal. None if the seal does not match."""
    body, digest = content[:-DIGEST], content[-DIGEST:]
    return body if hashlib.sha256(body).hexdigest().encode() == digest else None
