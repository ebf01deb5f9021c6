"""Archives: many files in one zip file that lists the hash of each of them and ends in a hash of its own.

    <name>         files, sorted by name, with one fixed date: equal files give equal archives, to the byte
    manifest.json  {"format": 1, "files": {<name>: {"bytes": ..., "sha256": ...}}}
    the comment    the sha256, in hex, of everything before it: the archive is sealed (`ablate.files.sealed`)

The files are stored, not compressed. So the bytes do not depend on the version of a compression library, a file is read
where it lies, and none can be larger than the archive. Any program that reads zip files can open one.
"""

import hashlib
import json
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path
from typing import IO, Any

from ablate.files.atomic import replacing
from ablate.files.reading import LARGEST_TEXT, Damaged, open_regular, parse_json
from ablate.files.sealed import DIGEST, is_sealed, seal_end

MANIFEST = "manifest.json"
ARCHIVE_FORMAT = 1
LARGEST_MANIFEST = 2**30
"""Bytes: some five million files."""

LOCAL_HEADER = struct.Struct("<4s22xHH")
"""What precedes a file in a zip: its signature, and the lengths of the name and of the extra field that follow it."""

ENCRYPTED = 0x1
UNREADABLE = (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError, struct.error, RuntimeError)
"""What `zipfile` raises where a file is no zip file or is damaged."""


@dataclass(frozen=True)
class PackedFile:
    """A file in an archive: where it starts, its size, both in bytes, and its sha256."""

    start: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """An archive whose every byte was checked when it was opened."""

    path: Path
    members: Mapping[str, PackedFile]

    def read(self, name: str, limit: int = LARGEST_TEXT) -> bytes:
        """The content of a file. Raises FileNotFoundError, and Damaged for more than `limit` bytes or other bytes."""
        if name not in self.members:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), name)
        member = self.members[name]
        if member.size > limit:
            raise Damaged(f"larger than {limit} bytes")
        with open_regular(self.path) as file:
            content = part(file, member.start, member.size)
        if hashlib.sha256(content).hexdigest() != member.sha256:
            raise Damaged("not what was packed: its sha256 differs")
        return content

    def has(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        return name in self.members or name in self.folders()

    def folders(self) -> list[str]:
        """The folders that its files are in, sorted."""
        return sorted({name.partition("/")[0] for name in self.members if "/" in name})


def part(file: IO[bytes], start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


# --- Writing ---


def write_archive(path: Path, names: Iterable[str], read: Callable[[str], bytes]) -> None:
    """Replace `path` by the archive of some files: their names with "/" between folders, and what `read` gives of each.

    A reader finds the old archive or the new one, never a part of one. Raises ValueError for a name that no archive may
    hold.
    """
    files: dict[str, dict[str, Any]] = {}
    with replacing(path) as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name in sorted(names):
                if flaw := flaw_of_name(name):
                    raise ValueError(f"{name!r} cannot be packed: {flaw}")
                content = read(name)
                archive.writestr(entry(name), content)
                files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            manifest = {"format": ARCHIVE_FORMAT, "files": files}
            archive.writestr(entry(MANIFEST), json.dumps(manifest, indent=1).encode())
            archive.comment = bytes(DIGEST)
        seal_end(file)


def entry(name: str) -> zipfile.ZipInfo:
    """A file's entry in the zip, which depends on nothing but its name."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16  # as on Unix, wherever it is written
    return info


# --- Reading ---


def open_archive(path: Path) -> Archive:
    """Open an archive, and read it once to check every byte.

    Raises ValueError for anything but a whole archive, naming it and, where it can be found, the damaged file in it.
    """
    try:
        with open_regular(path) as file:
            return Archive(path, checked(file, is_sealed(path)))
    except Damaged as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error


def checked(file: IO[bytes], is_whole: bool) -> dict[str, PackedFile]:
    """The files of an archive by name; `is_whole`: whether its seal matches. Raises Damaged."""
    try:
        found = places_in(file)
        members = listed(found, file)
    except Damaged as error:
        doubt = "" if is_whole else "it is damaged, incomplete or no archive of ours: "
        raise Damaged(f"{doubt}{error}") from error
    if is_whole:
        return members
    for name, member in members.items():
        if hashlib.sha256(part(file, member.start, member.size)).hexdigest() != member.sha256:
            raise Damaged(f"it is damaged: {name} is not what was packed, as its sha256 differs")
    raise Damaged("it is damaged: each file in it is what was packed, but not what is around them")


def listed(found: Mapping[str, tuple[int, int]], file: IO[bytes]) -> dict[str, PackedFile]:
    """The files that the manifest lists, all of which and no others must be there. Raises Damaged."""
    if MANIFEST not in found:
        raise Damaged(f"it has no {MANIFEST}")
    start, size = found[MANIFEST]
    if size > LARGEST_MANIFEST:
        raise Damaged(f"{MANIFEST} is larger than {LARGEST_MANIFEST} bytes")
    try:
        manifest = parse_json(part(file, start, size))
        if manifest["format"] > ARCHIVE_FORMAT:
            raise Damaged(f"format {manifest['format']} is newer than {ARCHIVE_FORMAT}, which this version reads")
        hashes = {name: str(of_file["sha256"]) for name, of_file in manifest["files"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{MANIFEST} does not list files with their sha256") from error
    except Damaged as error:
        raise Damaged(f"{MANIFEST}: {error}") from error
    if lacking := sorted(hashes.keys() - found.keys()):
        raise Damaged(f"it lacks {lacking[0]}, which its {MANIFEST} lists")
    if unlisted := sorted(found.keys() - hashes.keys() - {MANIFEST}):
        raise Damaged(f"it holds {unlisted[0]}, which its {MANIFEST} does not list")
    return {name: PackedFile(*found[name], sha256) for name, sha256 in hashes.items()}


def places_in(file: IO[bytes]) -> dict[str, tuple[int, int]]:
    """Start and size of each file in a zip. Raises Damaged for all that `write_archive` does not write."""
    length = os.fstat(file.fileno()).st_size
    try:
        entries = zipfile.ZipFile(file).infolist()
    except UNREADABLE as error:
        raise Damaged(f"no zip file ({error})") from error
    found: dict[str, tuple[int, int]] = {}
    folded: set[str] = set()
    for info in entries:
        name = info.orig_filename
        if flaw := flaw_of_name(name) or flaw_of_entry(info):
            raise Damaged(f"{name!r} is not allowed in an archive: {flaw}")
        if name.casefold() in folded:
            raise Damaged(f"{name!r} occurs twice")
        folded.add(name.casefold())
        found[name] = start_of(info, file), info.file_size
    if any(start + size > length for start, size in found.values()) or sum(size for _, size in found.values()) > length:
        raise Damaged("its files are larger than the archive itself")
    return found


def start_of(info: zipfile.ZipInfo, file: IO[bytes]) -> int:
    header = part(file, info.header_offset, LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size:
        raise Damaged(f"{info.filename!r} lies outside of it")
    signature, name, extra = LOCAL_HEADER.unpack(header)
    if signature != b"PK\3\4":
        raise Damaged(f"{info.filename!r} is not where its list of files says")
    return info.header_offset + LOCAL_HEADER.size + name + extra


def flaw_of_entry(info: zipfile.ZipInfo) -> str | None:
    """Why a zip's entry is not one that `write_archive` writes."""
    if info.flag_bits & ENCRYPTED:
        return "it is encrypted"
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        return "it is compressed"
    kind = stat.S_IFMT(info.external_attr >> 16)
    return None if kind in (0, stat.S_IFREG) else "it is a link, folder or device"


def flaw_of_name(name: str) -> str | None:
    """Why a file in an archive must not have this name: it might be written somewhere else.

    >>> flaw_of_name("run/steps.parquet"), flaw_of_name("../run.json")
    (None, 'its name leads out of the folder')
    """
    if name.startswith("/") or ":" in name or ".." in name.split("/"):
        return "its name leads out of the folder"
    if "\\" in name or not name.isprintable() or not all(p and p != "." for p in name.split("/")):
        return "its name is not that of a file on every system"
    return None
