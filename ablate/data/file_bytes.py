"""The bytes of a text file as lines or chunks of UTF-8: of bounded size, and unpacked where it is compressed."""

import codecs
import io
import itertools
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, cast

from ablate.config.wording import excerpt
from ablate.data.row_checks import FileError

UNPACKERS = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma", ".zst": "zstd", ".lz4": "lz4"}
"""Compression of a CSV, TSV or JSON file -> Python's module for it, or the name of Arrow's codec (zstd, lz4)."""

MAX_BYTES = 16 * 2**20  # of a line, or of an object in a JSON array; a text of MAX_CHARACTERS needs at most 12 MB
CHUNK = 2**20


def lines_of(file: Path, packed: str) -> Iterator[str]:
    """The lines of a UTF-8 text file without NUL characters. A byte order mark is removed."""
    for number, line in enumerate(pieces(file, packed, lambda stream: stream.readline(MAX_BYTES + 1)), 1):
        if len(line) > MAX_BYTES:
            raise FileError(f"{file}, line {number} must have at most {MAX_BYTES:,} bytes; do lines end with LF?")
        try:
            decoded = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            wrong = f"byte {error.start + 1} is 0x{error.object[error.start]:02x}"
            raise FileError(f"{file}, line {number} must be UTF-8 ({wrong}); save the file as UTF-8") from error
        if "\0" in decoded:
            raise FileError(f"{file}, line {number} must not contain a NUL character (got {excerpt(decoded)})")
        if number == 1 and "\r" in decoded.rstrip("\r\n"):
            raise FileError(
                f"{file}: lines must end with LF or CRLF, but line ends are CR, as on old Macs; save with LF"
            )
        yield decoded


def chunks_of(file: Path, packed: str) -> Iterator[str]:
    """The text of a UTF-8 file in pieces. A byte order mark is removed."""
    decoder, done = codecs.getincrementaldecoder("utf-8-sig")(), 0
    for chunk in itertools.chain(pieces(file, packed, lambda stream: stream.read(CHUNK)), [b""]):
        try:
            decoded = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise FileError(f"{file} must be UTF-8 ({error.reason} after {done:,} bytes); save it as UTF-8") from error
        done += len(chunk)
        if decoded:
            yield decoded


def pieces(file: Path, packed: str, read: Callable[[BinaryIO], bytes]) -> Iterator[bytes]:
    """What `read` returns of the unpacked bytes, until the file ends."""
    try:
        with opened(file, packed) as stream:
            while piece := read(stream):
                yield piece
    except Exception as error:  # on a broken file the libraries raise anything
        what = f"{packed} cannot be unpacked" if packed else "cannot be read"
        raise FileError(f"{file}: {what}: {str(error) or type(error).__name__}") from error


def opened(file: Path, packed: str) -> BinaryIO:
    if not packed:
        return file.open("rb")
    if packed in (".zst", ".lz4"):  # Python has no module for them, Arrow does
        import pyarrow

        return cast(BinaryIO, io.BufferedReader(pyarrow.input_stream(str(file), compression=UNPACKERS[packed])))
    return import_module(UNPACKERS[packed]).open(file, "rb")
