"""SQLite databases of others: their tables are listed read-only, and libraries that may write open a copy."""

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

MAGIC = b"SQLite format 3\0"


def has_tables(path: Path, names: Collection[str]) -> bool:
    """Whether a path is an SQLite database with these tables."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
    except sqlite3.Error:
        return False
    return {*names} <= found


@contextmanager
def copied_database(path: Path) -> Iterator[tuple[Path, str]]:
    """A copy of a database with its log of unfinished writes, and the sha256 of both; deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="ablate-") as folder:
        copy, digest = Path(folder) / "copy.db", hashlib.sha256()
        for ending in ("", "-wal"):
            own = path.with_name(path.name + ending)
            if own.is_file():
                shutil.copyfile(own, f"{copy}{ending}")
                digest.update(own.read_bytes())
        yield copy, digest.hexdigest()
