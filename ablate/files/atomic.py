"""Atomic writes: a reader finds the old file or the new one, never a part of one, even if the writer is killed."""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ablate.files.links import refuse_links


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` if the block succeeds and is removed if it fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path, temporary):
            temporary.unlink(missing_ok=True)  # of a killed writer, or a link
            with temporary.open("x+b") as file:
                yield file
                flush_to_disk(file)
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # a read-only disk must not hide the error
            temporary.unlink()
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Let the system's errors in the block name the file that is written; its temporary file means nothing to a user.

    torch turns such an error (a full disk, a limit on the size of files) into a RuntimeError about its own C++ code.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is None or cause.filename not in (None, str(path), str(temporary)):
            raise
        raise type(cause)(f"{path} cannot be written: {cause.strerror or cause}") from error


def write(path: Path, fill: Callable[[IO[bytes]], Any]) -> None:
    """Replace `path` by the bytes that `fill` writes into an open file."""
    with replacing(path) as file:
        fill(file)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace `path` by `content` as indented JSON in UTF-8."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def write_together(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write several files (name -> content) into a folder, create it if needed, and return their paths.

    All files are written and flushed before the first one replaces its predecessor. ValueError unless each name is a
    plain file name, and if the folder is a link.
    """
    for name in contents:
        if not name or Path(name).name != name:
            raise ValueError(f"name must be a plain file name without a folder (got {name!r})")
    folder = Path(folder)
    refuse_links(folder)
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=folder, prefix=".")
    with temporary:
        for name, content in contents.items():
            made = Path(temporary.name, name)
            with naming(folder / name, made), made.open("wb") as file:
                file.write(content)
                flush_to_disk(file)
        for name in contents:
            made = Path(temporary.name, name)
            with naming(folder / name, made):
                made.replace(folder / name)
    return [folder / name for name in contents]


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed writers. Call it only under the folder's lock."""
    for leftover in folder.glob(".*.tmp"):
        if re.fullmatch(r"\..+\.\d+\.tmp", leftover.name):
            leftover.unlink(missing_ok=True)


def remove_files(folder: Path, *names: str) -> None:
    """Remove files of ours from a folder, then the folder if it is empty. A link, and everything else in it, stays.

    Another process may do the same at the same time.
    """
    if folder.is_symlink():
        return
    with contextlib.suppress(OSError):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        remove_leftovers(folder)
        folder.rmdir()


def flush_to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut. Windows cannot open a folder; there this does nothing."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
