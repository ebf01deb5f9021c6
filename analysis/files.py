"""Files that a reader never sees half of."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def put(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files (name -> content) into the folder, which is made, and return their paths.

    Nothing is put in place before all are written and flushed, and each replaces its predecessor whole.
    Raises ValueError for what is no plain file name.
    """
    for name in contents:
        if not name or Path(name).name != name:
            raise ValueError(f"name = {name!r}: only a file's name, without folder, is allowed")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as beside:
        for name, content in contents.items():
            with open(Path(beside, name), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        return [Path(beside, name).replace(folder / name) for name in contents]
