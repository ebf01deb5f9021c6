"""Hashes of files and folders. They identify data, weights and code wherever these are stored."""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content in hex. A process reads a file again only if its size or date changes."""
    status = path.stat()
    return _file_sha256(path.resolve(), status.st_size, status.st_mtime_ns)


@cache
def _file_sha256(path: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def files_sha256(folder: Path, names: Iterable[str]) -> str:
    """One hash of the names and contents of files in a folder; `names` are relative paths, in any order."""
    lines = (f"{name} {file_sha256(folder / name)}\n" for name in sorted(names))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def tree_sha256(path: Path) -> str:
    """The hash of a file, or of the names and contents of all files in a folder except hidden ones."""
    if path.is_file():
        return file_sha256(path)
    names = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
    return files_sha256(path, (n.as_posix() for n in names if not any(part.startswith(".") for part in n.parts)))


def matching_sha256(folder: Path, patterns: Iterable[str]) -> str:
    """The hash of the files directly in a folder whose names match one of the glob `patterns`."""
    return files_sha256(folder, [file.name for pattern in patterns for file in folder.glob(pattern)])
